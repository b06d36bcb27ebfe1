#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/methods/driver_for_test.h"
#include "cpp/core/merge/methods/exact_sum.h"
#include "cpp/core/merge/methods/order_statistics.h"
#include "cpp/core/merge/methods/rounding.h"
#include "cpp/core/merge/methods/sparsify.h"

namespace theriac::merge {
namespace {

using testing::HasSubstr;
using testing_support::detail;
using testing_support::failure_of;

const std::vector<std::string>& all_methods() {
  static const std::vector<std::string> names{"task_arithmetic", "ties",        "dare_linear",
                                              "dare_ties",       "breadcrumbs", "breadcrumbs_ties",
                                              "della",           "della_linear"};
  return names;
}

SettingsForTest own(double weight, double density) {
  return {{"weight", weight}, {"density", density}};
}

// One model from a base of zero with weight 1: what comes out is what its sparsifier keeps.
MergeCase sparsified(const std::string& method, Values difference, SettingsForTest settings) {
  MergeCase c;
  c.method = method;
  c.shape = {difference.size()};
  c.base = Values(difference.size(), 0.0F);
  c.models = {std::move(difference)};
  settings["weight"] = 1.0;
  c.own = {std::move(settings)};
  c.global["normalize"] = false;
  return c;
}

// ---- numbers of the specification --------------------------------------------------------------

TEST(MergeTaskArithmetic, NumbersOfTheSpecification) {
  MergeCase c = running_example("task_arithmetic");
  c.own = {{{"weight", .3}}};
  expect_near(merged(c), {1.18, .82, 1, 1.15, .97, .91});
  c.own = {{{"weight", 1.0}}};
  c.global["lambda"] = .3;
  expect_near(merged(c), {1.18, .82, 1, 1.15, .97, .91});
}

TEST(MergeExpo, ExtrapolatesFromTheBase) {
  MergeCase c = running_example("expo");
  c.models.resize(1);
  expect_near(merged(c), {1.99, .78, 1, 1.55, .34, 1.11});
}

TEST(MergeTies, NumbersOfTheSpecification) {
  MergeCase c = running_differences("ties");
  c.own = {own(1, .5)};
  expect_near(merged(c), {.9, -.7, 0, .5, -.6, -.8});
  c.own = {own(1, .5), own(.5, .5), own(.5, .5)};
  expect_near(merged(c), {.9, -.7, 0, .5, -.6, -.8});
  c.global["normalize"] = false;
  expect_near(merged(c), {.9, -.35, 0, .75, -.6, -.4});
}

TEST(MergeTies, NumbersOfTheSpecificationAroundTheBase) {
  MergeCase c = running_example("ties");
  c.own = {own(1, .5)};
  expect_near(merged(c), {1.9, .3, 1, 1.5, .4, .2});
  c.own = {own(1, .5), own(.5, .5), own(.5, .5)};
  c.global["normalize"] = false;
  expect_near(merged(c), {1.9, .65, 1, 1.75, .4, .6});
}

// PEFT: votes without weights, then the weighted sum over the number of agreeing models.
// merging-core.md 2.2, step 4: votes that cancel elect the positive side.
TEST(MergeTies, AZeroSumElectsThePositiveSide) {
  for (const char* method : {"ties", "dare_ties", "breadcrumbs_ties"}) {
    MergeCase c;
    c.method = method;
    c.shape = {3};
    c.base = Values(3, 0.0F);
    c.models = {{.5F, -.25F, 0.F}, {-.5F, .25F, 0.F}};
    c.own = {own(1, 1)};
    expect_near(merged(c), {.5, .25, 0});
  }
}

TEST(MergeTies, ConventionOfPeft) {
  MergeCase c = running_differences("ties");
  c.global["preset"] = std::string("peft");
  c.own = {own(1, .5), own(.5, .5), own(.5, .5)};
  expect_near(merged(c), {.9, -.35, 0, .375, -.6, -.4});
  c.own = {own(-1, .5), own(.5, .5), own(.5, .5)};
  expect_near(merged(c), {-.9, -.35, 0, -.125, .6, -.4});
}

TEST(MergeTies, PartsOfAConvention) {
  MergeCase c = running_differences("ties");
  c.own = {own(1, 1)};
  c.global["reduce"] = std::string("max");
  expect_near(merged(c), {.9, -.7, 0, .5, -.6, -.8});
  c.global["reduce"] = std::string("sum");
  expect_near(merged(c), {1.0, -.9, 0, 1.0, -.6, -.8});
  c.own = {own(1, .5)};
  c.models = {{.5F, .5F, -.5F, .5F, .1F, .1F}};
  EXPECT_EQ(merged(c), (Values{.5F, .5F, -.5F, 0, 0, 0}));
  c.global["keep"] = std::string("ge");
  EXPECT_EQ(merged(c), (Values{.5F, .5F, -.5F, .5F, 0, 0}));
}

// merging-core.md 2.4.
TEST(MergeTies, ConventionOfThePaper) {
  MergeCase c = running_example("ties");
  c.own = {own(1, .5)};
  c.global["preset"] = std::string("paper");
  expect_near(merged(c), {1.9, .55, 1, 1.5, .4, .2});
  c.global["reduce"] = std::string("max");
  expect_near(merged(c), {1.9, .3, 1, 1.5, .4, .2});
  c.global.erase("reduce");
  c.global["preset"] = std::string("fusionbench");
  c.global["lambda"] = .3;
  expect_near(merged(c), {1.27, .73, 1, 1.3, .82, .76});
}

// One element a tensor, another number of elements a tensor, or all in one: the same values.
std::vector<MergeCase> cut_into_tensors(const MergeCase& whole,
                                        const std::vector<std::size_t>& sizes) {
  std::vector<MergeCase> out;
  std::size_t first = 0;
  for (const std::size_t size : sizes) {
    MergeCase c = whole;
    const auto cut = [&](const Values& values) {
      return Values(values.begin() + static_cast<std::ptrdiff_t>(first),
                    values.begin() + static_cast<std::ptrdiff_t>(first + size));
    };
    c.shape = {size};
    c.base = cut(*whole.base);
    for (Values& model : c.models) model = cut(model);
    c.name = "tensor " + std::to_string(out.size());
    out.push_back(std::move(c));
    first += size;
  }
  return out;
}
Values joined(const std::vector<Values>& tensors) {
  Values out;
  for (const Values& values : tensors) out.insert(out.end(), values.begin(), values.end());
  return out;
}

TEST(MergeTies, GlobalTrimmingDoesNotDependOnTheCutIntoTensors) {
  for (const char* preset : {"paper", "fusionbench"}) {
    for (const char* keep : {"ge", "exact"}) {
      for (const char* zero : {"plus", "majority"}) {
        MergeCase c = random_case("ties", {500}, 3, 3);
        for (std::size_t i = 0; i < 500; i += 7) {  // many ties
          for (Values& model : c.models) model[i] = (*c.base)[i] + .25F;
        }
        c.own = {own(1, .3), own(-.5, .7), own(2, 1)};
        c.global = {{"preset", std::string(preset)},
                    {"keep", std::string(keep)},
                    {"zero_sign", std::string(zero)}};
        const Values whole = merged(c);
        const std::vector<std::size_t> sizes{1, 0, 99, 250, 150};
        EXPECT_EQ(joined(merged_model(cut_into_tensors(c, sizes))), whole);
      }
    }
  }
}

// The count is exact over the model: lowest index first among equals, also across tensors.
TEST(MergeTies, GlobalTrimmingKeepsExactlyTheShare) {
  MergeCase c;
  c.method = "ties";
  c.shape = {8};
  c.base = Values(8, 0.0F);
  c.models = {{1, 2, 2, -2, 3, -2, 2, 1}};
  c.own = {own(1, .5)};
  c.global = {{"scope", std::string("global")}};
  const Values kept{0, 2, 2, -2, 3, 0, 0, 0};
  EXPECT_EQ(merged(c), kept);
  EXPECT_EQ(joined(merged_model(cut_into_tensors(c, {2, 1, 3, 2}))), kept);
  c.global["keep"] = std::string("ge");  // the fifth largest is a tie of six
  EXPECT_EQ(merged(c), (Values{0, 2, 2, -2, 3, -2, 2, 0}));
}

// One tensor of large differences, one of small: the density is a share of both together.
TEST(MergeTies, GlobalTrimmingComparesTensors) {
  MergeCase large = random_case("ties", {6, 5}, 1, 1), small = large;
  for (std::size_t i = 0; i < 30; ++i) {
    large.models[0][i] = (*large.base)[i] + 1 + static_cast<float>(i);
    small.models[0][i] = (*small.base)[i] + 1e-3F;
  }
  large.own = small.own = {own(1, .5)};
  large.global = small.global = {{"scope", std::string("global")}};
  Json summary;
  const auto out = merged_model({small, large}, &summary);
  EXPECT_EQ(out[0], *small.base);
  EXPECT_EQ(out[1], large.models[0]);
  EXPECT_NEAR(summary.at("thresholds")[0].get<double>(), 1, 1e-5);
  large.own[0]["density"] = .6;
  const Failure failure = failure_of([&] { merged_model({small, large}); }).value();
  EXPECT_EQ(failure.code, Code::kInvalidArgument);
  EXPECT_EQ(detail(failure, "parameter"), "density");
}

// A zero sum takes the sign of the majority; a majority of zero is minus (merging-core.md 2.4).
TEST(MergeTies, ZeroSumsFollowTheMajority) {
  MergeCase c;
  c.method = "ties";
  c.shape = {3};
  c.base = Values(3, 0.0F);
  c.models = {{.5F, -1, 1}, {-.5F, -1, 0}};
  c.own = {own(1, 1)};
  c.global["preset"] = std::string("paper");
  EXPECT_EQ(merged(c), (Values{-.5F, -1, 1}));
  c.models[1][1] = 3;  // now more elements are positive
  EXPECT_EQ(merged(c), (Values{.5F, 3, 1}));
  c.global["scope"] = std::string("tensor");
  const Failure failure = failure_of([&] { merged(c); }).value();
  EXPECT_EQ(failure.code, Code::kUnsupported);
  EXPECT_EQ(detail(failure, "parameter"), "zero_sign");
}

TEST(MergeTies, GlobalTrimmingOnAllShapesAndNativeTypes) {
  for (const auto& shape : shapes_for_test()) {
    for (const auto accumulate : {Accumulate::kFloat32, Accumulate::kNative}) {
      MergeCase c = random_case("ties", shape, 3, 9), other = random_case("ties", {17}, 3, 10);
      c.accumulate = other.accumulate = accumulate;
      c.dtype = other.dtype = tensorfile::DType::kBF16;
      c.own = other.own = {own(1, .4)};
      c.global = other.global = {{"preset", std::string("paper")}};
      const auto out = merged_model({c, other});
      EXPECT_EQ(out[0].size(), elements_of(shape));
      c.own = other.own = {own(1, 0)};  // nothing is kept: the base's bytes
      EXPECT_TRUE(same_bytes(merged_model({c, other})[0], *c.base));
    }
  }
}

TEST(MergeBreadcrumbs, NumbersOfTheSpecification) {
  const Values t{.05F, -.1F, .15F, -.2F, .25F, -.3F, .35F, -.4F, .45F, -.5F};
  MergeCase c = sparsified("breadcrumbs", t, {{"density", .5}, {"gamma", .2}});
  EXPECT_EQ(merged(c), (Values{0, 0, 0, -.2F, .25F, -.3F, .35F, -.4F, 0, 0}));
  c.own[0]["gamma"] = .05;
  EXPECT_EQ(merged(c), (Values{0, 0, 0, 0, 0, -.3F, .35F, -.4F, .45F, -.5F}));
  c.own[0]["gamma"] = .3;
  c.own[0]["density"] = .9;
  EXPECT_EQ(merged(c), (Values{.05F, -.1F, .15F, -.2F, .25F, -.3F, .35F, -.4F, .45F, 0}));
}

TEST(MergeBreadcrumbs, ByRow) {
  MergeCase c =
      sparsified("breadcrumbs", {1, 2, 3, 4, 40, 30, 20, 10}, {{"density", .5}, {"gamma", .25}});
  c.shape = {2, 4};
  c.global["per_row"] = true;
  EXPECT_EQ(merged(c), (Values{0, 2, 3, 0, 0, 30, 20, 0}));
  c.global["per_row"] = false;
  EXPECT_EQ(merged(c), (Values{0, 0, 3, 4, 0, 0, 20, 10}));
}

// ---- rescaling ---------------------------------------------------------------------------------

TEST(MergeDare, RescalesToTheNorm) {
  const Values difference{.9F, -.2F, 0, .5F, -.6F, .1F};
  for (const char* norm : {"l1", "l2", "linf", "inverse_density"}) {
    MergeCase c = sparsified("dare_linear", difference, {{"density", .5}});
    c.global["rescale"] = std::string("none");
    const Values plain = merged(c);
    c.global["rescale"] = std::string(norm);
    double l1 = 0, l2 = 0, linf = 0, k1 = 0, k2 = 0, kinf = 0;
    for (std::size_t i = 0; i < difference.size(); ++i) {
      const double d = std::fabs(difference[i]), k = std::fabs(plain[i]);
      l1 += d, k1 += k, l2 += d * d, k2 += k * k;
      linf = std::max(linf, d), kinf = std::max(kinf, k);
    }
    const double factor = std::string(norm) == "l1"     ? l1 / k1
                          : std::string(norm) == "l2"   ? std::sqrt(l2 / k2)
                          : std::string(norm) == "linf" ? linf / kinf
                                                        : 2.0;
    std::vector<double> expected;
    for (const float value : plain) expected.push_back(factor * static_cast<double>(value));
    expect_near(merged(c), expected);
  }
}

// Draws that keep elements 1, 3, 4 and 6 of the example: (1, 0, 1, 1, 0, 1).
TEST(MergeDare, NumbersOfTheSpecification) {
  MergeCase c = sparsified("dare_linear", {.9F, -.2F, 0, .5F, -.6F, .1F}, {{"density", .5}});
  c.global["rescale"] = std::string("none");
  const auto wanted = [&] { return merged_in_blocks(c, 6, 0) == Values{.9F, 0, 0, .5F, 0, .1F}; };
  while (!wanted()) ++c.seed;
  c.global["rescale"] = std::string("l1");
  expect_near(merged(c), {1.38, 0, 0, .766667, 0, .153333});
  c.global["rescale"] = std::string("inverse_density");
  expect_near(merged(c), {1.8, 0, 0, 1, 0, .2});
}

TEST(MergeDella, NumbersOfTheSpecification) {
  MergeCase c =
      sparsified("della_linear", {.1F, -.4F, .3F, .2F}, {{"density", .5}, {"epsilon", .1}});
  c.global["rescale"] = std::string("none");
  const auto wanted = [&] { return merged_in_blocks(c, 1, 0) == Values{.1F, -.4F, 0, 0}; };
  while (!wanted()) ++c.seed;
  c.global["rescale"] = std::string("l1");
  expect_near(merged(c), {.2, -.8, 0, 0});
  c.global["rescale"] = std::string("inverse_density");
  expect_near(merged(c), {.25, -.666667, 0, 0});
}

TEST(MergeDella, ProbabilitiesFollowTheRanks) {
  MergeCase c =
      sparsified("della_linear", {.1F, -.4F, .3F, .2F}, {{"density", .5}, {"epsilon", .1}});
  c.global["rescale"] = std::string("none");
  const std::vector<double> p{.4, .6, .533333, .466667};
  std::vector<double> kept(4);
  constexpr int kSeeds = 4000;
  for (c.seed = 0; c.seed < kSeeds; ++c.seed) {
    const Values out = merged_in_blocks(c, 1, 0);
    for (std::size_t i = 0; i < 4; ++i) kept[i] += out[i] != 0 ? 1.0 / kSeeds : 0.0;
  }
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(kept[i], p[i], 4 * std::sqrt(p[i] * (1 - p[i]) / kSeeds));
  }
}

TEST(MergeDella, RefusesProbabilitiesOutsideTheRange) {
  for (const double density : {.1, .9}) {
    MergeCase c = running_example("della");
    c.own = {own(1, density)};
    const Failure failure = failure_of([&] { merged(c); }).value();
    EXPECT_EQ(failure.code, Code::kInvalidArgument);
    EXPECT_EQ(detail(failure, "parameter"), "epsilon");
    EXPECT_EQ(detail(failure, "method"), "della");
  }
}

// ---- edges -------------------------------------------------------------------------------------

TEST(MergeTaskVectors, NothingAddedLeavesTheBase) {
  for (const std::string& method : all_methods()) {
    for (const auto& shape : shapes_for_test()) {
      MergeCase c = random_case(method, shape, 3, 7);
      if (!c.base->empty()) (*c.base)[0] = -0.0F;
      const bool dense = method == "task_arithmetic";
      if (dense) {
        c.own = {{{"weight", 0.0}}};
        EXPECT_TRUE(same_bytes(merged(c), *c.base)) << method;
      } else {
        for (const auto& settings : {own(0, 1), own(0, .5), own(1, 0), own(1, -1)}) {
          c.own = {settings};
          EXPECT_TRUE(same_bytes(merged(c), *c.base)) << method;
        }
      }
      c.own = {{{"weight", 1.0}}};
      c.global["lambda"] = 0.0;
      EXPECT_TRUE(same_bytes(merged(c), *c.base)) << method;
      c.models.clear();
      EXPECT_TRUE(same_bytes(merged(c), *c.base)) << method;
    }
  }
}

TEST(MergeTaskVectors, OneModelOfFullDensityIsItself) {
  for (const std::string& method : all_methods()) {
    for (const auto& shape : shapes_for_test()) {
      MergeCase c = random_case(method, shape, 1, 9);
      c.own = {{{"weight", 1.0}}};
      const Values out = merged(c);
      for (std::size_t i = 0; i < out.size(); ++i) {
        const double largest = std::max({std::fabs(out[i]), std::fabs((*c.base)[i])});
        EXPECT_NEAR(out[i], c.models[0][i], largest * 0x1p-23) << method;
      }
    }
  }
}

TEST(MergeTaskVectors, SmallTensorsKeepOneElement) {
  for (const char* method : {"ties", "breadcrumbs", "breadcrumbs_ties"}) {
    EXPECT_EQ(merged(sparsified(method, {1, -3, 2}, {{"density", .1}})), (Values{0, -3, 0}));
    MergeCase c = sparsified(method, {5}, {{"density", .1}});
    c.shape = {};
    EXPECT_EQ(merged(c), (Values{5}));
  }
  MergeCase c = sparsified("della", {5}, {{"density", .5}, {"epsilon", .1}});
  c.shape = {};
  for (c.seed = 0; c.seed < 20; ++c.seed) {
    const float value = merged(c)[0];
    EXPECT_TRUE(value == 0 || value == 5);
  }
}

TEST(MergeTies, KeepsExactlyTheLargest) {
  const std::vector<Values> adversarial{Values(1000, 1.0F), Values(1000, 0.0F),
                                        Values(1000, 1e-42F), [] {
                                          Values v = random_values(1000, 4);
                                          for (std::size_t i = 0; i < v.size(); ++i) {
                                            v[i] = i % 3 == 0 ? -0.0F : std::round(v[i] * 2) / 4;
                                          }
                                          return v;
                                        }()};
  for (const Values& difference : adversarial) {
    for (const double density : {.001, .2, .333, .5, .999}) {
      const auto k = static_cast<std::size_t>(density * 1000);
      std::vector<std::size_t> order(difference.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return std::fabs(difference[a]) > std::fabs(difference[b]);
      });
      Values expected(difference.size());
      for (std::size_t r = 0; r < k; ++r) expected[order[r]] = difference[order[r]] + 0.0F;
      EXPECT_EQ(merged(sparsified("ties", difference, {{"density", density}})), expected);
    }
  }
}

