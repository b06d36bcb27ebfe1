#include "cpp/core/tensorfile/adapter.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "cpp/core/base/file.h"
#include "cpp/core/base/options.h"
#include "cpp/core/tensorfile/layout.h"
#include "cpp/core/tensorfile/pattern.h"

namespace theriac::tensorfile {
namespace {

using internal::shown;

constexpr std::uint64_t kMostRank = 1 << 20;

// Reads the keys of adapter_config.json. A null counts as absent, as PEFT writes it.
class ConfigReader {
 public:
  ConfigReader(const Json& json, std::string_view what) : json_(json), what_(what) {}

  Error error(Code code, const std::string& key, const std::string& problem) const {
    return Error(code, "'" + what_ + "': '" + key + "' " + problem)
        .at("file", what_)
        .at("json_path", key);
  }
  [[noreturn]] void fail(const std::string& key, const std::string& problem) const {
    throw error(Code::kDataError, key, problem);
  }
  const Json* find(const std::string& key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }

  void flag(const std::string& key, bool& into) const {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_boolean()) fail(key, "is no boolean");
    into = value->get<bool>();
  }
  void text(const std::string& key, std::string& into) const {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_string()) fail(key, "is no string");
    into = value->get<std::string>();
  }
  std::uint64_t rank(const Json& value, const std::string& key) const {
    const bool good = value.is_number_unsigned() && value.get<std::uint64_t>() >= 1 &&
                      value.get<std::uint64_t>() <= kMostRank;
    if (!good)
      fail(key, "is " + dump_json(value).substr(0, 64) + "; expected a rank of at least 1");
    return value.get<std::uint64_t>();
  }
  double alpha(const Json& value, const std::string& key) const {
    const bool good = value.is_number() && std::isfinite(value.get<double>());
    if (!good) fail(key, "is " + dump_json(value).substr(0, 64) + "; expected a finite number");
    return value.get<double>();
  }
  // A list of strings; a single string counts as a list of one.
  void texts(const std::string& key, std::vector<std::string>& into) const {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (value->is_string()) {
      into = {value->get<std::string>()};
      return;
    }
    if (!value->is_array()) fail(key, "is no list of strings");
    for (const Json& item : *value) {
      if (!item.is_string()) fail(key, "is no list of strings");
      into.push_back(item.get<std::string>());
    }
  }
  void integers(const std::string& key, std::vector<std::uint64_t>& into) const {
    const Json* value = find(key);
    if (value == nullptr) return;
    const Json list = value->is_array() ? *value : Json::array({*value});
    for (const Json& item : list) {
      if (!item.is_number_unsigned()) fail(key, "is no list of layer numbers");
      into.push_back(item.get<std::uint64_t>());
    }
  }
  template <class T, class Read>
  void pattern(const std::string& key, std::vector<std::pair<std::string, T>>& into,
               Read read) const {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_object()) fail(key, "is no object of patterns");
    for (const auto& [name, number] : value->items()) {
      into.emplace_back(name, read(number, key + "." + name.substr(0, 64)));
    }
  }

 private:
  const Json& json_;
  std::string what_;
};

// Options that change more than the sum of weight and delta, or what the delta is relative to.
void check_options(const ConfigReader& reader, AdapterConfig& config) {
  if (const Json* type = reader.find("peft_type")) {
    if (!type->is_string() || type->get<std::string>() != "LORA") {
      throw reader.error(Code::kUnsupported, "peft_type",
                         "is " + dump_json(*type).substr(0, 64) + "; only LORA is read");
    }
  }
  for (const std::string key : {"layer_replication", "megatron_config", "target_parameters"}) {
    const Json* value = reader.find(key);
    if (value == nullptr || value->empty()) continue;
    throw reader.error(Code::kUnsupported, key,
                       "changes what the adapter's tensors mean and is not read");
  }
  if (const Json* init = reader.find("init_lora_weights"); init != nullptr && init->is_string()) {
    const auto name = init->get<std::string>();
    for (const std::string_view residual : {"pissa", "olora", "corda", "loftq"}) {
      if (!name.starts_with(residual)) continue;
      config.warnings.push_back("'init_lora_weights' is " + shown(name) +
                                ": such training also changes the base weights; the adapter fits "
                                "only the base model saved with it, unless it was converted");
    }
  }
}

}  // namespace

