#include "cpp/core/merge/adapter_extraction.h"

#include <gmock/gmock.h>

#include <Eigen/Dense>
#include <cmath>

#include "cpp/core/base/random.h"
#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/matrices.h"
#include "cpp/core/merge/merge.h"
#include "cpp/core/merge/toy_for_test.h"
#include "cpp/core/tensorfile/adapter.h"

namespace theriac::merge {
namespace {

using tensorfile::Adapter;
using tensorfile::DType;
using tensorfile::ModelFiles;
using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::failure_of;
using testing_support::ScratchFolder;
using Stored = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct Tensor {
  std::vector<std::uint64_t> shape;
  std::vector<float> values;
};
using Model = std::map<std::string, Tensor>;

Tensor random_tensor(const std::vector<std::uint64_t>& shape, std::uint64_t seed,
                     double scale = 1) {
  Tensor out{shape, {}};
  std::size_t n = 1;
  for (const std::uint64_t size : shape) n *= size;
  Random random(seed, "tensor");
  for (std::size_t i = 0; i < n; ++i) {
    out.values.push_back(static_cast<float>(scale * random.normal()));
  }
  return out;
}

class ExtractLora : public testing::Test {
 protected:
  void write(const std::string& name, const Model& model) {
    std::filesystem::create_directories(scratch_ / name);
    std::vector<tensorfile::TensorToWrite> tensors;
    for (const auto& [tensor, data] : model) {
      const std::string_view bytes(reinterpret_cast<const char*>(data.values.data()),
                                   data.values.size() * sizeof(float));
      tensors.push_back({tensor, DType::kF32, data.shape, bytes});
    }
    tensorfile::write_file(scratch_ / name / "model.safetensors", tensors);
  }
  // Writes both, extracts, returns the report's part on the adapter.
  Json extract(const Model& base, const Model& model, const std::string& parameters = "{}",
               const std::string& more = "") {
    write("base", base);
    write("model", model);
    MergeOptions options;
    options.working_folder = scratch_.path();
    options.overwrite = true;
    options.execute.memory_limit = memory_limit_;
    std::filesystem::remove_all(scratch_ / "adapter");
    Job job;
    return merge_recipe(
               "merge_method: extract_lora\nbase_model: base\nmodels: [{model: model}]\n"
               "parameters: " +
                   parameters + "\n" + more,
               "r.yml", scratch_ / "adapter", options, job)
        .json.at("adapter");
  }
  Adapter adapter() { return Adapter::open(scratch_ / "adapter"); }
  // scale B A of a module, [out, in ...].
  static Eigen::MatrixXd delta(const Adapter& adapter, const std::string& module) {
    const auto* found = adapter.find(module);
    const auto as_matrix = [&](const tensorfile::TensorRecord& record) {
      const std::vector<float> values = toy::floats(adapter.files(), record.name);
      const auto rows = static_cast<Eigen::Index>(record.shape[0]);
      return Eigen::MatrixXd(
          Eigen::Map<const Stored>(values.data(), rows,
                                   static_cast<Eigen::Index>(values.size()) / rows)
              .cast<double>());
    };
    return found->scale * as_matrix(*found->b) * as_matrix(*found->a);
  }
  static Eigen::MatrixXd difference(const Model& base, const Model& model,
                                    const std::string& tensor) {
    const Tensor &a = base.at(tensor), &b = model.at(tensor);
    const auto rows = static_cast<Eigen::Index>(a.shape[0]);
    const auto columns = static_cast<Eigen::Index>(a.values.size()) / rows;
    return Eigen::Map<const Stored>(b.values.data(), rows, columns).cast<double>() -
           Eigen::Map<const Stored>(a.values.data(), rows, columns).cast<double>();
  }

