#include "cpp/core/metrics/multilabel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "cpp/core/base/error.h"
#include "cpp/core/base/random.h"

namespace theriac::metrics {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

using Ids = std::vector<std::int32_t>;
using Scores = std::vector<float>;

template <class Call>
std::optional<Code> code_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

// ---- the worked example of medication.md section 12.1 ----

const InteractionMatrix& example_matrix() {
  static const InteractionMatrix matrix(5, {{0, 1}, {0, 4}, {2, 3}});
  return matrix;
}

Evaluator example(double threshold, Aggregation aggregation) {
  Evaluator evaluator(threshold, aggregation, &example_matrix());
  evaluator.begin_patient();
  evaluator.add(Scores{.9F, .6F, .4F, .2F, .1F}, Ids{0, 2});
  evaluator.add(Scores{.8F, .3F, .35F, .1F, .7F}, Ids{0, 1, 4});
  evaluator.begin_patient();
  evaluator.add(Scores{.55F, .2F, .1F, .45F, .9F}, Ids{3, 4});
  return evaluator;
}

constexpr double kDigits = 5e-7;  // the table has six decimals

TEST(Example, HalfPerPatient) {
  const Summary s = example(0.5, Aggregation::kPerPatient).summary();
  EXPECT_NEAR(s.jaccard, 0.416667, kDigits);
  EXPECT_NEAR(s.prauc, 0.854167, kDigits);
  EXPECT_NEAR(s.f1, 0.575, kDigits);
  EXPECT_NEAR(s.precision, 0.625, kDigits);
  EXPECT_NEAR(s.recall, 0.541667, kDigits);
  EXPECT_NEAR(s.mean_recommended, 2.0, kDigits);
  EXPECT_EQ(s.pairs.interacting, 3);
  EXPECT_EQ(s.pairs.total, 3);
  EXPECT_DOUBLE_EQ(s.ddi_rate, 1.0);
  EXPECT_EQ(s.visits, 3);
  EXPECT_EQ(s.patients, 2);
  EXPECT_EQ(s.empty_unions, 0);
}

TEST(Example, HalfPerSample) {
  const Summary s = example(0.5, Aggregation::kPerSample).summary();
  EXPECT_NEAR(s.jaccard, 0.444444, kDigits);
  EXPECT_NEAR(s.prauc, 0.861111, kDigits);
  EXPECT_NEAR(s.f1, 0.6, kDigits);
  EXPECT_NEAR(s.mean_recommended, 2.0, kDigits);
  EXPECT_EQ(s.pairs.interacting, 3);
}

TEST(Example, ThreeTenthsPerPatient) {
  const Summary s = example(0.3, Aggregation::kPerPatient).summary();
  EXPECT_NEAR(s.jaccard, 0.6875, kDigits);
  EXPECT_NEAR(s.prauc, 0.854167, kDigits);
  EXPECT_NEAR(s.f1, 0.814286, kDigits);
  EXPECT_NEAR(s.precision, 0.6875, kDigits);
  EXPECT_NEAR(s.recall, 1.0, kDigits);
  EXPECT_NEAR(s.mean_recommended, 3.3333, 5e-5);
  EXPECT_EQ(s.pairs.interacting, 4);
  EXPECT_EQ(s.pairs.total, 12);
  EXPECT_DOUBLE_EQ(s.ddi_rate, 4.0 / 12.0);
}

TEST(Example, ThreeTenthsPerSample) {
  const Summary s = example(0.3, Aggregation::kPerSample).summary();
  EXPECT_NEAR(s.jaccard, 0.694444, kDigits);
  EXPECT_NEAR(s.prauc, 0.861111, kDigits);
  EXPECT_NEAR(s.f1, 0.819048, kDigits);
}

// The predicted sets of the table give the same set metrics as the probabilities behind them.
TEST(Example, GivenSets) {
  Evaluator evaluator(0.5, Aggregation::kPerPatient, &example_matrix());
  evaluator.begin_patient();
  evaluator.add_set(Ids{0, 1, 2}, Ids{0, 2}, 5);
  evaluator.add_set(Ids{4, 2, 1, 0}, Ids{0, 1, 4}, 5);
  evaluator.begin_patient();
  evaluator.add_set(Ids{0, 3, 4}, Ids{3, 4}, 5);
  const Summary s = evaluator.summary(),
                reference = example(0.3, Aggregation::kPerPatient).summary();
  EXPECT_DOUBLE_EQ(s.jaccard, reference.jaccard);
  EXPECT_DOUBLE_EQ(s.f1, reference.f1);
  EXPECT_DOUBLE_EQ(s.mean_recommended, reference.mean_recommended);
  EXPECT_EQ(s.pairs.interacting, reference.pairs.interacting);
  EXPECT_EQ(s.pairs.total, reference.pairs.total);
}

// ---- average precision ----

TEST(AveragePrecision, TiesAreOneStep) {
  EXPECT_DOUBLE_EQ(average_precision(Scores{.5F, .5F, .2F, .2F}, Ids{0, 2}), 0.5);
  EXPECT_DOUBLE_EQ(average_precision(Scores{.2F, .2F, .5F, .5F}, Ids{1, 3}), 0.5);
}

TEST(AveragePrecision, Limits) {
  EXPECT_DOUBLE_EQ(average_precision(Scores{.9F, .8F, .1F}, Ids{0, 1}), 1.0);
  EXPECT_DOUBLE_EQ(average_precision(Scores{.1F, .2F, .9F}, Ids{0}), 1.0 / 3.0);
  EXPECT_DOUBLE_EQ(average_precision(Scores{.3F, .3F, .3F, .3F}, Ids{2}), 0.25);  // prevalence
  EXPECT_DOUBLE_EQ(average_precision(Scores{.3F, .4F}, Ids{}), 0.0);
  EXPECT_DOUBLE_EQ(average_precision(Scores{}, Ids{}), 0.0);
}

// A quadratic reading of the definition: at each distinct score, precision and recall of "score or
// above".
double average_precision_by_definition(const Scores& scores, const Ids& targets) {
  Scores thresholds = scores;
  std::sort(thresholds.begin(), thresholds.end(), std::greater<>());
  thresholds.erase(std::unique(thresholds.begin(), thresholds.end()), thresholds.end());
  double sum = 0, recall_before = 0;
  for (float threshold : thresholds) {
    double hits = 0, chosen = 0;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      if (scores[i] < threshold) continue;
      chosen += 1;
      hits += std::count(targets.begin(), targets.end(), static_cast<std::int32_t>(i)) > 0 ? 1 : 0;
    }
    const double recall = hits / static_cast<double>(targets.size());
    sum += (recall - recall_before) * hits / chosen;
    recall_before = recall;
  }
  return sum;
}

