// A merge that is put together model by model: what the handle of the C ABI holds.
//
// Models are remembered as folders with a fingerprint, not read: whatever the method, adding costs no
// memory, and finishing streams all of them at once. A folder that changed in between is an error, so a
// result is always that of the models that were added.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/job.h"
#include "cpp/core/base/json.h"
#include "cpp/core/merge/merge.h"

namespace theriac::merge {

// Tensors (name, type, shape, place) and each file's size and time of change: what tells that a model
// is still the one it was, without reading its weights. Throws as ModelFiles::open does.
std::string model_fingerprint(const std::filesystem::path& model);

// A model's path as YAML, quoted, whatever characters it has.
std::string model_yaml(const std::string& path);

struct MergerOptions {
  std::string base_model;            // empty: none
  Json parameters = Json::object();  // of the method, for all models: lambda, normalize, ...
  std::string dtype, out_dtype;      // bfloat16, float16, float32; empty: that of the models
};

struct MergerModel {
  std::string path;  // absolute
  Json parameters = Json::object();
  std::string fingerprint;
  std::uint64_t bytes = 0;  // of its tensors
  std::size_t tensors = 0;
};

// Not synchronised: const members may run at the same time, `add` alone.
class Merger {
 public:
  // Throws kInvalidArgument for an unknown method or parameter, a value out of range, or a base where
  // the method has none; kNotFound and others for a base that is no model. Relative paths here and in
  // `add` start from the process's own folder.
  Merger(std::string method, MergerOptions options);

  // Parameters: of this model, as {"weight": 0.5, "density": [0.2, 0.8]}; values are numbers, flags,
  // text, gradients and lists of {"filter", "value"}, as in a recipe. A failed call changes nothing.
  void add(const std::string& path, Json parameters);

  const std::vector<MergerModel>& models() const noexcept { return models_; }
  // The recipe of what has been added, as YAML.
  std::string recipe() const;
  // {"method", "base_model", "parameters", "dtype", "out_dtype", "models": [{"path", "parameters",
  // "tensors", "bytes", "fingerprint"}], "complete", "recipe"}. Complete: as many models as the method
  // needs.
  Json info() const;

  // Merges what has been added; changes nothing here, so that more can be added and merged again.
  // Throws kInvalidState with too few models or where one has changed, else as merge_recipe does.
  Json finish(const std::filesystem::path& output, const MergeOptions& options, Job& job) const;

  // One JSON document, for a later process.
  std::string serialised() const;
  // The other way round; models are not looked at before `finish`. Throws kDataError, naming `what`,
  // for text that is no merger's, kIncompatible for one of a later version, else as the constructor.
  static Merger parse(std::string_view text, std::string_view what);

 private:
  Merger() = default;
  void check_recipe() const;

  std::string method_;
  MergerOptions options_;
  MergerModel base_;  // path empty: none
  std::vector<MergerModel> models_;
};

}  // namespace theriac::merge
