// What became of a block's results: counts for the report. The loops are vector code beside the
// methods' own (methods/loops.h).
#pragma once

#include <cstddef>
#include <cstdint>

namespace theriac::merge {

struct RoundingOutcome {
  std::uint32_t changed = 0;  // results that are not the base's value
  std::uint32_t lost = 0;     // of these, such that rounding made the base's again
};
// Of `n` < 2^32 results, what they are rounded to, and the base.
RoundingOutcome compare_with_base(const float* values, const float* rounded, const float* base,
                                  std::size_t n);
// NaN and infinite values among `n` < 2^32.
std::uint32_t count_non_finite(const float* values, std::size_t n);

}  // namespace theriac::merge