struct RandomVisit {
  Scores scores;
  Ids targets;
};

RandomVisit random_visit(std::uint64_t position) {
  Random random(11, "visit", position);
  RandomVisit visit;
  const std::uint64_t classes = 1 + random.below(40);
  for (std::uint64_t i = 0; i < classes; ++i) {
    visit.scores.push_back(static_cast<float>(random.below(9)) / 8.0F);  // few values: many ties
    if (random.chance(0.3)) visit.targets.push_back(static_cast<std::int32_t>(i));
  }
  if (visit.targets.empty()) visit.targets.push_back(0);
  return visit;
}

TEST(AveragePrecision, EqualsTheDefinition) {
  for (std::uint64_t i = 0; i < 300; ++i) {
    const RandomVisit visit = random_visit(i);
    EXPECT_NEAR(average_precision(visit.scores, visit.targets),
                average_precision_by_definition(visit.scores, visit.targets), 1e-12);
  }
}

// ---- one visit ----

TEST(Visit, ThresholdIsInclusiveInSinglePrecision) {
  // 0.7 and 0.1 in single precision lie on either side of their double values.
  EXPECT_EQ(score_visit(Scores{.7F, .6F}, Ids{0}, 0.7).recommended, 1);
  EXPECT_EQ(score_visit(Scores{.1F, .05F}, Ids{0}, 0.1).recommended, 1);
  EXPECT_EQ(score_visit(Scores{.5F, .5F}, Ids{0}, 0.5).recommended, 2);
}

