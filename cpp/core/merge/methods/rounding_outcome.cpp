#include "cpp/core/merge/rounding_outcome.h"

#include "cpp/core/merge/methods/loops.h"

namespace theriac::merge {

RoundingOutcome compare_with_base(const float* values, const float* rounded, const float* base,
                                  std::size_t n) {
  const auto outcome = methods::loops::compare(values, rounded, base, n);
  return {outcome.changed, outcome.lost};
}

std::uint32_t count_non_finite(const float* values, std::size_t n) {
  return methods::loops::count_non_finite(values, n);
}

}  // namespace theriac::merge
