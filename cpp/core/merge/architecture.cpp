#include "cpp/core/merge/architecture.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <limits>
#include <set>
#include <unordered_set>
#include <utility>

#include "cpp/core/base/error.h"
#include "cpp/core/base/options.h"

namespace theriac::merge {
namespace {

constexpr std::size_t kMostDigits = 9;  // a longer number is not a layer's
constexpr int kConfigDepth = 4;

std::vector<std::string_view> parts_of(std::string_view name) {
  std::vector<std::string_view> out;
  for (std::size_t start = 0; start <= name.size();) {
    const std::size_t dot = std::min(name.find('.', start), name.size());
    out.push_back(name.substr(start, dot - start));
    start = dot + 1;
  }
  return out;
}

bool is_one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

bool is_head_part(std::string_view part) {
  return is_one_of(part, {"lm_head", "embed_out", "output_projection"});
}
bool is_input_embedding_part(std::string_view part) {
  return is_one_of(
      part, {"embed_tokens", "wte", "word_embeddings", "shared", "embed_in", "tok_embeddings"});
}

bool has_input_embedding(std::string_view name) {
  const auto parts = parts_of(name);
  return std::any_of(parts.begin(), parts.end(), is_input_embedding_part);
}

std::size_t common_parts(std::string_view a, std::string_view b) {
  const auto left = parts_of(a), right = parts_of(b);
  const std::size_t most = std::min(left.size(), right.size());
  std::size_t n = 0;
  while (n < most && left[n] == right[n]) ++n;
  return n;
}

std::uint64_t element_count(const TensorShape& tensor) {
  std::uint64_t n = 1;
  for (const std::uint64_t size : tensor.shape) {
    if (size != 0 && n > std::numeric_limits<std::uint64_t>::max() / size) {
      return std::numeric_limits<std::uint64_t>::max();
    }
    n *= size;
  }
  return n;
}

void check_names(const ModelTensors& model) {
  if (model.tensors.empty()) {
    throw Error(Code::kDataError, "model '" + model.name + "' has no tensors")
        .at("model", model.name);
  }
  std::unordered_set<std::string_view> names;
  for (const TensorShape& tensor : model.tensors) {
    if (tensor.name.empty() || !names.insert(tensor.name).second) {
      throw Error(Code::kDataError,
                  "model '" + model.name + "' has " +
                      (tensor.name.empty() ? "a tensor without a name"
                                           : "two tensors named '" + tensor.name + "'"))
          .at("model", model.name)
          .at("tensor", tensor.name);
    }
  }
}

// Puts the tensors in layers into their stacks; returns the positions of the others.
std::vector<std::size_t> fill_stacks(const ModelTensors& model, std::vector<Stack>& stacks) {
  std::map<std::string, std::size_t, std::less<>> by_prefix;
  std::vector<std::size_t> loose;
  for (std::size_t i = 0; i < model.tensors.size(); ++i) {
    const auto name = parse_layer_name(model.tensors[i].name);
    if (!name) {
      loose.push_back(i);
      continue;
    }
    const auto [at, added] = by_prefix.emplace(std::string(name->stack), stacks.size());
    if (added) stacks.emplace_back().prefix = std::string(name->stack);
    Stack& stack = stacks[at->second];
    stack.layers = std::max(stack.layers, name->layer + 1);
    // "layers.07" beside "layers.7" would be the same tensor: parse_layer_name refuses zeros.
    stack.tensors[name->layer].emplace(std::string(name->rest), i);
    const std::uint64_t more = element_count(model.tensors[i]);
    stack.elements += std::min(more, std::numeric_limits<std::uint64_t>::max() - stack.elements);
  }
  return loose;
}

// The stack with which a loose tensor shares most leading parts of its name; the largest of several,
// which in a text and vision model is the text's, so that its head and embeddings find it.
std::size_t owner_of(std::string_view name, const std::vector<Stack>& stacks) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < stacks.size(); ++i) {
    const std::size_t shared = common_parts(name, stacks[i].prefix);
    const std::size_t most = common_parts(name, stacks[best].prefix);
    if (shared > most || (shared == most && stacks[i].elements > stacks[best].elements)) best = i;
  }
  return best;
}

