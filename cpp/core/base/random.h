// Counter-based randomness: every draw is a function of (seed, purpose, position), so that results
// do not depend on thread count, device or order of work.
//
// Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace theriac {

// One block: ten rounds. Known-answer vectors are in random_test.cpp.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) noexcept;

// 64-bit key of a purpose under a seed: splitmix64 finaliser over seed and XXH3 of the purpose
// text.
std::uint64_t derive_seed(std::uint64_t seed, std::string_view purpose) noexcept;

// A stream of draws for one purpose at one position. Cheap to create; not shared between threads.
// Meets UniformRandomBitGenerator, but prefer the members: the standard's distributions differ
// between standard libraries.
class Random {
 public:
  using result_type = std::uint32_t;
  Random(std::uint64_t seed, std::string_view purpose, std::uint64_t position = 0) noexcept;

  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return 0xffffffffU; }
  result_type operator()() noexcept;

  std::uint64_t bits64() noexcept;
  double uniform() noexcept;                         // [0, 1), 53 bits
  double uniform(double low, double high) noexcept;  // [low, high)
  double normal() noexcept;                          // N(0, 1), Box-Muller, both halves used
  std::uint64_t below(std::uint64_t n) noexcept;     // unbiased integer in [0, n), n > 0
  bool chance(double p) noexcept { return uniform() < p; }
  std::size_t weighted(const std::vector<double>& weights) noexcept;  // index drawn with P ~ weight
  template <class T>
  void shuffle(std::vector<T>& values) noexcept {  // Fisher-Yates, from the end
    for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }

 private:
  void refill() noexcept;
  std::array<std::uint32_t, 2> key_{};
  std::array<std::uint32_t, 4> counter_{};
  std::array<std::uint32_t, 4> block_{};
  int used_ = 4;
  double spare_ = 0;
  bool has_spare_ = false;
};

}  // namespace theriac
