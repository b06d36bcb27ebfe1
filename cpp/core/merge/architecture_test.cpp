#include "cpp/core/merge/architecture.h"

#include <gmock/gmock.h>

#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/test_models.h"

namespace theriac::merge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::failure_of;

std::vector<std::string> names(const ModelTensors& model, const std::vector<std::size_t>& at) {
  std::vector<std::string> out;
  for (const std::size_t i : at) out.push_back(model.tensors[i].name);
  return out;
}

TEST(Architecture, LayerNames) {
  const auto name = parse_layer_name("model.layers.12.mlp.experts.3.w1.weight");
  ASSERT_TRUE(name.has_value());
  EXPECT_EQ(name->stack, "model.layers");
  EXPECT_EQ(name->layer, 12);
  EXPECT_EQ(name->rest, "mlp.experts.3.w1.weight");
  for (const char* loose : {"", "lm_head.weight", "0.weight", "layers.3", "a.b3.c", "a.-1.b",
                            "a.1e3.b", "a.+1.b", "a..b", "layers.1234567890.w", "a.07.b", "a.."}) {
    EXPECT_FALSE(parse_layer_name(loose).has_value()) << loose;
  }
  EXPECT_EQ(parse_layer_name("a.x1.0.b")->stack, "a.x1");
  EXPECT_EQ(parse_layer_name("a.00.2.b")->layer, 2);
}

TEST(Architecture, LayerNamesRoundTrip) {
  for (const std::string stack : {"h", "model.layers", "a.b.c"}) {
    for (const std::int64_t layer : {0, 9, 10, 999'999'999}) {
      const std::string name = layer_tensor_name(stack, layer, "x.5.weight");
      const auto read = parse_layer_name(name);
      ASSERT_TRUE(read.has_value());
      EXPECT_EQ(layer_tensor_name(read->stack, read->layer, read->rest), name);
      EXPECT_EQ(read->layer, layer);
    }
  }
}

TEST(Architecture, OneStack) {
  const ModelTensors model = decoder("m", 3);
  const Architecture architecture = infer_architecture(model);
  ASSERT_EQ(architecture.stacks.size(), 1U);
  const Stack& stack = architecture.stacks[0];
  EXPECT_EQ(stack.prefix, "model.layers");
  EXPECT_EQ(stack.layers, 3);
  EXPECT_EQ(stack.tensors.at(2).size(), 3U);
  EXPECT_THAT(names(model, stack.before), ElementsAre("model.embed_tokens.weight"));
  EXPECT_THAT(names(model, stack.after), ElementsAre("model.norm.weight", "lm_head.weight"));
  EXPECT_FALSE(architecture.tied);
  EXPECT_EQ(architecture.tied_embedding, "model.embed_tokens.weight");
}

TEST(Architecture, SeveralStacks) {
  ModelTensors model;
  model.name = "t5";
  for (const char* name :
       {"shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight",
        "encoder.block.1.layer.0.SelfAttention.q.weight", "encoder.final_layer_norm.weight",
        "decoder.block.0.layer.0.SelfAttention.q.weight", "decoder.block.0.layer.1.Enc.q.weight",
        "decoder.final_layer_norm.weight", "lm_head.weight"}) {
    model.tensors.push_back({name, {4, 4}});
  }
  model.tensors[5].shape = {64, 4};
  const Architecture architecture = infer_architecture(model);
  ASSERT_EQ(architecture.stacks.size(), 2U);
  EXPECT_EQ(architecture.stacks[0].prefix, "encoder.block");
  EXPECT_EQ(architecture.stacks[0].layers, 2);
  EXPECT_EQ(architecture.stacks[1].layers, 1);
  EXPECT_THAT(names(model, architecture.stacks[0].after),
              ElementsAre("encoder.final_layer_norm.weight"));
  // What belongs to neither goes with the larger.
  EXPECT_THAT(names(model, architecture.stacks[1].before), ElementsAre("shared.weight"));
  EXPECT_THAT(names(model, architecture.stacks[1].after),
              ElementsAre("decoder.final_layer_norm.weight", "lm_head.weight"));
  EXPECT_EQ(find_stack(architecture, "encoder"), 0U);
  EXPECT_EQ(find_stack(architecture, "decoder.block"), 1U);
  EXPECT_THAT(failure_of([&] { find_stack(architecture, "block"); })->message,
              HasSubstr("more than one module of the model is called 'block'"));
  const auto failure = failure_of([&] { find_stack(architecture, "encoder.blok"); });
  EXPECT_THAT(failure->message, HasSubstr("its modules are 'encoder.block', 'decoder.block'; did "
                                          "you mean 'encoder.block'?"));
  EXPECT_THAT(failure_of([&] { find_stack(architecture, "enc"); })->message,
              HasSubstr("no module"));
  EXPECT_TRUE(failure_of([&] { find_stack(architecture, "default"); }).has_value());
  EXPECT_TRUE(failure_of([&] { find_stack(architecture, ""); }).has_value());
}