TEST(Visit, EmptySets) {
  const VisitScores none = score_visit(Scores{.1F, .2F}, Ids{}, 0.5);
  EXPECT_TRUE(none.empty_union);
  EXPECT_EQ(none.jaccard, 0);
  EXPECT_EQ(none.precision, 0);
  EXPECT_EQ(none.recall, 0);
  EXPECT_EQ(none.f1, 0);
  const VisitScores nothing_said = score_visit(Scores{.1F, .2F}, Ids{1}, 0.5);
  EXPECT_FALSE(nothing_said.empty_union);
  EXPECT_EQ(nothing_said.jaccard, 0);
  EXPECT_EQ(nothing_said.average_precision, 1);
  const VisitScores nothing_true = score_visit(Scores{.9F, .2F}, Ids{}, 0.5);
  EXPECT_FALSE(nothing_true.empty_union);
  EXPECT_EQ(nothing_true.f1, 0);
  const VisitScores disjoint = score_visit(Scores{.9F, .2F}, Ids{1}, 0.5);
  EXPECT_EQ(disjoint.f1, 0);
  EXPECT_FALSE(std::isnan(disjoint.f1));
}

TEST(Visit, RepeatedIdsCountOnce) {
  const VisitScores a = score_set(Ids{0, 1, 1, 0}, Ids{1, 2, 2}, 4),
                    b = score_set(Ids{1, 0}, Ids{2, 1}, 4);
  EXPECT_DOUBLE_EQ(a.jaccard, 1.0 / 3.0);
  EXPECT_EQ(a.recommended, 2);
  EXPECT_DOUBLE_EQ(a.jaccard, b.jaccard);
  EXPECT_DOUBLE_EQ(a.average_precision, b.average_precision);
  EXPECT_DOUBLE_EQ(average_precision(Scores{.9F, .1F}, Ids{1, 1}),
                   average_precision(Scores{.9F, .1F}, Ids{1}));
}

// A set is a ranking of two steps: the chosen, then the rest.
TEST(Visit, AveragePrecisionOfASet) {
  EXPECT_DOUBLE_EQ(score_set(Ids{0, 1}, Ids{1, 2}, 5).average_precision,
                   0.5 * 0.5 + 0.5 * 2.0 / 5.0);
  EXPECT_DOUBLE_EQ(score_set(Ids{}, Ids{1, 2}, 5).average_precision, 2.0 / 5.0);
}

