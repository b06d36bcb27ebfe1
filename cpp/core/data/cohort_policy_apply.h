// The finishing step that every reader and the Arrow import share: raw records and a policy in, a
// cohort and a full account of what was dropped out (medication.md section 2.3).
//
// A reader groups its rows into RawPatients, counts its own tables in an Accounting (rows read =
// rows kept
// + rows dropped by reason), and calls apply_policy once. Not synchronised: one import, one thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cpp/core/base/json.h"
#include "cpp/core/codes/code.h"
#include "cpp/core/codes/mapping.h"
#include "cpp/core/data/cohort.h"
#include "cpp/core/data/policy.h"

namespace theriac::data {

// One stay or encounter as a reader found it. Codes are in normal form and in the order that the
// visit lists them (seq_num); repeats are allowed and dropped. Medications are classes already.
struct RawVisit {
  std::string id;
  std::int64_t time = kNoTime;
  std::vector<codes::MedicalCode> diagnoses, procedures, medications;
};

struct RawPatient {
  std::string id;
  std::vector<RawVisit> visits;  // in any order
};

// Counts rows of tables by what became of them, and codes without a mapping by how often they were
// met. Names of tables and reasons are the caller's; they are words for people ("diagnoses_icd",
// "no code"). Never give it anything that identifies a patient.
class Accounting {
 public:
  void read(std::string_view table, std::int64_t rows = 1);
  void kept(std::string_view table, std::int64_t rows = 1);
  void dropped(std::string_view table, std::string_view reason, std::int64_t rows = 1);
  // `what` names the kind ("ndc", "icd9proc"); counts one row with this code or drug name.
  void unmapped(std::string_view what, std::string_view code_or_name);

  std::int64_t rows_read(std::string_view table) const;
  std::int64_t rows_kept(std::string_view table) const;
  std::int64_t rows_dropped(std::string_view table) const;
  std::int64_t rows_dropped(std::string_view table, std::string_view reason) const;
  // Tables where rows read are not rows kept plus rows dropped; empty when the books balance.
  std::vector<std::string> unbalanced() const;

  // {"tables": {NAME: {"read": n, "kept": n, "dropped": {REASON: n}}},
  //  "unmapped": {WHAT: {"rows": n, "distinct": n, "top": [{"code": CODE, "rows": n}, ... ten at
  //  most]}}}
  // Names and reasons are sorted; `top` is by falling count, then by code.
  Json to_json() const;

 private:
  struct Table {
    std::int64_t read = 0, kept = 0;
    std::map<std::string, std::int64_t, std::less<>> dropped;
  };
  Table& table(std::string_view name);
  const Table* find(std::string_view name) const;

  std::map<std::string, Table, std::less<>> tables_;
  std::map<std::string, std::unordered_map<std::string, std::int64_t>, std::less<>> unmapped_;
};

// ATC level-3 classes of one medication coding under `policy.med_map`: all of them, or the
// lexicographically first. Empty when the maps know none; the caller counts that.
std::vector<codes::MedicalCode> medication_classes(const codes::CodeMaps& maps,
                                                   const codes::MedicalCode& medication,
                                                   const CohortPolicy& policy);

// Ids that are all digits come first, by number ("9" before "10"), then the others as text. The
// order of patients in every imported cohort.
bool id_before(std::string_view a, std::string_view b) noexcept;

// Applies, in this order: repeats within a visit, unknown_code against the official lists
// (diagnoses and procedures of systems that have a list; other codes are kept), top_k_dx (visits
// with the code, counted over all visits given; ties by system and text), visits without all three
// sets (or without any code), min_visits, order of visits, order of patients (id_before).
// Medications are sorted within a visit, so that the same stays give the same cohort from any
// format. A visit of unknown time comes after all dated ones.
//
// What it drops is added to `accounting` as the tables "cohort patients", "cohort visits", "cohort
// diagnoses", "cohort procedures" and "cohort medications", and unknown codes as unmapped under
// their system's name. `provenance` is kept with the cohort, joined by "policy" (effective
// options). Throws kDataError for a patient, or a visit of one patient, that is given twice.
Cohort apply_policy(std::vector<RawPatient> patients, const CohortPolicy& policy,
                    Accounting& accounting, Json provenance);

}  // namespace theriac::data
