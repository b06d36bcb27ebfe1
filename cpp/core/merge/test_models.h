// Small models for tests: names and shapes only.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "cpp/core/merge/architecture.h"

namespace theriac::merge {

// A decoder with three tensors a layer, embedding, final norm and head.
inline ModelTensors decoder(const std::string& name, int layers, std::uint64_t vocabulary = 10,
                            std::uint64_t width = 4) {
  ModelTensors model;
  model.name = name;
  model.tensors.push_back({"model.embed_tokens.weight", {vocabulary, width}});
  for (int i = 0; i < layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    model.tensors.push_back({layer + "self_attn.q_proj.weight", {width, width}});
    model.tensors.push_back({layer + "mlp.up_proj.weight", {2 * width, width}});
    model.tensors.push_back({layer + "input_layernorm.weight", {width}});
  }
  model.tensors.push_back({"model.norm.weight", {width}});
  model.tensors.push_back({"lm_head.weight", {vocabulary, width}});
  model.config = Json{{"architectures", {"X"}}, {"num_hidden_layers", layers}};
  return model;
}

inline void remove_tensor(ModelTensors& model, std::string_view name) {
  std::erase_if(model.tensors, [name](const TensorShape& t) { return t.name == name; });
}
inline TensorShape& tensor(ModelTensors& model, std::string_view name) {
  for (TensorShape& t : model.tensors) {
    if (t.name == name) return t;
  }
  throw std::runtime_error("no such tensor");
}

}  // namespace theriac::merge
