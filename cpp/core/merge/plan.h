// From a recipe and its models' tensor lists to the list of output tensors: which inputs each is
// made of, and with which parameters. No file is read here; a plan is what a dry run prints and what
// the executor carries out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpp/core/merge/architecture.h"
#include "cpp/core/merge/method_parameters.h"
#include "cpp/core/merge/recipe.h"
#include "cpp/core/merge/settings.h"

namespace theriac::merge {

struct PlannedSource {
  std::size_t model = 0;  // position in the models given
  std::string tensor;     // its name there
  bool crop = false;      // larger than the output: its first rows and columns are meant
  Parameters parameters;  // those of each model
};

enum class PlannedAction {
  kMerge,
  kCopy,  // of the only source, without arithmetic
};

struct PlannedTensor {
  std::string name;                  // in the output
  std::vector<std::uint64_t> shape;  // of the output
  PlannedAction action = PlannedAction::kMerge;
  std::vector<PlannedSource> sources;  // in the recipe's order, the base among them
  int base = -1;                       // position in `sources`, or -1
  Parameters parameters;               // global ones; empty for a copy
  double t = 0;                        // position among the layers of its slice; outside them 0
  std::int64_t layer = -1;             // of the output; outside the layers -1
  bool is_embed = false;               // rows are the vocabulary's
  bool rows_from_tokenizer = false;    // the new vocabulary decides shape[0]
};

struct ConfigEdit {
  std::string key;  // a path: "text_config.num_hidden_layers"
  Json value;
};

struct MergePlan {
  const MethodDeclaration* method = nullptr;
  std::size_t donor = 0;               // the model whose config and tokenizer the output gets
  std::vector<PlannedTensor> tensors;  // in output order: of each stack, what comes before the
                                       // layers, layer by layer, what comes after
  std::vector<ConfigEdit> config_edits;
  std::vector<std::string> notes;  // decisions that a user should know of, a sentence each
};

// `models`: one for each of referenced_models(recipe), any order, `name` its text(). Throws
// kInvalidArgument where recipe and models do not fit (number of models, base, layer ranges, missing
// parameters), kDataError where the models do not fit each other (layers, missing tensors, shapes).
//
// In a slice, sources are told apart by position: a model may stand in it twice.
MergePlan resolve(const MergeRecipe& recipe, const std::vector<ModelTensors>& models);

}  // namespace theriac::merge
