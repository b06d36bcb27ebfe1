#include "cpp/core/generate/clinical_index.h"

#include <algorithm>
#include <string>
#include <unordered_map>

#include "cpp/core/base/error.h"

namespace theriac::generate {
namespace {

using Names = std::unordered_map<std::string_view, int>;

int find(const Names& names, std::string_view name) {
  const auto it = names.find(name);
  if (it == names.end()) {
    throw Error(Code::kInternal, "clinical table: no entry is named '" + std::string(name) + "'");
  }
  return it->second;
}

std::vector<int> find_all(const Names& names, const std::vector<std::string_view>& wanted) {
  std::vector<int> found;
  for (const auto name : wanted) found.push_back(find(names, name));
  return found;
}

std::vector<IndexedLink> resolve(const Names& names, const std::vector<Link>& links) {
  std::vector<IndexedLink> resolved;
  for (const Link& link : links) resolved.push_back({find(names, link.name), link.value});
  return resolved;
}

DrugRange drug_range(std::string_view prefix) {
  const auto& all = drugs();
  const auto before = [](const Drug& drug, std::string_view p) {
    return drug.atc.substr(0, p.size()) < p;
  };
  const auto after = [](std::string_view p, const Drug& drug) {
    return p < drug.atc.substr(0, p.size());
  };
  const auto first = std::lower_bound(all.begin(), all.end(), prefix, before);
  const auto last = std::upper_bound(first, all.end(), prefix, after);
  if (first == last) {
    throw Error(Code::kInternal, "clinical table: no drug has ATC " + std::string(prefix));
  }
  return {static_cast<int>(first - all.begin()), static_cast<int>(last - all.begin())};
}

// Hands out habit numbers while the table is read.
class Builder {
 public:
  explicit Builder(ClinicalIndex& index) : index_(index) {}

  IndexedTreatment treatment(const Treatment& table) {
    IndexedTreatment result{table.probability, {}};
    for (const Alternative& alternative : table.alternatives) {
      result.alternatives.push_back(
          {drug_range(alternative.atc), alternative.weight, index_.alternatives++});
    }
    return result;
  }
  std::vector<IndexedTreatment> treatments(const std::vector<Treatment>& table) {
    std::vector<IndexedTreatment> result;
    for (const Treatment& one : table) result.push_back(treatment(one));
    return result;
  }
  IndexedCodes codes(const CodeList& list) {
    const int habit = index_.leaves;
    index_.leaves += static_cast<int>(list.size());
    return {&list, habit};
  }

 private:
  ClinicalIndex& index_;
};

Names condition_names() {
  Names names;
  for (const auto* table : {&chronic_conditions(), &acute_conditions()}) {
    for (const Condition& condition : *table) {
      names.emplace(condition.name, static_cast<int>(names.size()));
    }
  }
  return names;
}

Names procedure_names() {
  Names names;
  for (const Procedure& procedure : procedures()) {
    names.emplace(procedure.name, static_cast<int>(names.size()));
  }
  return names;
}

IndexedCondition index_condition(const Condition& table, const Names& conditions,
                                 const Names& procedures, ClinicalIndex& index) {
  Builder builder(index);
  IndexedCondition result;
  result.table = &table;
  result.needs = find_all(conditions, table.needs);
  result.needs_any = find_all(conditions, table.needs_any);
  result.replaces = find_all(conditions, table.replaces);
  result.risks = resolve(conditions, table.risks);
  result.brings = resolve(conditions, table.brings);
  result.leaves_behind = resolve(conditions, table.leaves_behind);
  result.procedures = resolve(procedures, table.procedures);
  result.treatments = builder.treatments(table.treatments);
  result.icd9 = builder.codes(table.icd9cm);
  result.icd10 = builder.codes(table.icd10cm);
  result.habit = index.treatments;
  index.treatments += static_cast<int>(table.treatments.size());
  return result;
}

IndexedProcedure index_procedure(const Procedure& table, ClinicalIndex& index) {
  Builder builder(index);
  IndexedProcedure result;
  result.table = &table;
  result.icd9 = builder.codes(table.icd9proc);
  result.icd10 = builder.codes(table.icd10pcs);
  result.treatments = builder.treatments(table.treatments);
  return result;
}

IndexedRoutine index_routine(const Routine& table, ClinicalIndex& index) {
  IndexedRoutine result;
  result.reason = table.reason;
  result.needs_other = !table.with.empty();
  if (result.needs_other) result.with = drug_range(table.with);
  result.treatment = Builder(index).treatment(table.treatment);
  return result;
}

}  // namespace

ClinicalIndex::ClinicalIndex() {
  const Names named_conditions = condition_names();
  const Names named_procedures = procedure_names();
  chronic = static_cast<int>(chronic_conditions().size());
  for (const auto* table : {&chronic_conditions(), &acute_conditions()}) {
    for (const Condition& condition : *table) {
      conditions.push_back(index_condition(condition, named_conditions, named_procedures, *this));
    }
  }
  for (const Procedure& procedure : generate::procedures()) {
    procedures.push_back(index_procedure(procedure, *this));
  }
  routine_procedures = resolve(named_procedures, generate::routine_procedures());
  for (const Routine& routine : generate::routines()) {
    routines.push_back(index_routine(routine, *this));
  }
  for (const Contraindication& rule : generate::contraindications()) {
    contraindications.push_back(
        {drug_range(rule.atc), find_all(named_conditions, rule.conditions)});
  }
  for (const Avoidance& rule : generate::avoidances()) {
    avoidances.push_back({drug_range(rule.first), drug_range(rule.second)});
  }
}

const ClinicalIndex& ClinicalIndex::shared() {
  static const ClinicalIndex index;
  return index;
}

}  // namespace theriac::generate