// Large blocks are counted in tables, small ones sorted.
TEST(MergeTies, TablesAndSortedBlocksAgree) {
  Values difference = random_values(20000, 6);
  for (std::size_t i = 0; i < difference.size(); i += 2) {
    difference[i] = std::round(difference[i] * 3) / 3;
  }
  for (const char* method : {"ties", "breadcrumbs"}) {
    const MergeCase c = sparsified(method, difference, {{"density", .4}});
    const Values out = merged(c);
    EXPECT_EQ(std::count(out.begin(), out.end(), 0.0F), 12000);
    EXPECT_TRUE(same_bytes(out, merged_in_blocks(c, 5000, 1)));
  }
}

TEST(MergeBreadcrumbs, AgreesWithSorting) {
  Values difference = random_values(997, 5);
  for (std::size_t i = 0; i < difference.size(); i += 2) {
    difference[i] = std::round(difference[i] * 3) / 3;
  }
  std::vector<std::size_t> order(difference.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::fabs(difference[a]) > std::fabs(difference[b]);
  });
  Values expected(difference.size());
  for (std::size_t r = 99; r < 99 + 398; ++r) expected[order[r]] = difference[order[r]] + 0.0F;
  const SettingsForTest settings{{"density", .4}, {"gamma", .1}};
  EXPECT_EQ(merged(sparsified("breadcrumbs", difference, settings)), expected);
  MergeCase c = sparsified("breadcrumbs", difference, settings);
  c.shape = {1, 997};
  c.global["per_row"] = true;
  EXPECT_EQ(merged(c), expected);
}

