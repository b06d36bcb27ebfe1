#include "cpp/engine/clinical/medication_trees.h"

#include <array>
#include <string>
#include <utility>
#include <vector>

namespace theriac::clinical {
namespace {

using codes::Hierarchy;
using codes::System;

// Codes of the system in both vocabularies that have the system's form; others can have no
// ancestors.
std::vector<std::string> codes_of(const Vocabularies& vocabularies, System system) {
  std::vector<std::string> texts;
  for (const data::Vocabulary* vocabulary : {&vocabularies.diagnoses, &vocabularies.procedures}) {
    for (const codes::MedicalCode& code : vocabulary->codes()) {
      if (code.system == system && codes::has_code_shape(system, code.text))
        texts.push_back(code.text);
    }
  }
  return texts;
}

}  // namespace

RelationTables tables_for(const Vocabularies& vocabularies, const data::ListOptions& lists,
                          const TreeOptions& options, std::uint64_t seed, const std::string& cache,
                          Job& job) {
  const std::array<std::pair<System, const std::string*>, 4> systems = {
      {{System::kIcd9cm, &lists.icd9cm},
       {System::kIcd9proc, &lists.icd9proc},
       {System::kIcd10cm, &lists.icd10cm},
       {System::kIcd10pcs, &lists.icd10pcs}}};
  RelationTables tables;
  for (const auto& [system, list] : systems) {
    const std::vector<std::string> texts = codes_of(vocabularies, system);
    if (texts.empty()) continue;
    const Hierarchy tree =
        list->empty() ? Hierarchy::closure(system, texts) : Hierarchy::from_list(system, *list);
    tables.push_back(pretrain_or_load(tree, options, seed, cache, job));
  }
  return tables;
}

}  // namespace theriac::clinical
