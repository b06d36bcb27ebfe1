#include "cpp/core/merge/recipe.h"

#include <gmock/gmock.h>

#include "cpp/core/base/test_support.h"

namespace theriac::merge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing_support::detail;
using testing_support::failure_of;

RecipeFile read(const std::string& text) { return parse_recipe(text, "r.yml"); }

MergeRecipe one(const std::string& text) {
  const RecipeFile file = read(text);
  EXPECT_THAT(file.warnings, IsEmpty()) << file.warnings.at(0).message;
  EXPECT_EQ(file.recipes.size(), 1U);
  return file.recipes.at(0);
}

std::string refused(const std::string& text) {
  const auto failure = failure_of([&] { read(text); });
  EXPECT_TRUE(failure.has_value()) << text;
  if (!failure) return "";
  EXPECT_EQ(failure->code, Code::kInvalidArgument);
  EXPECT_EQ(detail(*failure, "file"), "r.yml");
  return failure->message;
}

// A recipe of one model with more lines at the end.
std::string linear_with(const std::string& more) {
  return "merge_method: linear\nmodels:\n  - model: a\n    parameters: {weight: 1}\n" + more;
}

std::vector<std::string> names(const std::vector<ModelReference>& models) {
  std::vector<std::string> out;
  for (const auto& model : models) out.push_back(model.text());
  return out;
}

TEST(Recipe, ModelsForm) {
  const std::string text =
      "# two models\n"
      "merge_method: ties\n"
      "base_model: org/base@v1\n"
      "models:\n"
      "  - model: org/base@v1\n"
      "  - model: org/a+adapters/x@main\n"
      "    parameters:\n"
      "      weight: 0.5\n"
      "      density: [0.2, \"0.4\", 1e-1]\n"
      "  - model: {model: {path: /data/c+d@e}, lora: l}\n"
      "    parameters:\n"
      "      weight: [{filter: mlp, value: [0, yes]}, {value: 0.25}]\n"
      "parameters: {normalize: yes, int8_mask: true, rescale: false}\n"
      "dtype: torch.bfloat16\n"
      "out_dtype: float16\n"
      "tokenizer_source: base\n"
      "chat_template: chatml\n";
  const MergeRecipe recipe = one(text);
  EXPECT_EQ(recipe.merge_method, "ties");
  EXPECT_EQ(recipe.name, "");
  EXPECT_EQ(recipe.dtype, "bfloat16");
  EXPECT_EQ(recipe.out_dtype, "float16");
  EXPECT_EQ(recipe.chat_template, "chatml");
  EXPECT_EQ(recipe.source, text);
  EXPECT_EQ(recipe.tokenizer->source, TokenizerRecipe::Source::kBase);
  ASSERT_EQ(recipe.models.size(), 3U);
  EXPECT_EQ(recipe.base_model, recipe.models[0].model);
  const ModelReference& second = recipe.models[1].model;
  EXPECT_EQ(second.path, "org/a");
  EXPECT_EQ(second.lora_path, "adapters/x");
  EXPECT_EQ(second.lora_revision, "main");
  EXPECT_EQ(recipe.models[2].model.path, "/data/c+d@e");
  EXPECT_THAT(names(referenced_models(recipe)),
              ElementsAre("org/base@v1", "org/a+adapters/x@main", "'/data/c+d@e'+l"));
  const Setting& density = *recipe.models[1].parameters.find("density");
  EXPECT_EQ(density.key_path, "models[1].parameters.density");
  EXPECT_EQ(density.mark.line, 9U);
  ASSERT_EQ(density.entries.size(), 1U);
  EXPECT_TRUE(density.entries[0].gradient);
  EXPECT_EQ(density.entries[0].values.size(), 3U);
  const Setting& weight = *recipe.models[2].parameters.find("weight");
  ASSERT_EQ(weight.entries.size(), 2U);
  EXPECT_EQ(weight.entries[0].filter, "mlp");
  EXPECT_EQ(weight.entries[1].filter, std::nullopt);
  EXPECT_EQ(recipe.parameters.level, SettingLevel::kGlobal);
  EXPECT_EQ(recipe.models[1].parameters.level, SettingLevel::kModel);
}