// ---- properties --------------------------------------------------------------------------------

TEST(MergeTaskVectors, OrderOfTheModelsDoesNotMatter) {
  for (const std::string& method : all_methods()) {
    MergeCase c = random_case(method, {5, 9}, 3, 11);
    c.own = {{{"weight", .4}}, {{"weight", .25}}, {{"weight", .35}}};
    if (method != "task_arithmetic") {
      for (auto& settings : c.own) settings["density"] = .6;
    }
    c.keys = {4, 7, 9};
    const Values first = merged(c);
    std::swap(c.models[0], c.models[2]);
    std::swap(c.own[0], c.own[2]);
    std::swap(c.keys[0], c.keys[2]);
    expect_near(merged(c), {first.begin(), first.end()}, 2e-6);
  }
}

TEST(MergeTies, EqualSignsGiveTheWeightedMean) {
  MergeCase c = random_case("ties", {40, 33}, 3, 12);
  c.base = Values(40 * 33, 0.0F);
  for (Values& model : c.models) {
    for (float& value : model) value = std::fabs(value) + 0.1F;
  }
  c.own = {own(.4, 1), own(.25, 1), own(.6, 1)};
  const Values out = merged(c);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double mean =
        (.4 * static_cast<double>(c.models[0][i]) + .25 * static_cast<double>(c.models[1][i]) +
         .6 * static_cast<double>(c.models[2][i])) /
        1.25;
    EXPECT_NEAR(out[i], mean, 1e-6);
  }
}