// The first member of that name, nearest the root first.
const Json* find_tied(const Json& config, int depth, std::string& path) {
  if (!config.is_object() || depth == 0) return nullptr;
  const auto found = config.find("tie_word_embeddings");
  if (found != config.end() && found->is_boolean()) {
    path += "tie_word_embeddings";
    return &*found;
  }
  for (const auto& [key, value] : config.items()) {
    std::string deeper = path + key + ".";
    if (const Json* tied = find_tied(value, depth - 1, deeper)) {
      path = std::move(deeper);
      return tied;
    }
  }
  return nullptr;
}

bool says_tied(const Json& config) {
  std::string path;
  const Json* tied = find_tied(config, kConfigDepth, path);
  return tied != nullptr && tied->get<bool>();
}

// Paths of integer members whose last key is a known name and whose value is `layers`.
void find_layer_keys(const Json& config, const std::string& path, std::int64_t layers, int depth,
                     std::vector<std::string>& out) {
  if (!config.is_object() || depth == 0) return;
  for (const auto& [key, value] : config.items()) {
    std::string here = path;
    if (!here.empty()) here += '.';
    here += key;
    if (value.is_object()) find_layer_keys(value, here, layers, depth - 1, out);
    const bool known = is_one_of(
        key, {"num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth", "encoder_layers",
              "decoder_layers", "num_encoder_layers", "num_decoder_layers"});
    if (known && value.is_number_integer() && value == layers) out.push_back(here);
  }
}

// Whether a word of the key's path ("vision" of "vision_config.num_hidden_layers") is in the prefix.
bool fits(const std::string& path, const std::string& prefix) {
  for (const std::string_view word :
       {"text", "language", "vision", "audio", "encoder", "decoder"}) {
    if (contains(path, word) && contains(prefix, word)) return true;
  }
  return false;
}

bool is_run_of_parts(std::string_view run, std::string_view name) {
  return contains("." + std::string(name) + ".", "." + std::string(run) + ".");
}

std::string stack_names(const Architecture& architecture) {
  std::string out;
  for (const Stack& stack : architecture.stacks) {
    out += (out.empty() ? "'" : ", '") + (stack.prefix.empty() ? "default" : stack.prefix) + "'";
  }
  return out;
}

}  // namespace

std::optional<LayerName> parse_layer_name(std::string_view name) noexcept {
  for (std::size_t dot = name.find('.'); dot != std::string_view::npos;
       dot = name.find('.', dot + 1)) {
    const std::size_t end = name.find('.', dot + 1);
    if (end == std::string_view::npos) return std::nullopt;
    const std::string_view digits = name.substr(dot + 1, end - dot - 1);
    if (digits.empty() || digits.size() > kMostDigits) continue;
    if (digits.size() > 1 && digits[0] == '0') continue;
    std::int64_t layer = 0;
    const auto done = std::from_chars(digits.data(), digits.data() + digits.size(), layer);
    if (done.ec != std::errc() || done.ptr != digits.data() + digits.size() || layer < 0) continue;
    return LayerName{name.substr(0, dot), layer, name.substr(end + 1)};
  }
  return std::nullopt;
}

std::string layer_tensor_name(std::string_view stack, std::int64_t layer, std::string_view rest) {
  return std::string(stack) + "." + std::to_string(layer) + "." + std::string(rest);
}

bool is_embedding_name(std::string_view name) {
  const auto parts = parts_of(name);
  return std::any_of(parts.begin(), parts.end(), [](std::string_view part) {
    return is_head_part(part) || is_input_embedding_part(part);
  });
}

bool is_output_head_name(std::string_view name) {
  const auto parts = parts_of(name);
  return std::any_of(parts.begin(), parts.end(), is_head_part);
}