TEST(Recipe, SlicesAndModules) {
  const MergeRecipe slices =
      one("merge_method: passthrough\n"
          "slices:\n"
          "  - sources: [{model: a, layer_range: [0, 24]}]\n"
          "  - sources:\n"
          "      - model: b\n"
          "        layer_range: [8, 32]\n"
          "        parameters: {scale: {filter: o_proj, value: 0}}\n"
          "    residual_weight: 0.5\n");
  ASSERT_EQ(slices.slices.size(), 2U);
  EXPECT_EQ(slices.slices[1].sources[0].first, 8);
  EXPECT_EQ(slices.slices[1].sources[0].last, 32);
  EXPECT_EQ(slices.slices[1].sources[0].parameters.find("scale")->entries[0].filter, "o_proj");
  const MergeRecipe modules =
      one("merge_method: linear\n"
          "x-note: {anything: [goes]}\n"
          "modules:\n"
          "  text:\n"
          "    parameters: {weight: 1}\n"
          "    models: [{model: a}, {model: b}]\n"
          "  vision:\n"
          "    slices: [{sources: [{model: a, layer_range: [0, 2], parameters: {weight: 1}}]}]\n");
  ASSERT_EQ(modules.modules.size(), 2U);
  EXPECT_EQ(modules.modules[0].name, "text");
  EXPECT_EQ(modules.modules[0].models.size(), 2U);
  EXPECT_EQ(modules.modules[0].parameters.level, SettingLevel::kModule);
  EXPECT_EQ(modules.modules[1].slices.size(), 1U);
}

TEST(Recipe, ModelReferences) {
  const auto reads = [](const char* text) { return parse_model_reference(text); };
  EXPECT_EQ(reads("a/b").path, "a/b");
  EXPECT_EQ(reads("a@r").revision, "r");
  EXPECT_EQ(reads("a@r+l@s").lora_revision, "s");
  for (const char* text : {"a", "a@r", "a+l", "a@r+l@s", "/x y/z"}) {
    EXPECT_EQ(reads(text).text(), text);
    EXPECT_EQ(reads(text), reads(text));
  }
  EXPECT_FALSE(reads("a") == reads("a@r"));
  for (const char* text : {"", "@r", "a@", "a@b@c", "a+", "+l", "a+b+c", "a+l@r@s", "a+l@"}) {
    const auto failure = failure_of([&] { reads(text); });
    ASSERT_TRUE(failure.has_value()) << text;
    EXPECT_EQ(failure->code, Code::kInvalidArgument);
  }
  const MergeRecipe recipe = one(
      "merge_method: passthrough\nmodels: [{model: {model: {path: a, revision: r}, lora: {path: "
      "l}, override_architecture: X}}]\n");
  EXPECT_EQ(recipe.models[0].model.text(), "a@r+l (as X)");
}

// Two different references never share the text that identifies them.
TEST(Recipe, ReferenceTextsAreDistinct) {
  std::vector<ModelReference> all;
  for (const char* path : {"a", "a@b", "a+c", "a@b+c"}) {
    for (const char* revision : {"", "b"}) {
      for (const char* lora : {"", "c", "c@d"}) {
        ModelReference model;
        model.path = path;
        model.revision = revision;
        model.lora_path = lora;
        all.push_back(model);
      }
    }
  }
  for (const auto& a : all) {
    for (const auto& b : all) EXPECT_EQ(a.text() == b.text(), a == b) << a.text();
  }
}

TEST(Recipe, Tokenizer) {
  const MergeRecipe recipe =
      one(linear_with("tokenizer:\n"
                      "  source: union\n"
                      "  pad_to_multiple_of: 64\n"
                      "  tokens:\n"
                      "    <a>: {source: m1, force: true}\n"
                      "    <b>: {source: {kind: model_token, model: m2, token_id: 7}}\n"
                      "    <c>: {source: {kind: zero}}\n"
                      "    <d>:\n"));
  using Kind = TokenEmbedding::Kind;
  const TokenizerRecipe& tokenizer = *recipe.tokenizer;
  EXPECT_EQ(tokenizer.pad_to_multiple_of, 64);
  ASSERT_EQ(tokenizer.tokens.size(), 4U);
  EXPECT_EQ(tokenizer.tokens[0].second.kind, Kind::kModel);
  EXPECT_TRUE(tokenizer.tokens[0].second.force);
  EXPECT_EQ(tokenizer.tokens[1].second.kind, Kind::kModelToken);
  EXPECT_EQ(tokenizer.tokens[1].second.token_id, 7);
  EXPECT_EQ(tokenizer.tokens[2].second.kind, Kind::kZero);
  EXPECT_EQ(tokenizer.tokens[3].second.kind, Kind::kDefault);
  EXPECT_THAT(names(referenced_models(recipe)), ElementsAre("a", "m1", "m2"));
  EXPECT_THAT(refused(linear_with("tokenizer: {source: base}\ntokenizer_source: base\n")),
              HasSubstr("line 5, column 12: tokenizer: cannot stand beside 'tokenizer_source'"));
  EXPECT_THAT(refused(linear_with("tokenizer: {tokens: {a: {source: {kind: zerro}}}}\n")),
              HasSubstr("did you mean 'zero'"));
  EXPECT_THAT(
      refused(linear_with("tokenizer: {tokens: {a: {source: {kind: model_token, model: b}}}}\n")),
      HasSubstr("exactly one of 'token' and 'token_id'"));
  EXPECT_THAT(refused(linear_with("tokenizer: {pad_to_multiple_of: 0}\n")),
              HasSubstr("tokenizer.pad_to_multiple_of: is '0'"));
}

