// The trees and relation tables that a model's vocabularies ask for.
#pragma once

#include <cstdint>

#include "cpp/core/base/job.h"
#include "cpp/core/data/policy.h"
#include "cpp/engine/clinical/relation_table.h"
#include "cpp/engine/clinical/visit_batch.h"

namespace theriac::clinical {

// One table for each system with a tree (ICD-9-CM, ICD-9 procedures, ICD-10-CM, ICD-10-PCS) that
// the diagnoses and procedures have codes of: on the official list when `lists` names one, else on
// the codes and their ancestors by rule. Tables made before for the same inputs are taken from
// `cache` (empty: none).
RelationTables tables_for(const Vocabularies& vocabularies, const data::ListOptions& lists,
                          const TreeOptions& options, std::uint64_t seed, const std::string& cache,
                          Job& job);

}  // namespace theriac::clinical
