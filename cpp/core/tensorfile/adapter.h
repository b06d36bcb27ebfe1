// LoRA adapters in PEFT's folder layout: adapter_config.json beside adapter_model.safetensors (or
// .bin). Says which tensors change which module and how they are scaled; does no arithmetic.
//
// Shapes, with rank r: a linear module [out, in] has A [r, in] and B [out, r]; a convolution
// [out, in, k...] has A [r, in, k...] and B [out, r, 1...]; an embedding [V, h] has A [r, V] and
// B [h, r]. The delta of a linear module is scale * B * A, of an embedding its transpose; with
// `fan_in_fan_out` the module's weight is stored as [in, out] and the delta is transposed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cpp/core/base/json.h"
#include "cpp/core/tensorfile/model_files.h"

namespace theriac::tensorfile {

struct AdapterConfig {
  std::uint64_t rank = 8;
  double alpha = 8;
  bool use_rslora = false;  // scale alpha / sqrt(r) instead of alpha / r
  bool use_dora = false;
  bool fan_in_fan_out = false;
  bool lora_bias = false;
  std::string bias = "none";  // none, all, lora_only
  // A list of names, or one regular expression when target_is_pattern. Informative: the tensors of
  // the adapter say what it changes.
  std::vector<std::string> target_modules;
  bool target_is_pattern = false;
  std::vector<std::string> modules_to_save;
  // Regular expressions that match a module's last path components, in the order written; the
  // first that matches counts.
  std::vector<std::pair<std::string, std::uint64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  std::vector<std::uint64_t> layers_to_transform;
  std::vector<std::string> layers_pattern;
  std::string base_model;
  std::vector<std::string> warnings;

  // Throws kDataError naming `what` and key, kUnsupported for other kinds of adapter than LoRA and
  // for options that change the model's structure.
  static AdapterConfig parse(std::string_view text, std::string_view what);
};

// What changes one module. Pointers refer to the tensors that were mapped.
struct AdapterModule {
  const TensorRecord* a = nullptr;
  const TensorRecord* b = nullptr;
  bool embedding = false;
  const TensorRecord* magnitude = nullptr;  // DoRA: [out], or any shape of as many elements
  const TensorRecord* b_bias = nullptr;     // added to the module's bias, times scale: [out]
  std::uint64_t rank = 0;                   // A's first dimension
  double alpha = 0;
  double scale = 0;  // alpha / rank or alpha / sqrt(rank)
};

struct AdapterMap {
  std::map<std::string, AdapterModule, std::less<>> modules;  // "model.layers.0.mlp.up_proj"
  // Tensors that replace the model's, by the model's names: modules_to_save, resized embeddings,
  // trained biases.
  std::map<std::string, const TensorRecord*, std::less<>> replaced;
  std::vector<std::string> warnings;
};

// Sorts tensors by what they are. Throws kDataError that names the tensor: a key of unknown form
// (with the nearest known one), a module without A or B, ranks that disagree, a pattern that is no
// regular expression.
AdapterMap map_adapter(const AdapterConfig& config, const std::vector<TensorRecord>& tensors);

// A folder's adapter. Movable; const members may be called from several threads at once.
class Adapter {
 public:
  // Throws as ModelFiles::open, AdapterConfig::parse and map_adapter do.
  static Adapter open(const std::filesystem::path& folder, const ModelLimits& limits = {});

  const AdapterConfig& config() const noexcept { return config_; }
  const AdapterMap& map() const noexcept { return map_; }
  const ModelFiles& files() const noexcept { return files_; }  // reads the mapped tensors
  const AdapterModule* find(std::string_view module) const noexcept;
  // Factor of B * A. Throws kNotFound naming the nearest module.
  double scale(std::string_view module) const;

 private:
  Adapter(AdapterConfig config, ModelFiles files)
      : config_(std::move(config)),
        files_(std::move(files)),
        map_(map_adapter(config_, files_.tensors())) {}
  AdapterConfig config_;
  ModelFiles files_;
  AdapterMap map_;
};

}  // namespace theriac::tensorfile
