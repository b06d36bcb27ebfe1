#include "cpp/engine/clinical/baselines.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "cpp/engine/clinical/medication_test_cohorts.h"

namespace theriac::clinical {
namespace {

using data::Field;
using testing::generated_cohort;

Vocabularies vocabularies_of(const data::Cohort& cohort) {
  return {cohort.vocabulary(Field::kDiagnoses), cohort.vocabulary(Field::kProcedures),
          cohort.vocabulary(Field::kMedications)};
}

std::vector<float> answer(const FrozenScorer& scorer, const std::vector<FrozenVisit>& visits) {
  std::vector<float> p(static_cast<std::size_t>(scorer.classes()));
  FrozenWorkspace workspace;
  scorer.score(visits, workspace, p);
  return p;
}

TEST(Baselines, NearestRepeatsTheVisitBefore) {
  const auto scorer = make_nearest_scorer({.5F, .25F, 0.F});
  const std::vector<std::int32_t> first{0}, second{2};
  std::vector<FrozenVisit> visits(3);
  visits[0].medications = first;
  visits[1].medications = second;
  EXPECT_EQ(answer(*scorer, visits), (std::vector<float>{0, 0, 1}));
  visits.resize(1);
  EXPECT_EQ(answer(*scorer, visits), (std::vector<float>{.5F, .25F, 0}));
}

TEST(Baselines, FrequenciesAreSharesOfSamples) {
  const data::Cohort cohort = generated_cohort({});
  const Vocabularies v = vocabularies_of(cohort);
  const MappedCohort mapped(cohort, v);
  const auto samples = training_samples(cohort);
  const auto shares = class_frequencies(mapped, samples);
  double sum = 0;
  for (float s : shares) sum += s;
  EXPECT_NEAR(sum * static_cast<double>(samples.size()),
              static_cast<double>(cohort.ids(Field::kMedications).size()), 1e-3);
}

// At the minimum the gradient of |w|^2 / 2 + C sum log-loss is 0.
TEST(Logistic, StopsAtTheMinimum) {
  const data::Cohort cohort = generated_cohort({});
  const Vocabularies v = vocabularies_of(cohort);
  const MappedCohort mapped(cohort, v);
  const auto samples = training_samples(cohort);
  LogisticSettings settings;
  settings.c = 2;
  Job job;
  const auto w =
      fit_logistic(mapped, samples, v.diagnoses.size(), v.procedures.size(), settings, 1, job);
  const auto features = static_cast<std::size_t>(w.diagnoses + w.procedures);
  for (std::int64_t c = 0; c < w.classes; ++c) {
    const auto at = static_cast<std::size_t>(c);
    std::vector<double> gradient(features + 1, 0.0);
    for (std::size_t f = 0; f < features; ++f) gradient[f] = w.weight[at * features + f];
    for (const Sample& s : samples) {
      double z = w.bias[at];
      std::vector<std::size_t> active;
      for (std::int32_t id : mapped.ids(Field::kDiagnoses, s.visit))
        active.push_back(static_cast<std::size_t>(id));
      for (std::int32_t id : mapped.ids(Field::kProcedures, s.visit)) {
        active.push_back(static_cast<std::size_t>(w.diagnoses + id));
      }
      for (std::size_t f : active) z += w.weight[at * features + f];
      const auto set = mapped.ids(Field::kMedications, s.visit);
      const double y =
          std::find(set.begin(), set.end(), static_cast<std::int32_t>(c)) != set.end() ? 1 : 0;
      const double r = settings.c * (1 / (1 + std::exp(-z)) - y);
      for (std::size_t f : active) gradient[f] += r;
      gradient[features] += r;
    }
    for (double g : gradient) EXPECT_NEAR(g, 0, 2e-4) << "class " << c;
  }
}

TEST(Logistic, DoesNotDependOnThreads) {
  const data::Cohort cohort = generated_cohort({});
  const Vocabularies v = vocabularies_of(cohort);
  const MappedCohort mapped(cohort, v);
  const auto samples = training_samples(cohort);
  Job job;
  const auto one =
      fit_logistic(mapped, samples, v.diagnoses.size(), v.procedures.size(), {}, 1, job);
  const auto three =
      fit_logistic(mapped, samples, v.diagnoses.size(), v.procedures.size(), {}, 3, job);
  EXPECT_EQ(one.weight, three.weight);
  EXPECT_EQ(one.bias, three.bias);
}

TEST(Logistic, ClassesThatNobodyOrEverybodyHadAreCertain) {
  data::CohortBuilder builder(
      data::Vocabulary({{codes::System::kIcd9cm, "4280"}}), data::Vocabulary(),
      data::Vocabulary({{codes::System::kAtc, "A01A"}, {codes::System::kAtc, "B01A"}}));
  builder.begin_patient("p");
  const codes::MedicalCode dx{codes::System::kIcd9cm, "4280"}, always{codes::System::kAtc, "B01A"};
  builder.add_visit("1", data::kNoTime, {dx}, {}, {always});
  builder.add_visit("2", data::kNoTime, {}, {}, {always});
  const data::Cohort cohort = std::move(builder).finish();
  const Vocabularies v = vocabularies_of(cohort);
  const MappedCohort mapped(cohort, v);
  Job job;
  const auto scorer =
      make_logistic_scorer(fit_logistic(mapped, training_samples(cohort), 1, 0, {}, 1, job));
  const std::vector<std::int32_t> ids{0};
  std::vector<FrozenVisit> visits(1);
  visits[0].diagnoses = ids;
  EXPECT_EQ(answer(*scorer, visits), (std::vector<float>{0, 1}));
}

}  // namespace
}  // namespace theriac::clinical