AdapterConfig AdapterConfig::parse(std::string_view text, std::string_view what) {
  constexpr JsonLimits kJsonLimits{.bytes = std::size_t{16} << 20, .depth = 32};
  const Json json = parse_json(text, what, Code::kDataError, kJsonLimits);
  if (!json.is_object()) {
    throw Error(Code::kDataError, "'" + std::string(what) + "': expected a JSON object")
        .at("file", std::string(what));
  }
  const ConfigReader reader(json, what);
  AdapterConfig config;
  check_options(reader, config);
  const auto rank = [&](const Json& v, const std::string& key) { return reader.rank(v, key); };
  const auto alpha = [&](const Json& v, const std::string& key) { return reader.alpha(v, key); };
  if (const Json* value = reader.find("r")) config.rank = rank(*value, "r");
  if (const Json* value = reader.find("lora_alpha")) config.alpha = alpha(*value, "lora_alpha");
  reader.flag("use_rslora", config.use_rslora);
  reader.flag("use_dora", config.use_dora);
  reader.flag("fan_in_fan_out", config.fan_in_fan_out);
  reader.flag("lora_bias", config.lora_bias);
  reader.text("bias", config.bias);
  if (config.bias != "none" && config.bias != "all" && config.bias != "lora_only") {
    reader.fail("bias", "is " + shown(config.bias) + "; expected none, all or lora_only");
  }
  reader.texts("target_modules", config.target_modules);
  const Json* targets = reader.find("target_modules");
  config.target_is_pattern = targets != nullptr && targets->is_string();
  reader.texts("modules_to_save", config.modules_to_save);
  reader.pattern("rank_pattern", config.rank_pattern, rank);
  reader.pattern("alpha_pattern", config.alpha_pattern, alpha);
  reader.integers("layers_to_transform", config.layers_to_transform);
  reader.texts("layers_pattern", config.layers_pattern);
  reader.text("base_model_name_or_path", config.base_model);
  return config;
}

namespace {

// Values for modules, by the patterns that come with them.
template <class T>
class PatternTable {
 public:
  PatternTable(std::string_view key, const std::vector<std::pair<std::string, T>>& entries)
      : entries_(entries), patterns_(key, names_of(entries)) {}

  T value(const std::string& module, T fallback) const {
    const auto found = patterns_.find(module);
    return found ? entries_[*found].second : fallback;
  }

 private:
  static std::vector<std::string> names_of(const std::vector<std::pair<std::string, T>>& entries) {
    std::vector<std::string> names;
    for (const auto& [name, value] : entries) names.push_back(name);
    return names;
  }

  const std::vector<std::pair<std::string, T>>& entries_;
  internal::SuffixPatterns patterns_;
};

enum class Part { kA, kB, kEmbeddingA, kEmbeddingB, kMagnitude, kBias };

struct Suffix {
  std::string_view text;
  Part part;
};
constexpr Suffix kSuffixes[] = {
    {".lora_A.weight", Part::kA},
    {".lora_B.weight", Part::kB},
    {".lora_B.bias", Part::kBias},
    {".lora_embedding_A", Part::kEmbeddingA},
    {".lora_embedding_B", Part::kEmbeddingB},
    {".lora_magnitude_vector", Part::kMagnitude},
    {".lora_magnitude_vector.weight", Part::kMagnitude},
};
constexpr std::string_view kPrefix = "base_model.model.";

Error tensor_error(const std::string& name, const std::string& problem) {
  return Error(Code::kDataError, "adapter tensor " + shown(name) + " " + problem)
      .at("tensor", name.substr(0, 4096));
}

// What follows the module in a key that mentions LoRA: "lora_A.default.weight".
std::string_view lora_part(std::string_view name) {
  const std::size_t at = name.find("lora_");
  return at == std::string_view::npos ? name : name.substr(at);
}

[[noreturn]] void fail_unknown(const std::string& name) {
  std::vector<std::string> forms;
  for (const Suffix& suffix : kSuffixes) forms.emplace_back(suffix.text.substr(1));
  std::string nearest = nearest_name(lora_part(name), forms);
  // A key cut short, or a longer one such as with the adapter's name in it, begins like a known one.
  const std::string_view part = lora_part(name);
  const std::string_view first = part.substr(0, part.find('.'));
  for (const std::string& form : forms) {
    const bool alike = first.starts_with("lora_") && form.starts_with(first);
    if (nearest.empty() && alike) nearest = form;
  }
  const std::string example =
      nearest.empty() ? "; expected keys such as '" : "; the nearest known form is '";
  if (nearest.empty()) nearest = forms.front();
  throw tensor_error(
      name, "is of unknown form" + example + std::string(kPrefix) + "<module>." + nearest + "'");
}

class Mapper {
 public:
  explicit Mapper(const AdapterConfig& config)
      : config_(config),
        ranks_("rank_pattern", config.rank_pattern),
        alphas_("alpha_pattern", config.alpha_pattern) {}