TEST(MergeTies, ScalesWithTheDifferences) {
  MergeCase c = random_case("ties", {40, 33}, 3, 13);
  c.base = Values(40 * 33, 0.0F);
  c.own = {own(.4, .3)};
  Values expected = merged(c);
  for (float& value : expected) value *= 4;
  for (Values& model : c.models) {
    for (float& value : model) value *= 4;
  }
  EXPECT_TRUE(same_bytes(merged(c), expected));
}

TEST(MergeDare, ExpectationIsTaskArithmetic) {
  MergeCase c = running_differences("dare_linear");
  c.global["rescale"] = std::string("inverse_density");
  c.own = {own(.5, .3)};
  constexpr int kSeeds = 2000;
  std::vector<double> sums(6), squares(6);
  for (c.seed = 0; c.seed < kSeeds; ++c.seed) {
    const Values out = merged_in_blocks(c, 4, 0);
    for (std::size_t i = 0; i < 6; ++i) {
      sums[i] += static_cast<double>(out[i]);
      squares[i] += static_cast<double>(out[i]) * static_cast<double>(out[i]);
    }
  }
  const std::vector<double> expected{.3, -.3, 0, .25, -.05, -.15};
  for (std::size_t i = 0; i < 6; ++i) {
    const double mean = sums[i] / kSeeds, variance = squares[i] / kSeeds - mean * mean;
    EXPECT_NEAR(mean, expected[i], 4 * std::sqrt(variance / kSeeds) + 1e-9);
  }
}