bool is_after_layers(std::string_view name) {
  const auto parts = parts_of(name);
  // "embeddings.LayerNorm" is before, whatever else its name says.
  for (const std::string_view part : parts) {
    if (is_head_part(part)) return true;
    if (is_input_embedding_part(part) || contains(part, "embed")) return false;
    if (contains(part, "pre_") || contains(part, "_pre")) return false;
  }
  return std::any_of(parts.begin(), parts.end(), [](std::string_view part) {
    if (is_one_of(part, {"norm", "ln_f", "score", "fc", "out", "output", "head", "heads"})) {
      return true;
    }
    for (const std::string_view word : {"_head", "head_", "_norm", "norm_", "layernorm", "final",
                                        "classif", "pooler", "logit", "projection", "ln_post"}) {
      if (contains(part, word)) return true;
    }
    return false;
  });
}

Architecture infer_architecture(const ModelTensors& model) {
  check_names(model);
  Architecture out;
  const std::vector<std::size_t> loose = fill_stacks(model, out.stacks);
  if (out.stacks.empty()) out.stacks.emplace_back();
  for (const std::size_t i : loose) {
    const std::string& name = model.tensors[i].name;
    Stack& owner = out.stacks[owner_of(name, out.stacks)];
    (is_after_layers(name) ? owner.after : owner.before).push_back(i);
    if (out.tied_embedding.empty() && has_input_embedding(name)) out.tied_embedding = name;
  }
  out.tied = says_tied(model.config) && !out.tied_embedding.empty();
  return out;
}

std::size_t find_stack(const Architecture& architecture, std::string_view module) {
  const auto& stacks = architecture.stacks;
  if (stacks.size() == 1 && module == "default") return 0;
  std::vector<std::size_t> fitting;
  for (std::size_t i = 0; i < stacks.size(); ++i) {
    if (stacks[i].prefix == module) return i;
    if (!module.empty() && is_run_of_parts(module, stacks[i].prefix)) fitting.push_back(i);
  }
  if (fitting.size() == 1) return fitting[0];
  std::vector<std::string> names;
  names.reserve(stacks.size());
  for (const Stack& stack : stacks) names.push_back(stack.prefix);
  const std::string nearest = nearest_name(module, names);
  throw Error(Code::kInvalidArgument,
              std::string(fitting.empty() ? "no module" : "more than one module") +
                  " of the model is called '" + std::string(module) + "'; its modules are " +
                  stack_names(architecture) +
                  (nearest.empty() ? "" : "; did you mean '" + nearest + "'?"))
      .at("module", std::string(module));
}

std::optional<std::string> tied_key(const Json& config) {
  std::string path;
  return find_tied(config, kConfigDepth, path) == nullptr ? std::nullopt : std::optional(path);
}

std::optional<std::pair<std::string, std::uint64_t>> vocabulary_key(const Json& config) {
  if (!config.is_object()) return std::nullopt;
  const auto rows = [](const Json& part) -> std::optional<std::uint64_t> {
    const auto found = part.find("vocab_size");
    if (found == part.end() || !found->is_number_integer()) return std::nullopt;
    const auto size = found->get<std::int64_t>();
    return size < 0 ? std::nullopt : std::optional(static_cast<std::uint64_t>(size));
  };
  if (const auto top = rows(config)) return std::pair("vocab_size", *top);
  for (const char* part : {"text_config", "language_config", "llm_config", "decoder"}) {
    const auto found = config.find(part);
    if (found == config.end() || !found->is_object()) continue;
    if (const auto inner = rows(*found))
      return std::pair(part + std::string(".vocab_size"), *inner);
  }
  return std::nullopt;
}

std::optional<std::string> layer_count_key(const Json& config, const Stack& stack) {
  std::vector<std::string> keys;
  find_layer_keys(config, "", stack.layers, kConfigDepth, keys);
  if (keys.size() > 1) {
    std::erase_if(keys, [&stack](const std::string& key) { return !fits(key, stack.prefix); });
  }
  return keys.size() == 1 ? std::optional(keys[0]) : std::nullopt;
}

}  // namespace theriac::merge