TEST(Recipe, WrongDocuments) {
  EXPECT_THAT(refused(""), HasSubstr("the recipe is empty"));
  EXPECT_THAT(refused("[a, b]"), HasSubstr("is a list; expected a map"));
  EXPECT_THAT(refused("models: [{model: a}]"), HasSubstr("no 'merge_method'"));
  EXPECT_THAT(refused("merge_method: tie\nmodels: [{model: a}]"), HasSubstr("did you mean 'ties'"));
  EXPECT_THAT(refused("merge_method: linear"), HasSubstr("it has none"));
  EXPECT_THAT(refused("merge_method: linear\nmodels: [{model: a}]\nslices: [{sources: [{model: a, "
                      "layer_range: [0, 1]}]}]"),
              HasSubstr("it has 'models', 'slices'"));
  EXPECT_THAT(refused("merge_method: linear\nmodels: []"), HasSubstr("at least one"));
  EXPECT_THAT(refused("merge_method: linear\nmodels: [a]"), HasSubstr("models[0]: is 'a'"));
  EXPECT_THAT(refused("merge_method: linear\nmodels: [{}]"), HasSubstr("has no 'model'"));
  EXPECT_THAT(refused("merge_method: linear\nmodules: {}"), HasSubstr("a map of module names"));
  EXPECT_THAT(refused("merge_method: linear\nmodules: {t: {}}"),
              HasSubstr("modules.t: needs exactly one of 'models' and 'slices'"));
  EXPECT_THAT(refused(linear_with("dtype: bfloat15\n")), HasSubstr("did you mean 'bfloat16'"));
  EXPECT_THAT(refused(linear_with("out_dtype: torch.float8\n")), HasSubstr("out_dtype"));
  EXPECT_THAT(refused(linear_with("chat_template: chatlm\n")), HasSubstr("did you mean 'chatml'"));
  EXPECT_EQ(one(linear_with("chat_template: '{{ messages[0].content }}'\n")).chat_template,
            "{{ messages[0].content }}");
  EXPECT_THAT(refused("merge_method: linear\nmodels: [{model: a@b@c}]"),
              HasSubstr("line 2, column 18: models[0].model: 'a@b@c' has more than one '@'"));
}

TEST(Recipe, WrongSlices) {
  const auto slices = [](const std::string& sources) {
    return "merge_method: linear\nslices: [{sources: [" + sources + "]}]\n";
  };
  EXPECT_THAT(refused(slices("")), HasSubstr("at least one"));
  EXPECT_THAT(refused("merge_method: linear\nslices: [{}]"), HasSubstr("has no 'sources'"));
  EXPECT_THAT(refused(slices("{model: a}")), HasSubstr("has no 'layer_range'"));
  EXPECT_THAT(refused(slices("{model: a, layer_range: [0]}")), HasSubstr("[first, last)"));
  EXPECT_THAT(refused(slices("{model: a, layer_range: [4, 4]}")), HasSubstr("holds no layer"));
  EXPECT_THAT(refused(slices("{model: a, layer_range: [-1, 4]}")), HasSubstr("is '-1'"));
  EXPECT_THAT(refused(slices("{model: a, layer_range: [0, 1.5]}")), HasSubstr("whole number"));
  EXPECT_THAT(refused(slices("{model: a, layer_range: [0, 1e300]}")), HasSubstr("whole number"));
  EXPECT_THAT(refused(slices("{model: a, layer_range: [0, 4]}, {model: b, layer_range: [0, 5]}")),
              HasSubstr("slices[0].sources[1].layer_range: spans 5 layers and the first source 4"));
}

