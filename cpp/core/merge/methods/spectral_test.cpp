#include <gmock/gmock.h>

#include <Eigen/Dense>
#include <cmath>

#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/matrices.h"
#include "cpp/core/merge/methods/driver_for_test.h"

namespace theriac::merge {
namespace {

using testing_support::detail;
using testing_support::failure_of;
using Stored = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

const Values kR1{1, 2, 0, 0, 1, 1, 1, 0, 1}, kR2{0, 1, 1, 2, 0, 1, 1, 1, 0};
const Values kP1{1, 2, 0, 1, 0, 1, 1, 0, 1, 0, 1, 2, 0, 1, 0, 1},
    kP2{0, 1, 1, 0, 2, 0, 1, 1, 1, 1, 0, 0, 1, 0, 2, 1};

const std::vector<std::string>& all_methods() {
  static const std::vector<std::string> names{"tsv_m", "iso_c", "iso_cts", "star", "knots", "wudi"};
  return names;
}

MergeCase matrices(const std::string& method, const std::vector<Values>& differences,
                   std::uint64_t rows, std::uint64_t columns) {
  MergeCase c;
  c.method = method;
  c.shape = {rows, columns};
  c.base = Values(rows * columns, 0.0F);
  c.models = differences;
  if (method == "knots") c.global["lambda"] = 1.0;
  return c;
}

Eigen::MatrixXd matrix_of(const Values& values, std::uint64_t rows, std::uint64_t columns) {
  return Eigen::Map<const Stored>(values.data(), static_cast<Eigen::Index>(rows),
                                  static_cast<Eigen::Index>(columns))
      .cast<double>();
}
Values values_of(const Eigen::MatrixXd& matrix) {
  Values out(static_cast<std::size_t>(matrix.size()));
  Eigen::Map<Stored>(out.data(), matrix.rows(), matrix.cols()) = matrix.cast<float>();
  return out;
}
Vector singular_values(const Values& three_by_three) {
  return svd_of(matrix_of(three_by_three, 3, 3)).s;
}
double largest_difference(const Values& a, const Values& b) {
  double out = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    out = std::max(out, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return out;
}

// ---- numbers of the specification --------------------------------------------------------------

TEST(MergeTsvM, NumbersOfTheSpecification) {
  expect_near(merged(matrices("tsv_m", {kR1, kR2}, 3, 3)),
              {-.07979, 2.51964, .15809, 2.0205, -.07979, 1.01356, 1.01356, .15809, .52404}, 1e-5);
}

// merging-core.md 2.8 has numbers of P1, P2, but P2 has a double singular value and two triplets of it
// are not unique. These are numpy's for P1 and a matrix without.
TEST(MergeTsvM, TwoTripletsOfEach) {
  const Values q{2, 0, 1, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0, 0, 1, 3};
  expect_near(merged(matrices("tsv_m", {kP1, q}, 4, 4)),
              {1.770864, 1.492596, 0.651295, -0.257356, 0.003299, 1.648064, -1.862057, 1.556503,
               1.735972, -0.277301, -0.49522, 1.59439, -0.886125, 0.645215, 2.439661, 1.989018},
              1e-5);
}

TEST(MergeIsoC, NumbersOfTheSpecification) {
  MergeCase c = matrices("iso_c", {kR1, kR2}, 3, 3);
  const Values out = merged(c);
  expect_near(out, {-.1591, 2.36601, .21194, .66992, -.1591, 2.27906, 2.27906, .21194, -.65513},
              1e-5);
  for (const double value : singular_values(out)) EXPECT_NEAR(value, 2.380801, 1e-6);
  c.global["lambda"] = 1.5;
  EXPECT_NEAR(merged(c)[1], 1.5 * 2.36601, 1e-5);
}

TEST(MergeIsoCts, NumbersOfTheSpecification) {
  MergeCase c = matrices("iso_cts", {kP1, kP2}, 4, 4);
  c.global["common_fraction"] = .5;
  expect_near(merged(c),
              {-.50444, 2.69009, .19799, .90041, 1.33142, .90041, 1.02497, -2.16956, 2.42982,
               .19799, -1.16068, 1.02497, .64015, -.50444, 2.42982, 1.33142},
              1e-5);
}

// r = 3, n = 2, f = .3: rounding asks for 4 of 3 directions, and gets 2.
TEST(MergeIsoCts, NoMoreDirectionsThanThereAre) {
  MergeCase c = matrices("iso_cts", {kR1, kR2}, 3, 3);
  c.global["common_fraction"] = .3;
  const Vector s = singular_values(merged(c));
  EXPECT_NEAR(s[0], s[2], 1e-5);
  EXPECT_GT(s[2], 1);
}

TEST(MergeStar, NumbersOfTheSpecification) {
  MergeCase c = matrices("star", {kR1}, 3, 3);
  expect_near(merged(c),
              {1.80382, 3.39008, 1.17736, .9598, 1.80382, .62646, .62646, 1.17736, .40889}, 1e-5);
  c.global["eta"] = .7;  // two of three singular values, scaled back to the sum of all
  const Vector s = singular_values(merged(c));
  EXPECT_NEAR(s[0], 2.53209 * 1.226682, 1e-5);
  EXPECT_NEAR(s[1], 1.3473 * 1.226682, 1e-4);
  EXPECT_NEAR(s[2], 0, 1e-6);
}

TEST(MergeKnots, NumbersOfTheSpecification) {
  MergeCase c = matrices("knots", {kR1, kR2}, 3, 3);
  c.global["density"] = .5;
  const std::vector<double> wanted{-.22793, 1.67722, .07346,  1.68263, .00023,
                                   1.24362, .97649,  1.03344, .73362};
  expect_near(merged(c), wanted, 1e-5);
  c.global["scope"] = std::string("tensor");
  expect_near(merged(c), wanted, 1e-5);
}

TEST(MergeWudi, NumbersOfTheSpecification) {
  MergeCase c = matrices("wudi", {kR1, kR2}, 3, 3);
  c.global["iterations"] = 300.0;
  EXPECT_NEAR(merged(c)[0], .997002, 1e-6);
  c.global["solver"] = std::string("exact");
  expect_near(merged(c),
              {.342857, 1.914286, .285714, 1.628571, .342857, .857143, .857143, .285714, .714286});
}

// The loss of the paper: 7.504367 after 300 steps from 7.555556, .838095 at the minimum.
TEST(MergeWudi, Loss) {
  const auto loss = [](const Values& merged_values) {
    double out = 0;
    for (const Values& model : {kR1, kR2}) {
      const Eigen::MatrixXd d = matrix_of(model, 3, 3);
      out += ((matrix_of(merged_values, 3, 3) - d) * d.transpose()).squaredNorm() / d.squaredNorm();
    }
    return out;
  };
  MergeCase c = matrices("wudi", {kR1, kR2}, 3, 3);
  c.global["iterations"] = 300.0;
  EXPECT_NEAR(loss(merged(c)), 7.504367, 1e-5);
  c.global["solver"] = std::string("exact");
  EXPECT_NEAR(loss(merged(c)), .838095, 1e-6);
}

// ---- properties --------------------------------------------------------------------------------

TEST(MergeSpectral, AllShapesAndTypes) {
  for (const std::string& method : all_methods()) {
    for (const auto& shape : shapes_for_test()) {
      for (const auto dtype :
           {tensorfile::DType::kF32, tensorfile::DType::kBF16, tensorfile::DType::kF16}) {
        MergeCase c = random_case(method, shape, 3, 7);
        c.dtype = dtype;
        c.accumulate = Accumulate::kNative;
        const Values out = merged(c);
        EXPECT_EQ(out.size(), elements_of(shape));
        for (const float value : out) EXPECT_TRUE(std::isfinite(value)) << method;
      }
    }
  }
}

// What is no matrix, or is not to be decomposed, gets the mean of the differences.
TEST(MergeSpectral, MeanOfTheRest) {
  for (const std::string& method : all_methods()) {
    for (const bool flagged : {false, true}) {
      MergeCase c = random_case(method, {24}, 3, 3);
      if (flagged) c.shape = {4, 6};
      c.global = {{"average", flagged}, {"lambda", 1.0}};
      const Values out = merged(c);
      for (std::size_t i = 0; i < out.size(); ++i) {
        const float mean = (c.models[0][i] + c.models[1][i] + c.models[2][i]) / 3;
        EXPECT_NEAR(out[i], mean, 1e-6F) << method;
      }
    }
  }
}

TEST(MergeSpectral, ModelsEqualToTheBaseLeaveIt) {
  for (const std::string& method : all_methods()) {
    MergeCase c = random_case(method, {6, 9}, 3, 11);
    (*c.base)[3] = -0.0F;
    for (Values& model : c.models) model = *c.base;
    EXPECT_TRUE(same_bytes(merged(c), *c.base)) << method;
  }
}

TEST(MergeSpectral, OneModelIsItself) {
  for (const std::string& method : all_methods()) {
    MergeCase c = random_case(method, {7, 5}, 1, 13);
    if (method == "iso_c" || method == "iso_cts") continue;  // they flatten it
    c.global["lambda"] = 1.0;
    if (method == "star") c.global["eta"] = 1.0;
    if (method == "knots") c.global["density"] = 1.0;
    if (method == "wudi") c.global["solver"] = std::string("exact");
    EXPECT_LT(largest_difference(merged(c), c.models[0]), 1e-5) << method;
  }
}

TEST(MergeSpectral, OrderOfTheModelsDoesNotMatter) {
  for (const std::string& method : all_methods()) {
    for (const bool same : {false, true}) {
      MergeCase c = random_case(method, {12, 10}, 3, 17);
      if (same) c.models[1] = c.models[0];  // of deficient rank, side by side
      const Values one = merged(c);
      std::swap(c.models[0], c.models[2]);
      EXPECT_LT(largest_difference(merged(c), one), 1e-5) << method << same;
    }
  }
}

TEST(MergeSpectral, ScaledDifferences) {
  for (const std::string& method : all_methods()) {
    if (method == "wudi") continue;  // Adam's steps have a length of their own
    MergeCase c = random_case(method, {9, 12}, 3, 19);
    c.base = Values(9 * 12, 0.0F);
    const Values one = merged(c);
    for (Values& model : c.models) {
      for (float& value : model) value *= 4;
    }
    Values four = merged(c);
    for (float& value : four) value /= 4;
    EXPECT_LT(largest_difference(four, one), 1e-5) << method;
  }
}

// f(Q d R) = Q f(d) R for all but knots, whose trimming is of entries.
TEST(MergeSpectral, OrthogonalEquivariance) {
  const std::uint64_t rows = 8, columns = 11;
  const auto orthogonal = [](std::uint64_t n, std::uint64_t seed) {
    return orthonormal(matrix_of(random_values(n * n, seed), n, n));
  };
  const Eigen::MatrixXd q = orthogonal(8, 1), r = orthogonal(11, 2);
  for (const std::string& method : all_methods()) {
    MergeCase c = random_case(method, {rows, columns}, 2, 23);
    for (Values& model : c.models)
      model = random_values(rows * columns, model.size() + c.keys.size());
    c.models[1] = random_values(rows * columns, 99);
    c.base = Values(rows * columns, 0.0F);
    if (method == "wudi") c.global["solver"] = std::string("exact");
    const Values wanted = values_of(q * matrix_of(merged(c), rows, columns) * r);
    for (Values& model : c.models) model = values_of(q * matrix_of(model, rows, columns) * r);
    EXPECT_EQ(largest_difference(merged(c), wanted) < 1e-4, method != "knots") << method;
  }
}

// A plain sum of the aligned blocks, times the basis, is the sum of the differences: with density 1
// and models that agree, the mean is theirs.
TEST(MergeKnots, FullDensityOfEqualModels) {
  for (const std::vector<std::uint64_t>& shape :
       {std::vector<std::uint64_t>{5, 30}, {30, 5}, {1, 1}, {40, 2}}) {
    MergeCase c = random_case("knots", shape, 2, 29);
    c.models[1] = c.models[0];
    c.global = {{"density", 1.0}, {"lambda", 1.0}};
    EXPECT_LT(largest_difference(merged(c), c.models[0]), 1e-5);
  }
}

// The density is a share of the blocks of the whole model.
TEST(MergeKnots, GlobalTrimmingComparesMatrices) {
  MergeCase large = random_case("knots", {6, 6}, 1, 31), small = large;
  for (std::size_t i = 0; i < 36; ++i) {
    large.models[0][i] = (*large.base)[i] + 100 + 10 * random_values(36, 1)[i];
    small.models[0][i] = (*small.base)[i] + 1e-2F * random_values(36, 2)[i];
  }
  large.global = small.global = {{"density", .05}};
  const auto out = merged_model({small, large});
  EXPECT_TRUE(same_bytes(out[0], *small.base));
  EXPECT_GT(largest_difference(out[1], *large.base), 1);
  large.global["scope"] = small.global["scope"] = std::string("tensor");
  EXPECT_GT(largest_difference(merged_model({small, large})[0], *small.base), 1e-4);
  large.global["density"] = .1;
  large.global["scope"] = small.global["scope"] = std::string("global");
  EXPECT_EQ(detail(failure_of([&] {
                     merged_model({small, large});
                   }).value(),
                   "parameter"),
            "density");
}

// Directions that no model uses are left alone, whatever the rank of the differences.
TEST(MergeWudi, ExactOfLowRank) {
  MergeCase c = random_case("wudi", {10, 12}, 2, 37);
  c.base = Values(120, 0.0F);
  const Eigen::MatrixXd u = matrix_of(random_values(20, 1), 10, 2),
                        v = matrix_of(random_values(24, 2), 12, 2);
  c.models[0] = values_of(u.col(0) * v.col(0).transpose());
  c.models[1] = values_of(u.col(1) * v.col(1).transpose());
  c.global["solver"] = std::string("exact");
  const Eigen::MatrixXd out = matrix_of(merged(c), 10, 12);
  // The minimum is zero here: each model's own inputs get each model's own outputs.
  EXPECT_LT((out * v - u * (v.transpose() * v).diagonal().asDiagonal()).norm(), 1e-3 * out.norm());
}

TEST(MergeSpectral, RefusesWhatIsNotFinite) {
  for (const std::string& method : all_methods()) {
    MergeCase c = random_case(method, {4, 4}, 2, 41);
    c.models[1][5] = std::numeric_limits<float>::infinity();
    const Failure failure = failure_of([&] { merged(c); }).value();
    EXPECT_EQ(failure.code, Code::kNumericError);
    EXPECT_EQ(detail(failure, "tensor"), "tensor");
    EXPECT_EQ(detail(failure, "method"), method);
  }
}

// The memory that decompositions need is known beforehand.
TEST(MergeSpectral, WorkspaceGrowsWithTheMatrix) {
  for (const std::string& method : all_methods()) {
    const MergeCase c = random_case(method, {40, 33}, 2, 43);
    const ContextForTest context(c);
    const auto merge = find_kernel(method)->make(context.get());
    EXPECT_GE(merge->workspace(), 8U * 4 * 40 * 33) << method;
    EXPECT_EQ(merge->granularity(), Granularity::kTensor);
  }
}

}  // namespace
}  // namespace theriac::merge
