// The models that a recipe names, found and opened: local folders and files, the output of an earlier
// document, a model of the hub that lies in the local cache; each perhaps with an adapter on top.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cpp/core/base/job.h"
#include "cpp/core/merge/plan.h"
#include "cpp/core/merge/recipe.h"
#include "cpp/core/tensorfile/model_files.h"

namespace theriac::merge {

// One file of an input, as it was when it was opened.
struct InputFile {
  std::string path;
  std::uint64_t bytes = 0;
  std::int64_t modified = 0;  // nanoseconds
  std::string header;         // fingerprint of its tensors' names, types, shapes and places
};

struct InputModel {
  ModelReference reference;
  tensorfile::ModelFiles files;
  std::vector<InputFile> inputs;         // of the model and of its adapter
  std::vector<ConfigEdit> config_edits;  // what the adapter changes in config.json
};

struct InputOptions {
  std::filesystem::path working_folder;  // what relative paths start from
  // Of the hub's client: models--ORG--NAME/snapshots/REVISION. Empty: none is looked in.
  std::filesystem::path hub_cache;
  // By name: models that earlier documents of the recipe make.
  std::map<std::string, tensorfile::ModelFiles, std::less<>> named;
  std::optional<tensorfile::DType> adapter_dtype;  // see apply_adapter
};

// What is read of a file when it is opened, for telling whether it is still the same. Throws kIoError.
InputFile input_file(const std::filesystem::path& path, std::string header);

// Opens the models, reading headers only; a model or adapter that is named twice is opened once. One
// for each reference, in their order. Throws kNotFound for what is not there, and as ModelFiles,
// Adapter and apply_adapter do.
std::vector<InputModel> open_inputs(const std::vector<ModelReference>& references,
                                    const InputOptions& options, Job& job);

// Names of the hub ("org/name"); paths such as "./x" and "/x" are none.
bool is_hub_name(const std::string& path);

// The folder of a model of the hub in a cache, or nothing. `revision`: a branch, tag or commit; empty
// for "main".
std::optional<std::filesystem::path> find_in_hub_cache(const std::filesystem::path& cache,
                                                       const std::string& name,
                                                       const std::string& revision);

// The planner's view of an opened model.
ModelTensors tensors_of(const tensorfile::ModelFiles& model, const std::string& name);

}  // namespace theriac::merge
