#include "cpp/core/merge/method_parameters.h"

#include <gmock/gmock.h>

#include <map>
#include <set>

#include "cpp/core/base/test_support.h"

namespace theriac::merge {
namespace {

using testing::HasSubstr;
using testing_support::failure_of;

const ParameterDeclaration& parameter(const char* method, const char* name) {
  const ParameterDeclaration* found = find_method(method)->find(name);
  if (found == nullptr) throw std::runtime_error(std::string(method) + " has no " + name);
  return *found;
}
double number(const char* method, const char* name) {
  return std::get<double>(parameter(method, name).fallback.value());
}
bool flag(const char* method, const char* name) {
  return std::get<bool>(parameter(method, name).fallback.value());
}
std::string text(const char* method, const char* name) {
  return std::get<std::string>(parameter(method, name).fallback.value());
}

TEST(MethodParameters, AllMethodsAreThere) {
  EXPECT_THAT(
      method_names(),
      testing::UnorderedElementsAre(
          "linear", "task_arithmetic", "expo", "slerp", "nuslerp", "multislerp", "karcher",
          "passthrough", "ties", "dare_linear", "dare_ties", "della", "della_linear", "breadcrumbs",
          "breadcrumbs_ties", "sce", "nearswap", "arcee_fusion", "ram", "ramplus_tl", "model_stock",
          "magmax", "metagpt", "lines", "emr", "tall_masks", "consensus", "pcb", "tsv_m", "iso_c",
          "iso_cts", "star", "knots", "wudi", "fisher", "regmean", "extract_lora"));
  EXPECT_EQ(find_method("tie"), nullptr);
  EXPECT_EQ(find_method("ties")->find("weigth"), nullptr);
}

TEST(MethodParameters, TableOfTaskArithmetic) {
  struct Row {
    bool normalize;
    const char* rescale;
  };
  const std::map<std::string, Row> rows{
      {"ties", {true, "none"}},        {"dare_linear", {false, "l1"}},
      {"dare_ties", {false, "l1"}},    {"breadcrumbs", {false, "none"}},
      {"della", {true, "l1"}},         {"breadcrumbs_ties", {false, "none"}},
      {"della_linear", {false, "l1"}},
  };
  for (const auto& [name, row] : rows) {
    const char* method = name.c_str();
    EXPECT_EQ(flag(method, "normalize"), row.normalize) << name;
    EXPECT_EQ(text(method, "rescale"), row.rescale) << name;
    EXPECT_EQ(parameter(method, "rescale").when_true, "l1");
    EXPECT_EQ(parameter(method, "rescale").when_false, "none");
    EXPECT_EQ(number(method, "density"), 1) << name;
    EXPECT_EQ(number(method, "lambda"), 1) << name;
    EXPECT_TRUE(parameter(method, "weight").required);
    EXPECT_EQ(parameter(method, "weight").scope, ParameterScope::kModel);
    EXPECT_EQ(parameter(method, "density").scope, ParameterScope::kModel);
    EXPECT_EQ(find_method(name)->base_role, BaseRole::kReference);
    EXPECT_TRUE(find_method(name)->needs_base);
  }
  EXPECT_FALSE(flag("task_arithmetic", "normalize"));
  EXPECT_EQ(find_method("task_arithmetic")->find("density"), nullptr);
  EXPECT_EQ(number("breadcrumbs", "gamma"), .01);
  EXPECT_EQ(number("della_linear", "epsilon"), .15);
  EXPECT_EQ(parameter("della", "epsilon").scope, ParameterScope::kModel);
}

TEST(MethodParameters, DefaultsOfTheOthers) {
  EXPECT_TRUE(flag("linear", "normalize"));
  EXPECT_EQ(number("expo", "alpha"), .1);
  EXPECT_TRUE(parameter("slerp", "t").required);
  EXPECT_EQ(parameter("slerp", "t").scope, ParameterScope::kGlobal);
  EXPECT_TRUE(flag("nuslerp", "nuslerp_flatten"));
  EXPECT_FALSE(flag("nuslerp", "nuslerp_row_wise"));
  EXPECT_TRUE(flag("multislerp", "normalize_weights"));
  EXPECT_EQ(number("multislerp", "eps"), 1e-8);
  EXPECT_EQ(number("karcher", "max_iter"), 10);
  EXPECT_EQ(number("karcher", "tol"), 1e-5);
  EXPECT_EQ(find_method("karcher")->find("weight"), nullptr);
  EXPECT_FALSE(parameter("passthrough", "scale").fallback.has_value());
  EXPECT_FALSE(parameter("passthrough", "scale").required);
  EXPECT_EQ(number("sce", "select_topk"), 1);
  EXPECT_TRUE(parameter("nearswap", "t").required);
  EXPECT_EQ(number("ram", "epsilon"), 1e-5);
  EXPECT_EQ(number("ramplus_tl", "r"), .1);
  EXPECT_EQ(number("ramplus_tl", "alpha"), .2);
  EXPECT_FALSE(flag("model_stock", "filter_wise"));
  EXPECT_EQ(number("magmax", "lambda"), .5);
  EXPECT_EQ(number("consensus", "lambda"), .3);
  EXPECT_EQ(number("consensus", "min_tasks"), 2);
  EXPECT_EQ(number("pcb", "ratio"), .1);
  EXPECT_EQ(number("fisher", "epsilon"), 1e-6);
  EXPECT_EQ(number("regmean", "reduce_non_diagonal_ratio"), .9);
}

TEST(MethodParameters, NumbersOfModels) {
  const auto expect = [](const char* name, int minimum, int maximum, BaseRole role, bool needs) {
    const MethodDeclaration& method = *find_method(name);
    EXPECT_EQ(method.minimum_models, minimum) << name;
    EXPECT_EQ(method.maximum_models, maximum) << name;
    EXPECT_EQ(method.base_role, role) << name;
    EXPECT_EQ(method.needs_base, needs) << name;
  };
  constexpr int kAll = std::numeric_limits<int>::max();
  expect("linear", 1, kAll, BaseRole::kMember, false);
  expect("slerp", 2, 2, BaseRole::kMember, true);
  expect("nuslerp", 2, 2, BaseRole::kReference, false);
  expect("multislerp", 2, kAll, BaseRole::kReference, false);
  expect("passthrough", 1, 1, BaseRole::kDonor, false);
  expect("model_stock", 2, kAll, BaseRole::kReference, true);
  expect("nearswap", 1, 1, BaseRole::kReference, true);
  expect("arcee_fusion", 1, 1, BaseRole::kReference, true);
  expect("ties", 1, kAll, BaseRole::kReference, true);
}

TEST(MethodParameters, ShapesFollowTheFamilies) {
  for (const char* name : {"task_arithmetic", "ties", "della", "dare_ties", "breadcrumbs"}) {
    EXPECT_EQ(find_method(name)->embedding_shapes, ShapeRule::kCropToBase) << name;
    EXPECT_EQ(find_method(name)->other_shapes, ShapeRule::kSkipModel) << name;
  }
  for (const char* name :
       {"linear", "slerp", "nuslerp", "model_stock", "arcee_fusion", "karcher"}) {
    EXPECT_EQ(find_method(name)->embedding_shapes, ShapeRule::kSmallestCommon) << name;
    EXPECT_EQ(find_method(name)->other_shapes, ShapeRule::kError) << name;
  }
}

TEST(MethodParameters, EveryDeclarationIsSound) {
  std::set<std::string> methods;
  for (const MethodDeclaration& method : merge_methods()) {
    EXPECT_TRUE(methods.insert(method.name).second) << method.name;
    EXPECT_FALSE(method.doc.empty()) << method.name;
    EXPECT_GE(method.minimum_models, 1);
    EXPECT_LE(method.minimum_models, method.maximum_models);
    for (const char* common : {"accumulate", "missing", "shape_mismatch"}) {
      EXPECT_NE(method.find(common), nullptr) << method.name;
    }
    std::set<std::string> names;
    for (const ParameterDeclaration& p : method.parameters) {
      SCOPED_TRACE(method.name + " " + p.name);
      EXPECT_TRUE(names.insert(p.name).second);
      EXPECT_FALSE(p.doc.empty());
      EXPECT_FALSE(p.required && p.fallback);
      const bool has_choices = !p.choices.empty();
      EXPECT_FALSE(has_choices && p.type != ParameterType::kText);
      if (!p.fallback) continue;
      EXPECT_EQ(std::holds_alternative<double>(*p.fallback), p.type == ParameterType::kNumber);
      EXPECT_EQ(std::holds_alternative<bool>(*p.fallback), p.type == ParameterType::kFlag);
      if (has_choices) {
        EXPECT_THAT(p.choices, testing::Contains(std::get<std::string>(*p.fallback)));
      }
      if (const auto* value = std::get_if<double>(&*p.fallback)) {
        EXPECT_GE(*value, p.range.low);
        EXPECT_LE(*value, p.range.high);
      }
    }
  }
}

TEST(MethodParameters, TiesConventions) {
  EXPECT_EQ(ties_convention("fusionbench").reduce, "sum");
  EXPECT_EQ(ties_convention("paper").reduce, "mean");
  EXPECT_EQ(ties_convention("mergekit").vote, "weighted");
  EXPECT_EQ(ties_convention("peft").vote, "unweighted");
  EXPECT_EQ(ties_convention("peft").scope, "tensor");
  EXPECT_EQ(ties_convention("paper").zero_sign, "majority");
  // Every part of every preset is something that a recipe could also write.
  const MethodDeclaration& ties = *find_method("ties");
  const auto allowed = [&](const char* name) { return ties.find(name)->choices; };
  for (const TiesConvention& c : ties_conventions()) {
    EXPECT_THAT(allowed("preset"), testing::Contains(c.preset));
    EXPECT_THAT(allowed("scope"), testing::Contains(c.scope));
    EXPECT_THAT(allowed("keep"), testing::Contains(c.keep));
    EXPECT_THAT(allowed("zero_sign"), testing::Contains(c.zero_sign));
    EXPECT_THAT(allowed("reduce"), testing::Contains(c.reduce));
    EXPECT_THAT(allowed("vote"), testing::Contains(c.vote));
  }
  EXPECT_EQ(allowed("preset").size(), ties_conventions().size());
  EXPECT_THAT(failure_of([] { ties_convention("papper"); })->message,
              HasSubstr("did you mean 'paper'"));
}

TEST(MethodParameters, Printing) {
  const Json schema = parameter_schema(*find_method("ties"));
  EXPECT_EQ(schema["properties"]["lambda"]["type"], "number");
  EXPECT_EQ(schema["properties"]["lambda"]["default"], 1.0);
  EXPECT_EQ(schema["properties"]["normalize"]["default"], true);
  EXPECT_EQ(schema["properties"]["weight"]["x-scope"], "model");
  EXPECT_THAT(dump_json(schema["properties"]["rescale"]), HasSubstr("\"none\",true,false"));
  EXPECT_EQ(dump_json(schema["required"]), "[\"weight\"]");
  EXPECT_FALSE(parameter_schema(*find_method("karcher")).contains("required"));
  EXPECT_EQ(parameter_schema(*find_method("karcher"))["properties"]["max_iter"]["type"], "integer");
  const std::string help = methods_help();
  EXPECT_THAT(help, HasSubstr("slerp: "));
  EXPECT_THAT(help, HasSubstr("takes exactly 2 models, one of them the base"));
  EXPECT_THAT(help, HasSubstr("takes 2 or more models beside a base model"));
  EXPECT_THAT(help, HasSubstr("gamma  a number, 0 to 1, of each model, default 0.01: "));
  EXPECT_THAT(help, HasSubstr("ties: keeps the largest"));
  EXPECT_THAT(help, HasSubstr("(arXiv 2306.01708)"));
}

}  // namespace
}  // namespace theriac::merge
