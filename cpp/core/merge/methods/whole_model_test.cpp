#include <gmock/gmock.h>

#include <cmath>

#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/methods/driver_for_test.h"

namespace theriac::merge {
namespace {

using testing_support::detail;
using testing_support::failure_of;

// The same values as one tensor and as tensors of these sizes: a model, cut otherwise.
std::vector<MergeCase> cut_into_tensors(const MergeCase& whole,
                                        const std::vector<std::size_t>& sizes) {
  std::vector<MergeCase> out;
  auto first = std::ptrdiff_t{0};
  for (const std::size_t size : sizes) {
    const auto last = first + static_cast<std::ptrdiff_t>(size);
    const auto cut = [&](const Values& v) { return Values(v.begin() + first, v.begin() + last); };
    MergeCase c = whole;
    c.shape = {size};
    c.base = cut(*whole.base);
    for (Values& model : c.models) model = cut(model);
    out.push_back(std::move(c));
    first = last;
  }
  return out;
}

Values joined(const std::vector<Values>& tensors) {
  Values out;
  for (const Values& values : tensors) out.insert(out.end(), values.begin(), values.end());
  return out;
}

const std::vector<std::string>& all_methods() {
  static const std::vector<std::string> names{"metagpt",    "lines",     "emr",
                                              "tall_masks", "consensus", "pcb"};
  return names;
}

// Parameters that have no default.
SettingsForTest settings_of(const std::string& method) {
  if (method == "lines") return {{"beta", .5}};
  return {};
}

// ---- numbers of the specification --------------------------------------------------------------

TEST(MergeMetagpt, NumbersOfTheSpecification) {
  Json summary;
  const auto out = merged_model({running_example("metagpt")}, &summary);
  expect_near(out[0], {1.260548, .824658, 1, 1.226027, .905205, .891233});
  const std::vector<double> weights{.402740, .323288, .273973};
  for (std::size_t t = 0; t < 3; ++t) {
    EXPECT_NEAR(summary.at("weights")[t].get<double>(), weights[t], 1e-6);
  }
  // Weights are those of the whole model, not of each tensor.
  expect_near(joined(merged_model(cut_into_tensors(running_example("metagpt"), {2, 0, 3, 1}))),
              {1.260548, .824658, 1, 1.226027, .905205, .891233});
}

TEST(MergeLines, NumbersOfTheSpecification) {
  MergeCase c = running_differences("lines");
  c.models.resize(1);
  c.models[0] = Values(6, 1.0F);
  c.global = {{"alpha", .1}, {"beta", .8}};
  std::vector<double> scales;
  for (const double t : {0.0, 1.0 / 3, 2.0 / 3, 1.0}) {
    c.t = t;
    scales.push_back(static_cast<double>(merged(c)[0]));
  }
  const std::vector<double> wanted{.1, .366667, .633333, .9};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(scales[i], wanted[i], 1e-6);
}

// Without alpha: 1/k of what a plain sum needs, more where the weights make it smaller.
TEST(MergeLines, AlphaFromTheNorms) {
  MergeCase c = running_example("lines");
  c.global = {{"beta", 0.0}};
  Json summary;
  expect_near(merged_model({c}, &summary)[0], {1.2, .8, 1, 1 + .5 / 3, 1 - .1 / 3, .9});
  EXPECT_NEAR(summary.at("alpha").get<double>(), 1.0 / 3, 1e-7);
  c.own = {{{"weight", .5}}};
  expect_near(merged_model({c}, &summary)[0], {1.2, .8, 1, 1 + .5 / 3, 1 - .1 / 3, .9});
  EXPECT_NEAR(summary.at("alpha").get<double>(), 2.0 / 3, 1e-7);
}

TEST(MergeEmr, NumbersOfTheSpecification) {
  MergeCase c = running_differences("emr");
  Json summary;
  expect_near(merged_model({c}, &summary)[0], {.9, -.7, 0, .5, -.6, -.8});
  const std::vector<double> scales{.851852, 1.692308, 1.25};
  for (std::size_t t = 0; t < 3; ++t) {
    EXPECT_NEAR(summary.at("scales")[t].get<double>(), scales[t], 1e-6);
  }
  c.global["task"] = 1.0;
  expect_near(merged(c), {.766667, -.596296, 0, .425926, -.511111, 0});
}

// Means of tensors and sums over the model differ where tensors differ in size.
TEST(MergeEmr, ScalesFromMeansOrSums) {
  const MergeCase whole = running_differences("emr");
  for (const char* from : {"tensor_means", "global_sums"}) {
    auto tensors = cut_into_tensors(whole, {1, 5});
    for (MergeCase& c : tensors) c.global["scale_from"] = std::string(from);
    Json summary;
    merged_model(tensors, &summary);
    // Task 2: |d| .4 | .3 0 .5 .2 .8, shared 0 | 0 0 .5 0 .8
    const double wanted =
        std::string(from) == "global_sums" ? 2.2 / 1.3 : (.4 + 1.8 / 5) / (1.3 / 5);
    EXPECT_NEAR(summary.at("scales")[1].get<double>(), wanted, 1e-6) << from;
  }
}

TEST(MergeTallMasks, NumbersOfTheSpecification) {
  MergeCase c = running_differences("tall_masks");
  c.own = {{{"mask_lambda", .400001}}};  // .4 against .4 of 1 is not decided in float32
  const std::vector<double> sum{.6, -.6, 0, .5, -.1, -.3};
  expect_near(merged(c), sum);
  const std::vector<std::vector<double>> masks{
      {1, 1, 0, 1, 1, 0}, {0, 0, 0, 1, 1, 1}, {0, 1, 0, 1, 1, 1}};
  for (std::size_t task = 0; task < 3; ++task) {
    c.global["task"] = static_cast<double>(task + 1);
    std::vector<double> wanted;
    for (std::size_t i = 0; i < 6; ++i) wanted.push_back(masks[task][i] * sum[i]);
    expect_near(merged(c), wanted);
  }
}

// Bit i of an element is task i's; the narrowest type that holds all.
TEST(MergeTallMasks, MasksAsNumbers) {
  MergeCase c = running_differences("tall_masks");
  c.own = {{{"mask_lambda", .400001}}};
  c.global["output"] = std::string("masks");
  EXPECT_EQ(merged(c), (Values{1, 5, 0, 7, 7, 6}));
  c.method = "emr";
  c.own.clear();
  EXPECT_EQ(merged(c), (Values{5, 5, 0, 3, 1, 2}));
  for (const auto& [tasks, dtype] :
       {std::pair<std::size_t, tensorfile::DType>{8, tensorfile::DType::kU8},
        {9, tensorfile::DType::kU16},
        {24, tensorfile::DType::kU32}}) {
    ContextForTest owner(c);
    TensorContext context = owner.get();
    context.tasks = tasks;
    EXPECT_EQ(find_kernel("emr")->make(context)->output_dtype(), dtype);
    context.tasks = 25;
    EXPECT_EQ(failure_of([&] { find_kernel("emr")->make(context); }).value().code,
              Code::kUnsupported);
  }
}

TEST(MergeConsensus, NumbersOfTheSpecification) {
  MergeCase c = running_example("consensus");
  c.own = {{{"mask_lambda", .400001}}};  // as above
  expect_near(merged(c), {1, .82, 1, 1.15, .97, .91});
  c.global["min_tasks"] = 3.0;
  expect_near(merged(c), {1, 1, 1, 1.15, .97, 1});
}

TEST(MergePcb, NumbersOfTheSpecification) {
  MergeCase c = running_differences("pcb");
  c.global["ratio"] = .5;
  expect_near(merged(c), {.595798, -.5, 0, .5, 0, -.5});
  EXPECT_EQ(joined(merged_model(cut_into_tensors(c, {3, 1, 2}))), merged(c));
}

// ---- properties --------------------------------------------------------------------------------

TEST(MergeWholeModel, RandomModelsCutAnyWay) {
  for (const std::string& method : all_methods()) {
    if (method == "emr") continue;  // its scales are of means over tensors
    MergeCase c = random_case(method, {300}, 3, 5);
    c.global = settings_of(method);
    EXPECT_EQ(joined(merged_model(cut_into_tensors(c, {100, 1, 0, 199}))), merged(c)) << method;
  }
}

TEST(MergeWholeModel, AllShapesAndNativeTypes) {
  for (const std::string& method : all_methods()) {
    for (const auto& shape : shapes_for_test()) {
      for (const auto dtype :
           {tensorfile::DType::kF32, tensorfile::DType::kBF16, tensorfile::DType::kF16}) {
        MergeCase c = random_case(method, shape, 3, 7), other = random_case(method, {31}, 3, 8);
        c.global = other.global = settings_of(method);
        c.dtype = other.dtype = dtype;
        c.accumulate = other.accumulate = Accumulate::kNative;
        const Values out = merged_model({c, other})[0];
        EXPECT_EQ(out.size(), elements_of(shape));
        for (const float value : out) EXPECT_TRUE(std::isfinite(value)) << method;
      }
    }
  }
}

TEST(MergeWholeModel, ModelsEqualToTheBaseLeaveIt) {
  for (const std::string& method : all_methods()) {
    MergeCase c = random_case(method, {40}, 3, 11);
    c.global = settings_of(method);
    (*c.base)[3] = -0.0F;
    for (Values& model : c.models) model = *c.base;
    EXPECT_TRUE(same_bytes(merged(c), *c.base)) << method;
  }
}

TEST(MergeWholeModel, OrderOfTheModelsDoesNotMatter) {
  for (const std::string& method : all_methods()) {
    MergeCase c = random_case(method, {200}, 3, 13);
    c.global = settings_of(method);
    const Values one = merged(c);
    std::swap(c.models[0], c.models[2]);
    const Values other = merged(c);
    for (std::size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(one[i], other[i], 1e-6F) << method;
  }
}

// Scaling all differences scales the merged one: not so for pcb, whose tanh is not linear.
TEST(MergeWholeModel, ScaledDifferences) {
  for (const std::string& method : all_methods()) {
    MergeCase c = random_case(method, {200}, 3, 17);
    c.base = Values(200, 0.0F);
    c.global = settings_of(method);
    const Values one = merged(c);
    for (Values& model : c.models) {
      for (float& value : model) value *= 4;
    }
    const Values four = merged(c);
    bool scales = true;
    for (std::size_t i = 0; i < one.size(); ++i) scales = scales && four[i] == 4 * one[i];
    EXPECT_EQ(scales, method != "pcb") << method;
  }
}

// A task's model keeps what the task alone decides: with one model, everything.
TEST(MergeWholeModel, OneModelIsItself) {
  for (const char* method : {"metagpt", "emr", "tall_masks"}) {
    MergeCase c = random_case(method, {100}, 1, 19);
    if (std::string(method) != "metagpt") c.global["task"] = 1.0;
    const Values out = merged(c);
    for (std::size_t i = 0; i < out.size(); ++i) {
      EXPECT_NEAR(out[i], c.models[0][i], 1e-6F) << method;
    }
  }
}

// Tensors that some models lack: tasks keep their numbers.
TEST(MergeWholeModel, TensorsOfSomeModels) {
  MergeCase both = random_case("metagpt", {50}, 2, 23),
            second = random_case("metagpt", {20}, 1, 24);
  second.tasks = {1};
  Json summary;
  merged_model({both, second}, &summary);
  double squares[2] = {0, 0};
  const auto add = [&](const MergeCase& c, std::size_t model, std::size_t task) {
    for (std::size_t i = 0; i < c.base->size(); ++i) {
      squares[task] += std::pow(c.models[model][i] - (*c.base)[i], 2);
    }
  };
  add(both, 0, 0), add(both, 1, 1), add(second, 0, 1);
  EXPECT_NEAR(summary.at("weights")[1].get<double>(), squares[1] / (squares[0] + squares[1]), 1e-9);
  for (const char* method : {"emr", "tall_masks"}) {
    both.method = second.method = method;
    both.global["task"] = second.global["task"] = 1.0;
    EXPECT_TRUE(same_bytes(merged_model({both, second})[1], *second.base)) << method;
  }
}

TEST(MergeWholeModel, RefusesTasksThatAreNotThere) {
  for (const char* method : {"emr", "tall_masks"}) {
    MergeCase c = running_example(method);
    c.global["task"] = 4.0;
    const Failure failure = failure_of([&] { merged(c); }).value();
    EXPECT_EQ(failure.code, Code::kInvalidArgument);
    EXPECT_EQ(detail(failure, "parameter"), "task");
  }
}

}  // namespace
}  // namespace theriac::merge
