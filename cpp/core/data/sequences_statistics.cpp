#include <algorithm>

#include "cpp/core/data/sequences_io.h"

namespace theriac::data {
namespace {

double ratio(std::int64_t sum, double count) {
  return count == 0 ? 0.0 : static_cast<double>(sum) / count;
}

// Of an even number of values, the mean of the middle two.
double median(std::vector<std::int64_t>& values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return static_cast<double>(*middle);
  const std::int64_t below = *std::max_element(values.begin(), middle);
  return static_cast<double>(below + *middle) / 2;
}

Json lengths_json(const Sequences& sequences) {
  std::vector<std::int64_t> lengths;
  lengths.reserve(static_cast<std::size_t>(sequences.users()));
  std::int64_t most = 0;
  for (std::int64_t u = 0; u < sequences.users(); ++u) {
    lengths.push_back(static_cast<std::int64_t>(sequences.of(u).size()));
    most = std::max(most, lengths.back());
  }
  const double mean = ratio(sequences.interactions(), static_cast<double>(sequences.users()));
  return {{"mean", mean}, {"median", median(lengths)}, {"max", most}};
}

}  // namespace

Json describe(const Sequences& sequences) {
  const double pairs =
      static_cast<double>(sequences.users()) * static_cast<double>(sequences.items());
  return Json{{"kind", "sequences"},
              {"users", sequences.users()},
              {"items", sequences.items()},
              {"interactions", sequences.interactions()},
              {"length", lengths_json(sequences)},
              {"timed", sequences.timed()},
              {"density", ratio(sequences.interactions(), pairs)},
              {"accounting", sequences.accounting()},
              {"provenance", sequences.provenance()},
              {"fingerprint", sequences.fingerprint()}};
}

}  // namespace theriac::data
