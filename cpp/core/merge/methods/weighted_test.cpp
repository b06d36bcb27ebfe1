#include <gmock/gmock.h>

#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/methods/driver_for_test.h"
#include "cpp/core/merge/methods/rounding.h"

namespace theriac::merge {
namespace {

using testing::HasSubstr;
using testing_support::failure_of;

SettingsForTest weight(double w) { return {{"weight", w}}; }

MergeCase linear_example(std::vector<SettingsForTest> own) {
  MergeCase c = running_example("linear");
  c.base.reset();
  c.own = std::move(own);
  return c;
}

TEST(MergeKernels, EveryOneIsDeclared) {
  for (const char* name : {"linear", "passthrough", "nearswap", "magmax", "task_arithmetic", "ties",
                           "slerp", "karcher", "sce", "ram", "arcee_fusion", "model_stock"}) {
    ASSERT_NE(find_kernel(name), nullptr) << name;
    EXPECT_NE(find_method(name), nullptr) << name;
  }
  EXPECT_EQ(find_kernel("tie"), nullptr);
}

TEST(MergeLinear, NumbersOfTheSpecification) {
  expect_near(merged(linear_example({weight(.5), weight(.3), weight(.2)})),
              {1.35, .85, 1, 1.3, .82, .89});
  expect_near(merged(linear_example({weight(1), weight(.3), weight(.5)})),
              {1.461111, .744444, 1, 1.222222, .783333, 1.033333});
}

TEST(MergeLinear, WithoutNormalising) {
  MergeCase c = linear_example({weight(1), weight(.3), weight(.5)});
  c.global["normalize"] = false;
  expect_near(merged(c), {2.63, 1.34, 1.8, 2.2, 1.41, 1.86});
}

TEST(MergeLinear, RefusesWeightsThatCancelOut) {
  const auto run = [] { merged(linear_example({weight(.3), weight(-.3), weight(0)})); };
  const Failure failure = failure_of(run).value();
  EXPECT_EQ(failure.code, Code::kInvalidArgument);
  EXPECT_THAT(failure.message, HasSubstr("method 'linear', tensor 'tensor'"));
}

TEST(MergeLinear, BaseIsAMember) {
  MergeCase c = linear_example({weight(1), weight(1), weight(1)});
  c.base = Values(6, 4.0F);
  c.base_own = weight(3);
  expect_near(merged(c), {2.6, 2.4, 2.5, 2.583333, 2.483333, 2.45});
  c.keys = {0, 1, 3};  // the base stands third
  expect_near(merged(c), {2.6, 2.4, 2.5, 2.583333, 2.483333, 2.45});
}

TEST(MergeLinear, EqualModelsGiveTheirBytes) {
  for (const auto& shape : shapes_for_test()) {
    MergeCase c = random_case("linear", shape, 1, 3);
    c.base.reset();
    c.models = {c.models[0], c.models[0], c.models[0]};
    c.own = {weight(.3), weight(.123), weight(.77)};
    EXPECT_TRUE(same_bytes(merged(c), c.models[0]));
  }
}

TEST(MergeLinear, OrderOfTheModelsDoesNotMatter) {
  MergeCase c = random_case("linear", {40, 33}, 3, 5);
  c.base.reset();
  c.own = {weight(.3), weight(.123), weight(.77)};
  const Values first = merged(c);
  std::swap(c.models[0], c.models[2]);
  std::swap(c.own[0], c.own[2]);
  expect_near(merged(c), {first.begin(), first.end()}, 1e-6);
}

// torch: bfloat16 0.3 is 0.30078125; products round, sums over models round once.
TEST(MergeLinear, NativeRounding) {
  MergeCase c;
  c.method = "linear";
  c.shape = {2};
  c.models = {{1.0F, 3.0F}, {1.0078125F, -1.5F}};
  c.own = {weight(.3), weight(.7)};
  c.accumulate = Accumulate::kNative;
  c.dtype = tensorfile::DType::kBF16;
  // 0.7 is 0.69921875; 0.69921875 * 1.0078125 = 0.70468140 -> 0.703125; sum 1.00390625 -> 1.0 (a
  // tie, to even); the weights sum to 1.0. 0.90234375 -> 0.90234375, -1.048828125 -> -1.046875.
  EXPECT_EQ(merged(c), (Values{1.0F, -0.14453125F}));
}

TEST(MergeRounding, AgreesWithNarrowConversions) {
  using methods::BFloat16Rounding;
  using methods::Float16Rounding;
  EXPECT_EQ(BFloat16Rounding::round(0.3F), 0.30078125F);
  EXPECT_EQ(BFloat16Rounding::round(1.0F / 3), 0.333984375F);
  EXPECT_EQ(Float16Rounding::round(0.3F), 0.300048828125F);
  EXPECT_EQ(Float16Rounding::round(1.0F + 0x1p-11F), 1.0F);
  EXPECT_EQ(Float16Rounding::round(1.0F + 0x3p-11F), 1.0F + 0x1p-9F);
  EXPECT_EQ(Float16Rounding::round(65519.0F), 65504.0F);
  EXPECT_TRUE(std::isinf(Float16Rounding::round(65520.0F)));
  EXPECT_EQ(Float16Rounding::round(0x1p-24F), 0x1p-24F);
  EXPECT_EQ(Float16Rounding::round(0x1.8p-24F), 0x1p-23F);
  EXPECT_EQ(Float16Rounding::round(-0x1p-25F), -0.0F);
  EXPECT_TRUE(std::isnan(Float16Rounding::round(std::nanf(""))));
  EXPECT_TRUE(std::isnan(BFloat16Rounding::round(std::nanf(""))));
}

TEST(MergePassthrough, CopiesOrScales) {
  MergeCase c;
  c.method = "passthrough";
  c.shape = {3};
  c.models = {{1, -0.0F, 3}};
  EXPECT_TRUE(same_bytes(merged(c), c.models[0]));
  c.own = {{{"scale", .5}}};
  EXPECT_EQ(merged(c), (Values{.5F, 0, 1.5F}));
  c.models.push_back(c.models[0]);
  EXPECT_EQ(failure_of([&] { merged(c); })->code, Code::kInvalidArgument);
}

TEST(MergeNearswap, NumbersOfTheSpecification) {
  MergeCase c;
  c.method = "nearswap";
  c.shape = {3};
  c.base = Values{1, 1, 1};
  c.models = {{1.00005F, 1.001F, 2}};
  c.global["t"] = 1e-4;
  expect_near(merged(c), {1.00005, 1.0001, 1.0001});
  c.global["t"] = 0.0;
  EXPECT_TRUE(same_bytes(merged(c), *c.base));
}

TEST(MergeMagmax, NumbersOfTheSpecification) {
  expect_near(merged(running_example("magmax")), {1.45, .65, 1, .75, .7, .6});
  MergeCase c = running_example("magmax");
  c.global["lambda"] = 0.0;
  EXPECT_TRUE(same_bytes(merged(c), *c.base));
}

TEST(MergeWeighted, NativeOutputsAreValuesOfTheType) {
  for (const char* method : {"linear", "passthrough", "nearswap", "magmax"}) {
    const bool single = std::string(method) == "passthrough" || std::string(method) == "nearswap";
    MergeCase c = random_case(method, {5, 9}, single ? 1 : 3, 8);
    if (std::string(method) == "linear" || single) c.base_own["weight"] = 0.5;
    if (std::string(method) == "passthrough") c.base.reset(), c.base_own.clear();
    if (std::string(method) == "nearswap") c.global["t"] = .05, c.base_own.clear();
    if (std::string(method) == "linear") c.own = {weight(.3)};
    c.accumulate = Accumulate::kNative;
    c.dtype = tensorfile::DType::kBF16;
    if (c.base) {
      for (float& value : *c.base) value = methods::BFloat16Rounding::round(value);
    }
    for (Values& model : c.models) {
      for (float& value : model) value = methods::BFloat16Rounding::round(value);
    }
    for (const float value : merged(c)) EXPECT_EQ(value, methods::BFloat16Rounding::round(value));
  }
}

}  // namespace
}  // namespace theriac::merge
