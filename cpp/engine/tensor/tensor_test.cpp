#include "cpp/engine/tensor/tensor.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "cpp/core/base/file.h"
#include "cpp/engine/nn/gru.h"
#include "cpp/engine/nn/linear.h"

namespace theriac::tensor {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

Code code_of(auto&& body) { return guarded(body).failure().code; }

// A folder of this test's own.
fs::path scratch(const std::string& name) {
  const fs::path path = fs::path(testing::TempDir()) / ("theriac_tensor_" + name);
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

TEST(Guard, SuccessIsOk) {
  int ran = 0;
  EXPECT_TRUE(guarded([&] { ++ran; }).ok());
  EXPECT_EQ(ran, 1);
}

TEST(Guard, OurErrorKeepsItsDetails) {
  const Outcome outcome = guarded(
      [] { throw Error(Code::kDataError, "line 7 is bad").at("line", 7).caused_by("why"); });
  EXPECT_EQ(outcome.failure().code, Code::kDataError);
  EXPECT_EQ(outcome.failure().message, "line 7 is bad");
  EXPECT_EQ(outcome.failure().details, (Details{{"line", "7"}}));
  EXPECT_EQ(outcome.failure().cause, "why");
}

TEST(Guard, Ladder) {
  EXPECT_EQ(code_of([] { TORCH_CHECK_INDEX(false, "x"); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([] { TORCH_CHECK_VALUE(false, "x"); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([] { TORCH_CHECK_TYPE(false, "x"); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([] { TORCH_CHECK_NOT_IMPLEMENTED(false, "x"); }), Code::kUnsupported);
  EXPECT_EQ(code_of([] { TORCH_CHECK_LINALG(false, "x"); }), Code::kNumericError);
  EXPECT_EQ(code_of([] { TORCH_CHECK_WITH(EnforceFiniteError, false, "x"); }), Code::kDataError);
  EXPECT_EQ(code_of([] { TORCH_CHECK_WITH(OutOfMemoryError, false, "x"); }),
            Code::kDeviceOutOfMemory);
  EXPECT_EQ(code_of([] { TORCH_CHECK_WITH(DistBackendError, false, "x"); }), Code::kDeviceError);
  EXPECT_EQ(code_of([] { TORCH_CHECK(false, "CUDA error: an illegal memory access"); }),
            Code::kDeviceError);
  EXPECT_EQ(code_of([] { TORCH_CHECK(false, "CUDA error: out of memory"); }),
            Code::kDeviceOutOfMemory);
  EXPECT_EQ(code_of([] { TORCH_CHECK(false, "x"); }), Code::kInternal);
  EXPECT_EQ(code_of([] { throw std::bad_alloc(); }), Code::kOutOfMemory);
  EXPECT_EQ(code_of([] { throw std::runtime_error("x"); }), Code::kInternal);
  EXPECT_EQ(code_of([] { throw 42; }), Code::kInternal);
}

TEST(Guard, FailuresOfRealOperations) {
  EXPECT_EQ(code_of([] { at::empty({std::int64_t{1} << 52}); }), Code::kOutOfMemory);
  EXPECT_EQ(code_of([] { at::zeros({3}).select(0, 9); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([] { at::linalg_inv(at::zeros({2, 2})); }), Code::kNumericError);
}

TEST(Guard, MessageIsShortAndDetailsHaveTheRest) {
  const Outcome outcome = guarded([] { TORCH_CHECK(false, "shapes differ"); });
  EXPECT_THAT(outcome.failure().message, testing::StartsWith("LibTorch: shapes differ"));
  EXPECT_THAT(outcome.failure().message, testing::Not(HasSubstr("frame #")));
  ASSERT_EQ(outcome.failure().details.size(), 1U);
  EXPECT_EQ(outcome.failure().details[0].first, "libtorch");
}

TEST(Guard, RoutesWarningsOfItsThreadToTheLog) {
  std::vector<std::string> said;
  Runtime runtime;
  runtime.log = std::make_shared<const LogSink>(
      [&](LogLevel, std::string_view component, std::string_view message) {
        said.push_back(std::string(component) + ": " + std::string(message));
      });
  auto* const before = c10::WarningUtils::get_warning_handler();
  route_warnings(runtime);
  ASSERT_TRUE(guarded([] { TORCH_WARN("old habit"); }).ok());
  EXPECT_THAT(said, ElementsAre("libtorch: old habit"));
  EXPECT_EQ(c10::WarningUtils::get_warning_handler(), before);
  runtime.log.reset();  // the front is gone: dropped, not printed, not a crash
  EXPECT_TRUE(guarded([] { TORCH_WARN("old habit"); }).ok());
  EXPECT_EQ(said.size(), 1U);
}

TEST(Random, FillFollowsPhiloxElementByElement) {
  const at::Tensor tensor = at::empty({2, 3}, at::kDouble);
  fill_uniform(tensor, -2, 5, 7, "w");
  Random random(7, "w");
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(tensor.view(-1)[i].item<double>(), random.uniform(-2, 5)) << i;
  }
  const at::Tensor transposed =
      at::empty({3, 2}, at::kDouble).t();  // row-major by index, not by memory
  fill_uniform(transposed, -2, 5, 7, "w");
  EXPECT_TRUE(transposed.equal(tensor));
}

TEST(Random, FillHasTheMomentsAskedFor) {
  const at::Tensor uniform = at::empty({100'000});
  fill_uniform(uniform, -0.1, 0.1, 3, "u");
  EXPECT_GE(uniform.min().item<double>(), -0.1f);
  EXPECT_LE(uniform.max().item<double>(), 0.1f);
  EXPECT_NEAR(uniform.mean().item<double>(), 0, 5 * 0.2 / std::sqrt(12e5));
  const at::Tensor normal = at::empty({100'000});
  fill_normal(normal, 2, 3, 3, "n");
  EXPECT_NEAR(normal.mean().item<double>(), 2, 5 * 3 / std::sqrt(1e5));
  EXPECT_NEAR(normal.std().item<double>(), 3, 5 * 3 / std::sqrt(2e5));
}

TEST(Random, FillReachesParameters) {
  const nn::Linear layer(4, 3, 1, "a");
  fill_uniform(layer->weight, 1, 2, 1, "b");
  EXPECT_GE(layer->weight.min().item<double>(), 1);
  EXPECT_TRUE(layer->weight.requires_grad());
}

TEST(Random, GeneratorsDifferByEveryPartOfTheKey) {
  const auto draw = [](at::Generator generator) { return at::rand({4}, generator); };
  const at::Tensor first = draw(make_generator(1, "a", 0));
  EXPECT_TRUE(first.equal(draw(make_generator(1, "a", 0))));
  EXPECT_FALSE(first.equal(draw(make_generator(2, "a", 0))));
  EXPECT_FALSE(first.equal(draw(make_generator(1, "b", 0))));
  EXPECT_FALSE(first.equal(draw(make_generator(1, "a", 1))));
}

TEST(Random, LeavesTheDefaultGeneratorAlone) {
  const at::Generator& shared = at::detail::getDefaultCPUGenerator();
  const at::Tensor before = shared.get_state();
  nn::Linear linear(4, 3, 1, "linear");
  nn::Gru gru(4, 3, 1, "gru");
  dropout(at::ones({8}), 0.5, make_generator(1, "d"));
  EXPECT_TRUE(before.equal(shared.get_state()));
}

TEST(Dropout, KeepsTheMeanAndTheShare) {
  const std::int64_t n = 200'000;
  const at::Tensor y = dropout(at::ones({n}), 0.4, make_generator(5, "d"));
  const double kept = y.gt(0).sum().item<double>() / static_cast<double>(n);
  EXPECT_NEAR(kept, 0.6, 5 * std::sqrt(0.4 * 0.6 / static_cast<double>(n)));
  EXPECT_TRUE(at::logical_or(y.eq(0), (y - 1 / 0.6f).abs().lt(1e-4)).all().item<bool>());
  // Neighbours, which share a block of the generator, are independent.
  const at::Tensor kept_at = y.gt(0);
  const double both =
      at::logical_and(kept_at.slice(0, 0, n - 1), kept_at.slice(0, 1)).sum().item<double>() /
      static_cast<double>(n - 1);
  EXPECT_NEAR(both, 0.36, 5 * std::sqrt(0.36 * 0.64 / static_cast<double>(n)));
}

TEST(Dropout, IsAFunctionOfTheKey) {
  const at::Tensor x = at::ones({1000});
  const at::Tensor y = dropout(x, 0.5, make_generator(5, "d", 9));
  EXPECT_TRUE(y.equal(dropout(x, 0.5, make_generator(5, "d", 9))));
  EXPECT_FALSE(y.equal(dropout(x, 0.5, make_generator(5, "d", 10))));
}

TEST(Dropout, ScalesTheGradientByItsMask) {
  const at::Tensor x = at::ones({50}).requires_grad_();
  const at::Tensor y = dropout(x, 0.5, make_generator(1, "d"));
  y.sum().backward();
  EXPECT_TRUE(x.grad().equal(y.detach()));
}

TEST(Dropout, EdgeProbabilities) {
  const at::Tensor x = at::full({3}, 2.0);
  const at::Generator generator = make_generator(1, "d");
  EXPECT_TRUE(dropout(x, 0, generator).is_same(x));
  EXPECT_TRUE(dropout(x, 0.5, std::nullopt).is_same(x));
  EXPECT_TRUE(dropout(x, 0.5, at::Generator()).is_same(x));
  EXPECT_TRUE(dropout(x, 1, generator).equal(at::zeros({3})));
  EXPECT_EQ(code_of([&] { dropout(x, -0.1, generator); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([&] { dropout(x, 1.1, generator); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([&] { dropout(x, std::nan(""), generator); }), Code::kInvalidArgument);
}

TEST(Device, NamesThatAreNone) {
  EXPECT_EQ(parse_device("cpu"), at::Device(at::kCPU));
  for (const char* name :
       {"", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:1x", "cuda: 1", "cuda:99999999999"}) {
    EXPECT_EQ(code_of([&] { parse_device(name); }), Code::kInvalidArgument) << name;
  }
}

TEST(Device, CudaIsThereOrUnsupportedWithAReason) {
  at::Device device(at::kCPU);
  const Outcome outcome = guarded([&] { device = parse_device("cuda"); });
  if (outcome.ok()) {
    EXPECT_EQ(device, at::Device(at::kCUDA, 0));
    EXPECT_EQ(at::ones({2}, device).sum().item<double>(), 2);
    EXPECT_EQ(code_of([] { parse_device("cuda:120"); }), Code::kUnsupported);
  } else {
    EXPECT_EQ(outcome.failure().code, Code::kUnsupported);
    EXPECT_THAT(outcome.failure().message, HasSubstr("cuda"));
  }
}

TEST(Device, FillAndDropoutAreTheSameOnEveryDevice) {
  at::Device device(at::kCPU);
  const Outcome outcome = guarded([&] { device = parse_device("cuda"); });
  if (!outcome.ok()) GTEST_SKIP() << outcome.failure().message;
  const at::Tensor here = at::empty({100}), there = at::empty({100}, device);
  fill_uniform(here, 0, 1, 1, "w");
  fill_uniform(there, 0, 1, 1, "w");
  EXPECT_TRUE(here.equal(there.cpu()));
  EXPECT_TRUE(dropout(here, 0.5, make_generator(1, "d"))
                  .equal(dropout(there, 0.5, make_generator(1, "d")).cpu()));
}

TEST(Device, FirstThreadBudgetStands) {
  std::vector<std::string> said;
  Runtime runtime;
  runtime.log = std::make_shared<const LogSink>(
      [&](LogLevel, std::string_view, std::string_view message) { said.emplace_back(message); });
  runtime.threads = at::get_num_threads();
  apply_thread_budget(runtime);
  EXPECT_EQ(at::get_num_threads(), runtime.threads);
  const int first = at::get_num_threads();
  runtime.threads = first + 1;
  apply_thread_budget(runtime);
  EXPECT_EQ(at::get_num_threads(), first);
  EXPECT_EQ(said.size(), 1U);
}

TEST(Determinism, SetsAndRestores) {
  const bool before = at::globalContext().deterministicAlgorithms();
  {
    const DeterminismScope outer(true);
    {
      const DeterminismScope inner(true);
      EXPECT_TRUE(at::globalContext().deterministicAlgorithms());
    }
    EXPECT_TRUE(at::globalContext().deterministicAlgorithms());
    EXPECT_EQ(code_of([] { const DeterminismScope other(false); }), Code::kBusy);
  }
  EXPECT_EQ(at::globalContext().deterministicAlgorithms(), before);
  const DeterminismScope fast(false);
  EXPECT_EQ(at::globalContext().deterministicAlgorithms(), before);
  EXPECT_EQ(code_of([] { const DeterminismScope other(true); }), Code::kBusy);
}

TEST(State, NamesInRegistrationOrderParametersFirst) {
  torch::nn::Module module;
  module.register_buffer("seen", at::zeros({1}));
  module.register_module("b", nn::Linear(2, 3, 1, "b").ptr());
  module.register_module("a", nn::Linear(3, 1, 1, "a").ptr());
  std::vector<std::string> names;
  for (const auto& [name, tensor] : state_of(module)) names.push_back(name);
  EXPECT_THAT(names, ElementsAre("b.weight", "b.bias", "a.weight", "a.bias", "seen"));
}

TEST(State, SnapshotsDoNotMoveAndLoadBringsThemBack) {
  nn::Linear layer(2, 3, 1, "a");
  const NamedTensors alias = state_of(*layer), copy = snapshot_of(*layer);
  fill_uniform(layer->weight, 5, 6, 1, "x");
  EXPECT_TRUE(alias[0].second.equal(layer->weight));
  EXPECT_FALSE(copy[0].second.equal(layer->weight));
  load_state(*layer, copy);
  EXPECT_TRUE(copy[0].second.equal(layer->weight));
  EXPECT_TRUE(layer->weight.requires_grad());
}

TEST(State, LoadRefusesWhatDoesNotFitAndChangesNothing) {
  nn::Linear layer(2, 3, 1, "a");
  const NamedTensors before = snapshot_of(*layer);
  const auto refuses = [&](const NamedTensors& state, const char* part) {
    const Outcome outcome = guarded([&] { load_state(*layer, state); });
    EXPECT_EQ(outcome.failure().code, Code::kDataError);
    EXPECT_THAT(outcome.failure().message, HasSubstr(part));
    EXPECT_TRUE(layer->weight.equal(before[0].second));
  };
  refuses({{"weight", at::zeros({3, 2})}}, "'bias' is missing");
  refuses({{"weight", at::zeros({3, 2})}, {"bias", at::zeros({4})}}, "[4]; expected [3]");
  refuses({{"weight", at::zeros({3, 2})}, {"bias", at::zeros({3}, at::kLong)}}, "Long");
}

TEST(Files, EveryElementTypeComesBack) {
  const std::string path = (scratch("types") / "a.safetensors").string();
  NamedTensors tensors;
  for (const at::ScalarType type :
       {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf, at::kBFloat16,
        at::kFloat, at::kDouble, at::kComplexFloat, at::kFloat8_e4m3fn, at::kFloat8_e5m2}) {
    tensors.emplace_back(std::string("t.") + c10::toString(type),
                         at::arange(6, at::kFloat).reshape({2, 3}).to(type));
  }
  write_tensors(path, tensors, {{"made", "here"}});
  std::map<std::string, std::string> metadata;
  std::map<std::string, at::Tensor> read;
  for (const auto& [name, tensor] : read_tensors(path, &metadata)) read[name] = tensor;
  EXPECT_EQ(metadata.at("made"), "here");
  ASSERT_EQ(read.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(read[name].scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(read[name].to(at::kComplexDouble).equal(tensor.to(at::kComplexDouble))) << name;
  }
}

TEST(Files, OddShapesAndStrides) {
  const std::string path = (scratch("shapes") / "a.safetensors").string();
  const at::Tensor strided = at::arange(12, at::kFloat).reshape({3, 4}).t();
  write_tensors(
      path, {{"strided", strided}, {"scalar", at::scalar_tensor(3)}, {"none", at::zeros({2, 0})}});
  std::map<std::string, at::Tensor> read;
  for (const auto& [name, tensor] : read_tensors(path)) read[name] = tensor;
  EXPECT_TRUE(read["strided"].equal(strided));
  EXPECT_EQ(read["scalar"].dim(), 0);
  EXPECT_EQ(read["none"].sizes(), (std::vector<std::int64_t>{2, 0}));
}

// A file of this header and so many zero bytes.
std::string file_with(const std::string& name, const std::string& header, std::size_t bytes) {
  const std::string path = (scratch(name) / "a.safetensors").string();
  std::string text(8, '\0');
  for (unsigned i = 0; i < 8; ++i) text[i] = static_cast<char>(header.size() >> (8 * i));
  replace_file(path, text + header + std::string(bytes, '\0'));
  return path;
}

TEST(Files, RefusesWhatLibTorchCannotHold) {
  const std::string small =
      file_with("f4", R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})", 1);
  const Outcome outcome = guarded([&] { read_tensors(small); });
  EXPECT_EQ(outcome.failure().code, Code::kUnsupported);
  EXPECT_THAT(outcome.failure().message, HasSubstr("'a'"));
  const std::string huge = file_with(
      "huge",
      R"({"a":{"dtype":"F32","shape":[0,4611686018427387904,4611686018427387904],"data_offsets":[0,0]}})",
      0);
  EXPECT_EQ(code_of([&] { read_tensors(huge); }), Code::kDataError);
}

}  // namespace
}  // namespace theriac::tensor
