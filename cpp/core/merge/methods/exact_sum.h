// Sums of float32 numbers and of their products, without any rounding until the end: what comes out
// does not depend on the order of the summands or on how a tensor is cut into blocks.
//
// One integer counter for each exponent, as in the long accumulator of Kulisch, "Computer
// Arithmetic and Validity", 2013. A product has 48 bits, a counter 128, so that 2^79 of them fit.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace theriac::merge::methods {

class ExactSum {
 public:
  __extension__ using Wide = __int128;
  // The counters that are not zero: what a block keeps of its sum.
  using Terms = std::vector<std::pair<std::uint16_t, Wide>>;

  void add_product(float a, float b) noexcept {
    const auto x = std::bit_cast<std::uint32_t>(a), y = std::bit_cast<std::uint32_t>(b);
    const auto product = static_cast<std::int64_t>(fraction(x) * fraction(y));
    counters_[exponent(x) + exponent(y)] += ((x ^ y) >> 31) != 0 ? -product : product;
  }
  void add(float value) noexcept { add_product(value, 1.0F); }
  void add_magnitude(float value) noexcept { add_product(std::fabs(value), 1.0F); }
  void add(const Terms& terms) noexcept {
    for (const auto& [exponent, count] : terms) counters_[exponent] += count;
  }

  Terms terms() const {
    Terms out;
    for (std::size_t e = 0; e < counters_.size(); ++e) {
      if (counters_[e] != 0) out.emplace_back(static_cast<std::uint16_t>(e), counters_[e]);
    }
    return out;
  }
  double value() const noexcept {
    double sum = 0;
    for (std::size_t e = counters_.size(); e-- > 0;) {
      if (counters_[e] != 0) {
        sum += std::ldexp(static_cast<double>(counters_[e]), static_cast<int>(e) - 2 * kBias);
      }
    }
    return sum;
  }

 private:
  static constexpr int kBias = 150;  // a float is its 24-bit fraction times 2^(exponent - 150)

  static std::uint64_t fraction(std::uint32_t bits) noexcept {
    return (bits & 0x7fffffU) | (static_cast<std::uint32_t>((bits & 0x7f800000U) != 0) << 23);
  }
  static std::uint32_t exponent(std::uint32_t bits) noexcept {
    const std::uint32_t stored = (bits >> 23) & 0xffU;
    return stored + static_cast<std::uint32_t>(stored == 0);
  }

  std::array<Wide, 512> counters_{};
};

}  // namespace theriac::merge::methods
