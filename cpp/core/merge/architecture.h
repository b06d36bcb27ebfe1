// What a model is made of, inferred from its tensors' names and shapes and its config.json, so that
// every architecture works without a table of architectures.
//
// "model.layers.7.mlp.up_proj.weight" is the tensor "mlp.up_proj.weight" of layer 7 of the stack
// "model.layers": the first number that is a whole part of a name, with parts on both sides, is a
// layer's. A model has one stack, or several (encoder and decoder, text and vision), each with the
// tensors outside the layers that belong to it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cpp/core/base/json.h"

namespace theriac::merge {

struct TensorShape {
  std::string name;
  std::vector<std::uint64_t> shape;
  bool arithmetic = true;  // false for integers and booleans, which are copied
};

// One input model, as far as a plan needs it. `name` is its reference's text().
struct ModelTensors {
  std::string name;
  std::vector<TensorShape> tensors;
  Json config;  // null where there is none
};

// Where a tensor name stands.
struct LayerName {
  std::string_view stack;  // "model.layers"
  std::int64_t layer = 0;
  std::string_view rest;  // "mlp.up_proj.weight"
};
// Views of `name`; nothing for a tensor outside the layers.
std::optional<LayerName> parse_layer_name(std::string_view name) noexcept;
// "model.layers.7.mlp.up_proj.weight"
std::string layer_tensor_name(std::string_view stack, std::int64_t layer, std::string_view rest);

// Outside the layers: an embedding or an output head, whose rows are the vocabulary's.
bool is_embedding_name(std::string_view name);
// Of these, an output head, which may be the embedding under another name.
bool is_output_head_name(std::string_view name);
// Outside the layers: comes after them (final norm, head) rather than before (embeddings).
bool is_after_layers(std::string_view name);

// A stack of equal layers, and what belongs to it. Positions are those of ModelTensors::tensors.
struct Stack {
  std::string prefix;       // "model.layers"; empty for a model without layers
  std::int64_t layers = 0;  // highest layer number + 1
  // Layer -> rest of the name -> tensor. Layers may be missing.
  std::map<std::int64_t, std::map<std::string, std::size_t, std::less<>>> tensors;
  std::vector<std::size_t> before, after;  // outside the layers, in the model's order
  std::uint64_t elements = 0;              // in the layers
};

// An inferred architecture. Refers to nothing of the model but positions; immutable.
struct Architecture {
  std::vector<Stack> stacks;  // at least one, in the order of first appearance
  // Tensors of a model whose output head is its embedding (config's tie_word_embeddings), or nothing:
  // the name under which a missing head is found.
  bool tied = false;
  std::string tied_embedding;  // "model.embed_tokens.weight"
};

// Throws kDataError naming model and tensor for an empty or doubled name, or no tensor at all.
Architecture infer_architecture(const ModelTensors& model);

// The stack that a recipe calls `module`: its prefix, "default" for the only one, or a run of parts
// of one prefix that no other has ("vision_tower"). Throws kInvalidArgument with the names there are.
std::size_t find_stack(const Architecture& architecture, std::string_view module);

// Where config.json says tie_word_embeddings, as a path; nothing where it does not.
std::optional<std::string> tied_key(const Json& config);

// The key of config.json that holds the number of rows of the embedding, as a path ("vocab_size",
// "text_config.vocab_size"), and that number. Nothing where it does not say.
std::optional<std::pair<std::string, std::uint64_t>> vocabulary_key(const Json& config);

// The key of config.json that holds a stack's number of layers, as a path ("num_hidden_layers",
// "text_config.num_hidden_layers"): of the known names those whose value is the number inferred, and
// of several the one that fits the stack's prefix. Nothing where none or several fit.
std::optional<std::string> layer_count_key(const Json& config, const Stack& stack);

}  // namespace theriac::merge
