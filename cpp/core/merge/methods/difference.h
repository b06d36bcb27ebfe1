// Differences of the models from the base, for methods whose arithmetic is in float64.
#pragma once

#include <cmath>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "cpp/core/merge/method.h"

namespace theriac::merge::methods {

inline double as_double(float value) noexcept { return static_cast<double>(value); }

// Rounded to float32, which makes sums of them exact (exact_sum.h).
inline float difference(const Block& block, std::size_t model, std::size_t i) noexcept {
  return block.models[model][i] - block.base[i];
}

inline double sum_of_differences(const Block& block, std::size_t i) {
  double sum = 0;
  for (std::size_t m = 0; m < block.models.size(); ++m) sum += as_double(difference(block, m, i));
  return sum;
}

// base + difference, which leaves the base's own bytes, also those of -0, where nothing is added.
inline float moved(float base, double difference) noexcept {
  return difference == 0 ? base : static_cast<float>(as_double(base) + difference);
}

// out = base + lambda times the mean of the differences: what methods for matrices do elsewhere.
inline void move_by_mean(const Block& block, double lambda, float* out) {
  const double share = lambda / static_cast<double>(block.models.empty() ? 1 : block.models.size());
  for (std::size_t i = 0; i < block.count; ++i) {
    out[i] = moved(block.base[i], share * sum_of_differences(block, i));
  }
}

// Which of the tensor's models the task is; models() where the tensor has none of it.
inline std::size_t model_of_task(const TensorContext& context, std::size_t task) noexcept {
  std::size_t m = 0;
  while (m < context.models() && context.model_tasks[m] != task) ++m;
  return m;
}

}  // namespace theriac::merge::methods
