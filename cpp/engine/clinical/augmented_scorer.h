// Test-time augmentation of a patient's past: probabilities averaged over copies of the history in which
// codes of past visits are left out. The current visit is never changed.
#pragma once

#include <memory>

#include "cpp/core/augment/augmenter.h"
#include "cpp/engine/clinical/frozen.h"

namespace theriac::clinical {

// The augmenter sees the codes of the past visits as one sequence, visit after visit, within a visit
// diagnoses, procedures, then medications; codes outside the model's vocabularies stay as they are. A
// visit that loses all its codes keeps its place. Copies depend on the augmenter's seed and the codes
// alone. Throws kUnsupported, naming the option, for operators that need an order within a visit, other
// codes or vectors; what remains are those that leave something out. Immutable; shared by sessions.
std::shared_ptr<const FrozenScorer> augmented_scorer(
    std::shared_ptr<const FrozenScorer> scorer,
    std::shared_ptr<const augment::Augmenter> augmenter);

}  // namespace theriac::clinical
