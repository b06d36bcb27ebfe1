// How raw clinical records become a cohort (medication.md section 2.3).
#pragma once

#include <cstdint>
#include <string>

#include "cpp/core/base/options.h"
#include "cpp/core/codes/mapping.h"

namespace theriac::data {

// Paths of official code lists (options `lists.*`), against which unknown_code is decided: a CSV
// file with columns code,parent or a CMS order file, plain or gzip. An empty path means none.
struct ListOptions {
  std::string icd9cm, icd9proc, icd10cm, icd10pcs;
  static const OptionTable<ListOptions>& table();
};

struct CohortPolicy {
  std::string med_map =
      "all";  // all | first: every ATC class of a drug, or the lexicographically first
  std::string med_window =
      "stay";  // stay | first_day: the whole stay, or the first day with any prescription
  std::string visit_order =
      "time";                     // time | visit_id: admission time (ties by id), or the id as text
  std::int64_t min_visits = 2;    // usable visits a patient must have
  std::int64_t top_k_dx = 0;      // keep only the k most frequent diagnosis codes; 0 keeps all
  bool require_all_three = true;  // drop visits that lack diagnoses, procedures or medications
  std::string unknown_code =
      "keep";  // keep | drop | nearest_ancestor: codes that an official list lacks
  std::string problem_list =
      "drop";  // drop | last_visit: FHIR problem-list conditions without an encounter
  codes::MapOptions maps;
  ListOptions lists;
  static const OptionTable<CohortPolicy>& table();
};

}  // namespace theriac::data
