// The random numbers of Python's `random` module, from which the reference of TMask draws: MT19937 of
// Matsumoto & Nishimura (1998), seeded by init_by_array, and CPython's integers and samples over it.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

namespace theriac::testing_support {

class PythonRandom {
 public:
  explicit PythonRandom(std::uint32_t seed) {  // init_by_array([seed])
    state_[0] = 19650218U;
    for (std::uint32_t i = 1; i < kWords; ++i) state_[i] = 1812433253U * mixed(i) + i;
    std::uint32_t i = 1;
    const auto next = [&] {
      if (++i == kWords) state_[0] = state_[kWords - 1], i = 1;
    };
    for (std::uint32_t k = 0; k < kWords; ++k, next()) {
      state_[i] = (state_[i] ^ (mixed(i) * 1664525U)) + seed;
    }
    for (std::uint32_t k = 1; k < kWords; ++k, next()) {
      state_[i] = (state_[i] ^ (mixed(i) * 1566083941U)) - i;
    }
    state_[0] = 0x80000000U;
  }

  std::uint32_t bits(int count) { return word() >> (32 - count); }
  std::uint32_t below(std::uint32_t n) {
    const int count = std::bit_width(n);
    std::uint32_t out = bits(count);
    while (out >= n) out = bits(count);
    return out;
  }
  std::uint32_t between(std::uint32_t low, std::uint32_t high) {
    return low + below(high - low + 1);
  }
  // random.sample(range(n), k)
  std::vector<std::uint32_t> sample(std::uint32_t n, std::uint32_t k) {
    std::vector<std::uint32_t> out;
    double set_size = 21;
    if (k > 5) set_size += std::pow(4, std::ceil(std::log(3.0 * k) / std::log(4.0)));
    if (n <= set_size) {
      std::vector<std::uint32_t> pool(n);
      std::iota(pool.begin(), pool.end(), 0U);
      for (std::uint32_t i = 0; i < k; ++i) {
        const std::uint32_t j = below(n - i);
        out.push_back(std::exchange(pool[j], pool[n - i - 1]));
      }
      return out;
    }
    std::set<std::uint32_t> taken;
    while (out.size() < k) {
      const std::uint32_t j = below(n);
      if (taken.insert(j).second) out.push_back(j);
    }
    return out;
  }

 private:
  static constexpr std::uint32_t kWords = 624, kShift = 397;

  std::uint32_t mixed(std::uint32_t i) const { return state_[i - 1] ^ (state_[i - 1] >> 30); }
  std::uint32_t word() {
    if (used_ == kWords) {
      for (std::uint32_t i = 0; i < kWords; ++i) {
        const std::uint32_t y =
            (state_[i] & 0x80000000U) | (state_[(i + 1) % kWords] & 0x7fffffffU);
        state_[i] = state_[(i + kShift) % kWords] ^ (y >> 1) ^ ((y & 1U) != 0 ? 0x9908b0dfU : 0U);
      }
      used_ = 0;
    }
    std::uint32_t y = state_[used_++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680U;
    y ^= (y << 15) & 0xefc60000U;
    return y ^ (y >> 18);
  }

  std::array<std::uint32_t, kWords> state_{};
  std::uint32_t used_ = kWords;
};

}  // namespace theriac::testing_support
