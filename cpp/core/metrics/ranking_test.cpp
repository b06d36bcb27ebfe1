#include "cpp/core/metrics/ranking.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <utility>

#include "cpp/core/base/random.h"
#include "cpp/core/base/test_support.h"

namespace theriac::metrics {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pair;
using testing_support::failure_of;

using Ranks = std::vector<std::int64_t>;

RankingMetrics of(const Ranks& ranks, const std::vector<std::int64_t>& cutoffs = {5, 10, 20}) {
  RankingMetrics metrics(cutoffs);
  for (const std::int64_t rank : ranks) metrics.add(rank);
  return metrics;
}

constexpr double kDigits = 5e-7;  // the hand values have six decimals

// sequential-tta.md section 16.
TEST(Ranking, GainOfOneAnswer) {
  const std::vector<std::pair<std::int64_t, double>> terms = {
      {0, 1},       {1, .630930}, {2, .5},       {3, .430677},
      {4, .386853}, {9, .289065}, {10, .278943}, {19, .227670}};
  for (const auto& [rank, gain] : terms) {
    const auto values = of({rank}).values();
    EXPECT_NEAR(values.at("ndcg@20"), gain, kDigits) << rank;
    EXPECT_EQ(values.at("hr@20"), 1) << rank;
    EXPECT_NEAR(values.at("mrr@20"), 1.0 / static_cast<double>(rank + 1), 1e-15) << rank;
  }
}

TEST(Ranking, MeansOverAnswers) {
  // Ranks 0 and 4 are within 5, 9 within 10, 10 and 19 within 20; 20 and -1 are misses.
  const RankingMetrics metrics = of({0, 4, 9, 10, 19, 20, -1});
  EXPECT_EQ(metrics.answers(), 7);
  EXPECT_THAT(
      metrics.values(),
      ElementsAre(
          Pair("hr@10", DoubleNear(3.0 / 7, 1e-15)), Pair("hr@20", DoubleNear(5.0 / 7, 1e-15)),
          Pair("hr@5", DoubleNear(2.0 / 7, 1e-15)),
          Pair("mrr@20", DoubleNear((1 + 1 / 5. + 1 / 10. + 1 / 11. + 1 / 20.) / 7, 1e-15)),
          Pair("ndcg@10", DoubleNear((1 + .386853 + .289065) / 7, kDigits)),
          Pair("ndcg@20", DoubleNear((1 + .386853 + .289065 + .278943 + .227670) / 7, kDigits)),
          Pair("ndcg@5", DoubleNear((1 + .386853) / 7, kDigits))));
}

// A rank equal to the cut-off is the first that is out.
TEST(Ranking, CutoffIsExclusive) {
  EXPECT_EQ(of({4}, {5}).values().at("ndcg@5"), of({4}, {9}).values().at("ndcg@9"));
  EXPECT_THAT(of({5}, {5}).values(),
              ElementsAre(Pair("hr@5", 0), Pair("mrr@5", 0), Pair("ndcg@5", 0)));
  EXPECT_THAT(of({0, 1}, {1}).values(),
              ElementsAre(Pair("hr@1", .5), Pair("mrr@1", .5), Pair("ndcg@1", .5)));
}

TEST(Ranking, WithoutAnswersEverythingIsZero) {
  const RankingMetrics metrics({10});
  EXPECT_EQ(metrics.answers(), 0);
  EXPECT_THAT(metrics.values(),
              ElementsAre(Pair("hr@10", 0), Pair("mrr@10", 0), Pair("ndcg@10", 0)));
}

TEST(Ranking, MissesCountAsAnswers) {
  const RankingMetrics metrics = of({-1, std::numeric_limits<std::int64_t>::min(), 20,
                                     std::numeric_limits<std::int64_t>::max(), 0});
  EXPECT_EQ(metrics.answers(), 5);
  EXPECT_EQ(metrics.hits(20), 1);
  EXPECT_EQ(metrics.values().at("hr@20"), .2);
}

TEST(Ranking, HitsOfAnyCutoffUpToTheLargest) {
  const RankingMetrics metrics = of({0, 2, 2, 19}, {20, 3});
  EXPECT_EQ(metrics.hits(1), 1);
  EXPECT_EQ(metrics.hits(2), 1);
  EXPECT_EQ(metrics.hits(3), 3);
  EXPECT_EQ(metrics.hits(19), 3);
  EXPECT_EQ(metrics.hits(20), 4);
  for (const std::int64_t cutoff : {0, -3, 21}) {
    const auto failure = failure_of([&] { (void)metrics.hits(cutoff); });
    ASSERT_TRUE(failure) << cutoff;
    EXPECT_EQ(failure->code, Code::kInvalidArgument);
  }
}

TEST(Ranking, CutoffsAreSortedAndDistinct) {
  EXPECT_THAT(of({0}, {20, 5, 20, 5}).values(),
              ElementsAre(Pair("hr@20", 1), Pair("hr@5", 1), Pair("mrr@20", 1), Pair("ndcg@20", 1),
                          Pair("ndcg@5", 1)));
}

TEST(Ranking, CutoffsOutOfRangeAreRefused) {
  for (const std::vector<std::int64_t>& cutoffs :
       std::vector<std::vector<std::int64_t>>{{}, {0}, {5, -1}, {5, 10'001}}) {
    const auto failure = failure_of([&] { RankingMetrics{cutoffs}; });
    ASSERT_TRUE(failure);
    EXPECT_EQ(failure->code, Code::kInvalidArgument);
  }
  EXPECT_EQ(of({9'999}, {10'000}).hits(10'000), 1);
}

// Parts joined in any order, and answers in any order, give the same bits.
TEST(Ranking, OrderDoesNotMatter) {
  Random random(1, "ranking test");
  Ranks ranks;
  for (int i = 0; i < 5'000; ++i) ranks.push_back(static_cast<std::int64_t>(random.below(30)) - 1);
  const auto expected = of(ranks).values();
  for (int round = 0; round < 5; ++round) {
    random.shuffle(ranks);
    std::vector<RankingMetrics> parts(7, RankingMetrics({5, 10, 20}));
    for (const std::int64_t rank : ranks) parts[random.below(parts.size())].add(rank);
    RankingMetrics whole({20, 10, 5, 10});
    for (const RankingMetrics& part : parts) whole.merge(part);
    EXPECT_EQ(whole.answers(), 5'000);
    EXPECT_EQ(whole.values(), expected);
  }
}

TEST(Ranking, MergeNeedsTheSameCutoffs) {
  RankingMetrics metrics = of({0}, {5, 10});
  const auto failure = failure_of([&] { metrics.merge(of({0}, {10})); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kInvalidArgument);
  EXPECT_EQ(metrics.answers(), 1);
}

}  // namespace
}  // namespace theriac::metrics
