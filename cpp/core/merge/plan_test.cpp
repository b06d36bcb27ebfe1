#include "cpp/core/merge/plan.h"

#include <gmock/gmock.h>

#include <set>

#include "cpp/core/base/random.h"
#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/test_models.h"

namespace theriac::merge {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing_support::detail;
using testing_support::failure_of;

constexpr double kSixDigits = 5e-7;

MergePlan plan(const std::string& text, const std::vector<ModelTensors>& models) {
  return resolve(parse_recipe(text, "r.yml").recipes.at(0), models);
}
std::string refused(const std::string& text, const std::vector<ModelTensors>& models,
                    Code code = Code::kInvalidArgument) {
  const auto failure = failure_of([&] { plan(text, models); });
  EXPECT_TRUE(failure.has_value()) << text;
  if (!failure) return "";
  EXPECT_EQ(failure->code, code) << failure->message;
  return failure->message;
}

std::string models_form(const std::string& method, const std::vector<std::string>& models,
                        const std::string& more) {
  std::string out = "merge_method: " + method + "\nmodels:\n";
  for (const auto& model : models) out += "  - model: " + model + "\n";
  return out + more;
}

const PlannedTensor& at(const MergePlan& plan, std::string_view name) {
  for (const PlannedTensor& tensor : plan.tensors) {
    if (tensor.name == name) return tensor;
  }
  throw std::runtime_error("the plan has no " + std::string(name));
}
bool has(const MergePlan& plan, std::string_view name) {
  return std::any_of(plan.tensors.begin(), plan.tensors.end(),
                     [name](const PlannedTensor& t) { return t.name == name; });
}
std::vector<std::string> names(const MergePlan& plan) {
  std::vector<std::string> out;
  for (const PlannedTensor& tensor : plan.tensors) out.push_back(tensor.name);
  return out;
}

const std::string kEmbedding = "model.embed_tokens.weight";
const std::string kHead = "lm_head.weight";
const std::string kUp = "model.layers.0.mlp.up_proj.weight";

TEST(Plan, ModelsForm) {
  const MergePlan made =
      plan(models_form("ties", {"a", "b"}, "base_model: base\nparameters: {weight: 0.5}\n"),
           {decoder("a", 2), decoder("base", 2), decoder("b", 2)});
  EXPECT_THAT(
      names(made),
      ElementsAre(kEmbedding, "model.layers.0.input_layernorm.weight", kUp,
                  "model.layers.0.self_attn.q_proj.weight", "model.layers.1.input_layernorm.weight",
                  "model.layers.1.mlp.up_proj.weight", "model.layers.1.self_attn.q_proj.weight",
                  "model.norm.weight", kHead));
  EXPECT_EQ(made.donor, 1U);
  EXPECT_THAT(made.config_edits, IsEmpty());
  EXPECT_THAT(made.notes, IsEmpty());
  const PlannedTensor& up = at(made, kUp);
  EXPECT_THAT(up.shape, ElementsAre(8, 4));
  ASSERT_EQ(up.sources.size(), 3U);
  EXPECT_EQ(up.sources[0].model, 0U);
  EXPECT_EQ(up.sources[1].model, 2U);
  EXPECT_EQ(up.sources[2].model, 1U);
  EXPECT_EQ(up.base, 2);
  EXPECT_EQ(up.sources[0].parameters.number("weight"), .5);
  EXPECT_EQ(up.sources[0].parameters.number("density"), 1);
  EXPECT_TRUE(up.parameters.flag("normalize"));
  EXPECT_EQ(up.layer, 0);
  EXPECT_EQ(up.action, PlannedAction::kMerge);
  EXPECT_FALSE(up.is_embed);
  EXPECT_TRUE(at(made, kEmbedding).is_embed);
  EXPECT_TRUE(at(made, kHead).is_embed);
  EXPECT_EQ(at(made, kHead).layer, -1);
}

TEST(Plan, ListedBaseIsNotAddedAgain) {
  const MergePlan made = plan(
      models_form("task_arithmetic", {"base", "a"}, "base_model: base\nparameters: {weight: 1}\n"),
      {decoder("base", 1), decoder("a", 1)});
  EXPECT_EQ(at(made, kUp).sources.size(), 2U);
  EXPECT_EQ(at(made, kUp).base, 0);
}

TEST(Plan, ExampleOfTheSpecification) {
  const MergePlan made = plan(
      models_form("slerp", {"a", "b"},
                  "base_model: a\nparameters:\n  t: [{filter: self_attn, value: [0,.5,.3,.7,1]}, "
                  "{filter: mlp, value: [1,.5,.7,.3,0]}, {value: .5}]\n"),
      {decoder("a", 8), decoder("b", 8)});
  const auto t = [&](const std::string& name) { return at(made, name).parameters.number("t"); };
  EXPECT_NEAR(t("model.layers.3.self_attn.q_proj.weight"), .357143, kSixDigits);
  EXPECT_NEAR(t("model.layers.3.mlp.up_proj.weight"), .642857, kSixDigits);
  EXPECT_EQ(t("model.layers.3.input_layernorm.weight"), .5);
  EXPECT_EQ(t(kEmbedding), .5);
  EXPECT_EQ(t("model.layers.0.self_attn.q_proj.weight"), 0);
  EXPECT_EQ(t("model.layers.7.self_attn.q_proj.weight"), 1);
}

TEST(Plan, GradientsOutsideTheLayersTakeTheFirstElementAndOfOneLayerTheLast) {
  const MergePlan made =
      plan(models_form("linear", {"a"}, "parameters: {weight: [2, 3, 4]}\n"), {decoder("a", 1)});
  EXPECT_EQ(at(made, kEmbedding).sources[0].parameters.number("weight"), 2);
  EXPECT_EQ(at(made, kHead).sources[0].parameters.number("weight"), 2);
  EXPECT_EQ(at(made, kUp).sources[0].parameters.number("weight"), 4);
}

TEST(Plan, SlicesRenumberLayers) {
  const MergePlan made = plan(
      "merge_method: passthrough\nslices:\n"
      "  - sources: [{model: a, layer_range: [0, 3]}]\n"
      "  - sources: [{model: b, layer_range: [1, 4], parameters: {scale: [{filter: "
      "layers.2.mlp, value: 0}]}}]\n",
      {decoder("a", 4), decoder("b", 4)});
  ASSERT_EQ(made.config_edits.size(), 1U);
  EXPECT_EQ(made.config_edits[0].key, "num_hidden_layers");
  EXPECT_EQ(made.config_edits[0].value, 6);
  EXPECT_EQ(made.tensors.size(), 3U + 6 * 3);
  for (int layer = 0; layer < 6; ++layer) {
    const PlannedTensor& up =
        at(made, "model.layers." + std::to_string(layer) + ".mlp.up_proj.weight");
    ASSERT_EQ(up.sources.size(), 1U);
    EXPECT_EQ(up.sources[0].model, layer < 3 ? 0U : 1U);
    const int input = layer < 3 ? layer : layer - 2;
    EXPECT_EQ(up.sources[0].tensor,
              "model.layers." + std::to_string(input) + ".mlp.up_proj.weight");
    EXPECT_EQ(up.layer, layer);
    EXPECT_EQ(up.t, (layer % 3) / 2.0);
    EXPECT_EQ(up.sources[0].parameters.has("scale"), layer == 4);
  }
  // Embeddings are the first slice's, norm and head the last one's.
  EXPECT_EQ(at(made, kEmbedding).sources[0].model, 0U);
  EXPECT_EQ(at(made, "model.norm.weight").sources[0].model, 1U);
  EXPECT_EQ(at(made, kHead).sources[0].model, 1U);
  EXPECT_EQ(made.tensors.front().name, kEmbedding);
}

// The edits of config.json by their keys.
Json edits(const MergePlan& plan) {
  Json out = Json::object();
  for (const ConfigEdit& edit : plan.config_edits) out[edit.key] = edit.value;
  return out;
}

TEST(Plan, ListsOverTheLayersFollowThem) {
  ModelTensors a = decoder("a", 3), b = decoder("b", 2), plain = decoder("c", 2);
  a.config = Json{{"num_hidden_layers", 3},
                  {"layer_types", {"full", "window", "full"}},
                  {"layer_sizes", {1, 2}},  // not one a layer
                  {"rope", {1, 2, 3}}};     // nothing about layers
  b.config["layer_types"] = {"b0", "b1"};
  const std::string slices =
      "merge_method: passthrough\nslices:\n"
      "  - sources: [{model: a, layer_range: [1, 3]}]\n"
      "  - sources: [{model: b, layer_range: [0, 2]}]\n";
  EXPECT_EQ(dump_json(edits(plan(slices, {a, b}))),
            R"({"num_hidden_layers":4,"layer_types":["window","full","b0","b1"]})");
  // What a source does not say is taken from the donor, as far as it goes.
  plain.name = "b";
  EXPECT_EQ(dump_json(edits(plan(slices, {a, plain})).at("layer_types")),
            R"(["window","full","full","window"])");
  a.config = Json{{"text_config", a.config}};
  b.config = Json{{"text_config", b.config}};
  EXPECT_EQ(dump_json(edits(plan(slices, {a, b})).at("text_config.layer_types")),
            R"(["window","full","b0","b1"])");
  EXPECT_TRUE(edits(plan("merge_method: passthrough\nmodels: [{model: a}]\n", {a})).empty());
}

TEST(Plan, VocabularySizeIsThatOfTheEmbedding) {
  ModelTensors a = decoder("a", 1, 12), b = decoder("b", 1, 10);
  for (const std::string key : {"vocab_size", "text_config.vocab_size"}) {
    a.config = key == "vocab_size" ? Json{{"vocab_size", 12}}
                                   : Json{{"text_config", {{"vocab_size", 12}}}};
    // Linear cuts embeddings to what the models share.
    const MergePlan cut =
        plan(models_form("linear", {"a", "b"}, "parameters: {weight: 1}\n"), {a, b});
    EXPECT_EQ(at(cut, kEmbedding).shape[0], 10U);
    EXPECT_EQ(dump_json(edits(cut)), "{\"" + key + "\":10}");
    EXPECT_TRUE(edits(plan("merge_method: passthrough\nmodels: [{model: a}]\n", {a})).empty());
  }
  for (const Json& config : {Json(), Json{{"vocab_size", "12"}}, Json{{"vocab_size", -1}}}) {
    EXPECT_FALSE(vocabulary_key(config));
  }
}

// Any division into slices numbers the output from 0 without a gap and takes each input layer once.
TEST(Plan, AnySlicingIsConsecutive) {
  Random random(3, "slices");
  const std::vector<ModelTensors> models{decoder("a", 6), decoder("b", 6)};
  for (int round = 0; round < 40; ++round) {
    std::string text = "merge_method: linear\nparameters: {weight: 1}\nslices:\n";
    std::vector<std::pair<std::size_t, std::int64_t>> expected;
    const auto slices = 1 + random.below(4);
    for (std::uint64_t i = 0; i < slices; ++i) {
      const auto first = static_cast<std::int64_t>(random.below(6));
      const auto last = first + 1 + static_cast<std::int64_t>(random.below(6 - first));
      const auto model = static_cast<std::size_t>(random.below(2));
      text += std::string("  - sources: [{model: ") + (model == 0 ? "a" : "b") +
              ", layer_range: [" + std::to_string(first) + ", " + std::to_string(last) + "]}]\n";
      for (std::int64_t layer = first; layer < last; ++layer) expected.emplace_back(model, layer);
    }
    std::vector<ModelTensors> given = models;
    if (text.find("model: a") == std::string::npos) given.erase(given.begin());
    const MergePlan made = plan(text, given);
    std::int64_t next = 0;
    for (const PlannedTensor& tensor : made.tensors) {
      if (tensor.name.find("up_proj") == std::string::npos) continue;
      ASSERT_EQ(tensor.layer, next);
      const auto& [model, layer] = expected.at(static_cast<std::size_t>(next++));
      ASSERT_EQ(given[tensor.sources[0].model].name, model == 0 ? "a" : "b");
      ASSERT_EQ(tensor.sources[0].tensor,
                "model.layers." + std::to_string(layer) + ".mlp.up_proj.weight");
    }
    ASSERT_EQ(next, static_cast<std::int64_t>(expected.size()));
  }
}

TEST(Plan, AModelTwiceInASliceIsTwoSources) {
  const MergePlan made = plan(
      "merge_method: linear\nslices:\n  - sources:\n"
      "      - {model: a, layer_range: [0, 2], parameters: {weight: 0.25}}\n"
      "      - {model: a, layer_range: [2, 4], parameters: {weight: 0.75}}\n",
      {decoder("a", 4)});
  const PlannedTensor& up = at(made, "model.layers.1.mlp.up_proj.weight");
  ASSERT_EQ(up.sources.size(), 2U);
  EXPECT_EQ(up.sources[0].tensor, "model.layers.1.mlp.up_proj.weight");
  EXPECT_EQ(up.sources[1].tensor, "model.layers.3.mlp.up_proj.weight");
  EXPECT_EQ(up.sources[0].parameters.number("weight"), .25);
  EXPECT_EQ(up.sources[1].parameters.number("weight"), .75);
}

TEST(Plan, SliceErrors) {
  const auto one = [](const char* model, const char* range, const char* method = "passthrough") {
    return std::string("merge_method: ") + method + "\nbase_model: b\nparameters: {weight: 1}\n" +
           "slices: [{sources: [{model: " + model + ", layer_range: " + range + "}]}]\n";
  };
  const std::vector<ModelTensors> models{decoder("a", 4), decoder("b", 4)};
  EXPECT_NO_THROW(plan(one("a", "[0, 4]"), models));
  EXPECT_THAT(refused(one("a", "[0, 5]"), models),
              HasSubstr("slices[0].sources[0].layer_range: ends at layer 5; the model 'a' has 4"));
  EXPECT_THAT(refused(one("c", "[0, 4]"), models), HasSubstr("'c' is not among those given"));
  EXPECT_THAT(refused(one("a", "[0, 4]", "ties"), models),
              HasSubstr("name that model among the sources of each slice"));
  ModelTensors other = decoder("b", 4);
  for (auto& t : other.tensors) {
    if (t.name.starts_with("model.layers")) t.name.replace(0, 12, "transformer.h");
  }
  EXPECT_THAT(refused("merge_method: linear\nparameters: {weight: 1}\nslices: [{sources: [{model: "
                      "a, layer_range: [0, 1]}, {model: b, layer_range: [0, 1]}]}]\n",
                      {decoder("a", 4), other}),
              HasSubstr("no layers called 'model.layers'"));
}

TEST(Plan, LayersThatDoNotExistCostNothing) {
  ModelTensors sparse{"a", {{"f.999999998.w", {2}}, {"f.0.w", {2}}}, nullptr};
  const MergePlan made = plan(
      "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [0, 999999999]}]}]\n",
      {sparse});
  EXPECT_THAT(names(made), ElementsAre("f.0.w", "f.999999998.w"));
  EXPECT_EQ(at(made, "f.999999998.w").t, 1);
}

TEST(Plan, ModelsMustHaveEqualLayers) {
  EXPECT_THAT(refused(models_form("linear", {"a", "b"}, "parameters: {weight: 1}\n"),
                      {decoder("a", 4), decoder("b", 5)}, Code::kDataError),
              HasSubstr("'a' has 4 layers in 'model.layers' and model 'b' has 5"));
}

TEST(Plan, NumbersOfModels) {
  const std::vector<ModelTensors> models{decoder("a", 1), decoder("b", 1), decoder("c", 1)};
  EXPECT_THAT(
      refused(models_form("slerp", {"a", "b", "c"}, "base_model: a\nparameters: {t: 1}\n"), models),
      HasSubstr("takes exactly 2, the base model included; here are 3"));
  EXPECT_THAT(refused(models_form("slerp", {"a", "b"}, "parameters: {t: 1}\n"), models),
              HasSubstr("slerp needs a base model; give 'base_model'"));
  EXPECT_THAT(refused(models_form("model_stock", {"a", "b"}, "base_model: a\n"), models),
              HasSubstr("takes at least 2, not counting the base model; here are 1"));
  EXPECT_THAT(
      refused(models_form("nuslerp", {"a", "b"}, "base_model: a\nparameters: {weight: 1}\n"),
              models),
      HasSubstr("exactly 2, not counting the base"));
  EXPECT_THAT(refused(models_form("ties", {"a"}, "base_model: b\n"), models),
              HasSubstr("ties needs the parameter 'weight'"));
  // A base that only gives its config is no second model.
  const MergePlan copy = plan(models_form("passthrough", {"a"}, "base_model: b\n"), models);
  EXPECT_EQ(copy.donor, 1U);
  EXPECT_EQ(at(copy, kUp).sources.size(), 1U);
  EXPECT_EQ(at(copy, kUp).base, -1);
}

TEST(Plan, DonorIsTheFirstModelOfTheDocument) {
  const std::vector<ModelTensors> models{decoder("b", 1), decoder("a", 1)};
  EXPECT_EQ(plan(models_form("linear", {"a", "b"}, "parameters: {weight: 1}\n"), models).donor, 1U);
  EXPECT_EQ(
      plan("tokenizer_source: b\n" + models_form("linear", {"a", "b"}, "parameters: {weight: 1}\n"),
           models)
          .donor,
      1U);
}

TEST(Plan, BaseOfALinearMergeCountsWithNothing) {
  const MergePlan made = plan(
      "merge_method: linear\nbase_model: base\nmodels: [{model: a, parameters: {weight: 1}}]\n",
      {decoder("a", 1), decoder("base", 1)});
  const PlannedTensor& up = at(made, kUp);
  EXPECT_EQ(up.sources[0].parameters.number("weight"), 1);
  EXPECT_EQ(up.sources[1].parameters.number("weight"), 0);
  EXPECT_THAT(made.notes, ElementsAre(HasSubstr("base model has no weight")));
}

TEST(Plan, MissingTensors) {
  std::vector<ModelTensors> models{decoder("a", 1), decoder("b", 1), decoder("base", 1)};
  const auto text = [](const std::string& policy) {
    return models_form("ties", {"a", "b"},
                       "base_model: base\nparameters: {weight: 1" + policy + "}\n");
  };
  remove_tensor(models[1], kUp);
  MergePlan made = plan(text(""), models);
  EXPECT_EQ(at(made, kUp).sources.size(), 2U);
  EXPECT_EQ(at(made, kUp).base, 1);
  EXPECT_THAT(
      made.notes,
      ElementsAre("missing in model 'b' and merged from those that have it (1: " + kUp + ")"));
  EXPECT_THAT(refused(text(", missing: error"), models, Code::kDataError),
              HasSubstr("tensor '" + kUp + "': missing in model 'b'"));
  EXPECT_FALSE(has(plan(text(", missing: skip"), models), kUp));
  made = plan(text(", missing: base"), models);
  ASSERT_EQ(at(made, kUp).sources.size(), 3U);
  EXPECT_EQ(at(made, kUp).sources[1].model, 2U);
  EXPECT_EQ(at(made, kUp).base, 2);
  // In the base alone: copied.
  remove_tensor(models[0], kUp);
  made = plan(text(""), models);
  EXPECT_EQ(at(made, kUp).action, PlannedAction::kCopy);
  EXPECT_EQ(at(made, kUp).sources[0].model, 2U);
  // Not in the base: no difference can be taken.
  models = {decoder("a", 1), decoder("b", 1), decoder("base", 1)};
  remove_tensor(models[2], kUp);
  EXPECT_THAT(refused(text(""), models, Code::kDataError),
              HasSubstr("missing in the base model 'base'"));
  EXPECT_THAT(refused(text(", missing: base"), models, Code::kDataError),
              HasSubstr("missing: base"));
  EXPECT_FALSE(has(plan(text(", missing: skip"), models), kUp));
}

TEST(Plan, TooFewModelsForATensorCopyIt) {
  std::vector<ModelTensors> models{decoder("a", 1), decoder("b", 1)};
  remove_tensor(models[0], kUp);
  const MergePlan made =
      plan(models_form("slerp", {"a", "b"}, "base_model: a\nparameters: {t: 0.5}\n"), models);
  EXPECT_EQ(at(made, kUp).action, PlannedAction::kCopy);
  EXPECT_EQ(at(made, kUp).sources[0].model, 1U);
  EXPECT_EQ(at(made, kUp).parameters.size(), 0U);
  EXPECT_THAT(made.notes, Contains(HasSubstr("fewer models than slerp takes")));
}

TEST(Plan, ShapesOfEmbeddings) {
  const auto arithmetic = [](std::uint64_t base, std::uint64_t tuned, const std::string& more) {
    return plan(models_form("task_arithmetic", {"a"},
                            "base_model: base\nparameters: {weight: 1" + more + "}\n"),
                {decoder("a", 1, tuned), decoder("base", 1, base)});
  };
  const MergePlan made = arithmetic(10, 12, "");
  EXPECT_THAT(at(made, kEmbedding).shape, ElementsAre(10, 4));
  EXPECT_TRUE(at(made, kEmbedding).sources[0].crop);
  EXPECT_FALSE(at(made, kEmbedding).sources[1].crop);
  EXPECT_FALSE(at(made, kUp).sources[0].crop);
  EXPECT_THAT(made.notes, ElementsAre(HasSubstr("of different shapes")));
  EXPECT_THAT(failure_of([&] { arithmetic(12, 10, ""); })->message,
              HasSubstr("its shape is [10, 4] in model 'a' and [12, 4] in model 'base', which is "
                        "too small to be cut"));
  EXPECT_THAT(failure_of([&] { arithmetic(10, 12, ", shape_mismatch: error"); })->message,
              HasSubstr("see the parameter 'shape_mismatch'"));
  EXPECT_EQ(at(arithmetic(12, 10, ", shape_mismatch: skip"), kEmbedding).action,
            PlannedAction::kCopy);
  const MergePlan linear = plan(models_form("linear", {"a", "b"}, "parameters: {weight: 1}\n"),
                                {decoder("a", 1, 9), decoder("b", 1, 11)});
  EXPECT_THAT(at(linear, kHead).shape, ElementsAre(9, 4));
  EXPECT_FALSE(at(linear, kHead).sources[0].crop);
  EXPECT_TRUE(at(linear, kHead).sources[1].crop);
}

TEST(Plan, ShapesOfOtherTensors) {
  std::vector<ModelTensors> models{decoder("a", 1), decoder("b", 1), decoder("base", 1)};
  tensor(models[1], kUp).shape = {6, 4};
  const MergePlan made =
      plan(models_form("ties", {"a", "b"}, "base_model: base\nparameters: {weight: 1}\n"), models);
  EXPECT_EQ(at(made, kUp).sources.size(), 2U);
  EXPECT_EQ(at(made, kUp).base, 1);
  EXPECT_THAT(made.notes, ElementsAre(HasSubstr("another shape in model 'b'")));
  const std::string linear = models_form("linear", {"a", "b"}, "parameters: {weight: 1");
  EXPECT_THAT(refused(linear + "}\n", models, Code::kDataError),
              HasSubstr("its shape is [6, 4] in model 'b' and [8, 4] in model 'a'"));
  EXPECT_THAT(at(plan(linear + ", shape_mismatch: crop}\n", models), kUp).shape, ElementsAre(6, 4));
  tensor(models[1], kUp).shape = {32};
  EXPECT_THAT(refused(linear + ", shape_mismatch: crop}\n", models, Code::kDataError),
              HasSubstr("[32] in model 'b'"));
}

TEST(Plan, RowsOfEmbeddingsAreTheTokenizers) {
  const auto text = [](const char* tokenizer) {
    return models_form("multislerp", {"a", "b"},
                       std::string("parameters: {weight: 1}\n") + tokenizer);
  };
  std::vector<ModelTensors> models{decoder("a", 1, 9), decoder("b", 1, 11)};
  EXPECT_THAT(refused(text(""), models, Code::kDataError), HasSubstr("its shape is"));
  const MergePlan made = plan(text("tokenizer_source: union\n"), models);
  EXPECT_TRUE(at(made, kEmbedding).rows_from_tokenizer);
  EXPECT_TRUE(at(made, kHead).rows_from_tokenizer);
  EXPECT_FALSE(at(made, kUp).rows_from_tokenizer);
  EXPECT_FALSE(at(made, kEmbedding).sources[1].crop);
  tensor(models[1], kEmbedding).shape = {11, 5};
  EXPECT_THAT(refused(text("tokenizer_source: union\n"), models, Code::kDataError),
              HasSubstr("[11, 5]"));
}

TEST(Plan, IntegersAreCopied) {
  std::vector<ModelTensors> models{decoder("a", 1), decoder("base", 1)};
  for (auto& model : models) {
    model.tensors.push_back({"model.layers.0.position_ids", {1, 8}, false});
  }
  const MergePlan made =
      plan(models_form("ties", {"a"}, "base_model: base\nparameters: {weight: 1}\n"), models);
  const PlannedTensor& ids = at(made, "model.layers.0.position_ids");
  EXPECT_EQ(ids.action, PlannedAction::kCopy);
  ASSERT_EQ(ids.sources.size(), 1U);
  EXPECT_EQ(ids.sources[0].model, 1U);
  EXPECT_EQ(ids.base, 0);
  EXPECT_THAT(made.notes,
              ElementsAre(HasSubstr("not floating point and copied from model 'base'")));
}

TEST(Plan, TiedHeads) {
  const std::string text = models_form("linear", {"a", "b"}, "parameters: {weight: 1}\n");
  const auto tied = [](const char* name, bool with_head) {
    ModelTensors model = decoder(name, 1);
    model.config["tie_word_embeddings"] = true;
    if (!with_head) remove_tensor(model, kHead);
    return model;
  };
  // All tied: one tensor, whether or not a file repeats it.
  EXPECT_FALSE(has(plan(text, {tied("a", false), tied("b", false)}), kHead));
  const MergePlan twice = plan(text, {tied("a", true), tied("b", false)});
  EXPECT_FALSE(has(twice, kHead));
  EXPECT_THAT(twice.notes, ElementsAre(HasSubstr("not written twice")));
  EXPECT_THAT(twice.config_edits, IsEmpty());
  // One untied: both are written, and the donor's config says so.
  const MergePlan mixed = plan(text, {tied("a", false), decoder("b", 1)});
  EXPECT_EQ(at(mixed, kHead).sources[0].tensor, kEmbedding);
  EXPECT_EQ(at(mixed, kHead).sources[1].tensor, kHead);
  ASSERT_EQ(mixed.config_edits.size(), 1U);
  EXPECT_EQ(mixed.config_edits[0].key, "tie_word_embeddings");
  EXPECT_EQ(mixed.config_edits[0].value, false);
  EXPECT_THAT(plan(text, {decoder("a", 1), tied("b", false)}).config_edits.size(), 0);
}

ModelTensors two_towers(const std::string& name, int text, int vision) {
  ModelTensors model = decoder(name, text);
  for (auto& t : model.tensors) t.name = "language_model." + t.name;
  for (int i = 0; i < vision; ++i) {
    model.tensors.push_back({"vision_tower.layers." + std::to_string(i) + ".fc.weight", {2, 2}});
  }
  model.tensors.push_back({"vision_tower.patch_embed.weight", {2, 2}});
  model.config = Json{{"text_config", {{"num_hidden_layers", text}}},
                      {"vision_config", {{"num_hidden_layers", vision}}}};
  return model;
}

TEST(Plan, ModelsWithSeveralStacks) {
  const std::vector<ModelTensors> models{two_towers("a", 4, 3), two_towers("b", 4, 3)};
  const MergePlan made =
      plan(models_form("linear", {"a", "b"}, "parameters: {weight: [0, 1]}\n"), models);
  EXPECT_EQ(made.tensors.size(), models[0].tensors.size());
  EXPECT_EQ(at(made, "vision_tower.layers.2.fc.weight").t, 1);
  EXPECT_EQ(at(made, "language_model.model.layers.1.mlp.up_proj.weight").t, 1 / 3.0);
  EXPECT_THAT(refused("merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [0, "
                      "2]}]}]\n",
                      models),
              HasSubstr("give the slices of each under 'modules'"));
}

TEST(Plan, ModulesForm) {
  const std::vector<ModelTensors> models{two_towers("a", 4, 3), two_towers("b", 4, 3)};
  const MergePlan made = plan(
      "merge_method: linear\n"
      "parameters: {weight: 1}\n"
      "modules:\n"
      "  language_model:\n"
      "    parameters: {weight: 2}\n"
      "    slices:\n"
      "      - sources: [{model: a, layer_range: [0, 4]}]\n"
      "      - sources: [{model: b, layer_range: [2, 4]}]\n"
      "        parameters: {weight: 3}\n"
      "  vision_tower:\n"
      "    models: [{model: a}, {model: b, parameters: {weight: 4}}]\n",
      models);
  const auto weight = [&](const std::string& name, std::size_t source) {
    return at(made, name).sources.at(source).parameters.number("weight");
  };
  EXPECT_EQ(weight("language_model.model.layers.3.mlp.up_proj.weight", 0), 2);
  EXPECT_EQ(weight("language_model.model.layers.5.mlp.up_proj.weight", 0), 3);
  EXPECT_EQ(weight("language_model.model.embed_tokens.weight", 0), 2);
  EXPECT_EQ(weight("language_model.lm_head.weight", 0), 3);
  EXPECT_EQ(weight("vision_tower.layers.1.fc.weight", 0), 1);
  EXPECT_EQ(weight("vision_tower.layers.1.fc.weight", 1), 4);
  EXPECT_TRUE(has(made, "vision_tower.patch_embed.weight"));
  ASSERT_EQ(made.config_edits.size(), 1U);
  EXPECT_EQ(made.config_edits[0].key, "text_config.num_hidden_layers");
  EXPECT_EQ(made.config_edits[0].value, 6);

  const MergePlan part = plan(
      "merge_method: linear\nparameters: {weight: 1}\nmodules: {vision_tower: {models: [{model: "
      "a}]}}\n",
      {models[0]});
  EXPECT_EQ(part.tensors.size(), 4U);
  EXPECT_THAT(part.notes,
              ElementsAre("the module 'language_model.model.layers' is not listed and left out"));
  EXPECT_THAT(refused("merge_method: linear\nparameters: {weight: 1}\nmodules: {vision_tower: "
                      "{models: [{model: a}]}, vision_tower.layers: {models: [{model: a}]}}\n",
                      {models[0]}),
              HasSubstr("same part of the model"));
}

// Whatever tensors two models have, each output tensor is planned once and its sources exist.
TEST(Plan, RandomModelsGiveSoundPlans) {
  Random random(11, "plans");
  const std::vector<std::string> policies{"optional", "skip", "base"};
  int planned = 0;
  for (int round = 0; round < 200; ++round) {
    std::vector<ModelTensors> models{decoder("a", 3), decoder("b", 3), decoder("base", 3)};
    for (auto& model : models) {
      std::erase_if(model.tensors, [&](const TensorShape& t) {
        const bool last_layer = t.name.starts_with("model.layers.2.");
        return !last_layer && random.chance(model.name == "base" ? .05 : .2);
      });
      for (auto& t : model.tensors) t.arithmetic = !random.chance(.02);
    }
    const std::string text =
        models_form("dare_ties", {"a", "b"},
                    "base_model: base\nparameters: {weight: [1, 2], missing: " +
                        policies[static_cast<std::size_t>(round) % policies.size()] + "}\n");
    MergePlan made;
    const auto failure = failure_of([&] { made = plan(text, models); });
    if (failure) {
      ASSERT_THAT(failure->message, HasSubstr("missing"));
      continue;
    }
    ++planned;
    std::set<std::string> seen;
    for (const PlannedTensor& tensor : made.tensors) {
      ASSERT_TRUE(seen.insert(tensor.name).second);
      ASSERT_FALSE(tensor.sources.empty());
      ASSERT_LT(tensor.base, static_cast<int>(tensor.sources.size()));
      if (tensor.action == PlannedAction::kCopy) {
        ASSERT_EQ(tensor.sources.size(), 1U);
      } else {
        ASSERT_GE(tensor.base, 0);
      }
      for (const PlannedSource& source : tensor.sources) {
        const auto& tensors = models.at(source.model).tensors;
        ASSERT_TRUE(std::any_of(tensors.begin(), tensors.end(), [&](const TensorShape& t) {
          return t.name == source.tensor && t.shape == tensor.shape;
        }));
      }
    }
  }
  EXPECT_GT(planned, 50);
}

}  // namespace
}  // namespace theriac::merge