  ScratchFolder scratch_;
  std::uint64_t memory_limit_ = 0;
};

// merging-core.md 2.9.
TEST_F(ExtractLora, NumbersOfTheSpecification) {
  const Model base{{"m.weight", {{3, 3}, std::vector<float>(9, 0.0F)}}};
  const Model model{{"m.weight", {{3, 3}, {1, 2, 0, 0, 1, 1, 1, 0, 1}}}};
  for (const char* scale : {"true", "false"}) {
    const Json report =
        extract(base, model, "{max_rank: 1, distribute_scale: " + std::string(scale) + "}");
    const Json& module = report.at("modules")[0];
    EXPECT_NEAR(module.at("relative_error").get<double>(), .536297, 1e-6);
    EXPECT_EQ(module.at("rank"), 1);
    const std::vector<double> wanted{.9598,  1.80382, .62646, .5107, .9598,
                                     .33333, .33333,  .62646, .21757};
    const Eigen::MatrixXd found = delta(adapter(), "m");
    for (Eigen::Index i = 0; i < 9; ++i) {
      EXPECT_NEAR(found(i / 3, i % 3), wanted[static_cast<std::size_t>(i)], 1e-5);
    }
    const double norm = toy::floats(adapter().files(), "base_model.model.m.lora_B.weight")[0];
    EXPECT_EQ(std::fabs(norm) > 1, scale == std::string("true"));
  }
}

// Everything that a module can have: linear, convolution, bias, norm, embedding, head.
Model whole_model(std::uint64_t seed, double scale = 1) {
  return {{"embed_tokens.weight", random_tensor({20, 8}, seed + 1, scale)},
          {"layers.0.q.weight", random_tensor({8, 8}, seed + 2, scale)},
          {"layers.0.q.bias", random_tensor({8}, seed + 3, scale)},
          {"layers.0.conv.weight", random_tensor({6, 4, 3, 3}, seed + 4, scale)},
          {"layers.0.norm.weight", random_tensor({8}, seed + 5, scale)},
          {"layers.0.norm.bias", random_tensor({8}, seed + 6, scale)},
          {"lm_head.weight", random_tensor({20, 8}, seed + 7, scale)}};
}

TEST_F(ExtractLora, FullRankHoldsTheModel) {
  const Model base = whole_model(0), model = whole_model(100);
  for (const bool embed : {false, true}) {
    const Json report = extract(base, model, embed ? "{embed_lora: true}" : "{}");
    EXPECT_NEAR(report.at("energy").get<double>(), 1, 1e-9);
    const Adapter found = adapter();
    for (const char* module : {"layers.0.q", "layers.0.conv", "lm_head"}) {
      const Eigen::MatrixXd wanted = difference(base, model, std::string(module) + ".weight");
      EXPECT_LT((delta(found, module) - wanted).norm(), 1e-5 * wanted.norm()) << module;
    }
    EXPECT_EQ(toy::floats(found.files(), "base_model.model.layers.0.q.lora_B.bias").size(), 8U);
    EXPECT_EQ(toy::floats(found.files(), "base_model.model.layers.0.norm.bias"),
              model.at("layers.0.norm.bias").values);
    if (embed) {
      const Eigen::MatrixXd wanted = difference(base, model, "embed_tokens.weight").transpose();
      EXPECT_TRUE(found.find("embed_tokens")->embedding);
      EXPECT_LT((delta(found, "embed_tokens") - wanted).norm(), 1e-5 * wanted.norm());
    } else {
      EXPECT_EQ(toy::floats(found.files(), "base_model.model.embed_tokens.weight"),
                model.at("embed_tokens.weight").values);
    }
  }
}

TEST_F(ExtractLora, RanksThatDiffer) {
  Model base = whole_model(0), model = base;
  // A difference of rank 2, one of full rank, and a bias alone.
  const Tensor u = random_tensor({8, 2}, 1), v = random_tensor({2, 8}, 2);
  for (std::size_t i = 0; i < 64; ++i) {
    for (std::size_t r = 0; r < 2; ++r) {
      model["layers.0.q.weight"].values[i] += u.values[i / 8 * 2 + r] * v.values[r * 8 + i % 8];
    }
  }
  model["lm_head.weight"] = random_tensor({20, 8}, 3);
  const Json report = extract(base, model, "{max_rank: 5, sv_epsilon: 0.001}");
  EXPECT_EQ(adapter().config().rank, 5U);
  EXPECT_EQ(adapter().find("layers.0.q")->rank, 2U);
  EXPECT_EQ(adapter().find("layers.0.q")->scale, 1);
  EXPECT_EQ(adapter().find("lm_head")->rank, 5U);
  EXPECT_EQ(adapter().find("lm_head")->scale, 1);
  EXPECT_THAT(report.at("skipped").dump(), HasSubstr("layers.0.conv.weight"));  // unchanged
  model = base;
  model["layers.0.q.bias"].values[3] += 1;
  extract(base, model);
  EXPECT_EQ(delta(adapter(), "layers.0.q").norm(), 0);
  EXPECT_EQ(adapter().find("layers.0.q")->b_bias->shape, (std::vector<std::uint64_t>{8}));
}

TEST_F(ExtractLora, NormsAreLeftOutOnRequest) {
  const Json report = extract(whole_model(0), whole_model(100), "{skip_undecomposable: true}");
  EXPECT_THAT(report.at("saved"), ElementsAre("embed_tokens.weight"));
  EXPECT_THAT(report.at("skipped").dump(), HasSubstr("layers.0.norm.weight"));
}

// Far fewer triplets than there are: by a random range, whose energy is close to the best.
TEST_F(ExtractLora, RandomisedDecomposition) {
  const std::uint64_t rows = 150, columns = 120, rank = 6;
  Model base{{"m.weight", {{rows, columns}, std::vector<float>(rows * columns, 0.0F)}}};
  Model model = base;
  const Tensor noise = random_tensor({rows, columns}, 9, .01);
  const Tensor u = random_tensor({rows, rank}, 1), v = random_tensor({rank, columns}, 2);
  for (std::size_t i = 0; i < rows * columns; ++i) {
    double sum = noise.values[i];
    for (std::size_t r = 0; r < rank; ++r) {
      sum += static_cast<double>(u.values[i / columns * rank + r]) *
             v.values[r * columns + i % columns];
    }
    model["m.weight"].values[i] = static_cast<float>(sum);
  }
  const Json report = extract(base, model, "{max_rank: 6}");
  EXPECT_EQ(report.at("modules")[0].at("randomised"), true);
  const Eigen::MatrixXd d = difference(base, model, "m.weight");
  const double best = svd_of(d).s.head(6).squaredNorm() / d.squaredNorm();
  EXPECT_NEAR(report.at("modules")[0].at("energy").get<double>(), best, 1e-9);
  // What is reported is what the adapter holds.
  const double error = (delta(adapter(), "m") - d).norm() / d.norm();
  EXPECT_NEAR(report.at("modules")[0].at("relative_error").get<double>(), error, 1e-6);
  const Json again = extract(base, model, "{max_rank: 6}");
  EXPECT_EQ(again, report);
}

TEST_F(ExtractLora, RefusesWhatItCannotHold) {
  Model base = whole_model(0), model = base;
  EXPECT_EQ(failure_of([&] { extract(base, model); }).value().code, Code::kDataError);
  EXPECT_FALSE(std::filesystem::exists(scratch_ / ".adapter.merging"));
  model["lm_head.weight"].values[0] = std::nanf("");
  EXPECT_EQ(failure_of([&] { extract(base, model); }).value().code, Code::kNumericError);
  model = whole_model(100);
  memory_limit_ = 1000;
  const Failure failure = failure_of([&] { extract(base, model); }).value();
  EXPECT_EQ(failure.code, Code::kOutOfMemory);
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "adapter"));
}

TEST_F(ExtractLora, ElementTypeOfTheFactors) {
  extract(whole_model(0), whole_model(100), "{}", "dtype: bfloat16\n");
  EXPECT_EQ(adapter().find("lm_head")->a->dtype, DType::kBF16);
}

}  // namespace
}  // namespace theriac::merge
