#include "cpp/engine/sequence/catalogue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "cpp/core/base/random.h"

namespace theriac::sequence {
namespace {

constexpr std::size_t kRows = 4500, kDim = 5,
                      kReaders = 100;  // three tiles, three blocks of readers

// Small whole numbers, so that many scores are equal.
std::vector<float> whole_numbers(std::size_t n, std::uint64_t seed, int most) {
  Random random(seed, "catalogue");
  std::vector<float> out(n);
  for (float& value : out)
    value = static_cast<float>(static_cast<int>(random.below(2 * most + 1)) - most);
  return out;
}

struct Asked {
  std::vector<std::int32_t> excluded;
  Excluded how = Excluded::kOut;
  std::int32_t target = 0;
};

// By their definition: higher scores, and equal ones of lower ids.
std::int64_t rank_by_hand(std::vector<float> scores, const Asked& asked) {
  const float target = scores[static_cast<std::size_t>(asked.target)];
  for (const std::int32_t id : asked.excluded)
    scores[static_cast<std::size_t>(id)] = asked.how == Excluded::kOut ? -INFINITY : 0;
  std::int64_t rank = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const bool before = i < static_cast<std::size_t>(asked.target);
    rank += scores[i] > target || (before && scores[i] == target) ? 1 : 0;
  }
  return rank;
}

std::vector<Asked> drawn_questions(std::uint64_t seed) {
  Random random(seed, "questions");
  std::vector<Asked> all(kReaders);
  for (std::size_t i = 0; i < kReaders; ++i) {
    all[i].target = static_cast<std::int32_t>(random.below(kRows));
    all[i].how = i % 3 == 0 ? Excluded::kZero : Excluded::kOut;
    for (std::uint64_t n = random.below(8); n > 0; --n)
      all[i].excluded.push_back(static_cast<std::int32_t>(random.below(kRows)));
    std::sort(all[i].excluded.begin(), all[i].excluded.end());
    all[i].excluded.erase(std::unique(all[i].excluded.begin(), all[i].excluded.end()),
                          all[i].excluded.end());
    std::erase(all[i].excluded, all[i].target);
  }
  return all;
}

// Ranks counted without scores being stored, ranks read off stored scores, and the definition.
TEST(Catalogue, RanksCountedAndRead) {
  for (const int most : {1, 400}) {  // nearly all scores equal; nearly none
    const std::vector<float> table = whole_numbers(kRows * kDim, 1, most);
    const std::vector<float> vectors = whole_numbers(kReaders * kDim, 2, most);
    const Catalogue catalogue(table.data(), kRows, kDim);
    const std::vector<Asked> asked = drawn_questions(3);
    Catalogue::Scratch scratch;
    std::vector<RowReader> counted(kReaders), read(kReaders);
    for (std::size_t i = 0; i < kReaders; ++i) {
      const Asked& own = asked[i];
      const float score = catalogue.score(vectors.data() + i * kDim, own.target);
      counted[i].begin(own.excluded, own.how, own.target, score, 0);
      read[i].begin(own.excluded, own.how, own.target, score, 3);
    }
    catalogue.read(vectors.data(), counted, scratch);
    catalogue.read(vectors.data(), read, scratch);
    for (std::size_t i = 0; i < kReaders; ++i) {
      const auto vector = vectors.begin() + static_cast<std::ptrdiff_t>(i * kDim);
      std::vector<float> scores(kRows);
      for (std::size_t r = 0; r < kRows; ++r) {
        scores[r] = std::inner_product(vector, vector + kDim,
                                       table.begin() + static_cast<std::ptrdiff_t>(r * kDim), 0.0F);
      }
      const std::int64_t expected = rank_by_hand(scores, asked[i]);
      EXPECT_EQ(counted[i].rank(), expected) << i;
      EXPECT_EQ(read[i].rank(), expected) << i;
      for (const std::int32_t id : read[i].best().ids())
        EXPECT_FALSE(asked[i].how == Excluded::kOut &&
                     std::binary_search(asked[i].excluded.begin(), asked[i].excluded.end(), id));
    }
  }
}

// An excluded item that scores 0 instead is equal to a target of 0, and before it by its lower id.
TEST(Catalogue, AZeroedItemEqualToTheTarget) {
  std::vector<float> table(40);
  std::iota(table.begin(), table.end(), -10.0F);  // of one dimension: scores are -10, -9, ...
  const Catalogue catalogue(table.data(), table.size(), 1);
  const float one = 1;
  Catalogue::Scratch scratch;
  for (const Asked& asked : {Asked{{3, 20}, Excluded::kZero, 10}, Asked{{20}, Excluded::kZero, 10},
                             Asked{{3, 20}, Excluded::kOut, 10}}) {
    std::vector<RowReader> reader(1);
    reader[0].begin(asked.excluded, asked.how, asked.target, 0, 0);
    catalogue.read(&one, reader, scratch);
    EXPECT_EQ(reader[0].rank(), rank_by_hand(table, asked));
  }
}

// Of the best items, equal scores by lower id.
TEST(Catalogue, BestItems) {
  const std::vector<float> table = whole_numbers(kRows * kDim, 1, 1);
  const std::vector<float> vectors = whole_numbers(kDim, 4, 1);
  const Catalogue catalogue(table.data(), kRows, kDim);
  std::vector<std::pair<float, std::int32_t>> all;
  for (std::int32_t id = 1; id < static_cast<std::int32_t>(kRows); ++id)
    all.emplace_back(-catalogue.score(vectors.data(), id), id);
  std::sort(all.begin(), all.end());
  std::vector<RowReader> reader(1);
  const std::vector<std::int32_t> excluded{0};
  reader[0].begin(excluded, Excluded::kOut, -1, 0, 50);
  Catalogue::Scratch scratch;
  catalogue.read(vectors.data(), reader, scratch);
  ASSERT_EQ(reader[0].best().ids().size(), 50U);
  for (std::size_t i = 0; i < 50; ++i) EXPECT_EQ(reader[0].best().ids()[i], all[i].second) << i;
}

}  // namespace
}  // namespace theriac::sequence
