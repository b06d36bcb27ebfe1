// Test-time augmentation of a patient's past: probabilities averaged over copies of the history whose
// codes of past visits differ. The current visit is never changed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cpp/core/augment/augmenter.h"
#include "cpp/engine/clinical/frozen.h"
#include "cpp/engine/clinical/similar_codes.h"

namespace theriac::clinical {

// The augmenter sees the codes of the past visits as one sequence, visit after visit, within a visit
// diagnoses, procedures, then medications; codes outside the model's vocabularies stay as they are. What
// its operators mean for visits, which are sets:
//
//   remove, crop, window  codes are left out; a visit that loses all keeps its place
//   mask                  the same, as there is no code that stands for "unknown"
//   reorder               codes of one kind change places, and with them visits, which keep their sizes
//   substitute, insert    codes of the same kind that visits of the training data had together (option
//                         similar: item_cf or item_cf_iuf), once a visit
//
// Copies depend on the augmenter's seed and the codes alone. Throws kUnsupported, naming the option, for
// noise and shifts, which need vectors, and for tables that the model does not have. Immutable; shared by
// sessions.
std::shared_ptr<const FrozenScorer> augmented_scorer(
    std::shared_ptr<const FrozenScorer> scorer, std::shared_ptr<const augment::Augmenter> augmenter,
    const SimilarCodeTables& similar = {});

// The operators that a model with these tables carries out.
std::vector<std::string> operators_of(const SimilarCodeTables& similar);

}  // namespace theriac::clinical