TEST(Recipe, WrongSettings) {
  const auto setting = [](const std::string& value) {
    return "merge_method: linear\nmodels: [{model: a}]\nparameters: {weight: " + value + "}\n";
  };
  for (const char* good : {"1", "'0.5'", "yes", "[1, 2]", "{filter: a, value: 1}", "[{value: 1}]",
                           "[{filter: '*', value: [1, 2]}]", "[{filter: ~, value: 1}]", "1e-3"}) {
    EXPECT_NO_THROW(one(setting(good))) << good;
  }
  EXPECT_THAT(refused(setting("abc")), HasSubstr("parameters.weight: is 'abc'; expected a number"));
  EXPECT_THAT(refused(setting("'yes'")), HasSubstr("expected a number"));
  EXPECT_THAT(refused(setting(".nan")), HasSubstr("finite"));
  EXPECT_THAT(refused(setting("nan")), HasSubstr("finite"));
  EXPECT_THAT(refused(setting("1e999")), HasSubstr("finite"));
  EXPECT_THAT(refused(setting("[1, .inf]")), HasSubstr("weight[1]: is '.inf'"));
  EXPECT_THAT(refused(setting("[]")), HasSubstr("empty list"));
  EXPECT_THAT(refused(setting("~")), HasSubstr("has no value"));
  EXPECT_THAT(refused(setting("[1, {value: 2}]")), HasSubstr("weight[1]: is a map"));
  EXPECT_THAT(refused(setting("[{value: 2}, 1]")), HasSubstr("as the other entries"));
  EXPECT_THAT(refused(setting("[[1, 2]]")), HasSubstr("weight[0]: is a list"));
  EXPECT_THAT(refused(setting("[{filter: [a], value: 1}]")),
              HasSubstr("weight[0].filter: is a list"));
  EXPECT_THAT(refused(setting("[{filter: a}]")), HasSubstr("has no 'value'"));
  EXPECT_THAT(refused(setting("{filter: a, value: {filter: b, value: 1}}")),
              HasSubstr("weight.value: is a map"));
  std::string many = "[";
  for (int i = 0; i < 5000; ++i) many += "{value: 1}, ";
  EXPECT_THAT(refused(setting(many + "{value: 1}]")), HasSubstr("5001 filters"));
}

TEST(Recipe, ChoicesAndRanges) {
  const auto ties = [](const std::string& parameters) {
    return "merge_method: ties\nbase_model: b\nmodels: [{model: a}]\nparameters: {weight: 1, " +
           parameters + "}\n";
  };
  for (const char* good : {"rescale: true", "rescale: l1", "rescale: inverse_density",
                           "preset: paper", "keep: ge", "accumulate: native", "normalize: 0"}) {
    EXPECT_NO_THROW(one(ties(good))) << good;
  }
  EXPECT_THAT(refused(ties("rescale: l3")), HasSubstr("did you mean 'l1'"));
  EXPECT_THAT(refused(ties("rescale: [l1, l2]")), HasSubstr("finite number"));
  EXPECT_THAT(refused(ties("rescale: [1, 0]")), HasSubstr("a list of values over the layers"));
  EXPECT_THAT(refused(ties("preset: true")), HasSubstr("one of 'mergekit'"));
  EXPECT_THAT(refused(ties("normalize: maybe")), HasSubstr("true or false"));
  EXPECT_THAT(refused("merge_method: karcher\nmodels: [{model: a}]\nparameters: {max_iter: 2.5}"),
              HasSubstr("a whole number, at least 1"));
  EXPECT_THAT(refused("merge_method: karcher\nmodels: [{model: a}]\nparameters: {tol: 0}"),
              HasSubstr("above 0"));
}