TEST(Architecture, WithoutLayers) {
  ModelTensors model{"m", {{"fc1.weight", {2, 2}}, {"0.bias", {2}}}, nullptr};
  const Architecture architecture = infer_architecture(model);
  ASSERT_EQ(architecture.stacks.size(), 1U);
  EXPECT_EQ(architecture.stacks[0].prefix, "");
  EXPECT_EQ(architecture.stacks[0].layers, 0);
  EXPECT_EQ(architecture.stacks[0].before.size() + architecture.stacks[0].after.size(), 2U);
  EXPECT_EQ(find_stack(architecture, "default"), 0U);
}

TEST(Architecture, NamesOfEmbeddingsAndEnds) {
  for (const char* name : {"model.embed_tokens.weight", "wte.weight", "shared.weight",
                           "transformer.word_embeddings.weight", "lm_head.weight"}) {
    EXPECT_TRUE(is_embedding_name(name)) << name;
  }
  for (const char* name : {"model.norm.weight", "embeddings.position_embeddings.weight",
                           "shared_expert.weight", "wpe.weight"}) {
    EXPECT_FALSE(is_embedding_name(name)) << name;
  }
  for (const char* name : {"model.norm.weight", "transformer.ln_f.bias", "lm_head.weight",
                           "classifier.weight", "pooler.dense.weight", "embed_out.weight",
                           "score.weight", "encoder.final_layer_norm.weight"}) {
    EXPECT_TRUE(is_after_layers(name)) << name;
  }
  for (const char* name :
       {"model.embed_tokens.weight", "wte.weight", "wpe.weight", "embeddings.LayerNorm.weight",
        "vision_model.pre_layrnorm.weight", "cls_token", "conv1.weight", "shared.weight"}) {
    EXPECT_FALSE(is_after_layers(name)) << name;
  }
}

TEST(Architecture, Ties) {
  ModelTensors model = decoder("m", 1);
  model.config["tie_word_embeddings"] = true;
  EXPECT_TRUE(infer_architecture(model).tied);
  EXPECT_EQ(tied_key(model.config), "tie_word_embeddings");
  model.config = parse_json(R"({"text_config": {"tie_word_embeddings": true}})", "c");
  EXPECT_TRUE(infer_architecture(model).tied);
  EXPECT_EQ(tied_key(model.config), "text_config.tie_word_embeddings");
  model.config =
      parse_json(R"({"tie_word_embeddings": false, "a": {"tie_word_embeddings": true}})", "c");
  EXPECT_FALSE(infer_architecture(model).tied);
  model.config = parse_json(R"({"tie_word_embeddings": "yes"})", "c");
  EXPECT_FALSE(infer_architecture(model).tied);
  model.config = nullptr;
  EXPECT_FALSE(infer_architecture(model).tied);
  EXPECT_EQ(tied_key(model.config), std::nullopt);
}

TEST(Architecture, LayerCountKey) {
  Stack stack;
  stack.prefix = "model.layers";
  stack.layers = 4;
  const auto key = [&](const char* config) {
    return layer_count_key(parse_json(config, "c"), stack);
  };
  EXPECT_EQ(key(R"({"num_hidden_layers": 4, "hidden_size": 4})"), "num_hidden_layers");
  EXPECT_EQ(key(R"({"n_layer": 4})"), "n_layer");
  EXPECT_EQ(key(R"({"num_hidden_layers": 5})"), std::nullopt);
  EXPECT_EQ(key(R"({"num_hidden_layers": "4"})"), std::nullopt);
  EXPECT_EQ(key(R"([4])"), std::nullopt);
  EXPECT_EQ(key(R"({"text_config": {"num_hidden_layers": 4}})"), "text_config.num_hidden_layers");
  const char* both =
      R"({"text_config": {"num_hidden_layers": 4}, "vision_config": {"num_hidden_layers": 4}})";
  EXPECT_EQ(key(both), std::nullopt);
  stack.prefix = "vision_tower.layers";
  EXPECT_EQ(key(both), "vision_config.num_hidden_layers");
}

TEST(Architecture, RefusesNamesThatAreNone) {
  const auto message = [](std::vector<TensorShape> tensors) {
    const ModelTensors model{"m", std::move(tensors), nullptr};
    const auto failure = failure_of([&] { infer_architecture(model); });
    return failure ? failure->message : "";
  };
  EXPECT_THAT(message({}), HasSubstr("'m' has no tensors"));
  EXPECT_THAT(message({{"a", {}}, {"a", {}}}), HasSubstr("two tensors named 'a'"));
  EXPECT_THAT(message({{"", {}}}), HasSubstr("without a name"));
  EXPECT_EQ(message({{"a", {}}, {"b.999999999.c", {~0ULL, ~0ULL}}}), "");
}

}  // namespace
}  // namespace theriac::merge
