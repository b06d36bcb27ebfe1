// The model behind every medication method: data in, parameters learned by the method's
// recommender, and out of them one immutable state that sessions share; saved as a model directory:
//
//   config.json            method, options, vocabularies' hashes, classes, training record, limits
//   model.safetensors      parameters and graph buffers
//   vocab.diagnoses.txt, vocab.procedures.txt, vocab.classes.txt   "system code" a line
//   tables/interactions.csv, tables/relation.*                     as the model was trained with
#pragma once

#include <memory>

#include "cpp/core/base/json.h"
#include "cpp/core/engine.h"
#include "cpp/engine/clinical/medication_recommender.h"
#include "cpp/engine/train/model_directory.h"

namespace theriac::clinical {

std::unique_ptr<Model> make_medication_model(const MedicationMethod& method, const Json& options,
                                             const ContextSettings& context);
std::unique_ptr<Model> load_medication_model(const MedicationMethod& method,
                                             const train::ModelDirectory& directory,
                                             const Json& options, const ContextSettings& context);

}  // namespace theriac::clinical