  AdapterMap map(const std::vector<TensorRecord>& tensors);

 private:
  void add(const TensorRecord& tensor);
  void add_part(const TensorRecord& tensor, const std::string& module, Part part);
  void add_replaced(const TensorRecord& tensor, std::string_view name);
  bool is_saved(std::string_view path) const;
  void check_module(const std::string& name, AdapterModule& module);

  const AdapterConfig& config_;
  PatternTable<std::uint64_t> ranks_;
  PatternTable<double> alphas_;
  AdapterMap out_;
};

void Mapper::add(const TensorRecord& tensor) {
  const std::string_view name = tensor.name;
  if (!name.starts_with(kPrefix)) fail_unknown(tensor.name);
  const std::string_view path = name.substr(kPrefix.size());
  for (const Suffix& suffix : kSuffixes) {
    if (path.size() > suffix.text.size() && path.ends_with(suffix.text)) {
      return add_part(tensor, std::string(path.substr(0, path.size() - suffix.text.size())),
                      suffix.part);
    }
  }
  if (path.find("lora_") != std::string_view::npos) fail_unknown(tensor.name);
  add_replaced(tensor, path);
}

void Mapper::add_part(const TensorRecord& tensor, const std::string& module, Part part) {
  AdapterModule& entry = out_.modules[module];
  const TensorRecord** place = nullptr;
  const bool embedding = part == Part::kEmbeddingA || part == Part::kEmbeddingB;
  const bool linear = part == Part::kA || part == Part::kB;
  switch (part) {
    case Part::kA:
    case Part::kEmbeddingA:
      place = &entry.a;
      break;
    case Part::kB:
    case Part::kEmbeddingB:
      place = &entry.b;
      break;
    case Part::kMagnitude:
      place = &entry.magnitude;
      break;
    case Part::kBias:
      place = &entry.b_bias;
      break;
  }
  const bool mixed = (linear && entry.embedding) ||
                     (embedding && !entry.embedding && (entry.a != nullptr || entry.b != nullptr));
  if (*place != nullptr || mixed) {
    throw tensor_error(tensor.name, "gives module " + shown(module) +
                                        " a second set of LoRA tensors; expected one");
  }
  *place = &tensor;
  entry.embedding = entry.embedding || embedding;
}

// Whether a module to save ends somewhere in the path: "score" in "model.score.dense".
bool Mapper::is_saved(std::string_view path) const {
  for (const std::string& saved : config_.modules_to_save) {
    for (std::size_t at = path.find(saved); !saved.empty() && at != std::string_view::npos;
         at = path.find(saved, at + 1)) {
      const std::size_t end = at + saved.size();
      if ((at == 0 || path[at - 1] == '.') && (end == path.size() || path[end] == '.')) return true;
    }
  }
  return false;
}

void Mapper::add_replaced(const TensorRecord& tensor, std::string_view path) {
  const std::size_t dot = path.rfind('.');
  if (dot == std::string_view::npos || dot == 0) fail_unknown(tensor.name);
  std::string_view module = path.substr(0, dot);
  const std::string_view parameter = path.substr(dot + 1);
  // PEFT wraps what it adapts; the wrapper's name is not the model's.
  constexpr std::string_view kWrapped = ".base_layer";
  if (module.ends_with(kWrapped)) module.remove_suffix(kWrapped.size());
  // PEFT saves embeddings on its own when the vocabulary was resized.
  constexpr std::array<std::string_view, 6> kEmbeddings{"embed_tokens",    "lm_head", "wte",
                                                        "word_embeddings", "shared",  "embed_in"};
  const std::string_view last = module.substr(module.rfind('.') + 1);
  const bool embedding =
      std::find(kEmbeddings.begin(), kEmbeddings.end(), last) != kEmbeddings.end();
  const bool bias = parameter == "bias" && config_.bias != "none";
  if (!is_saved(module) && !embedding && !bias) {
    throw tensor_error(tensor.name,
                       "is neither a LoRA tensor nor in a module that 'modules_to_save' lists");
  }
  std::string target = std::string(module) + "." + std::string(parameter);
  if (!out_.replaced.emplace(std::move(target), &tensor).second) {
    throw tensor_error(tensor.name, "replaces a tensor that another one replaces too");
  }
}

void Mapper::check_module(const std::string& name, AdapterModule& module) {
  const TensorRecord* any = module.a != nullptr ? module.a : module.b;
  if (any == nullptr) any = module.magnitude != nullptr ? module.magnitude : module.b_bias;
  if (module.a == nullptr || module.b == nullptr) {
    throw tensor_error(any->name, "belongs to module " + shown(name) + ", which lacks its " +
                                      (module.a == nullptr ? "A" : "B") + " tensor");
  }
  const auto& a = module.a->shape;
  const auto& b = module.b->shape;
  if (a.size() < 2 || b.size() != a.size()) {
    throw tensor_error(module.b->name, "has " + std::to_string(b.size()) + " dimensions, its A " +
                                           std::to_string(a.size()) +
                                           "; expected 2, or those of a convolution, in both");
  }
  if (a[0] == 0 || b[1] != a[0]) {
    throw tensor_error(module.b->name, "has the rank " + std::to_string(b[1]) + ", its A " +
                                           std::to_string(a[0]) +
                                           "; expected the same, at least 1");
  }
  if (config_.use_dora != (module.magnitude != nullptr)) {
    throw tensor_error(any->name, config_.use_dora
                                      ? "has no lora_magnitude_vector beside it; 'use_dora' is true"
                                      : "has a lora_magnitude_vector beside it; 'use_dora' is "
                                        "false");
  }
  module.rank = a[0];
  const std::uint64_t configured = ranks_.value(name, config_.rank);
  if (configured != module.rank) {
    out_.warnings.push_back("module " + shown(name) + " has the rank " +
                            std::to_string(module.rank) + "; the configuration says " +
                            std::to_string(configured) + ". The tensors' rank is used");
  }
  module.alpha = alphas_.value(name, config_.alpha);
  const auto rank = static_cast<double>(module.rank);
  module.scale = module.alpha / (config_.use_rslora ? std::sqrt(rank) : rank);
}

AdapterMap Mapper::map(const std::vector<TensorRecord>& tensors) {
  for (const TensorRecord& tensor : tensors) add(tensor);
  for (auto& [name, module] : out_.modules) check_module(name, module);
  return std::move(out_);
}

}  // namespace

