#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/methods/driver_for_test.h"
#include "cpp/core/merge/methods/rounding.h"

namespace theriac::merge {
namespace {

using testing_support::failure_of;

MergeCase from_zero(const std::string& method, std::vector<Values> differences) {
  MergeCase c;
  c.method = method;
  c.shape = {differences.front().size()};
  c.base = Values(differences.front().size(), 0.0F);
  c.models = std::move(differences);
  return c;
}

// ---- model_stock -------------------------------------------------------------------------------

TEST(MergeModelStock, NumbersOfTheSpecification) {
  MergeCase c = from_zero("model_stock", {{1, 2, 2}, {2, 1, 2}});
  expect_near(merged(c), {1.411765, 1.411765, 1.882353});
  c.global["filter_wise"] = true;
  expect_near(merged(c), {1.411765, 1.411765, 1.882353});
  c.shape = {1, 3};
  expect_near(merged(c), {1.411765, 1.411765, 1.882353});
}

TEST(MergeModelStock, NegativeCosines) {
  MergeCase c = running_differences("model_stock");
  EXPECT_TRUE(same_bytes(merged(c), *c.base));
  c.global["clamp_t"] = false;
  constexpr double kT = -4.306977;
  std::vector<double> expected;
  for (const double mean : {.2, -.2, 0., .5 / 3, -.1 / 3, -.1}) expected.push_back(kT * mean);
  expect_near(merged(c), expected, 3e-6);
}

TEST(MergeModelStock, ByRowIsEachRowAlone) {
  MergeCase c = random_case("model_stock", {5, 9}, 3, 4);
  c.global["filter_wise"] = true;
  const Values all = merged(c);
  for (std::size_t row = 0; row < 5; ++row) {
    const auto part = [row](const Values& v) {
      const auto first = v.begin() + static_cast<std::ptrdiff_t>(9 * row);
      return Values(first, first + 9);
    };
    MergeCase one = c;
    one.shape = {9};
    one.global["filter_wise"] = false;
    one.base = part(*c.base);
    for (Values& model : one.models) model = part(model);
    const Values expected = part(all);
    expect_near(merged(one), {expected.begin(), expected.end()});
  }
}

TEST(MergeModelStock, OrthogonalAndIdentical) {
  MergeCase c = from_zero("model_stock", {{1, 0}, {0, 1}});
  EXPECT_TRUE(same_bytes(merged(c), *c.base));
  for (const auto& shape : shapes_for_test()) {
    MergeCase same = random_case("model_stock", shape, 1, 6);
    same.models.push_back(same.models[0]);
    const Values& x = same.models[0];
    for (const bool by_row : {false, true}) {
      same.global["filter_wise"] = by_row;
      const Values out = merged(same);
      // A difference below 1e-3 in norm is not one of direction (see the guard of the norms).
      if (out.size() > 1) expect_near(out, {x.begin(), x.end()}, 3e-7);
    }
    same.models = {*same.base, *same.base};
    EXPECT_TRUE(same_bytes(merged(same), *same.base));
  }
}

TEST(MergeModelStock, RefusesASingleModel) {
  EXPECT_EQ(failure_of([] {
              merged(from_zero("model_stock", {{1, 0}}));
            })->code,
            Code::kInvalidArgument);
}

// ---- sce ---------------------------------------------------------------------------------------

TEST(MergeSce, NumbersOfTheSpecification) {
  MergeCase c = running_example("sce");
  c.global["select_topk"] = .5;
  expect_near(merged(c), {1.762626, 1, 1, 1, 1, .2});
}

TEST(MergeSce, SelectsNothing) {
  for (const auto& shape : shapes_for_test()) {
    MergeCase c = random_case("sce", shape, 3, 2);
    for (const double share : {0.0, -1.0}) {
      c.global["select_topk"] = share;
      EXPECT_TRUE(same_bytes(merged(c), *c.base));
    }
    c.models = {*c.base, *c.base};
    for (const double share : {.5, 1.0}) {
      c.global["select_topk"] = share;
      EXPECT_TRUE(same_bytes(merged(c), *c.base));
    }
  }
}

TEST(MergeSce, SelectsThatMany) {
  for (const auto& shape : shapes_for_test()) {
    MergeCase c = random_case("sce", shape, 3, 3);
    c.global["select_topk"] = .3;
    const Values out = merged(c);
    std::size_t changed = 0;
    for (std::size_t i = 0; i < out.size(); ++i) changed += out[i] != (*c.base)[i] ? 1 : 0;
    EXPECT_EQ(changed, static_cast<std::size_t>(.3 * static_cast<double>(out.size())));
  }
}

// ---- ram ---------------------------------------------------------------------------------------

TEST(MergeRam, NumbersOfTheSpecification) {
  const std::vector<Values> rows{{.2F, 0, .4F, 0, 0}, {0, .3F, .2F, 0, 0}, {0, 0, -.6F, .5F, 0}};
  expect_near(merged(from_zero("ram", rows)), {.2, .3, 0, .5, 0});
  expect_near(merged(from_zero("ramplus_tl", rows)), {.204, .306, 0, .51, 0});
}

TEST(MergeRam, BasesAndShapes) {
  for (const char* method : {"ram", "ramplus_tl"}) {
    for (const auto& shape : shapes_for_test()) {
      MergeCase c = random_case(method, shape, 3, 2);
      merged(c);
      c.models = {*c.base, *c.base};
      EXPECT_TRUE(same_bytes(merged(c), *c.base));
    }
  }
}

TEST(MergeStatistics, OrderOfTheModelsDoesNotMatter) {
  for (const char* method : {"ram", "ramplus_tl", "sce", "model_stock"}) {
    MergeCase c = random_case(method, {40, 33}, 3, 5);
    const Values first = merged(c);
    std::swap(c.models[0], c.models[2]);
    expect_near(merged(c), {first.begin(), first.end()}, 1e-6);
  }
}

// Scaled by a power of two, so that nothing else changes.
TEST(MergeStatistics, ScalesWithTheDifferences) {
  for (const char* method : {"sce", "model_stock"}) {
    MergeCase c = random_case(method, {40, 33}, 3, 5);
    c.base = Values(40 * 33, 0.0F);
    if (std::string(method) == "sce") c.global["select_topk"] = .4;
    std::vector<double> expected;
    for (const float v : merged(c)) expected.push_back(4 * static_cast<double>(v));
    for (Values& model : c.models) {
      for (float& v : model) v *= 4;
    }
    expect_near(merged(c), expected, 1e-6);
  }
}

// ---- arcee_fusion ------------------------------------------------------------------------------

TEST(MergeArceeFusion, NumbersOfTheSpecification) {
  MergeCase c = from_zero("arcee_fusion", {{.1F, .2F, .3F, .4F, 1, 0, 0, -1}});
  c.shape = {2, 4};
  c.base = Values{.1F, .2F, .3F, .5F, .5F, 0, .2F, -1};
  expect_near(merged(c), {.1, .2, .3, .5, 1, 0, 0, -1});
}

TEST(MergeArceeFusion, EqualModelsAndShapes) {
  for (const auto& shape : shapes_for_test()) {
    MergeCase c = random_case("arcee_fusion", shape, 1, 2);
    const Values out = merged(c);
    for (std::size_t i = 0; i < out.size(); ++i) {
      EXPECT_TRUE(out[i] == (*c.base)[i] || out[i] == c.models[0][i]);
    }
    c.models = {*c.base};
    EXPECT_TRUE(same_bytes(merged(c), *c.base));
  }
}

TEST(MergeArceeFusion, AgreesWithSorting) {
  MergeCase c = random_case("arcee_fusion", {1500}, 1, 6);
  const Values& p = c.models[0];
  const Values& q = *c.base;
  const auto softmax = [](const Values& v) {
    std::vector<double> out;
    double sum = 0;
    for (const float x : v) out.push_back(std::exp(static_cast<double>(x)));
    for (const double x : out) sum += x;
    for (double& x : out) x = x / sum + 1e-8;
    return out;
  };
  const std::vector<double> a = softmax(p), b = softmax(q);
  double divergence = 0;
  for (std::size_t i = 0; i < a.size(); ++i) divergence += a[i] * std::log(a[i] / b[i]);
  std::vector<double> importance;
  for (std::size_t i = 0; i < a.size(); ++i) {
    importance.push_back(divergence *
                         std::fabs(static_cast<double>(p[i]) - static_cast<double>(q[i])));
  }
  std::vector<double> sorted = importance;
  std::sort(sorted.begin(), sorted.end());
  const double threshold = sorted[749] + 1.5 * (sorted[1124] - sorted[374]);
  Values expected;
  for (std::size_t i = 0; i < p.size(); ++i) {
    expected.push_back(importance[i] >= threshold ? p[i] : q[i]);
  }
  EXPECT_EQ(merged(c), expected);
}

TEST(MergeStatistics, NativeOutputsAreValuesOfTheType) {
  for (const char* method : {"ram", "sce", "model_stock"}) {
    MergeCase c = random_case(method, {5, 9}, 3, 8);
    c.accumulate = Accumulate::kNative;
    c.dtype = tensorfile::DType::kBF16;
    for (const float v : merged(c)) EXPECT_EQ(v, methods::BFloat16Rounding::round(v));
  }
}

}  // namespace
}  // namespace theriac::merge
