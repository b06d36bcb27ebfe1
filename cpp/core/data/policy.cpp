#include "cpp/core/data/policy.h"

namespace theriac::data {

const OptionTable<ListOptions>& ListOptions::table() {
  static const auto options =
      OptionTable<ListOptions>("lists", "Official code lists that unknown_code is decided against")
          .text("icd9cm", &ListOptions::icd9cm, "file of ICD-9-CM diagnosis codes")
          .text("icd9proc", &ListOptions::icd9proc, "file of ICD-9-CM procedure codes")
          .text("icd10cm", &ListOptions::icd10cm, "file of ICD-10-CM codes")
          .text("icd10pcs", &ListOptions::icd10pcs, "file of ICD-10-PCS codes");
  return options;
}

const OptionTable<CohortPolicy>& CohortPolicy::table() {
  static const auto options =
      OptionTable<CohortPolicy>("cohort", "How clinical records become a cohort")
          .choice("med_map", &CohortPolicy::med_map, {"all", "first"},
                  "keep every ATC class of a drug, or the lexicographically first")
          .choice("med_window", &CohortPolicy::med_window, {"stay", "first_day"},
                  "medications of the whole stay, or of the first day with any prescription")
          .choice("visit_order", &CohortPolicy::visit_order, {"time", "visit_id"},
                  "order visits by admission time (ties by id), or by their id as text")
          .integer("min_visits", &CohortPolicy::min_visits, {1, 1'000'000},
                   "usable visits that a patient must have")
          .integer("top_k_dx", &CohortPolicy::top_k_dx, {0, 100'000'000},
                   "keep only the k most frequent diagnosis codes; 0 keeps all")
          .flag("require_all_three", &CohortPolicy::require_all_three,
                "drop visits that lack diagnoses, procedures or medications")
          .choice("unknown_code", &CohortPolicy::unknown_code, {"keep", "drop", "nearest_ancestor"},
                  "what becomes of a code that its system's official list lacks")
          .choice("problem_list", &CohortPolicy::problem_list, {"drop", "last_visit"},
                  "FHIR problem-list conditions without an encounter")
          .group("maps", &CohortPolicy::maps, codes::MapOptions::table(),
                 "mapping tables between code systems")
          .group("lists", &CohortPolicy::lists, ListOptions::table(), "official code lists");
  return options;
}

}  // namespace theriac::data