AdapterMap map_adapter(const AdapterConfig& config, const std::vector<TensorRecord>& tensors) {
  return Mapper(config).map(tensors);
}

Adapter Adapter::open(const std::filesystem::path& folder, const ModelLimits& limits) {
  const std::filesystem::path path = folder / "adapter_config.json";
  AdapterConfig config = AdapterConfig::parse(read_file(path, limits.config_bytes), path.string());
  const ModelNames names{.safetensors = "adapter_model", .torch = "adapter_model"};
  return {std::move(config), ModelFiles::open(folder, limits, names)};
}

const AdapterModule* Adapter::find(std::string_view module) const noexcept {
  const auto found = map_.modules.find(module);
  return found == map_.modules.end() ? nullptr : &found->second;
}

double Adapter::scale(std::string_view module) const {
  if (const AdapterModule* found = find(module)) return found->scale;
  std::vector<std::string> names;
  constexpr std::size_t kCompared = 10'000;  // bounds the time an error takes
  for (const auto& [name, ignored] : map_.modules) {
    if (names.size() < kCompared) names.push_back(name);
  }
  const std::string nearest = nearest_name(module, names);
  throw Error(Code::kNotFound, "the adapter does not change module " + shown(module) +
                                   (nearest.empty() ? "" : "; the nearest is " + shown(nearest)))
      .at("module", std::string(module));
}

}  // namespace theriac::tensorfile