TEST(Recipe, UnknownKeysAreReportedWithTheNearest) {
  const std::string text =
      "merge_method: slerp\n"
      "base_modle: a\n"
      "models:\n"
      "  - model: a\n"
      "    parametres: {t: 1}\n"
      "  - model: b\n"
      "    parameters: {t: 0.5}\n"
      "parameters:\n"
      "  t: [{fliter: mlp, value: 1}]\n"
      "  embed_slerp: true\n";
  const RecipeFile file = read(text);
  std::vector<std::string> messages;
  for (const auto& warning : file.warnings) messages.push_back(warning.message);
  EXPECT_THAT(
      messages,
      testing::UnorderedElementsAre(
          HasSubstr("r.yml: line 2, column 1: base_modle: is not a key of a merge recipe and is "
                    "ignored; did you mean 'base_model'?"),
          HasSubstr("line 5, column 5: models[0].parametres: is not a key of a model and is "
                    "ignored; did you mean 'parameters'?"),
          HasSubstr("line 7, column 18: models[1].parameters.t: is ignored"),
          HasSubstr("line 9, column 8: parameters.t[0].fliter: is not a key of a filtered value "
                    "and is ignored; did you mean 'filter'?"),
          HasSubstr("line 10, column 3: parameters.embed_slerp: is not a parameter of the method "
                    "slerp and is ignored")));
  RecipeOptions strict;
  strict.strict = true;
  const auto failure = failure_of([&] { parse_recipe(text, "r.yml", strict); });
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(detail(*failure, "key_path"), "base_modle");
  EXPECT_THAT(failure->message, HasSubstr("did you mean 'parameters'?"));
  EXPECT_NO_THROW(parse_recipe(linear_with(""), "r.yml", strict));
}

TEST(Recipe, WarningsAreLimited) {
  std::string many;
  for (int i = 0; i < 3000; ++i) many += "key" + std::to_string(i) + ": 1\n";
  EXPECT_EQ(read(linear_with(many)).warnings.size(), 1000U);
}

std::string named(const std::string& name, const std::vector<std::string>& models) {
  std::string out = "---\n";
  if (!name.empty()) out += "name: " + name + "\n";
  out += "merge_method: linear\nparameters: {weight: 1}\nmodels:\n";
  for (const auto& model : models) out += "  - model: " + model + "\n";
  return out;
}

TEST(Recipe, NamedDocumentsInOrderOfDependency) {
  const std::string text = named("", {"left", "right", "x"}) + named("left", {"mid", "y"}) +
                           named("right", {"mid@v1", "z"}) + named("mid", {"q"}) + "---\n";
  const RecipeFile file = read(text);
  std::vector<std::string> order;
  for (const auto& recipe : file.recipes) order.push_back(recipe.name);
  EXPECT_THAT(order, ElementsAre("mid", "left", "right", ""));
  EXPECT_EQ(file.final_recipe, 3U);
  EXPECT_EQ(file.source, text);
  EXPECT_EQ(file.recipes[0].source, named("mid", {"q"}));
  EXPECT_EQ(read(named("a", {"x"})).final_recipe, std::nullopt);
}

TEST(Recipe, CyclesAreNamed) {
  const std::string cycle = named("a", {"b"}) + named("b", {"x", "c"}) + named("c", {"a"});
  const auto failure = failure_of([&] { read(named("", {"a"}) + cycle); });
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(detail(*failure, "cycle"), "a -> b -> c -> a");
  EXPECT_THAT(refused(named("a", {"a"})), HasSubstr("a -> a"));
  EXPECT_THAT(refused(named("a", {"x"}) + named("a", {"y"})),
              HasSubstr("two documents have the name 'a'"));
  EXPECT_THAT(refused(named("", {"x"}) + named("", {"y"})),
              HasSubstr("second document without 'name'"));
}

// A chain of as many documents as are read is no trouble.
TEST(Recipe, LongChains) {
  std::string text;
  for (int i = 0; i < 1000; ++i) {
    text += named("m" + std::to_string(i), {i < 999 ? "m" + std::to_string(i + 1) : "x"});
  }
  const RecipeFile file = read(text);
  ASSERT_EQ(file.recipes.size(), 1000U);
  EXPECT_EQ(file.recipes.front().name, "m999");
  EXPECT_EQ(file.recipes.back().name, "m0");
}

TEST(Recipe, EveryMutationIsReadOrRefused) {
  const std::string good =
      "merge_method: dare_ties\nbase_model: b\nslices:\n - sources:\n   - {model: b, layer_range: "
      "[0, 2]}\n   - model: a+l\n     layer_range: [0, 2]\n     parameters: {weight: [{filter: q, "
      "value: [0, 1]}, {value: 1}], density: .5}\nparameters: {rescale: true, lambda: 2}\n"
      "tokenizer: {source: union, tokens: {x: {source: a}}}\n";
  ASSERT_NO_THROW(read(good));
  int refusals = 0;
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const char c : std::string("[{:~'1x")) {
      std::string text = good;
      text[i] = c;
      const auto failure = failure_of([&] { read(text); });
      if (failure) {
        ++refusals;
        ASSERT_EQ(failure->code, Code::kInvalidArgument) << failure->message;
      }
    }
  }
  EXPECT_GT(refusals, 100);
}

}  // namespace
}  // namespace theriac::merge
