// Codes that visits of the training data had together: what augmenters put in the place of a code.
#pragma once

#include <array>
#include <memory>

#include "cpp/core/augment/similarity_table.h"
#include "cpp/engine/clinical/visit_batch.h"
#include "cpp/engine/train/model_directory.h"

namespace theriac::clinical {

// By field (data::Field); ids are vocabulary positions + 1. Null where a field has no code, or a stored
// model no such table.
using SimilarCodes = std::array<std::shared_ptr<const augment::SimilarityTable>, 3>;
struct SimilarCodeTables {
  SimilarCodes item_cf, item_cf_iuf;  // augment::CoOccurrence, visits in the place of users
};

SimilarCodeTables similar_codes(const MappedCohort& cohort, const Vocabularies& vocabularies);

// tables/item_cf.diagnoses.bin and so on, of the tables that there are. Reading throws kDataError naming
// the file; a directory without them gives none.
void write_similar(const SimilarCodeTables& tables, train::ModelDirectory& directory);
SimilarCodeTables read_similar(const Vocabularies& vocabularies,
                               const train::ModelDirectory& directory);

}  // namespace theriac::clinical
