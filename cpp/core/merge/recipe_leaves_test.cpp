#include "cpp/core/merge/recipe_leaves.h"

#include <gmock/gmock.h>

#include <cmath>

#include "cpp/core/base/random.h"
#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/yaml.h"

namespace theriac::merge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::failure_of;

const std::string kRecipe =
    "# ünïcode before\n"
    "merge_method: ties\n"
    "base_model: base\n"
    "models:\n"
    "  - model: a\n"
    "    parameters: {weight: 0.5, density: [0.1, 5e-1, .9]}  # keep me\n"
    "  - {model: \"ä\", parameters: {\"weight\": 1, density: 0.25}}\n"
    "parameters:\n"
    "  lambda:\n"
    "    - {filter: mlp, value: 1.5}\n"
    "    - value:   0.75\n"
    "  text: \"0.5\"\n";

std::vector<RecipeLeaf> found(const std::string& text, const std::vector<std::string>& requests) {
  std::vector<LeafRequest> parsed;
  for (const std::string& request : requests) parsed.push_back(parse_leaf_request(request));
  return find_leaves(text, "r.yml", parsed);
}
std::vector<std::string> paths(const std::vector<RecipeLeaf>& leaves) {
  std::vector<std::string> out;
  for (const RecipeLeaf& leaf : leaves) out.push_back(leaf.path);
  return out;
}
std::string message(const std::string& text, const std::vector<std::string>& requests) {
  const auto failure = failure_of([&] { found(text, requests); });
  if (!failure) return "(no failure)";
  EXPECT_EQ(failure->code, Code::kInvalidArgument);
  return failure->message;
}

TEST(LeafRequest, IsAPathWithBounds) {
  const LeafRequest request = parse_leaf_request("models[*].parameters.weight=-.5:1e1");
  EXPECT_EQ(request.path, "models[*].parameters.weight");
  EXPECT_EQ(request.low, -0.5);
  EXPECT_EQ(request.high, 10);
  for (const char* bad :
       {"", "a", "a=1", "a=1:1", "a=2:1", "a=x:1", "a=0:.inf", "=0:1", "a..b=0:1", ".a=0:1",
        "a[=0:1", "a[x]=0:1", "a[]=0:1", "a[-1]=0:1", "a[99999999999999999999]=0:1"}) {
    const auto failure = failure_of([&] { parse_leaf_request(bad); });
    ASSERT_TRUE(failure) << bad;
    EXPECT_EQ(failure->code, Code::kInvalidArgument);
  }
}

TEST(RecipeLeaves, AreFoundByPath) {
  const auto leaves =
      found(kRecipe, {"models[*].parameters.weight=0:1", "models[0].parameters.density[*]=0:1",
                      "parameters.lambda[0].value=0:2", "parameters.lambda[1].value=0:2"});
  EXPECT_THAT(paths(leaves),
              ElementsAre("models[0].parameters.weight", "models[1].parameters.weight",
                          "models[0].parameters.density[0]", "models[0].parameters.density[1]",
                          "models[0].parameters.density[2]", "parameters.lambda[0].value",
                          "parameters.lambda[1].value"));
  std::vector<double> values;
  for (const RecipeLeaf& leaf : leaves) {
    values.push_back(leaf.value);
    EXPECT_EQ(yaml_number(kRecipe.substr(leaf.first, leaf.length), false), leaf.value);
  }
  EXPECT_THAT(values, ElementsAre(0.5, 1, 0.1, 0.5, 0.9, 1.5, 0.75));
}

TEST(RecipeLeaves, AreReplacedInTheTextAndNowhereElse) {
  const auto leaves =
      found(kRecipe, {"parameters.lambda[1].value=0:2", "models[*].parameters.weight=0:1"});
  const std::string text = with_values(kRecipe, leaves, std::vector<double>{1, 0.25, 1e-5});
  EXPECT_THAT(text, HasSubstr("- value:   1.0\n"));
  EXPECT_THAT(text, HasSubstr("{weight: 0.25, density: [0.1, 5e-1, .9]}  # keep me\n"));
  EXPECT_THAT(text, HasSubstr("{\"weight\": 1.0e-05, density: 0.25}"));
  EXPECT_THAT(text, HasSubstr("# ünïcode before\n"));
  EXPECT_EQ(
      with_values(
          text, found(text, {"parameters.lambda[1].value=0:2", "models[*].parameters.weight=0:1"}),
          std::vector<double>{1, 0.25, 1e-5}),
      text);
}

// What is written is what was meant, to the last bit, for numbers of every size.
TEST(RecipeLeaves, SurviveWritingAndReading) {
  Random random(1, "leaves");
  const std::string text = "a: 1\nb: [2, {c: 3}]\n";
  const std::vector<std::string> requests{"a=-1e300:1e300", "b[0]=-1e300:1e300",
                                          "b[1].c=-1e300:1e300"};
  const auto leaves = found(text, requests);
  for (int i = 0; i < 500; ++i) {
    std::vector<double> values;
    for (int v = 0; v < 3; ++v) {
      values.push_back(random.normal() * std::pow(10, random.uniform(-30, 30)));
    }
    const auto again = found(with_values(text, leaves, values), requests);
    for (std::size_t v = 0; v < 3; ++v) EXPECT_EQ(again[v].value, values[v]);
  }
}

TEST(RecipeLeaves, NamesWhatIsWrong) {
  EXPECT_THAT(message(kRecipe, {"models[0].parameters.weigth=0:1"}),
              AllOf(HasSubstr("r.yml"), HasSubstr("line 6"), HasSubstr("did you mean 'weight'")));
  EXPECT_THAT(message(kRecipe, {"models[2].parameters.weight=0:1"}), HasSubstr("has 2 items"));
  EXPECT_THAT(message(kRecipe, {"merge_method=0:1"}), HasSubstr("expected a plain finite number"));
  EXPECT_THAT(message(kRecipe, {"parameters.text=0:1"}),
              HasSubstr("expected a plain finite number"));
  EXPECT_THAT(message(kRecipe, {"models[0].parameters.weight=0.6:1"}),
              HasSubstr("outside its bounds"));
  EXPECT_THAT(message(kRecipe, {"models=0:1"}), HasSubstr("expected a plain finite number"));
  EXPECT_THAT(message(kRecipe, {"parameters[0]=0:1"}), HasSubstr("expected a list"));
  EXPECT_THAT(message(kRecipe, {"models.weight=0:1"}), HasSubstr("leads to nothing"));
  EXPECT_THAT(
      message(kRecipe, {"models[*].parameters.weight=0:1", "models[1].parameters.weight=0:2"}),
      HasSubstr("is the same number as"));
  EXPECT_THAT(message("a: &x 0.5\nb: *x\n", {"b=0:1"}), testing::Not(HasSubstr("(no failure)")));
  EXPECT_THAT(message("a: 1\n---\na: 2\n", {"a=0:3"}), HasSubstr("2 documents"));
}

TEST(RecipeLeaves, WorkWithEveryLineEndAndAByteOrderMark) {
  for (const std::string text : {"a: 1\r\nb: 2\r\n",
                                 "\xef\xbb\xbf"
                                 "a: 1\nb: 2",
                                 "x: [é, 'ü']\nb: 2"}) {
    const auto leaves = found(text, {"b=0:9"});
    ASSERT_EQ(leaves.size(), 1U);
    EXPECT_EQ(text.substr(leaves[0].first, leaves[0].length), "2");
  }
}

}  // namespace
}  // namespace theriac::merge
