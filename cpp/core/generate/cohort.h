// Synthetic cohorts (design 5.1): hospitals, patients with chronic and acute conditions over years,
// coded visits, first-line medication classes, and what makes hospitals differ.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "cpp/core/base/job.h"
#include "cpp/core/base/options.h"
#include "cpp/core/data/cohort.h"

namespace theriac::generate {

struct CohortOptions {
  std::int64_t patients = 1000;
  std::int64_t hospital = 0;  // which hospital's habits, 0-based
  std::int64_t seed = 1;
  std::string format = "fhir";    // fhir | mimic-iv
  double late_leaf_share = 0.15;  // share of leaf codes that appear only late in the period
  std::int64_t years = 6;
  std::string icd_version = "mixed";  // 9 | 10 | mixed (9 before the switch date, 10 after)
  bool compress = false;
  static const OptionTable<CohortOptions>& table();
};

// Writes real file layouts under `folder` (created) and the ground truth beside them
// (ground_truth.jsonl: per patient the conditions and why each class was given). Streams; 100,000
// patients need little memory. Same options, same bytes.
void write_cohort(const std::filesystem::path& folder, const CohortOptions& options, Job& job);

// The cohort of medication.md section 12.7 (labels depend on tree ancestors; a third of the leaves
// only in test), directly as data sets: train (seen leaves), test_seen, test_unseen.
struct HierarchyClaimOptions {
  std::int64_t seed = 0;
  std::int64_t train = 6000, test = 1500, classes = 40;
  static const OptionTable<HierarchyClaimOptions>& table();
};
// All three parts have the same vocabularies (procedures: the union of their codes), so that ids
// agree; what a model has seen are the codes that occur in `train`.
struct HierarchyClaim {
  data::Cohort train, test_seen, test_unseen;
};
// Leaves come from the official ICD-9 procedure list at `list_csv`, or, when empty, from generated
// four-digit codes with the same shape.
HierarchyClaim hierarchy_claim(const HierarchyClaimOptions& options,
                               const std::filesystem::path& list_csv);

}  // namespace theriac::generate
