// Everything a fitted medication model needs to answer, in one immutable piece. A model swaps in a
// new state when it is fitted or loaded; sessions keep the one they were opened on.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "cpp/core/base/json.h"
#include "cpp/core/codes/interactions.h"
#include "cpp/core/data/cohort.h"
#include "cpp/core/metrics/multilabel.h"
#include "cpp/engine/clinical/code_encoder.h"
#include "cpp/engine/clinical/frozen.h"
#include "cpp/engine/clinical/similar_codes.h"

namespace theriac::clinical {

// Immutable; shared by all threads.
struct MedicationState {
  std::string method;           // registered name, "gamenet"
  std::string model_version;    // fingerprint of method, options, vocabularies and weights
  std::string library_version;  // version that trained or loaded it

  // Codes by id. A code outside diagnoses or procedures is read by the field's encoder (add_code)
  // if there is one; a medication outside classes is of no use to the model.
  data::Vocabulary diagnoses, procedures, classes;

  // Null for methods without code vectors; FrozenVisit::*_extra are then empty.
  std::shared_ptr<const CodeEncoder> diagnoses_encoder, procedures_encoder;
  std::shared_ptr<const FrozenScorer> scorer;

  SimilarCodeTables similar;  // for augmenters; ids are vocabulary positions + 1

  std::int64_t max_visits =
      10;                  // callers pass at most this many visits to the scorer, the latest ones
  double threshold = 0.3;  // recommended: probability >= threshold

  codes::InteractionTable interactions;  // as the model was trained with; no pairs when it had none
  metrics::InteractionMatrix matrix;     // the same over classes

  Json training = Json::object();  // training record: data, seed, metrics, counts
  std::string limits;              // what a reader of any output must know
};

}  // namespace theriac::clinical
