// The model behind every method of item sequences: sequences in, parameters learned by the method's
// recommender, and out of them one immutable state that sessions share; saved as a model directory:
//
//   config.json            method, options, training record, limits
//   model.safetensors      parameters, under the method's published names
//   vocab.items.json       the items' names, [items]; item id = position + 1
//   tables/*.bin           similar items of the training data: [items, width] int32, then float32 scores
#pragma once

#include <memory>
#include <string>

#include "cpp/core/base/json.h"
#include "cpp/core/engine.h"
#include "cpp/engine/sequence/sequence_recommender.h"
#include "cpp/engine/train/model_directory.h"

namespace theriac::sequence {

std::unique_ptr<Model> make_sequence_model(const SequenceMethod& method, const Json& options,
                                           const ContextSettings& context);
std::unique_ptr<Model> load_sequence_model(const SequenceMethod& method,
                                           const train::ModelDirectory& directory,
                                           const Json& options, const ContextSettings& context);
// From a .safetensors file; `dataset` gives the items' names, and its sequences the tables of similar
// items: give the training part alone.
std::unique_ptr<Model> import_sequence_model(const SequenceMethod& method, const std::string& file,
                                             const Dataset& dataset, const Json& options,
                                             const ContextSettings& context);

Json evaluation_schema();

}  // namespace theriac::sequence
