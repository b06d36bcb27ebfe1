// The clinical table with every name resolved to a number, so that generating a patient needs no
// look-ups.
#pragma once

#include <string_view>
#include <vector>

#include "cpp/core/generate/clinical_table.h"

namespace theriac::generate {

// Drugs [first, last) of drugs(): all whose code starts with one ATC prefix.
struct DrugRange {
  int first = 0, last = 0;
  bool contains(int drug) const { return first <= drug && drug < last; }
};

struct IndexedAlternative {
  DrugRange drugs;
  double weight = 1;
  int habit = 0;  // position among all alternatives of the table; hospitals keep a habit for each
};

struct IndexedTreatment {
  double probability = 0;
  std::vector<IndexedAlternative> alternatives;
};

struct IndexedLink {
  int target = 0;
  double value = 0;
};

// One family of leaf codes in one code system; `habit` as above, one for each code.
struct IndexedCodes {
  const CodeList* codes = nullptr;
  int habit = 0;
  int size() const { return static_cast<int>(codes->size()); }
  std::string_view code(int leaf) const { return (*codes)[static_cast<std::size_t>(leaf)]; }
};

struct IndexedCondition {
  const Condition* table = nullptr;
  std::vector<int> needs, needs_any, replaces;
  std::vector<IndexedLink> risks, brings, leaves_behind, procedures;
  std::vector<IndexedTreatment> treatments;
  IndexedCodes icd9, icd10;
  int habit = 0;  // of the first treatment's number, for per-patient state
};

struct IndexedProcedure {
  const Procedure* table = nullptr;
  IndexedCodes icd9, icd10;
  std::vector<IndexedTreatment> treatments;
};

struct IndexedRoutine {
  std::string_view reason;
  bool needs_other = false;
  DrugRange with;
  IndexedTreatment treatment;
};

struct IndexedContraindication {
  DrugRange drugs;
  std::vector<int> conditions;
};

struct IndexedAvoidance {
  DrugRange first, second;
};

// Chronic conditions come first, then acute ones. Immutable.
struct ClinicalIndex {
  ClinicalIndex();
  static const ClinicalIndex& shared();

  int chronic = 0;  // conditions [0, chronic) are chronic
  std::vector<IndexedCondition> conditions;
  std::vector<IndexedProcedure> procedures;
  std::vector<IndexedLink> routine_procedures;
  std::vector<IndexedRoutine> routines;
  std::vector<IndexedContraindication> contraindications;
  std::vector<IndexedAvoidance> avoidances;
  int treatments = 0;    // of conditions
  int alternatives = 0;  // habits of alternatives
  int leaves = 0;        // habits of codes
};

}  // namespace theriac::generate
