#include "cpp/core/base/random.h"

#include <cmath>
#include <numbers>

#include "cpp/core/base/hash.h"

namespace theriac {
namespace {

__extension__ using Wide = unsigned __int128;

// Finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014; constants of Stafford's variant 13).
std::uint64_t mix(std::uint64_t z) noexcept {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

std::uint32_t low_word(std::uint64_t value) noexcept { return static_cast<std::uint32_t>(value); }
std::uint32_t high_word(std::uint64_t value) noexcept {
  return static_cast<std::uint32_t>(value >> 32);
}

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) noexcept {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = kMultiplier0 * counter[0];
    const std::uint64_t product1 = kMultiplier1 * counter[2];
    counter = {high_word(product1) ^ counter[1] ^ key[0], low_word(product1),
               high_word(product0) ^ counter[3] ^ key[1], low_word(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

std::uint64_t derive_seed(std::uint64_t seed, std::string_view purpose) noexcept {
  constexpr std::uint64_t kGoldenGamma = 0x9e3779b97f4a7c15ULL;
  return mix(mix(seed + kGoldenGamma) ^ hash64(purpose));
}

// Counter words 0 and 1 number the blocks of the stream, words 2 and 3 hold its position.
Random::Random(std::uint64_t seed, std::string_view purpose, std::uint64_t position) noexcept
    : counter_{0, 0, low_word(position), high_word(position)} {
  const std::uint64_t key = derive_seed(seed, purpose);
  key_ = {low_word(key), high_word(key)};
}

void Random::refill() noexcept {
  block_ = philox4x32(counter_, key_);
  if (++counter_[0] == 0) ++counter_[1];
  used_ = 0;
}

Random::result_type Random::operator()() noexcept {
  if (used_ == 4) refill();
  return block_[static_cast<std::size_t>(used_++)];
}

std::uint64_t Random::bits64() noexcept {
  const std::uint64_t low = (*this)();
  return low | (static_cast<std::uint64_t>((*this)()) << 32);
}

double Random::uniform() noexcept { return static_cast<double>(bits64() >> 11) * 0x1.0p-53; }

double Random::uniform(double low, double high) noexcept {
  const double value = low + (high - low) * uniform();
  return value < high ? value : std::nextafter(high, low);  // rounding must not reach the open end
}

double Random::normal() noexcept {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));  // 1 - u is in (0, 1]
  const double angle = 2.0 * std::numbers::pi * uniform();
  spare_ = radius * std::sin(angle);
  has_spare_ = true;
  return radius * std::cos(angle);
}

// Lemire, "Fast random integer generation in an interval", TOMACS 2019: unbiased, rarely divides.
std::uint64_t Random::below(std::uint64_t n) noexcept {
  Wide product = static_cast<Wide>(bits64()) * n;
  if (static_cast<std::uint64_t>(product) < n) {
    const std::uint64_t threshold = (0 - n) % n;
    while (static_cast<std::uint64_t>(product) < threshold)
      product = static_cast<Wide>(bits64()) * n;
  }
  return static_cast<std::uint64_t>(product >> 64);
}

std::size_t Random::weighted(const std::vector<double>& weights) noexcept {
  double total = 0;
  for (const double weight : weights) total += weight > 0 ? weight : 0;
  double left = uniform() * total;
  std::size_t last = 0;  // rounding may leave a crumb after the last positive weight
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!(weights[i] > 0)) continue;
    if (left < weights[i]) return i;
    left -= weights[i];
    last = i;
  }
  return last;
}

}  // namespace theriac
