#include "cpp/engine/eval/multilabel_protocol.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpp/engine/eval/parallel.h"

namespace theriac::eval {
namespace {

using codes::MedicalCode;
using codes::System;

MedicalCode atc(int i) { return {System::kAtc, "A0" + std::to_string(i) + "X"}; }

data::Vocabulary classes_up_to(int n) {
  std::vector<MedicalCode> codes;
  for (int i = 0; i < n; ++i) codes.push_back(atc(i));
  return data::Vocabulary(codes);
}

using Visits = std::vector<std::vector<int>>;  // medications of each visit

data::Cohort cohort_of(const std::vector<Visits>& patients, int classes) {
  const data::Vocabulary dx({{System::kIcd9cm, "4280"}});
  data::CohortBuilder builder(dx, data::Vocabulary(), classes_up_to(classes));
  int number = 0;
  for (const Visits& visits : patients) {
    builder.begin_patient("p" + std::to_string(number++));
    int v = 0;
    for (const auto& meds : visits) {
      std::vector<MedicalCode> codes;
      for (int m : meds) codes.push_back(atc(m));
      builder.add_visit("v" + std::to_string(v++), data::kNoTime, dx.codes(), {}, codes);
    }
  }
  return std::move(builder).finish();
}

// Answers by visit number.
class TableScorer : public VisitScorer {
 public:
  TableScorer(const data::Cohort& cohort, std::int64_t classes,
              std::vector<std::vector<float>> rows)
      : cohort_(cohort), classes_(classes), rows_(std::move(rows)) {}
  std::int64_t classes() const override { return classes_; }
  std::int64_t preferred_visits() const override { return 2; }
  void score(std::int64_t first, std::int64_t last, std::span<float> probabilities) const override {
    auto out = probabilities.begin();
    for (std::int64_t v = cohort_.first_visit(first); v < cohort_.last_visit(last - 1); ++v) {
      const auto& row = rows_[static_cast<std::size_t>(v) % rows_.size()];
      out = std::copy(row.begin(), row.end(), out);
    }
  }

 private:
  const data::Cohort& cohort_;
  std::int64_t classes_;
  std::vector<std::vector<float>> rows_;
};

codes::InteractionTable table_of(const std::vector<std::pair<int, int>>& edges) {
  codes::InteractionTable table;
  table.source = "test";
  table.version = "1";
  for (const auto& [a, b] : edges) table.pairs.push_back({atc(a).text, atc(b).text, ""});
  return table;
}

// medication.md section 12.1.
struct Golden {
  data::Cohort cohort = cohort_of({{{0, 2}, {0, 1, 4}}, {{3, 4}}}, 5);
  data::Vocabulary classes = classes_up_to(5);
  codes::InteractionTable table = table_of({{0, 1}, {0, 4}, {2, 3}});
  TableScorer scorer{
      cohort,
      5,
      {{.9F, .6F, .4F, .2F, .1F}, {.8F, .3F, .35F, .1F, .7F}, {.55F, .2F, .1F, .45F, .9F}}};
  MultilabelTask task{&cohort, &classes, &table};