TEST(MergeDare, MasksDependOnSeedNameAndModelOnly) {
  MergeCase c = sparsified("dare_linear", Values(3000, 1.0F), {{"density", .5}});
  c.global["rescale"] = std::string("none");
  const Values first = merged(c);
  EXPECT_NEAR(std::accumulate(first.begin(), first.end(), 0.0), 1500, 4 * std::sqrt(750));
  MergeCase other = c;
  other.seed = 1;
  EXPECT_NE(merged(other), first);
  other = c;
  other.name = "another";
  EXPECT_NE(merged(other), first);
  other = c;
  other.keys = {5};
  EXPECT_NE(merged(other), first);
  // The model's key decides, not its place among those that have the tensor.
  other.models.insert(other.models.begin(), Values(3000, 0.0F));
  other.keys = {3, 0};
  EXPECT_EQ(merged(other), first);
}

TEST(MergeSparsify, WordsAreThoseOfPhilox) {
  std::vector<std::uint32_t> words(150);
  constexpr std::uint64_t kKey = 0x123456789abcdef0ULL, kModel = 0x500000007ULL;
  for (const std::uint64_t first : {0ULL, 3ULL, (1ULL << 34) - 50}) {
    methods::random_words(kKey, kModel, first, words.size(), words.data());
    for (std::size_t i = 0; i < words.size(); ++i) {
      const std::uint64_t block = (first + i) / 4;
      const auto expected =
          philox4x32({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                      static_cast<std::uint32_t>(kModel), static_cast<std::uint32_t>(kModel >> 32)},
                     {static_cast<std::uint32_t>(kKey), static_cast<std::uint32_t>(kKey >> 32)});
      ASSERT_EQ(words[i], expected[(first + i) % 4]);
    }
  }
}

