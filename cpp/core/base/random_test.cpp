#include "cpp/core/base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace theriac {
namespace {

using Block = std::array<std::uint32_t, 4>;

TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// The draws define results of saved experiments: these numbers must never change.
TEST(Random, StreamsArePinned) {
  Random random(42, "split", 7);
  const std::array<std::uint32_t, 5> expected{0x6724d5d6, 0x148424ac, 0x8288a6df, 0xe276fa23,
                                              0xdf133a35};
  for (const std::uint32_t word : expected) EXPECT_EQ(random(), word);
}

TEST(Random, IsThePhiloxBlockOfItsPosition) {
  const std::uint64_t key = derive_seed(42, "split");
  const std::array<std::uint32_t, 2> words{static_cast<std::uint32_t>(key),
                                           static_cast<std::uint32_t>(key >> 32)};
  Random random(42, "split", 0x0000000900000007ULL);
  const Block first = philox4x32({0, 0, 7, 9}, words), second = philox4x32({1, 0, 7, 9}, words);
  for (const std::uint32_t word : first) EXPECT_EQ(random(), word);
  for (const std::uint32_t word : second) EXPECT_EQ(random(), word);
}

TEST(Random, SeedPurposeAndPositionEachMatter) {
  const auto first = [](std::uint64_t seed, const char* purpose, std::uint64_t position) {
    return Random(seed, purpose, position).bits64();
  };
  const std::set<std::uint64_t> draws{first(1, "a", 0), first(2, "a", 0), first(1, "b", 0),
                                      first(1, "a", 1), first(1, "", 0),  first(0, "a", 0)};
  EXPECT_EQ(draws.size(), 6U);
  EXPECT_EQ(first(1, "a", 0), first(1, "a", 0));
}

TEST(Random, UniformHasMeanAndVarianceOfTheUnitInterval) {
  Random random(1, "test");
  constexpr int kDraws = 200000;
  double sum = 0, squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = random.uniform();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    squares += u * u;
  }
  const double mean = sum / kDraws;
  EXPECT_NEAR(mean, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(squares / kDraws - mean * mean, 1.0 / 12, 1e-3);
}

TEST(Random, UniformStaysBelowItsHighEnd) {
  Random random(1, "test");
  const double low = 1.0, high = std::nextafter(1.0, 2.0);
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(random.uniform(low, high), low);
  for (int i = 0; i < 1000; ++i) {
    const double value = random.uniform(-3.0, 5.0);
    ASSERT_TRUE(value >= -3.0 && value < 5.0);
  }
}

TEST(Random, NormalHasMomentsOfTheStandardNormal) {
  Random random(2, "test");
  constexpr int kDraws = 200000;
  double sum = 0, squares = 0, fourth = 0;
  int within = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.normal();
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
    within += std::fabs(x) < 1.959964 ? 1 : 0;
  }
  EXPECT_NEAR(sum / kDraws, 0.0, 0.012);
  EXPECT_NEAR(squares / kDraws, 1.0, 0.02);
  EXPECT_NEAR(fourth / kDraws, 3.0, 0.15);
  EXPECT_NEAR(static_cast<double>(within) / kDraws, 0.95, 0.003);
}

TEST(Random, TheTwoHalvesOfANormalPairAreIndependent) {
  Random random(6, "test");
  constexpr int kPairs = 100000;
  double products = 0;
  for (int i = 0; i < kPairs; ++i) {
    const double first = random.normal();
    products += first * random.normal();
  }
  EXPECT_NEAR(products / kPairs, 0.0, 5 / std::sqrt(kPairs));
}

TEST(Random, BelowIsUnbiased) {
  Random random(3, "test");
  constexpr std::uint64_t kSides = 6;
  constexpr int kDraws = 120000;
  std::array<int, kSides> counts{};
  for (int i = 0; i < kDraws; ++i) ++counts.at(random.below(kSides));
  double chi = 0;
  for (const int count : counts) chi += std::pow(count - kDraws / 6.0, 2) / (kDraws / 6.0);
  EXPECT_LT(chi, 20.5);  // 0.999 quantile of chi-squared with 5 degrees of freedom
  EXPECT_EQ(random.below(1), 0U);
  // Multiply-shift without rejection would draw the lower half of this range twice as often.
  constexpr std::uint64_t kHuge = (std::uint64_t{1} << 63) + (std::uint64_t{1} << 62);
  int low = 0;
  for (int i = 0; i < 30000; ++i) low += random.below(kHuge) % 3 == 0 ? 1 : 0;
  EXPECT_NEAR(low / 30000.0, 1.0 / 3, 0.015);
}

TEST(Random, WeightedFollowsTheWeights) {
  Random random(4, "test");
  const std::vector<double> weights{1, 0, 3, -5, 6};
  std::array<int, 5> counts{};
  for (int i = 0; i < 100000; ++i) ++counts.at(random.weighted(weights));
  EXPECT_EQ(counts[1], 0);
  EXPECT_EQ(counts[3], 0);
  EXPECT_NEAR(counts[0] / 1e5, 0.1, 0.005);
  EXPECT_NEAR(counts[2] / 1e5, 0.3, 0.008);
  EXPECT_NEAR(counts[4] / 1e5, 0.6, 0.008);
}

TEST(Random, ShufflePermutesEvenly) {
  std::vector<int> values(10);
  std::iota(values.begin(), values.end(), 0);
  std::array<int, 10> first{};
  for (std::uint64_t i = 0; i < 20000; ++i) {
    auto copy = values;
    Random(5, "shuffle", i).shuffle(copy);
    ++first.at(static_cast<std::size_t>(copy[0]));
    std::sort(copy.begin(), copy.end());
    ASSERT_EQ(copy, values);
  }
  for (const int count : first) EXPECT_NEAR(count, 2000, 220);
}

}  // namespace
}  // namespace theriac
