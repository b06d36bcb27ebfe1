#include "cpp/core/merge/settings.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "cpp/core/base/random.h"
#include "cpp/core/base/test_support.h"

namespace theriac::merge {
namespace {

using testing::HasSubstr;
using testing_support::detail;
using testing_support::failure_of;

constexpr double kSixDigits = 5e-7;

MergeRecipe recipe_of(const std::string& text) { return parse_recipe(text, "r.yml").recipes.at(0); }

// `t` of a slerp recipe for a tensor.
double slerp_t(const MergeRecipe& recipe, const std::string& tensor, double t) {
  SettingScopes scopes;
  scopes.global = &recipe.parameters;
  return resolve_global(*find_method("slerp"), scopes, tensor, t).number("t");
}

MergeRecipe slerp(const std::string& t) {
  return recipe_of(
      "merge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b}]\n"
      "parameters:\n  t: " +
      t + "\n");
}

TEST(Settings, GradientOfTheSpecification) {
  const std::vector<double> values{0, .5, .3, .7, 1};
  const std::vector<double> expected{0, .285714, .471429, .357143, .414286, .642857, .828571, 1};
  for (std::int64_t layer = 0; layer < 8; ++layer) {
    EXPECT_NEAR(gradient_at(values, layer_position(layer, 8)),
                expected[static_cast<std::size_t>(layer)], kSixDigits);
  }
  EXPECT_EQ(gradient_at(values, layer_position(0, 8)), 0);
  EXPECT_EQ(gradient_at(values, layer_position(7, 8)), 1);
}

TEST(Settings, FiltersOfTheSpecification) {
  const MergeRecipe recipe = slerp(
      "[{filter: self_attn, value: [0,.5,.3,.7,1]}, {filter: mlp, value: [1,.5,.7,.3,0]}, "
      "{value: .5}]");
  const double t = layer_position(3, 8);
  EXPECT_NEAR(slerp_t(recipe, "model.layers.3.self_attn.q_proj.weight", t), .357143, kSixDigits);
  EXPECT_NEAR(slerp_t(recipe, "model.layers.3.mlp.up_proj.weight", t), .642857, kSixDigits);
  EXPECT_EQ(slerp_t(recipe, "model.layers.3.input_layernorm.weight", t), .5);
  EXPECT_EQ(slerp_t(recipe, "model.embed_tokens.weight", 0), .5);
}

TEST(Settings, PositionsOfLayers) {
  EXPECT_EQ(layer_position(0, 1), 1);
  EXPECT_EQ(layer_position(0, 2), 0);
  EXPECT_EQ(layer_position(1, 2), 1);
  EXPECT_EQ(layer_position(1, 3), .5);
}

// A gradient stays between its neighbours, meets its values, and does not overflow.
TEST(Settings, GradientProperties) {
  Random random(7, "gradient");
  for (int round = 0; round < 2000; ++round) {
    const auto size = static_cast<std::size_t>(1 + random.below(9));
    std::vector<double> values;
    for (std::size_t i = 0; i < size; ++i) values.push_back(random.uniform() * 4 - 2);
    const double t = random.uniform();
    const double value = gradient_at(values, t);
    const auto below =
        std::min(static_cast<std::size_t>(t * static_cast<double>(size - 1)), size - 1);
    const auto above = std::min(below + 1, size - 1);
    ASSERT_GE(value, std::min(values[below], values[above]));
    ASSERT_LE(value, std::max(values[below], values[above]));
    ASSERT_EQ(gradient_at(values, 0), values.front());
    ASSERT_EQ(gradient_at(values, 1), values.back());
    const std::vector<double> equal(size, values[0]);
    ASSERT_EQ(gradient_at(equal, t), values[0]);
  }
  const double huge = std::numeric_limits<double>::max();
  EXPECT_EQ(gradient_at(std::vector{-huge, huge}, .5), 0);
  const std::vector<double> ends{3, 4};
  EXPECT_EQ(gradient_at(ends, -1), 3);
  EXPECT_EQ(gradient_at(ends, 2), 4);
  EXPECT_EQ(gradient_at(ends, std::nan("")), 3);
}

TEST(Settings, LongGradients) {
  std::string values = "[0";
  for (int i = 1; i <= 50'000; ++i) values += "," + std::to_string(i);
  const MergeRecipe recipe = slerp(values + "]");
  EXPECT_EQ(slerp_t(recipe, "x", 0), 0);
  EXPECT_EQ(slerp_t(recipe, "x", 1), 50'000);
  EXPECT_NEAR(slerp_t(recipe, "x", .123456789), 6172.83945, 1e-8);
}

TEST(Settings, FirstMatchingFilterDecides) {
  const MergeRecipe recipe = slerp("[{filter: b, value: 1}, {filter: '*', value: 2}, {value: 3}]");
  EXPECT_EQ(slerp_t(recipe, "abc", 0), 1);
  EXPECT_EQ(slerp_t(recipe, "xyz", 0), 2);
  const MergeRecipe lone = slerp("{filter: b, value: 1}");
  EXPECT_EQ(slerp_t(lone, "abc", 0), 1);
  const auto failure = failure_of([&] { slerp_t(lone, "xyz", 0); });
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->code, Code::kInvalidArgument);
  EXPECT_THAT(failure->message, HasSubstr("slerp needs the parameter 't'"));
  EXPECT_EQ(detail(*failure, "tensor"), "xyz");
}

TEST(Settings, ValuesTakeTheTypeDue) {
  EXPECT_EQ(slerp_t(slerp("'0.25'"), "x", 0), .25);
  EXPECT_EQ(slerp_t(slerp("1e-3"), "x", 0), 1e-3);
  EXPECT_EQ(slerp_t(slerp("on"), "x", 0), 1);
  EXPECT_EQ(slerp_t(slerp("off"), "x", 0), 0);
  const MergeRecipe ties = recipe_of(
      "merge_method: ties\nbase_model: b\nmodels: [{model: a}]\n"
      "parameters: {weight: 1, normalize: [1, 0], rescale: yes, int8_mask: 0}\n");
  SettingScopes scopes;
  scopes.global = &ties.parameters;
  const Parameters first = resolve_global(*find_method("ties"), scopes, "x", 0);
  EXPECT_TRUE(first.flag("normalize"));
  EXPECT_FALSE(first.flag("int8_mask"));
  EXPECT_EQ(first.text("rescale"), "l1");
  EXPECT_EQ(first.number("lambda"), 1);
  EXPECT_EQ(first.text("accumulate"), "float32");
  EXPECT_FALSE(first.has("keep"));
  EXPECT_FALSE(resolve_global(*find_method("ties"), scopes, "x", 1).flag("normalize"));
  EXPECT_EQ(failure_of([&] { first.number("rescale"); })->code, Code::kInternal);
  EXPECT_EQ(failure_of([&] { first.number("nothing"); })->code, Code::kInternal);
  EXPECT_EQ(first.number_or("nothing", 3), 3);
  EXPECT_THAT(first.described(), HasSubstr("rescale=l1"));
}

// Every subset of levels may give a value; the most particular one that matches holds.
TEST(Settings, Precedence) {
  for (unsigned given = 0; given < 16; ++given) {
    for (unsigned filtered = 0; filtered < 16; ++filtered) {
      const auto set = [&](unsigned level) {
        if ((given >> level & 1U) == 0) return std::string("{}");
        const std::string value = std::to_string(level + 1);
        return (filtered >> level & 1U) != 0
                   ? "{density: [{filter: elsewhere, value: " + value + "}]}"
                   : "{density: " + value + "}";
      };
      const MergeRecipe recipe = recipe_of(
          "merge_method: ties\nbase_model: b\nmodules:\n  m:\n    slices:\n      - sources: "
          "[{model: "
          "a, layer_range: [0, 1], parameters: " +
          set(0) + "}]\n        parameters: " + set(1) + "\n    parameters: " + set(2) +
          "\nparameters: " + set(3) + "\n");
      const OutputModule& module = recipe.modules.at(0);
      SettingScopes scopes{&module.slices[0].parameters, &module.parameters, &recipe.parameters,
                           "r.yml"};
      double expected = 1;  // the default
      for (unsigned level = 4; level-- > 0;) {
        if ((given >> level & 1U) != 0 && (filtered >> level & 1U) == 0) expected = level + 1;
      }
      const Parameters resolved =
          resolve_model(*find_method("ties"), &module.slices[0].sources[0].parameters, scopes, "in",
                        "out", 0, true);
      ASSERT_EQ(resolved.number("density"), expected) << given << " " << filtered;
    }
  }
}

TEST(Settings, OwnSettingsSeeTheInputsNameOthersTheOutputs) {
  const MergeRecipe recipe = recipe_of(
      "merge_method: linear\nmodels:\n  - model: a\n    parameters:\n      weight: [{filter: "
      "layers.9, value: 2}]\nparameters:\n  weight: [{filter: layers.9, value: 3}, {value: 4}]\n");
  SettingScopes scopes;
  scopes.global = &recipe.parameters;
  const auto weight = [&](const char* input, const char* output) {
    return resolve_model(*find_method("linear"), &recipe.models[0].parameters, scopes, input,
                         output, 0)
        .number("weight");
  };
  EXPECT_EQ(weight("layers.9", "layers.1"), 2);
  EXPECT_EQ(weight("layers.1", "layers.9"), 3);
  EXPECT_EQ(weight("layers.1", "layers.1"), 4);
}

TEST(Settings, GlobalParametersIgnoreModelsAndModelParametersAreRequired) {
  const MergeRecipe recipe = recipe_of(
      "merge_method: slerp\nbase_model: a\nmodels: [{model: a, parameters: {t: 0.9}}, {model: b}]\n"
      "parameters: {t: 0.5}\n");
  SettingScopes scopes;
  scopes.global = &recipe.parameters;
  const MethodDeclaration& method = *find_method("slerp");
  EXPECT_EQ(resolve_global(method, scopes, "x", 0).number("t"), .5);
  EXPECT_FALSE(resolve_model(method, &recipe.models[0].parameters, scopes, "x", "x", 0).has("t"));
  const MethodDeclaration& linear = *find_method("linear");
  const auto failure = failure_of([&] { resolve_model(linear, nullptr, {}, "x", "x", 0); });
  ASSERT_TRUE(failure.has_value());
  EXPECT_THAT(failure->message, HasSubstr("of each model"));
  EXPECT_FALSE(resolve_model(linear, nullptr, {}, "x", "x", 0, true).has("weight"));
}

}  // namespace
}  // namespace theriac::merge
