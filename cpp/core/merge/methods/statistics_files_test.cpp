#include <gmock/gmock.h>

#include <Eigen/Dense>
#include <cmath>

#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/methods/driver_for_test.h"
#include "cpp/core/merge/toy_for_test.h"

namespace theriac::merge {
namespace {

using tensorfile::DType;
using testing::HasSubstr;
using testing_support::detail;
using testing_support::failure_of;
using testing_support::ScratchFolder;

class MergeStatisticsFiles : public testing::Test {
 protected:
  // Writes one tensor a file, and names the file as the statistics of the case's next model.
  void add(MergeCase& c, const std::string& name, const std::vector<std::uint64_t>& shape,
           const Values& values, DType dtype = DType::kF32) {
    const std::string file = "statistics" + std::to_string(files_++) + ".safetensors";
    std::string bytes(values.size() * static_cast<std::size_t>(tensorfile::dtype_bits(dtype)) / 8,
                      '\0');
    tensorfile::from_float(dtype, values.data(), values.size(), bytes.data());
    tensorfile::write_file(scratch_ / file, {{name, dtype, shape, bytes}});
    c.own.push_back({{"statistics", file}});
    c.folder = scratch_.path().string();
  }
  Failure failure(const MergeCase& c) {
    return failure_of([&] { merged(c); }).value();
  }

  MergeCase fisher() {
    MergeCase c;
    c.method = "fisher";
    c.shape = {2};
    c.models = {{1, 2}, {3, 4}};
    add(c, "tensor.fisher", {2}, {.1F, .4F});
    add(c, "tensor.fisher", {2}, {.3F, .1F});
    return c;
  }
  MergeCase regmean() {
    MergeCase c;
    c.method = "regmean";
    c.name = "m.weight";
    c.shape = {2, 2};
    c.models = {{1, 0, 0, 1}, {0, 2, 2, 0}};
    add(c, "m.gram", {2, 2}, {1, .5F, .5F, .5F});
    add(c, "m.gram", {2, 2}, {.5F, 1, 1, 2.5F});
    c.global["jitter"] = 0.0;
    return c;
  }

  ScratchFolder scratch_;
  int files_ = 0;
};

// ---- fisher

TEST_F(MergeStatisticsFiles, FisherNumbersOfTheSpecification) {
  MergeCase c = fisher();
  Json summary;
  expect_near(merged_model({c}, &summary)[0], {2.592792, 2.491662}, 3e-6);  // epsilon is in ours
  EXPECT_NEAR(summary.at("norms")[0].get<double>(), .412311, 1e-6);
  EXPECT_NEAR(summary.at("norms")[1].get<double>(), .316228, 1e-6);
  c.global["normalize"] = false;
  expect_near(merged(c), {2.5, 2.4}, 1e-5);
  c.own[0]["weight"] = 0.0;
  EXPECT_EQ(merged(c), c.models[1]);
}

TEST_F(MergeStatisticsFiles, FisherWithoutInformationIsTheMean) {
  MergeCase c = fisher(), other = random_case("fisher", {3, 5}, 2, 1);
  other.name = "other";
  other.own = c.own;
  other.base.reset();
  Json summary;
  const auto out = merged_model({c, other}, &summary);
  EXPECT_EQ(summary.at("tensors_without_information"), 2);
  // Without information of either only epsilon and the norms count.
  const double a = 1 / (.412311 + 1e-6), b = 1 / (.316228 + 1e-6);
  for (std::size_t i = 0; i < 15; ++i) {
    EXPECT_NEAR(out[1][i], (a * other.models[0][i] + b * other.models[1][i]) / (a + b), 1e-5);
  }
  c.global["normalize"] = other.global["normalize"] = false;
  const auto plain = merged_model({c, other});
  for (std::size_t i = 0; i < 15; ++i) {
    EXPECT_NEAR(plain[1][i], (other.models[0][i] + other.models[1][i]) / 2, 1e-6);
  }
}

TEST_F(MergeStatisticsFiles, FisherOnAllShapesAndTypes) {
  for (const auto& shape : shapes_for_test()) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      MergeCase c = random_case("fisher", shape, 3, 5);
      c.base.reset();
      Values information = random_values(elements_of(shape), 6);
      for (float& value : information) value = std::fabs(value);
      for (int m = 0; m < 3; ++m) add(c, "tensor.fisher", shape, information, dtype);
      const Values out = merged(c);  // equal information: the mean
      for (std::size_t i = 0; i < out.size(); ++i) {
        EXPECT_NEAR(out[i], (c.models[0][i] + c.models[1][i] + c.models[2][i]) / 3, 1e-5F);
      }
      c.models[1] = c.models[2] = c.models[0];
      EXPECT_TRUE(same_bytes(merged(c), c.models[0]));
    }
  }
}

TEST_F(MergeStatisticsFiles, FisherRefusesBadFiles) {
  MergeCase c = fisher();
  c.own.pop_back();
  c.own.resize(1);
  add(c, "tensor.fisher", {2}, {.3F, -.1F});
  EXPECT_EQ(failure(c).code, Code::kDataError);
  EXPECT_THAT(failure(c).message, HasSubstr("negative or not finite"));
  c.own.pop_back();
  add(c, "tensor.fisher", {3}, {1, 1, 1});
  EXPECT_THAT(failure(c).message, HasSubstr("is F32 [3]; expected floating point numbers [2]"));
  c.own.pop_back();
  add(c, "tensors.fisher", {2}, {1, 1});
  EXPECT_THAT(failure(c).message, HasSubstr("has no '<tensor>.fisher'"));
  c.own[1]["statistics"] = std::string("nowhere.safetensors");
  EXPECT_EQ(failure(c).code, Code::kNotFound);
}

