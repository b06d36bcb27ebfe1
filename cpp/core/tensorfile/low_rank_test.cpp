#include "cpp/core/tensorfile/low_rank.h"

#include <gmock/gmock.h>

#include <vector>

#include "cpp/core/base/hash.h"

namespace theriac::tensorfile {
namespace {

std::vector<float> noise(std::size_t count, std::uint64_t seed) {
  std::vector<float> out(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t bits = hash64({reinterpret_cast<const char*>(&i), sizeof i}, seed);
    out[i] = static_cast<float>(bits >> 40) / static_cast<float>(1 << 23) - 1;
  }
  return out;
}

// To the letter of the header: float32, in the order of k, no fused steps.
void plainly(const float* left, const float* right, std::size_t rank, std::size_t right_stride,
             float scale, std::size_t rows, std::size_t columns, float* out, std::size_t stride) {
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < columns; ++j) {
      float sum = 0;
      for (std::size_t k = 0; k < rank; ++k) {
        const float term = left[i * rank + k] * right[k * right_stride + j];
        sum += term;
      }
      const float change = scale * sum;
      out[i * stride + j] += change;
    }
  }
}

TEST(LowRank, EqualsPlainLoopsBitForBitForEveryShape) {
  for (const std::size_t rank : {1U, 2U, 7U, 16U}) {
    for (const std::size_t rows : {0U, 1U, 7U, 8U, 9U, 17U}) {
      for (const std::size_t columns : {0U, 1U, 3U, 8U, 15U, 16U, 33U}) {
        const std::size_t right_stride = columns + rank % 3, stride = columns + 2;
        const auto left = noise(rows * rank, 1), right = noise(rank * right_stride + 1, 2);
        auto out = noise(rows * stride + 1, 3), wanted = out;
        add_product(left.data(), right.data(), rank, right_stride, 0.3F, rows, columns, out.data(),
                    stride);
        plainly(left.data(), right.data(), rank, right_stride, 0.3F, rows, columns, wanted.data(),
                stride);
        EXPECT_EQ(out, wanted) << rank << " " << rows << " " << columns;
      }
    }
  }
}

}  // namespace
}  // namespace theriac::tensorfile
