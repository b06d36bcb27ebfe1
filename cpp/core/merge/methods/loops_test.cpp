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
  Floats x(n), mix = values(n, 4);
  Words keys(n);
  loops::subtract(rounding, a.data(), b.data(), n, x.data());
  append(out, x);
  loops::multiply(rounding, 1.7F, n, x.data());
  append(out, x);
  loops::difference_keys(rounding, a.data(), b.data(), n, keys.data());
  append(out, keys);
  std::vector<std::uint16_t> halves(n);
  halves.resize(loops::lower_halves(keys.data(), n == 0 ? 0 : keys[n / 2] >> 16, n, halves.data()));
  append(out, halves);
  const loops::Cut kept{magnitude_key(0.5F), 3}, dropped{magnitude_key(1.5F), 2};
  loops::keep_largest(kept, n % 2 == 0 ? nullptr : &dropped, n, x.data());
  append(out, x);
  Words words(n);
  loops::philox(0x123456789abcdefULL, 3, 5, n, words.data());
  append(out, words);
  Words undecided(n);
  std::vector<std::uint8_t> bits((n + 7) / 8);
  undecided.resize(loops::draw(reinterpret_cast<const std::uint8_t*>(words.data()), 128, n,
                               bits.data(), undecided.data()));
  append(out, bits);
  append(out, undecided);
  loops::keep(bits.data(), n, a.data(), x.data());
  append(out, x);
  std::vector<double> sums(8, 0.25), kept_sums(8, 0.5);
  loops::add_magnitudes(rounding, a.data(), b.data(), bits.data(), n, sums.data(),
                        kept_sums.data());
  append(out, sums);
  append(out, kept_sums);
  loops::kept_differences(rounding, a.data(), b.data(), bits.data(), 1.7F, n, x.data());
  append(out, x);
  loops::add_product(rounding, 0.3F, b.data(), n, mix.data());
  append(out, mix);
  Floats differences = a;
  differences.insert(differences.end(), b.begin(), b.end());
  differences.insert(differences.end(), c.begin(), c.end());
  const std::array<float, 3> votes{0.3F, 1, -0.7F}, shares{1, 0.5F, 2};
  for (const int parts : {0, 1, 2, 3, 7}) {
    const loops::Election election{3,          shares.data(),  votes.data(),
                                   parts >= 2, parts % 2 != 0, parts < 3};
    loops::mix_elected(rounding, election, differences.data(), n, n, mix.data());
    append(out, mix);
  }
  loops::divide(rounding, 1.3F, n, mix.data());
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

TEST(MergeLoops, KeptDifferencesAndTheirMagnitudes) {
  using loops::Rounding;
  for (const std::size_t n : {0, 1, 7, 8, 9, 31, 64, 1003}) {
    const Floats model = values(n, 9), base = values(n, 10);
    std::vector<std::uint8_t> bits((n + 7) / 8);
    Random random(n, "bits");
    for (auto& byte : bits) byte = static_cast<std::uint8_t>(random.below(256));
    for (const Rounding rounding : {Rounding::kNone, Rounding::kBF16, Rounding::kF16}) {
      Floats wanted(n), difference(n), found(n);
      loops::subtract(rounding, model.data(), base.data(), n, difference.data());
      double all = 1, kept = 2;  // in the lanes before
      for (std::size_t i = 0; i < n; ++i) {
        const bool is_kept = (bits[i / 8] >> (i % 8) & 1) != 0;
        const double magnitude = std::fabs(static_cast<double>(difference[i]));
        all += magnitude;
        kept += is_kept ? magnitude : 0;
        wanted[i] = is_kept ? difference[i] : 0;
      }
      loops::multiply(rounding, 1.3F, n, wanted.data());
      loops::kept_differences(rounding, model.data(), base.data(), bits.data(), 1.3F, n,
                              found.data());
      EXPECT_EQ(found, wanted) << n;
      std::array<double, 8> sums{1}, kept_sums{2};
      loops::add_magnitudes(rounding, model.data(), base.data(), bits.data(), n, sums.data(),
                            kept_sums.data());
      EXPECT_NEAR(std::accumulate(sums.begin(), sums.end(), 0.0), all, 1e-12 * all) << n;
      EXPECT_NEAR(std::accumulate(kept_sums.begin(), kept_sums.end(), 0.0), kept, 1e-12 * kept)
          << n;
    }
  }
}

TEST(MergeLoops, ElectionsDoNotLoseNaN) {
  constexpr std::size_t kCount = 19;
  const Floats ones(2, 1.0F);
  for (const float sign : {1.0F, -1.0F}) {
    Floats differences(2 * kCount, -0.5F);
    for (std::size_t i = 0; i < kCount; i += 2) {
      differences[i] = std::copysign(std::nanf(""), sign);
    }
    Floats mix(kCount);
    const loops::Election election{2, ones.data(), ones.data(), false, false, true};
    loops::mix_elected(loops::Rounding::kNone, election, differences.data(), kCount, kCount,
                       mix.data());
    for (std::size_t i = 0; i < kCount; ++i) EXPECT_EQ(std::isnan(mix[i]), i % 2 == 0) << i;
  }
}

TEST(MergeLoops, DrawsAndKeepsWhatIsBelow) {
  for (const std::size_t n : {0, 1, 8, 31, 32, 33, 63, 100, 512}) {
    const std::uint8_t last = n % 2 == 0 ? 100 : 0;
    Random random(n, "bytes");
    std::vector<std::uint8_t> bytes(n);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random.below(256));
    if (n > 0) bytes[n - 1] = last;
    std::vector<std::uint8_t> bits((n + 7) / 8);
    Words undecided(n), expected;
    undecided.resize(loops::draw(bytes.data(), last, n, bits.data(), undecided.data()));
    const Floats x = values(n, 5);
    Floats kept = x;
    loops::keep(bits.data(), n, kept.data(), kept.data());
    for (std::size_t i = 0; i < n; ++i) {
      const bool below = bytes[i] <= last;
      EXPECT_EQ(bits[i / 8] >> (i % 8) & 1, below ? 1 : 0) << i << " of " << n;
      EXPECT_EQ(kept[i], below ? x[i] : 0.0F) << i << " of " << n;
      if (bytes[i] == last) expected.push_back(static_cast<std::uint32_t>(i));
    }
    EXPECT_EQ(undecided, expected) << n;
  }
}

TEST(MergeLoops, FindsLowerHalvesInTheirOrder) {
  for (const std::size_t n : {0, 1, 63, 64, 65, 200, 512}) {
    Random random(n, "keys");
    Words keys(n);
    for (auto& key : keys)
      key = static_cast<std::uint32_t>(random.below(3) << 16 | random.below(99));
    std::vector<std::uint16_t> found(n), expected;
    found.resize(loops::lower_halves(keys.data(), 1, n, found.data()));
    for (const std::uint32_t key : keys) {
      if (key >> 16 == 1) expected.push_back(static_cast<std::uint16_t>(key));
    }
    EXPECT_EQ(found, expected) << n;
  }
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

TEST(HalfCounter, CountsChosenHalves) {
  std::vector<std::uint16_t> halves{0, 0xffff, 1023, 1024, 1024, 15, 16};
  Random random(4, "halves");
  for (int i = 0; i < 999; ++i) halves.push_back(static_cast<std::uint16_t>(random.below(65536)));
  for (int again = 0; again < 2; ++again) {
    HalfCounter counter;
    counter.add(halves.data(), halves.size());
    EXPECT_EQ(counter.take(), counts_of(halves));
    EXPECT_TRUE(counter.take().empty());
  }
}

}  // namespace
}  // namespace theriac::merge::methods
