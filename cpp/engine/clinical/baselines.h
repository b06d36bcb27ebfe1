// Baselines that every learned model must beat (medication.md section 5.6).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cpp/core/base/job.h"
#include "cpp/engine/clinical/visit_batch.h"

namespace theriac::clinical {

// Share of the samples that got each class [classes].
std::vector<float> class_frequencies(const MappedCohort& cohort, std::span<const Sample> samples);

// Most frequent: the same probabilities for everybody.
std::shared_ptr<const FrozenScorer> make_frequency_scorer(std::vector<float> probabilities);

// Nearest: probability 1 for the classes of the visit before, 0 for the others. A first visit has
// none before it and gets `first_visit` probabilities.
std::shared_ptr<const FrozenScorer> make_nearest_scorer(std::vector<float> first_visit);

// One-vs-rest logistic regression on the multi-hot vector of the current visit's diagnoses and
// procedures: per class the minimum of |w|^2 / 2 + C sum of log-losses, bias not penalised. A class
// that all or none of the samples have gets that as its answer (weights 0, bias +-kSurely).
struct LogisticWeights {
  std::int64_t classes = 0, diagnoses = 0, procedures = 0;
  std::vector<float> weight;  // [classes, diagnoses + procedures]
  std::vector<float> bias;    // [classes]
};
inline constexpr float kSurely = 1000.0F;  // sigmoid is exactly 1 or 0 there

struct LogisticSettings {
  double c = 1;                   // inverse of the L2 penalty
  std::int64_t iterations = 100;  // Newton steps at most
  double tolerance = 1e-6;  // on the largest component of the gradient, relative to the one at 0
};
// Newton steps by conjugate gradients; every class by itself in double precision, so the weights do
// not depend on `threads`.
LogisticWeights fit_logistic(const MappedCohort& cohort, std::span<const Sample> samples,
                             std::int64_t diagnoses, std::int64_t procedures,
                             const LogisticSettings& settings, int threads, Job& job);
std::shared_ptr<const FrozenScorer> make_logistic_scorer(const LogisticWeights& weights);

}  // namespace theriac::clinical
