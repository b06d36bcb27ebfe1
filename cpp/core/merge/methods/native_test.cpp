#include <gmock/gmock.h>

#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/methods/driver_for_test.h"
#include "cpp/core/tensorfile/convert.h"

namespace theriac::merge {
namespace {

using testing::ElementsAreArray;

const Values kBase{.1F, -.2F, .3F, .4F, .5F, -.6F};
const std::vector<Values> kModels{{.15F, -.3F, .25F, .45F, .35F, -.7F},
                                  {.05F, -.1F, .5F, .3F, .6F, -.65F},
                                  {.2F, -.15F, .35F, .5F, .4F, -.5F}};

Values rounded(Values values) {
  std::vector<char> halves(2 * values.size());
  tensorfile::from_float(tensorfile::DType::kBF16, values.data(), values.size(), halves.data());
  tensorfile::to_float(tensorfile::DType::kBF16, halves.data(), values.size(), values.data());
  return values;
}

// The first `models` of three bfloat16 models of shape [2, 3].
MergeCase native(const std::string& method, std::size_t models, bool base) {
  MergeCase c;
  c.method = method;
  c.shape = {2, 3};
  if (base) c.base = rounded(kBase);
  for (std::size_t m = 0; m < models; ++m) c.models.push_back(rounded(kModels[m]));
  c.accumulate = Accumulate::kNative;
  c.dtype = tensorfile::DType::kBF16;
  return c;
}

const std::vector<SettingsForTest> kWeights{{{"weight", .5}}, {{"weight", .3}}, {{"weight", .4}}};

// ---- what mergekit 0.1.4 gives for these tensors, on torch 2.11 ----------------------------------

TEST(MergeNative, Slerp) {
  MergeCase c = native("slerp", 2, false);
  c.global["t"] = .3;
  EXPECT_THAT(merged(c), ElementsAreArray({0.12255859375F, -0.2451171875F, 0.33203125F,
                                           0.412109375F, 0.43359375F, -0.69921875F}));
}

TEST(MergeNative, NuslerpOfTheTensorOfRowsAndOfColumns) {
  MergeCase c = native("nuslerp", 2, false);
  c.own = {kWeights[0], kWeights[1]};
  EXPECT_THAT(merged(c), ElementsAreArray({0.11474609375F, -0.2294921875F, 0.3515625F, 0.400390625F,
                                           0.453125F, -0.6953125F}));
  c.global["nuslerp_flatten"] = false;
  EXPECT_THAT(merged(c), ElementsAreArray({0.119140625F, -0.23828125F, 0.365234375F, 0.3984375F,
                                           0.451171875F, -0.6875F}));
  c.global["nuslerp_row_wise"] = true;
  EXPECT_THAT(merged(c), ElementsAreArray({0.11328125F, -0.234375F, 0.34765625F, 0.39453125F,
                                           0.462890625F, -0.6875F}));
}

TEST(MergeNative, Multislerp) {
  MergeCase c = native("multislerp", 3, false);
  c.own = kWeights;
  EXPECT_THAT(merged(c), ElementsAreArray({0.1484375F, -0.2060546875F, 0.349609375F, 0.44140625F,
                                           0.435546875F, -0.62890625F}));
  c.base = rounded(kBase);
  EXPECT_THAT(merged(c), ElementsAreArray({0.2021484375F, -0.208984375F, 0.3828125F, 0.478515625F,
                                           0.328125F, -0.6328125F}));
}

TEST(MergeNative, Karcher) {
  EXPECT_THAT(merged(native("karcher", 3, false)),
              ElementsAreArray({0.140625F, -0.1904296875F, 0.373046875F, 0.431640625F, 0.458984375F,
                                -0.62890625F}));
}

TEST(MergeNative, ModelStockOfTheTensorAndOfRows) {
  MergeCase c = native("model_stock", 3, true);
  EXPECT_THAT(merged(c), ElementsAreArray({0.0517578125F, -0.224609375F, 0.20703125F, 0.37890625F,
                                           0.5703125F, -0.5859375F}));
  c.global["filter_wise"] = true;
  EXPECT_THAT(merged(c), ElementsAreArray({0.0634765625F, -0.216796875F, 0.23046875F, 0.296875F,
                                           0.796875F, -0.53125F}));
}

// Models that point apart: mergekit's t is negative, and the base is left behind.
TEST(MergeNative, ModelStockClampsOnlyIfAsked) {
  MergeCase c = native("model_stock", 3, true);
  for (Values& model : c.models) {
    for (std::size_t i = 0; i < model.size(); ++i) model[i] = (*c.base)[i];
  }
  for (std::size_t m = 0; m < 3; ++m) c.models[m][m] += 1, c.models[m][(m + 1) % 3] -= .5F;
  const Values free = merged(c);
  c.global["clamp_t"] = true;
  EXPECT_EQ(merged(c), *c.base);
  c.global["clamp_t"] = false;
  EXPECT_EQ(merged(c), free);
  EXPECT_NE(free, *c.base);
}

TEST(MergeNative, SceOfAllElementsAndOfTheVariableOnes) {
  MergeCase c = native("sce", 3, true);
  EXPECT_THAT(merged(c), ElementsAreArray({0.173828125F, -0.119140625F, 0.443359375F, 0.47265625F,
                                           0.375F, -0.66796875F}));
  c.global["select_topk"] = .5;
  EXPECT_THAT(merged(c), ElementsAreArray({0.10009765625F, -0.10986328125F, 0.470703125F,
                                           0.400390625F, 0.36328125F, -0.6015625F}));
}

TEST(MergeNative, Nearswap) {
  MergeCase c = native("nearswap", 1, true);
  c.global["t"] = .02;
  EXPECT_THAT(merged(c), ElementsAreArray({0.1201171875F, -0.2197265625F, 0.28125F, 0.421875F,
                                           0.48046875F, -0.62109375F}));
}

TEST(MergeNative, ArceeFusion) {
  EXPECT_THAT(merged(native("arcee_fusion", 1, true)),
              ElementsAreArray({0.10009765625F, -0.2001953125F, 0.30078125F, 0.400390625F,
                                0.349609375F, -0.69921875F}));
}

// ---- what mergekit has no number for -------------------------------------------------------------

TEST(MergeNative, DirectionsThatCancelOutAreRefused) {
  MergeCase c = native("multislerp", 3, false);
  c.models = {{1, 0, 0, 0, 0, 0}, {-1, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0}};
  c.own = {{{"weight", 1.0}}};
  EXPECT_EQ(testing_support::failure_of([&] { merged(c); })->code, Code::kNumericError);
  c.models.resize(2);
  EXPECT_THAT(merged(c), ElementsAreArray({0.0F, 0.0F, 0.0F, 0.0F, 0.0F, 0.0F}));
}

TEST(MergeNative, ModelsWithoutDirectionGiveZero) {
  MergeCase c = native("karcher", 2, false);
  c.models = {Values(6, 0.0F), Values(6, 0.0F)};
  EXPECT_THAT(merged(c), ElementsAreArray(Values(6, 0.0F)));
}

TEST(MergeNative, NothingSelectedLeavesTheBase) {
  MergeCase c = native("sce", 3, true);
  c.global["select_topk"] = 0.0;
  EXPECT_EQ(merged(c), rounded(kBase));
}

}  // namespace
}  // namespace theriac::merge