// Where the upper bytes decide, where they are equal, and at densities that are whole bytes.
TEST(MergeSparsify, RandomElementsAreThoseBelowTheDensity) {
  constexpr std::uint64_t kModel = 5, kOfBytes = 1ULL << 63;
  for (const double density : {.3, .5, .7000001, 1e-3, 1 - 1e-13}) {
    MergeCase c = random_case("dare_linear", {7, 1001}, 1, 3);
    c.base = Values(7007, 0.0F);
    c.models[0] = Values(7007, 1.0F);
    c.global["rescale"] = std::string("none");
    c.own = {{{"weight", 1.}, {"density", density}}};
    c.keys = {kModel};
    c.seed = 9;
    const Values out = merged(c);
    const std::uint64_t key = derive_seed(c.seed, c.name);
    const auto word = [key](std::uint64_t model, std::uint64_t i) {
      return philox4x32(
          {static_cast<std::uint32_t>(i / 4), 0, static_cast<std::uint32_t>(model),
           static_cast<std::uint32_t>(model >> 32)},
          {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)})[i % 4];
    };
    std::size_t kept = 0;
    for (std::uint64_t i = 0; i < out.size(); ++i) {
      const std::uint64_t upper = (word(kModel | kOfBytes, i / 4) >> (8 * (i % 4))) & 0xff;
      const auto number = static_cast<double>((upper << 32) | word(kModel, i));
      ASSERT_EQ(out[i], number < density * 0x1p40 ? 1.0F : 0.0F) << density << " " << i;
      kept += out[i] != 0 ? 1U : 0U;
    }
    const double n = 7007, spread = std::sqrt(n * density * (1 - density));
    EXPECT_NEAR(static_cast<double>(kept), n * density, 4 * spread + 1);
  }
}

