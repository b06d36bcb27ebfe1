#include "cpp/core/merge/methods/loops.h"

#include <gmock/gmock.h>
#include <hwy/targets.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "cpp/core/base/random.h"
#include "cpp/core/merge/methods/order_statistics.h"

namespace theriac::merge::methods {
namespace {

using Floats = std::vector<float>;
using Words = std::vector<std::uint32_t>;

Floats values(std::size_t n, std::uint64_t seed) {
  Random random(seed, "loops");
  Floats out(n);
  for (float& value : out) value = static_cast<float>(random.normal());
  for (std::size_t i = 0; i < n; i += 7) out[i] = 0;
  for (std::size_t i = 3; i < n; i += 11) out[i] = -0.0F;
  for (std::size_t i = 5; i < n; i += 13) out[i] *= 1e-40F;  // subnormal
  return out;
}

template <class T>
void append(std::string& bytes, const std::vector<T>& of) {
  bytes.append(reinterpret_cast<const char*>(of.data()), of.size() * sizeof(T));
}

// Every loop on n elements, all that comes out one after the other.
std::string everything(std::size_t n, loops::Rounding rounding) {
  const Floats a = values(n, 1), b = values(n, 2), c = values(n, 3);
  std::string out;
  Floats x(n), mix = values(n, 4), divisors(n, 0.0F);
  Words keys(n), positions(n + 1), elected(n);
  loops::subtract(rounding, a.data(), b.data(), n, x.data());
  append(out, x);
  loops::multiply(rounding, 1.7F, n, x.data());
  append(out, x);
  loops::difference_keys(rounding, a.data(), b.data(), n, keys.data());
  append(out, keys);
  positions.resize(
      loops::find_upper_half(keys.data(), n == 0 ? 0 : keys[n / 2] >> 16, n, positions.data()));
  append(out, positions);
  const loops::Cut kept{magnitude_key(0.5F), 3}, dropped{magnitude_key(1.5F), 2};
  loops::keep_largest(kept, n % 2 == 0 ? nullptr : &dropped, n, x.data());
  append(out, x);
  Words words(n);
  loops::philox(0x123456789abcdefULL, 3, 5, n, words.data());
  append(out, words);
  Words undecided(n);
  undecided.resize(loops::keep_random(reinterpret_cast<const std::uint8_t*>(words.data()), 128, n,
                                      x.data(), undecided.data()));
  append(out, x);
  append(out, undecided);
  std::vector<double> sums(8, 0.25);
  loops::add_magnitudes(a.data(), n, sums.data());
  append(out, sums);
  loops::add_product(rounding, 0.3F, b.data(), n, mix.data());
  append(out, mix);
  loops::elect(rounding, mix.data(), false, n, elected.data());
  append(out, elected);
  for (const bool largest : {false, true}) {
    loops::add_agreeing(rounding, 0.3F, 0.7F, largest, c.data(), elected.data(), n, mix.data(),
                        divisors.data());
  }
  append(out, mix);
  append(out, divisors);
  loops::divide(rounding, 1.3F, n, mix.data());
  loops::divide_by(rounding, true, divisors.data(), n, mix.data());
  loops::add_to_base(rounding, 0.9F, a.data(), mix.data(), n, x.data());
  append(out, mix);
  append(out, x);
  const std::array<double, 3> weights{0.3, 0.7, -0.1};
  const std::array<const float*, 3> models{a.data(), b.data(), c.data()};
  loops::weigh(weights.data(), models.data(), 3, 1 / 1.1, n, x.data());
  append(out, x);
  const loops::Outcome outcome = loops::compare(x.data(), a.data(), b.data(), n);
  append(out, Words{outcome.changed, outcome.lost, loops::count_non_finite(x.data(), n)});
  return out;
}

TEST(MergeLoops, SameBytesOnEveryInstructionSet) {
  for (const auto rounding :
       {loops::Rounding::kNone, loops::Rounding::kBF16, loops::Rounding::kF16}) {
    for (const std::size_t n : {0, 1, 7, 8, 15, 16, 17, 100, 512}) {
      std::vector<std::string> found;
      for (std::int64_t targets = hwy::SupportedTargets(); targets != 0; targets &= targets - 1) {
        hwy::SetSupportedTargetsForTest(targets & -targets);
        hwy::GetChosenTarget().Update(hwy::SupportedTargets());
        found.push_back(everything(n, rounding));
        hwy::SetSupportedTargetsForTest(0);
        hwy::GetChosenTarget().Update(hwy::SupportedTargets());
      }
      for (const std::string& bytes : found) EXPECT_EQ(bytes, found[0]) << n;
    }
  }
}

TEST(MergeLoops, WordsAreThoseOfPhilox) {
  Words words(500);
  loops::philox(0xfedcba9876543210ULL, 7, 3, words.size(), words.data());
  for (std::size_t i = 0; i < words.size(); ++i) {
    const auto index = static_cast<std::uint32_t>(i + 3);
    EXPECT_EQ(words[i], philox4x32({index / 4, 0, 7, 0}, {0x76543210U, 0xfedcba98U})[index % 4]);
  }
}

TEST(MergeLoops, AddsMagnitudesExactly) {
  const Floats x = values(1003, 9);
  std::array<double, 8> sums{};
  loops::add_magnitudes(x.data(), x.size(), sums.data());
  double expected = 0;
  for (const float value : x) expected += std::fabs(static_cast<double>(value));
  EXPECT_NEAR(std::accumulate(sums.begin(), sums.end(), 0.0), expected, 1e-12 * expected);
}

TEST(HalfCounter, CountsWhatCame) {
  Words keys;
  Random random(3, "halves");
  for (int i = 0; i < 3001; ++i) keys.push_back(static_cast<std::uint32_t>(random.below(40) << 16));
  keys.push_back(0xffff0000U);
  for (int again = 0; again < 2; ++again) {  // the tables are empty after each
    HalfCounter counter;
    counter.add_upper_halves(keys.data(), keys.size());
    std::uint64_t sum = 0;
    const KeyCounts counts = counter.take();
    EXPECT_TRUE(std::is_sorted(counts.begin(), counts.end()));
    for (const auto& [half, count] : counts) {
      EXPECT_EQ(count, std::count(keys.begin(), keys.end(), std::uint32_t{half} << 16));
      sum += count;
    }
    EXPECT_EQ(sum, keys.size());
    EXPECT_EQ(counts.back().first, 0xffff);
  }
}

}  // namespace
}  // namespace theriac::merge::methods