TEST(Visit, BadInput) {
  EXPECT_EQ(code_of([] { score_visit(Scores{.1F}, Ids{1}, 0.5); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([] { score_visit(Scores{.1F}, Ids{-1}, 0.5); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([] { score_set(Ids{5}, Ids{1}, 5); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([] { score_set(Ids{}, Ids{}, -1); }), Code::kInvalidArgument);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(code_of([&] { score_visit(Scores{.1F, nan}, Ids{0}, 0.5); }), Code::kNumericError);
  EXPECT_EQ(code_of([&] { Evaluator(std::nan(""), Aggregation::kPerSample, nullptr); }),
            Code::kInvalidArgument);
}

TEST(Visit, PermutingTheClassesChangesNothing) {
  for (std::uint64_t round = 0; round < 100; ++round) {
    const RandomVisit visit = random_visit(round);
    std::vector<std::int32_t> to(visit.scores.size());
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = static_cast<std::int32_t>(i);
    Random(3, "permutation", round).shuffle(to);
    RandomVisit moved{Scores(visit.scores.size()), {}};
    for (std::size_t i = 0; i < to.size(); ++i)
      moved.scores[static_cast<std::size_t>(to[i])] = visit.scores[i];
    for (std::int32_t id : visit.targets) moved.targets.push_back(to[static_cast<std::size_t>(id)]);
    std::reverse(moved.targets.begin(), moved.targets.end());
    const VisitScores a = score_visit(visit.scores, visit.targets, 0.5);
    const VisitScores b = score_visit(moved.scores, moved.targets, 0.5);
    EXPECT_EQ(a.jaccard, b.jaccard);
    EXPECT_EQ(a.f1, b.f1);
    EXPECT_EQ(a.average_precision, b.average_precision);
  }
}

TEST(Visit, F1AndJaccardAgree) {
  for (std::uint64_t i = 0; i < 100; ++i) {
    const RandomVisit visit = random_visit(i);
    const VisitScores s = score_visit(visit.scores, visit.targets, 0.5);
    EXPECT_NEAR(s.f1, 2 * s.jaccard / (1 + s.jaccard),
                1e-12);  // Dice and Jaccard of the same two sets
  }
}

// ---- interactions ----

TEST(Interactions, AreSymmetricWithoutDiagonal) {
  const InteractionMatrix matrix(70, {{69, 0}, {0, 69}, {3, 64}});
  EXPECT_EQ(matrix.edges(), 2);
  EXPECT_THAT(matrix.pairs(), ElementsAre(Pair(0, 69), Pair(3, 64)));
  for (std::int32_t a = 0; a < 70; ++a) {
    EXPECT_FALSE(matrix.interacts(a, a));
    for (std::int32_t b = 0; b < 70; ++b) EXPECT_EQ(matrix.interacts(a, b), matrix.interacts(b, a));
  }
  EXPECT_FALSE(matrix.interacts(-1, 0));
  EXPECT_FALSE(matrix.interacts(0, 70));
}

TEST(Interactions, BadInput) {
  using Pairs = std::vector<std::pair<std::int32_t, std::int32_t>>;
  for (const Pairs& pairs : {Pairs{{0, 0}}, Pairs{{0, 5}}, Pairs{{-1, 2}}}) {
    EXPECT_EQ(code_of([&] { InteractionMatrix(5, pairs); }), Code::kInvalidArgument);
  }
  EXPECT_EQ(code_of([] { InteractionMatrix(-1, {}); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([] { InteractionMatrix(std::int64_t{1} << 40, {}); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([] { count_pairs(Ids{5}, example_matrix()); }), Code::kInvalidArgument);
}

TEST(Interactions, PairsOfASet) {
  const auto count = [](const Ids& set) { return count_pairs(set, example_matrix()); };
  EXPECT_EQ(count({}).total, 0);
  EXPECT_EQ(count({}).rate(), 0.0);
  EXPECT_EQ(count({3}).total, 0);
  EXPECT_EQ(count({4, 1, 0}).interacting, 2);
  EXPECT_EQ(count({4, 1, 0}).total, 3);
  EXPECT_EQ(count({4, 1, 0, 4, 0}).total, 3);
  EXPECT_EQ(count({0, 1, 2, 3, 4}).interacting, 3);
  EXPECT_EQ(count({0, 1, 2, 3, 4}).total, 10);
}

// ---- patients ----

TEST(Evaluator, DdiIsPooledOverPairsNotOverVisits) {
  Evaluator evaluator(0.5, Aggregation::kPerPatient, &example_matrix());
  evaluator.begin_patient();
  evaluator.add_set(Ids{0, 1}, Ids{0}, 5);        // 1 of 1
  evaluator.add_set(Ids{0, 2, 3, 4}, Ids{0}, 5);  // 2 of 6
  EXPECT_DOUBLE_EQ(evaluator.summary().ddi_rate, 3.0 / 7.0);
}

TEST(Evaluator, CountsEmptyUnionsAndSkipsPatientsWithoutVisits) {
  Evaluator evaluator(0.5, Aggregation::kPerPatient, nullptr);
  evaluator.begin_patient();
  evaluator.add_set(Ids{}, Ids{}, 5);
  evaluator.add_set(Ids{1}, Ids{1}, 5);
  evaluator.begin_patient();
  evaluator.begin_patient();
  evaluator.add_set(Ids{1}, Ids{1}, 5);
  const Summary s = evaluator.summary();
  EXPECT_EQ(evaluator.patients(), 3);
  EXPECT_EQ(s.patients, 2);
  EXPECT_EQ(s.visits, 3);
  EXPECT_EQ(s.empty_unions, 1);
  EXPECT_DOUBLE_EQ(s.jaccard, 0.75);  // (0 + 1) / 2 and 1, over two patients
  EXPECT_EQ(s.pairs.total, 0);
  EXPECT_EQ(s.ddi_rate, 0);
}

TEST(Evaluator, NothingIsAllZero) {
  const Summary s = Evaluator(0.5, Aggregation::kPerSample, nullptr).summary();
  EXPECT_EQ(s.visits, 0);
  EXPECT_EQ(s.jaccard, 0);
  EXPECT_EQ(s.mean_recommended, 0);
}

TEST(Evaluator, NeedsAPatientFirst) {
  Evaluator evaluator(0.5, Aggregation::kPerPatient, nullptr);
  EXPECT_EQ(code_of([&] { evaluator.add_set(Ids{}, Ids{}, 5); }), Code::kInvalidState);
  EXPECT_EQ(code_of([&] { evaluator.add(Scores{.1F}, Ids{}); }), Code::kInvalidState);
}

TEST(Evaluator, FailedAddLeavesNothingBehind) {
  Evaluator evaluator = example(0.5, Aggregation::kPerPatient);
  EXPECT_EQ(code_of([&] {
              evaluator.add(Scores{.9F, .9F, .9F, .9F, .9F}, Ids{9});
            }),
            Code::kInvalidArgument);
  EXPECT_EQ(code_of([&] {
              evaluator.add_set(Ids{0, 7}, Ids{0}, 9);
            }),
            Code::kInvalidArgument);  // matrix has 5
  EXPECT_EQ(evaluator.summary().visits, 3);
}

TEST(Evaluator, SummaryOfRepeatsPatients) {
  const Evaluator evaluator = example(0.5, Aggregation::kPerPatient);
  const std::vector<std::int64_t> chosen = {1, 1, 0};
  const Summary s = evaluator.summary_of(chosen);
  const double a = (1.0 / 3.0 + 2.0 / 3.0) / 2, b = 1.0 / 3.0;
  EXPECT_NEAR(s.jaccard, (a + 2 * b) / 3, 1e-12);
  EXPECT_EQ(s.visits, 4);
  EXPECT_EQ(s.patients, 3);
  const std::vector<std::int64_t> outside = {2}, negative = {-1};
  EXPECT_EQ(code_of([&] { evaluator.summary_of(outside); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([&] { evaluator.summary_of(negative); }), Code::kInvalidArgument);
}

TEST(Evaluator, MergedPartsEqualTheWhole) {
  for (Aggregation aggregation : {Aggregation::kPerPatient, Aggregation::kPerSample}) {
    Evaluator first(0.5, aggregation, &example_matrix()),
        second(0.5, aggregation, &example_matrix());
    first.begin_patient();
    first.add(Scores{.9F, .6F, .4F, .2F, .1F}, Ids{0, 2});
    first.add(Scores{.8F, .3F, .35F, .1F, .7F}, Ids{0, 1, 4});
    second.begin_patient();
    second.add(Scores{.55F, .2F, .1F, .45F, .9F}, Ids{3, 4});
    first.merge(second);
    const Summary merged = first.summary(), whole = example(0.5, aggregation).summary();
    EXPECT_EQ(merged.jaccard, whole.jaccard);
    EXPECT_EQ(merged.f1, whole.f1);
    EXPECT_EQ(merged.prauc, whole.prauc);
    EXPECT_EQ(merged.pairs.total, whole.pairs.total);
    EXPECT_EQ(merged.patients, whole.patients);
  }
  Evaluator one(0.5, Aggregation::kPerPatient, nullptr);
  const Evaluator other(0.3, Aggregation::kPerPatient, nullptr);
  EXPECT_EQ(code_of([&] { one.merge(other); }), Code::kInvalidArgument);
  Evaluator twice = example(0.5, Aggregation::kPerPatient);
  twice.merge(twice);
  EXPECT_EQ(twice.patients(), 4);
  EXPECT_EQ(twice.summary().visits, 6);
}

// ---- bootstrap ----

Evaluator many_patients(std::int64_t patients) {
  Evaluator evaluator(0.5, Aggregation::kPerPatient, nullptr);
  for (std::int64_t i = 0; i < patients; ++i) {
    const RandomVisit visit = random_visit(static_cast<std::uint64_t>(i));
    evaluator.begin_patient();
    evaluator.add(visit.scores, visit.targets);
  }
  return evaluator;
}

TEST(Bootstrap, OneSeedIsOneResult) {
  const Evaluator evaluator = many_patients(50);
  const BootstrapSummary a = bootstrap(evaluator, {}), b = bootstrap(evaluator, {});
  EXPECT_EQ(a.jaccard.mean, b.jaccard.mean);
  EXPECT_EQ(a.jaccard.std, b.jaccard.std);
  EXPECT_EQ(a.prauc_low, b.prauc_low);
  BootstrapOptions other;
  other.seed = 1203;
  EXPECT_NE(bootstrap(evaluator, other).jaccard.mean, a.jaccard.mean);
}

// The rounds drawn again from their definition: Philox(seed, "bootstrap", round), ddof 0.
TEST(Bootstrap, MeanAndPopulationStdOverTheRounds) {
  const Evaluator evaluator = many_patients(10);
  BootstrapOptions options;
  options.rounds = 4;
  std::vector<double> values;
  for (int round = 0; round < options.rounds; ++round) {
    Random random(options.seed, "bootstrap", static_cast<std::uint64_t>(round));
    std::vector<std::int64_t> chosen(8);
    for (auto& patient : chosen) patient = static_cast<std::int64_t>(random.below(10));
    values.push_back(evaluator.summary_of(chosen).jaccard);
  }
  const double mean = (values[0] + values[1] + values[2] + values[3]) / 4;
  double squares = 0;
  for (double value : values) squares += (value - mean) * (value - mean);
  const BootstrapSummary summary = bootstrap(evaluator, options);
  EXPECT_NEAR(summary.jaccard.mean, mean, 1e-15);
  EXPECT_NEAR(summary.jaccard.std, std::sqrt(squares / 4), 1e-15);
  std::sort(values.begin(), values.end());
  EXPECT_NEAR(summary.jaccard_low, values[0] + 0.075 * (values[1] - values[0]), 1e-15);
  EXPECT_NEAR(summary.jaccard_high, values[2] + 0.925 * (values[3] - values[2]), 1e-15);
}

TEST(Bootstrap, OneRoundHasNoSpread) {
  BootstrapOptions options;
  options.rounds = 1;
  const BootstrapSummary summary = bootstrap(many_patients(10), options);
  EXPECT_EQ(summary.f1.std, 0);
  EXPECT_EQ(summary.f1_low, summary.f1.mean);
  EXPECT_EQ(summary.f1_high, summary.f1.mean);
}

// Drawing everybody once gives the plain result in every round; with replacement it does not.
TEST(Bootstrap, WithoutReplacementNobodyIsDrawnTwice) {
  const Evaluator evaluator = many_patients(30);
  BootstrapOptions options;
  options.share = 1.0;
  options.replacement = false;
  const BootstrapSummary all = bootstrap(evaluator, options);
  EXPECT_NEAR(all.jaccard.mean, evaluator.summary().jaccard, 1e-12);
  EXPECT_NEAR(all.jaccard.std, 0, 1e-12);
  options.replacement = true;
  EXPECT_GT(bootstrap(evaluator, options).jaccard.std, 1e-3);
}

// Every patient recommends one class but the last, who recommends two: the mean tells how many were
// drawn.
TEST(Bootstrap, ShareIsRoundedHalfToEven) {
  const auto drawn = [](std::int64_t patients, double share) {
    Evaluator evaluator(0.5, Aggregation::kPerPatient, nullptr);
    for (std::int64_t i = 0; i < patients; ++i) {
      evaluator.begin_patient();
      if (i + 1 == patients)
        evaluator.add_set(Ids{0, 1}, Ids{0}, 2);
      else
        evaluator.add_set(Ids{0}, Ids{0}, 2);
    }
    BootstrapOptions options;
    options.rounds = 200;
    options.share = share;
    options.replacement = false;
    // Over the rounds with the last patient the mean is 1 + 1/n; in the others it is 1.
    double n = 0;
    const BootstrapSummary summary = bootstrap(evaluator, options);
    const double extra = summary.mean_recommended.mean - 1;  // q / n
    const double spread =
        summary.mean_recommended.std * summary.mean_recommended.std;  // q (1 - q) / n^2
    n = extra / (spread + extra * extra);                             // (q/n) / (q/n^2)
    return std::lround(n);
  };
  EXPECT_EQ(drawn(10, 0.8), 8);
  EXPECT_EQ(drawn(11, 0.8), 9);   // 8.8
  EXPECT_EQ(drawn(5, 0.5), 2);    // 2.5
  EXPECT_EQ(drawn(7, 0.5), 4);    // 3.5
  EXPECT_EQ(drawn(13, 0.8), 10);  // 10.4
}

TEST(Bootstrap, BadInput) {
  const Evaluator evaluator = many_patients(4);
  const auto code = [](const Evaluator& on, int rounds, double share) {
    BootstrapOptions options;
    options.rounds = rounds;
    options.share = share;
    return code_of([&] { bootstrap(on, options); });
  };
  EXPECT_EQ(code(evaluator, 0, 0.8), Code::kInvalidArgument);
  EXPECT_EQ(code(evaluator, 10, 0.0), Code::kInvalidArgument);
  EXPECT_EQ(code(evaluator, 10, 1.5), Code::kInvalidArgument);
  EXPECT_EQ(code(evaluator, 10, std::nan("")), Code::kInvalidArgument);
  EXPECT_EQ(code(evaluator, 10, 0.1), Code::kInvalidArgument);  // 0.4 patients
  EXPECT_EQ(code(many_patients(0), 10, 0.8), Code::kInvalidArgument);
  EXPECT_EQ(code(evaluator, 10, 0.8), std::nullopt);
}

}  // namespace
}  // namespace theriac::metrics