TEST(MergeTaskVectors, BlocksOfAnySizeAtRandom) {
  for (const std::string& method : all_methods()) {
    for (const auto& shape : shapes_for_test()) {
      for (const char* rescale : {"none", "l1", "l2", "linf", "inverse_density"}) {
        MergeCase c = random_case(method, shape, 3, 14);
        c.own = {{{"weight", .4}}, {{"weight", -.25}}, {{"weight", .35}}};
        if (method == "task_arithmetic" && std::string(rescale) != "none") continue;
        if (method != "task_arithmetic") {
          c.global["rescale"] = std::string(rescale);
          c.own[0]["density"] = .3;
          c.own[1]["density"] = .6;
        }
        merged(c);
      }
    }
  }
}

TEST(MergeTaskVectors, NativeOutputsAreValuesOfTheType) {
  for (const std::string& method : all_methods()) {
    MergeCase c = random_case(method, {40, 33}, 3, 15);
    c.own = {{{"weight", .4}}};
    if (method != "task_arithmetic") c.own[0]["density"] = .6;
    c.accumulate = Accumulate::kNative;
    c.dtype = tensorfile::DType::kBF16;
    c.models.push_back(*c.base);
    for (Values& values : c.models) {
      for (float& value : values) value = methods::BFloat16Rounding::round(value);
    }
    c.base = c.models.back();
    c.models.pop_back();
    for (const float value : merged(c)) ASSERT_EQ(value, methods::BFloat16Rounding::round(value));
  }
}

