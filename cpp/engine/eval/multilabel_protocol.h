// The evaluation protocols of medication recommendation (medication.md sections 1.1 and 4) over the
// metrics of the core: which visits count, how they are averaged, bootstrap rounds, and one report.
#pragma once

#include <cstdint>
#include <string>

#include "cpp/core/base/options.h"
#include "cpp/core/codes/interactions.h"
#include "cpp/core/metrics/multilabel.h"
#include "cpp/engine/eval/visit_scorer.h"

namespace theriac::eval {

struct BootstrapSettings {
  std::int64_t rounds = 0;  // 0: none
  double share = 0.8;
  bool replacement = true;
  std::int64_t seed = 2048;
  static const OptionTable<BootstrapSettings>& table();
};

struct MultilabelOptions {
  double threshold = 0.3;                  // recommended: probability >= threshold
  std::string aggregation = "per_sample";  // per_sample | per_patient
  bool skip_first = false;                 // leave out first visits (methods that need a past)
  std::int64_t min_visits = 1;             // leave out patients with fewer visits
  std::string interactions;  // CSV file to measure against; empty: what the caller has
  BootstrapSettings bootstrap;
  static const OptionTable<MultilabelOptions>& table();
};

// What the numbers are measured against.
struct MultilabelTask {
  const data::Cohort* cohort = nullptr;
  const data::Vocabulary* classes = nullptr;  // of the scorer, in the order of its columns
  const codes::InteractionTable* interactions =
      nullptr;  // may be null: rates are then 0 of 0 pairs
};

struct MultilabelResult {
  metrics::Summary summary;
  Json report;
};

// Visits without a medication are no samples: there is nothing to compare with. They are counted.
// Medications outside the scorer's classes stay in the target as classes of probability 0: each is
// a miss.
MultilabelResult evaluate_multilabel(const MultilabelTask& task, const VisitScorer& scorer,
                                     const MultilabelOptions& options, int threads, Job& job);

}  // namespace theriac::eval