// ---- regmean

TEST_F(MergeStatisticsFiles, RegmeanNumbersOfTheSpecification) {
  const std::vector<std::pair<double, std::vector<double>>> wanted{
      {1, {.333333, 1.666667, .333333, .666667}},
      {.95, {.363705, 1.65224, .406986, .606682}},
      {.1, {.634841, 1.651591, .680067, .19933}},
      {0, {.666667, 1.666667, .666667, .166667}}};
  for (const auto& [ratio, numbers] : wanted) {
    MergeCase c = regmean();
    c.global["reduce_non_diagonal_ratio"] = ratio;
    expect_near(merged(c), numbers);
    c.global["jitter"] = 1e-6;
    expect_near(merged(c), numbers, 1e-5);
    // Stored the other way round.
    for (Values& model : c.models) std::swap(model[1], model[2]);
    c.global["weight_transpose"] = false;
    expect_near(merged(c), {numbers[0], numbers[2], numbers[1], numbers[3]}, 1e-5);
  }
}

TEST_F(MergeStatisticsFiles, RegmeanSolvesTheLeastSquares) {
  MergeCase c = random_case("regmean", {4, 6}, 3, 7);
  c.base.reset();
  c.name = "m.weight";
  c.global = {{"reduce_non_diagonal_ratio", 1.0}, {"jitter", 0.0}};
  std::vector<Eigen::MatrixXd> grams;
  using Stored = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  for (std::uint64_t m = 0; m < 3; ++m) {
    const Values x = random_values(60, m + 1);
    const Eigen::MatrixXf rows = Eigen::Map<const Stored>(x.data(), 10, 6);
    const Stored gram = rows.transpose() * rows / 10;
    add(c, "m.gram", {6, 6}, Values(gram.data(), gram.data() + 36));
    grams.push_back(gram.cast<double>());
  }
  const Values out = merged(c);
  const auto weight = [](const Values& v) {
    return Eigen::MatrixXd(Eigen::Map<const Stored>(v.data(), 4, 6).cast<double>());
  };
  Eigen::MatrixXd gradient = Eigen::MatrixXd::Zero(4, 6);
  for (std::size_t m = 0; m < 3; ++m) gradient += (weight(out) - weight(c.models[m])) * grams[m];
  EXPECT_LT(gradient.norm(), 1e-5);
}

// Directions without data: the mean of the models, not zero and not NaN.
TEST_F(MergeStatisticsFiles, RegmeanOfDeficientRank) {
  MergeCase c = regmean();
  c.own.clear();
  add(c, "m.gram", {2, 2}, {1, 0, 0, 0});
  add(c, "m.gram", {2, 2}, {3, 0, 0, 0});
  c.global["jitter"] = 1e-6;
  expect_near(merged(c), {.25, 1, 1.5, .5}, 1e-5);
  c.own.clear();
  add(c, "m.gram", {2, 2}, Values(4, 0.0F));
  add(c, "m.gram", {2, 2}, Values(4, 0.0F));
  expect_near(merged(c), {.5, 1, 1, .5});
}

TEST_F(MergeStatisticsFiles, RegmeanOfEqualGramsIsTheMean) {
  MergeCase c = random_case("regmean", {3, 5}, 2, 9);
  c.base.reset();
  c.name = "m.weight";
  Values gram(25);
  for (std::size_t i = 0; i < 5; ++i) gram[6 * i] = 1 + static_cast<float>(i);
  for (int m = 0; m < 2; ++m) add(c, "m.gram", {5, 5}, gram);
  MergeCase bias = random_case("regmean", {7}, 2, 10);
  bias.base.reset();
  bias.name = "m.bias";
  bias.own = c.own;
  Json summary;
  const auto out = merged_model({c, bias}, &summary);
  EXPECT_EQ(summary, (Json{{"solved", 1}, {"averaged", 1}}));
  for (std::size_t t = 0; t < 2; ++t) {
    const MergeCase& source = t == 0 ? c : bias;
    for (std::size_t i = 0; i < out[t].size(); ++i) {
      EXPECT_NEAR(out[t][i], (source.models[0][i] + source.models[1][i]) / 2, 1e-5F);
    }
  }
  c.models[1] = c.models[0];
  EXPECT_TRUE(same_bytes(merged(c), c.models[0]));
}

TEST_F(MergeStatisticsFiles, RegmeanRefusesBadFiles) {
  MergeCase c = regmean();
  c.own.pop_back();
  add(c, "m.gram", {2, 3}, Values(6));
  EXPECT_THAT(failure(c).message, HasSubstr("expected floating point numbers [2, 2]"));
  c.own.pop_back();
  add(c, "n.gram", {2, 2}, Values(4));
  EXPECT_THAT(failure(c).message, HasSubstr("1 of 2 models have 'm.gram'"));
  c.own.pop_back();
  add(c, "m.gram", {2, 2}, {1, 0, 0, -1});
  EXPECT_THAT(failure(c).message, HasSubstr("is no Gram matrix"));
  c.own.pop_back();
  add(c, "m.gram", {2, 2}, {1, 0, 0, std::nanf("")});
  EXPECT_THAT(failure(c).message, HasSubstr("is no Gram matrix"));
  c.own.clear();
  add(c, "n.gram", {2, 2}, Values(4));
  add(c, "n.gram", {2, 2}, Values(4));
  EXPECT_THAT(failure(c).message, HasSubstr("no statistics file has"));
}

}  // namespace
}  // namespace theriac::merge