// Specification 9.3: rounding after each operation changes 4 to 5 % of the outputs.
TEST(MergeTaskVectors, NativeRoundingChangesAFewOutputs) {
  MergeCase c;
  c.method = "task_arithmetic";
  c.shape = {100000};
  c.own = {{{"weight", .4}}};
  c.dtype = tensorfile::DType::kBF16;
  c.base = random_values(100000, 1, .02);
  for (float& value : *c.base) value = methods::BFloat16Rounding::round(value);
  for (std::uint64_t m = 0; m < 3; ++m) {
    Values model = random_values(100000, 2 + m, .001);
    for (std::size_t i = 0; i < model.size(); ++i) {
      model[i] = methods::BFloat16Rounding::round(model[i] + (*c.base)[i]);
    }
    c.models.push_back(model);
  }
  Values once = merged(c);
  for (float& value : once) value = methods::BFloat16Rounding::round(value);
  c.accumulate = Accumulate::kNative;
  const Values each = merged(c);
  double changed = 0;
  for (std::size_t i = 0; i < each.size(); ++i) changed += each[i] != once[i] ? 1e-5 : 0;
  EXPECT_GT(changed, .01);
  EXPECT_LT(changed, .08);
}

// ---- helpers -----------------------------------------------------------------------------------

TEST(MergeExactSum, IsExactInAnyOrder) {
  methods::ExactSum sum;
  for (const float value : {1e30F, 1.0F, -1e30F, 1e-45F, 0x1p-149F, -0.5F}) sum.add(value);
  EXPECT_EQ(sum.value(), 0.5 + 2 * 0x1p-149);
  methods::ExactSum product;
  product.add_product(3.0F, -0.25F);
  product.add_product(0x1p100F, 0x1p27F);
  product.add_product(-0x1p127F, 1.0F);
  EXPECT_EQ(product.value(), -0.75);
  methods::ExactSum joined;
  joined.add(product.terms());
  joined.add(sum.terms());
  EXPECT_EQ(joined.value(), -0.25);
}

TEST(MergeOrder, DescendingWithLowIndexFirst) {
  const std::vector<std::uint32_t> keys{5, 1U << 30, 0, 5, 70000, 0x7f800000U, 0};
  std::vector<std::uint64_t> order, scratch;
  methods::descending_order(keys, order, scratch);
  std::vector<std::uint32_t> positions;
  for (const std::uint64_t entry : order) positions.push_back(static_cast<std::uint32_t>(entry));
  EXPECT_EQ(positions, (std::vector<std::uint32_t>{5, 1, 4, 0, 3, 2, 6}));
}

TEST(MergeOrder, KeysOfEitherSign) {
  EXPECT_LT(methods::ordered_key(-2.0F), methods::ordered_key(-1.0F));
  EXPECT_LT(methods::ordered_key(-1.0F), methods::ordered_key(0.0F));
  EXPECT_LT(methods::ordered_key(0.0F), methods::ordered_key(1e-40F));
  for (const float value : {-3.5F, 0.0F, 7.25F}) {
    EXPECT_EQ(methods::from_ordered_key(methods::ordered_key(value)), value);
  }
}

}  // namespace
}  // namespace theriac::merge