  MultilabelResult run(double threshold, const std::string& aggregation, int threads = 1) {
    MultilabelOptions options;
    options.threshold = threshold;
    options.aggregation = aggregation;
    Job job;
    return evaluate_multilabel(task, scorer, options, threads, job);
  }
};

TEST(MultilabelProtocol, GoldenPerPatientAtHalf) {
  Golden golden;
  const auto result = golden.run(0.5, "per_patient");
  EXPECT_NEAR(result.summary.jaccard, 0.416667, 1e-6);
  EXPECT_NEAR(result.summary.prauc, 0.854167, 1e-6);
  EXPECT_NEAR(result.summary.f1, 0.575, 1e-6);
  EXPECT_NEAR(result.summary.precision, 0.625, 1e-6);
  EXPECT_NEAR(result.summary.recall, 0.541667, 1e-6);
  EXPECT_NEAR(result.summary.mean_recommended, 2.0, 1e-9);
  EXPECT_EQ(result.report["counts"]["recommended_pairs_interacting"], 3);
  EXPECT_EQ(result.report["counts"]["recommended_pairs"], 3);
}

TEST(MultilabelProtocol, GoldenPerSampleAtThreeTenths) {
  Golden golden;
  const auto result = golden.run(0.3, "per_sample");
  EXPECT_NEAR(result.summary.jaccard, 0.694444, 1e-6);
  EXPECT_NEAR(result.summary.prauc, 0.861111, 1e-6);
  EXPECT_NEAR(result.summary.f1, 0.819048, 1e-6);
  EXPECT_EQ(result.report["counts"]["recommended_pairs_interacting"], 4);
  EXPECT_EQ(result.report["counts"]["recommended_pairs"], 12);
}

TEST(MultilabelProtocol, ReportNamesItsConditions) {
  Golden golden;
  const Json report = golden.run(0.3, "per_sample").report;
  EXPECT_EQ(report["config"]["threshold"], 0.3);
  EXPECT_EQ(report["config"]["aggregation"], "per_sample");
  EXPECT_EQ(report["config"]["interactions"]["source"], "test");
  // Truth: {0,2} 0 of 1, {0,1,4} 2 of 3, {3,4} 0 of 1.
  EXPECT_EQ(report["ground_truth"]["pairs"], 5);
  EXPECT_EQ(report["ground_truth"]["pairs_interacting"], 2);
  EXPECT_NEAR(report["ground_truth"]["mean_medications"].get<double>(), 7.0 / 3, 1e-12);
  EXPECT_FALSE(report.contains("bootstrap"));
}

TEST(MultilabelProtocol, SkipsFirstVisits) {
  Golden golden;
  MultilabelOptions options;
  options.threshold = 0.5;
  options.skip_first = true;
  Job job;
  const auto result = evaluate_multilabel(golden.task, golden.scorer, options, 1, job);
  EXPECT_EQ(result.summary.visits, 1);  // only a's second visit: {0,4} against {0,1,4}
  EXPECT_NEAR(result.summary.jaccard, 2.0 / 3, 1e-12);
  EXPECT_EQ(result.report["counts"]["first_visits_skipped"], 2);
}

TEST(MultilabelProtocol, LeavesOutPatientsWithFewVisits) {
  Golden golden;
  MultilabelOptions options;
  options.min_visits = 2;
  Job job;
  const auto result = evaluate_multilabel(golden.task, golden.scorer, options, 1, job);
  EXPECT_EQ(result.summary.visits, 2);
  EXPECT_EQ(result.report["counts"]["patients_with_too_few_visits"], 1);
}

TEST(MultilabelProtocol, MedicationOutsideTheClassesIsAMissedTarget) {
  Golden golden;
  const data::Vocabulary four = classes_up_to(4);  // class 4 is not the scorer's
  const TableScorer scorer(golden.cohort, 4,
                           {{.9F, .6F, .4F, .2F}, {.8F, .3F, .35F, .1F}, {.55F, .2F, .1F, .45F}});
  MultilabelOptions options;
  options.threshold = 0.5;
  Job job;
  const auto result =
      evaluate_multilabel({&golden.cohort, &four, &golden.table}, scorer, options, 1, job);
  // {0,1}~{0,2} 1/3, {0}~{0,1,4} 1/3, {0}~{3,4} 0.
  EXPECT_NEAR(result.summary.jaccard, (1.0 / 3 + 1.0 / 3 + 0) / 3, 1e-12);
  EXPECT_EQ(result.report["counts"]["targets_outside_classes"], 2);
  EXPECT_EQ(result.report["counts"]["classes_outside"], 1);
  EXPECT_EQ(result.report["ground_truth"]["pairs_interacting"], 2);  // also pairs with class 4
}

TEST(MultilabelProtocol, VisitsWithoutMedicationsAreNoSamples) {
  const data::Cohort cohort = cohort_of({{{0}, {}, {1}}}, 2);
  const data::Vocabulary classes = classes_up_to(2);
  const TableScorer scorer(cohort, 2, {{.9F, .1F}});
  Job job;
  const auto result = evaluate_multilabel({&cohort, &classes, nullptr}, scorer, {}, 1, job);
  EXPECT_EQ(result.summary.visits, 2);
  EXPECT_EQ(result.report["counts"]["visits_without_medications"], 1);
  EXPECT_TRUE(result.report["config"]["interactions"].is_null());
  EXPECT_EQ(result.summary.ddi_rate, 0);
}

TEST(MultilabelProtocol, NothingToEvaluateIsAnError) {
  const data::Cohort cohort = cohort_of({{{}}}, 2);
  const data::Vocabulary classes = classes_up_to(2);
  const TableScorer scorer(cohort, 2, {{.9F, .1F}});
  Job job;
  EXPECT_THROW(evaluate_multilabel({&cohort, &classes, nullptr}, scorer, {}, 1, job), Error);
}

TEST(MultilabelProtocol, ThreadsChangeNothing) {
  std::vector<Visits> patients;
  for (int p = 0; p < 200; ++p) patients.push_back({{p % 5}, {(p + 1) % 5, (p + 3) % 5}});
  const data::Cohort cohort = cohort_of(patients, 5);
  const data::Vocabulary classes = classes_up_to(5);
  const TableScorer scorer(
      cohort, 5,
      {{.9F, .6F, .4F, .2F, .1F}, {.8F, .3F, .35F, .1F, .7F}, {.5F, .2F, .1F, .4F, .9F}});
  MultilabelOptions options;
  options.bootstrap.rounds = 10;
  Job job;
  const MultilabelTask task{&cohort, &classes, nullptr};
  const Json one = evaluate_multilabel(task, scorer, options, 1, job).report;
  const Json four = evaluate_multilabel(task, scorer, options, 4, job).report;
  EXPECT_EQ(dump_json(one), dump_json(four));
}

TEST(MultilabelProtocol, BootstrapIsFixedByItsSeed) {
  std::vector<Visits> patients;
  for (int p = 0; p < 30; ++p) patients.push_back({{p % 5, (p + 2) % 5}});
  const data::Cohort cohort = cohort_of(patients, 5);
  const data::Vocabulary classes = classes_up_to(5);
  const TableScorer scorer(cohort, 5, {{.9F, .6F, .4F, .2F, .1F}, {.1F, .3F, .35F, .1F, .7F}});
  const MultilabelTask task{&cohort, &classes, nullptr};
  const auto run = [&](std::int64_t seed) {
    MultilabelOptions options;
    options.bootstrap.rounds = 10;
    options.bootstrap.seed = seed;
    Job job;
    return evaluate_multilabel(task, scorer, options, 1, job).report["bootstrap"];
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
  EXPECT_GT(run(1)["jaccard"]["std"].get<double>(), 0);
  EXPECT_LE(run(1)["jaccard"]["low"].get<double>(), run(1)["jaccard"]["high"].get<double>());
}

TEST(MultilabelProtocol, CancelsBetweenBlocks) {
  Golden golden;
  auto cancel = std::make_shared<CancelToken>();
  cancel->request();
  Job job(nullptr, cancel);
  try {
    evaluate_multilabel(golden.task, golden.scorer, {}, 1, job);
    FAIL() << "expected kCancelled";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kCancelled);
  }
}

TEST(ParallelFor, RunsEveryPieceOnce) {
  std::vector<std::atomic<int>> ran(1000);
  parallel_for(ran.size(), 4, [&](std::size_t i) { ++ran[i]; });
  EXPECT_TRUE(std::all_of(ran.begin(), ran.end(), [](const auto& n) { return n == 1; }));
}

TEST(ParallelFor, RethrowsAndStops) {
  std::atomic<int> ran{0};
  EXPECT_THROW(parallel_for(100'000, 2,
                            [&](std::size_t i) {
                              ++ran;
                              if (i == 3) throw std::runtime_error("piece 3");
                            }),
               std::runtime_error);
  EXPECT_LT(ran, 100'000);
}

}  // namespace
}  // namespace theriac::eval
