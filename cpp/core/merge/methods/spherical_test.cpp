#include <gmock/gmock.h>

#include <cmath>

#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/methods/driver_for_test.h"
#include "cpp/core/merge/methods/rounding.h"

namespace theriac::merge {
namespace {

using testing_support::failure_of;

SettingsForTest weight(double w) { return {{"weight", w}}; }

MergeCase between(const Values& a, const Values& b, double t) {
  MergeCase c;
  c.method = "slerp";
  c.shape = {a.size()};
  c.base = a;
  c.models = {b};
  c.global["t"] = t;
  return c;
}

MergeCase mean_of(const std::string& method, std::vector<Values> models,
                  std::vector<SettingsForTest> own) {
  MergeCase c;
  c.method = method;
  c.shape = {models.front().size()};
  c.models = std::move(models);
  c.own = std::move(own);
  return c;
}

double norm(const Values& values) {
  double sum = 0;
  for (const float v : values) sum += static_cast<double>(v) * static_cast<double>(v);
  return std::sqrt(sum);
}

// ---- slerp -------------------------------------------------------------------------------------

TEST(MergeSlerp, NumbersOfTheSpecification) {
  expect_near(merged(between({1, 0}, {0, 1}, .5)), {.707107, .707107});
  expect_near(merged(between({3, 4}, {4, 3}, .25)), {3.276009, 3.777270});
  expect_near(merged(between({1, 0}, {1, .01F}, .3)), {1, .003});
  expect_near(merged(between({1, 0}, {-1, .001F}, .3)), {.4, .0003});
}

TEST(MergeSlerp, BaseIsTheFirstEndWhereverItStands) {
  for (const std::uint64_t key : {0, 1}) {
    MergeCase c = between({3, 4}, {4, 3}, .25);
    c.keys = {key};
    expect_near(merged(c), {3.276009, 3.777270});
  }
}

TEST(MergeSlerp, EndsEqualsAndSymmetry) {
  for (const auto& shape : shapes_for_test()) {
    MergeCase c =
        between(random_values(elements_of(shape), 1), random_values(elements_of(shape), 2), 0);
    c.shape = shape;
    if (!c.base->empty()) (*c.base)[0] = -0.0F;
    EXPECT_TRUE(same_bytes(merged(c), *c.base));
    c.global["t"] = 1.0;
    EXPECT_TRUE(same_bytes(merged(c), c.models[0]));
    c.global["t"] = .3;
    const Values forward = merged(c);
    std::swap(*c.base, c.models[0]);
    c.global["t"] = .7;
    expect_near(merged(c), {forward.begin(), forward.end()}, 2e-6);
    c.models[0] = *c.base;
    EXPECT_EQ(merged(c), *c.base);
  }
}

TEST(MergeSlerp, KeepsEqualNorms) {
  MergeCase c = between(random_values(300, 1), random_values(300, 2), .37);
  const double ratio = norm(*c.base) / norm(c.models[0]);
  for (float& v : c.models[0]) v = static_cast<float>(ratio * static_cast<double>(v));
  EXPECT_NEAR(norm(merged(c)), norm(*c.base), 1e-5);
}

TEST(MergeSlerp, ZerosAreAStraightLine) {
  expect_near(merged(between({0, 0}, {0, 0}, .5)), {0, 0});
}

// ---- nuslerp -----------------------------------------------------------------------------------

MergeCase nuslerp_example() {
  MergeCase c = mean_of("nuslerp", {{1, 0, 0, 2}, {0, 1, 0, 4}}, {weight(1), weight(1)});
  c.shape = {2, 2};
  return c;
}

TEST(MergeNuslerp, NumbersOfTheSpecification) {
  MergeCase c = nuslerp_example();
  expect_near(merged(c), {.517403, .517403, 0, 3.104418});
  c.global["nuslerp_flatten"] = false;
  expect_near(merged(c), {.707107, .707107, 0, 3});
}

TEST(MergeNuslerp, AlongTheFirstDimensionIsTheTransposed) {
  MergeCase c =
      mean_of("nuslerp", {random_values(15, 1), random_values(15, 2)}, {weight(.3), weight(.5)});
  c.shape = {3, 5};
  c.global["nuslerp_flatten"] = false;
  const Values by_row = merged(c);
  const auto transposed = [](const Values& v) {
    Values out(15);
    for (std::size_t i = 0; i < 15; ++i) out[i % 5 * 3 + i / 5] = v[i];
    return out;
  };
  for (Values& model : c.models) model = transposed(model);
  c.shape = {5, 3};
  c.global["nuslerp_row_wise"] = true;
  const Values expected = transposed(by_row);
  expect_near(merged(c), {expected.begin(), expected.end()});
}

TEST(MergeNuslerp, BaseShiftsBothEnds) {
  for (const bool flat : {true, false}) {
    for (const bool columns : {false, true}) {
      MergeCase c = nuslerp_example();
      c.global["nuslerp_flatten"] = flat;
      c.global["nuslerp_row_wise"] = columns;
      const Values plain = merged(c);
      c.base = Values{4, 8, -16, 2};
      std::vector<double> expected;
      for (std::size_t i = 0; i < 4; ++i) {
        for (Values& model : c.models) model[i] += (*c.base)[i];
        expected.push_back(static_cast<double>(plain[i]) + static_cast<double>((*c.base)[i]));
      }
      expect_near(merged(c), expected);
    }
  }
}

TEST(MergeNuslerp, EqualModelsAndShapes) {
  for (const auto& shape : shapes_for_test()) {
    for (const bool flat : {true, false}) {
      for (const bool columns : {false, true}) {
        const Values x = random_values(elements_of(shape), 3);
        MergeCase c = mean_of("nuslerp", {x, x}, {weight(.3), weight(.9)});
        c.shape = shape;
        c.global["nuslerp_flatten"] = flat;
        c.global["nuslerp_row_wise"] = columns;
        expect_near(merged(c), {x.begin(), x.end()}, 3e-7);
        c.base = random_values(elements_of(shape), 4);
        c.models = {*c.base, *c.base};
        EXPECT_TRUE(same_bytes(merged(c), *c.base));
      }
    }
  }
}

TEST(MergeNuslerp, WeightsThatCancelOutMeanTheMiddle) {
  MergeCase c = nuslerp_example();
  c.own = {weight(0), weight(0)};
  expect_near(merged(c), {.517403, .517403, 0, 3.104418});
}

// ---- multislerp --------------------------------------------------------------------------------

TEST(MergeMultislerp, NumbersOfTheSpecification) {
  const std::vector<Values> axes{{1, 0, 0}, {0, 2, 0}, {0, 0, 3}};
  MergeCase c = mean_of("multislerp", axes, {weight(1)});
  expect_near(merged(c), {1.154701, 1.154701, 1.154701});
  c.own = {weight(2), weight(1), weight(1)};
  expect_near(merged(c), {1.428869, .714435, .714435});
  c = mean_of("multislerp", {{1, 0, 0}, {1, 1, 0}, {0, 0, 2}}, {weight(1)});
  expect_near(merged(c), {1.195545, .495211, .700334});
}

TEST(MergeMultislerp, OppositeDirections) {
  MergeCase c = mean_of("multislerp", {{1, 0}, {-1, 0}}, {weight(1)});
  expect_near(merged(c), {0, 0});
  c = mean_of("multislerp", {{1, 0}, {-.5F, std::sqrt(.75F)}, {-.5F, -std::sqrt(.75F)}},
              {weight(1)});
  c.global["eps"] = 1e-6;
  EXPECT_EQ(failure_of([&] { merged(c); })->code, Code::kNumericError);
  c = mean_of("multislerp", {{1, 0}, {-1, 0}}, {weight(1), weight(-1)});
  EXPECT_EQ(failure_of([&] { merged(c); })->code, Code::kInvalidArgument);
}

TEST(MergeMultislerp, ShapesAndBase) {
  for (const auto& shape : shapes_for_test()) {
    MergeCase c = random_case("multislerp", shape, 3, 5);
    c.own = {weight(.3), weight(.5), weight(.4)};
    merged(c);
    c.models = {*c.base, *c.base};
    EXPECT_TRUE(same_bytes(merged(c), *c.base));
  }
}

// ---- karcher -----------------------------------------------------------------------------------

TEST(MergeKarcher, NumbersOfTheSpecification) {
  expect_near(merged(mean_of("karcher", {{1, 0, 0}, {1, 1, 0}, {0, 0, 2}}, {})),
              {1.163767, .482048, .760464});
}

TEST(MergeKarcher, ZerosCountInTheNormOnly) {
  expect_near(merged(mean_of("karcher", {{0, 3}, {0, 0}}, {})), {0, 1.5});
  expect_near(merged(mean_of("karcher", {{0, 0}, {0, 0}}, {})), {0, 0});
  expect_near(merged(mean_of("karcher", {{1, 0}, {-1, 0}}, {})), {1, 0});
}

TEST(MergeKarcher, EqualModels) {
  for (const auto& shape : shapes_for_test()) {
    const Values x = random_values(elements_of(shape), 3);
    MergeCase c = mean_of("karcher", {x, x, x}, {});
    c.shape = shape;
    expect_near(merged(c), {x.begin(), x.end()}, 3e-7);
  }
}

TEST(MergeMeans, ScaleOrthogonalityAndOrder) {
  for (const char* method : {"karcher", "multislerp"}) {
    const std::vector<SettingsForTest> own = std::string(method) == "karcher"
                                                 ? std::vector<SettingsForTest>{}
                                                 : std::vector<SettingsForTest>{weight(1)};
    const Values even = merged(mean_of(method, {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}, own));
    EXPECT_FLOAT_EQ(even[0], even[1]);
    EXPECT_FLOAT_EQ(even[0], even[2]);
    MergeCase c =
        mean_of(method, {random_values(200, 1), random_values(200, 2), random_values(200, 3)}, own);
    const Values first = merged(c);
    std::swap(c.models[0], c.models[2]);
    expect_near(merged(c), {first.begin(), first.end()}, 1e-6);
    std::vector<double> larger;
    for (const float v : first) larger.push_back(4 * static_cast<double>(v));
    for (Values& model : c.models) {
      for (float& v : model) v *= 4;
    }
    expect_near(merged(c), larger, 1e-5);
  }
}

TEST(MergeSpherical, NativeOutputsAreValuesOfTheType) {
  for (const char* method : {"slerp", "nuslerp", "multislerp", "karcher"}) {
    MergeCase c = random_case(method, {5, 9}, std::string(method) == "slerp" ? 1 : 2, 8);
    if (std::string(method) == "slerp") c.global["t"] = .4;
    if (std::string(method) != "slerp" && std::string(method) != "karcher") c.own = {weight(.5)};
    c.accumulate = Accumulate::kNative;
    c.dtype = tensorfile::DType::kF16;
    for (const float v : merged(c)) EXPECT_EQ(v, methods::Float16Rounding::round(v));
  }
}

}  // namespace
}  // namespace theriac::merge
