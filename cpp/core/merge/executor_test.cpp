#include "cpp/core/merge/executor.h"

#include <gmock/gmock.h>

#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/toy_for_test.h"

namespace theriac::merge {
namespace {

using tensorfile::DType;
using tensorfile::ModelFiles;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing_support::failure_of;
using testing_support::ScratchFolder;

// A plan made by hand: one tensor "w" of given sources, merged by the sum of all.
class ExecutorTest : public testing::Test {
 protected:
  ExecutorTest() { plan_.method = find_method("linear"); }
  ~ExecutorTest() override { toy::hook() = nullptr; }

  void add_model(const std::vector<toy::Spec>& specs) {
    const std::string name = "m" + std::to_string(models_.size());
    toy::write_model(scratch_ / name, specs, models_.size());
    models_.push_back(ModelFiles::open(scratch_ / name));
  }
  PlannedTensor& add_tensor(const std::string& name, std::vector<std::uint64_t> shape) {
    PlannedTensor tensor;
    tensor.name = name;
    tensor.shape = std::move(shape);
    for (std::size_t i = 0; i < models_.size(); ++i) {
      PlannedSource source;
      source.model = i;
      source.tensor = name;
      source.crop = models_[i].at(name).shape != tensor.shape;
      source.parameters.set(*plan_.method->find("weight"), 1.0);
      tensor.sources.push_back(std::move(source));
    }
    plan_.tensors.push_back(std::move(tensor));
    return plan_.tensors.back();
  }
  Execution prepared(const std::string& dtype = "", const std::string& out_dtype = "") {
    std::vector<const ModelFiles*> models;
    for (const ModelFiles& model : models_) models.push_back(&model);
    return prepare(plan_, models, toy::find, options_, dtype, out_dtype);
  }
  // The output's only tensor, as float32.
  std::vector<float> result(const std::string& dtype = "", const std::string& out_dtype = "") {
    const Execution execution = prepared(dtype, out_dtype);
    const OutputLayout layout = lay_out(output_tensors(execution), 1 << 20);
    OutputFiles output = OutputFiles::create(scratch_.path(), layout);
    Job job;
    std::string checksum;
    execute(
        execution, output, {},
        [&](std::size_t, const TensorOutcome& outcome) { checksum = outcome.checksum; }, job);
    EXPECT_EQ(checksum_of(execution, 0, output), checksum);
    output.sync();
    output.finish();
    return toy::floats(ModelFiles::open(scratch_ / "model.safetensors"), plan_.tensors[0].name);
  }

  ScratchFolder scratch_;
  std::vector<ModelFiles> models_;
  MergePlan plan_;
  ExecuteOptions options_;
};

TEST_F(ExecutorTest, LargerSourcesAreCut) {
  for (const std::uint64_t block : {1, 5, 7, 100}) {
    for (const auto& [wide, shape] :
         {std::pair<std::vector<std::uint64_t>, std::vector<std::uint64_t>>{{4, 3, 5}, {2, 3, 4}},
          {{4, 3, 5}, {3, 3, 5}},
          {{4, 3, 5}, {4, 2, 5}}}) {
      models_.clear();
      plan_.tensors.clear();
      options_.block_elements = block;
      add_model({{"w", DType::kBF16, wide}});
      add_tensor("w", shape);
      const std::vector<float> all = toy::floats(models_[0], "w");
      std::vector<float> wanted;
      for (std::uint64_t i = 0; i < shape[0]; ++i) {
        for (std::uint64_t j = 0; j < shape[1]; ++j) {
          for (std::uint64_t k = 0; k < shape[2]; ++k) {
            wanted.push_back(all[(i * wide[1] + j) * wide[2] + k]);
          }
        }
      }
      EXPECT_THAT(result(), ElementsAreArray(wanted)) << block;
    }
  }
}

TEST_F(ExecutorTest, ElementTypeRule) {
  add_model({{"w", DType::kF16, {3}}});
  add_model({{"w", DType::kF32, {3}}});
  PlannedTensor& tensor = add_tensor("w", {3});
  EXPECT_EQ(prepared().works[0].dtype, DType::kF16);  // the first source's
  tensor.base = 1;
  EXPECT_EQ(prepared().works[0].dtype, DType::kF32);  // the base's
  EXPECT_EQ(prepared("bfloat16").works[0].dtype, DType::kBF16);
  EXPECT_EQ(prepared("bfloat16", "float32").works[0].dtype, DType::kF32);
  EXPECT_EQ(prepared("bfloat16", "float32").works[0].arithmetic, DType::kBF16);
}

// Native arithmetic sees values of the arithmetic's type, whatever the file holds.
TEST_F(ExecutorTest, NativeCastsOnLoad) {
  add_model({{"w", DType::kF32, {50}}});
  add_tensor("w", {50});
  const std::vector<float> exact = toy::floats(models_[0], "w");
  EXPECT_THAT(result("bfloat16", "float32"), ElementsAreArray(exact));
  options_.accumulate = Accumulate::kNative;
  std::vector<float> rounded = exact;
  for (float& value : rounded) {
    char bytes[2];
    tensorfile::from_float(DType::kBF16, &value, 1, bytes);
    tensorfile::to_float(DType::kBF16, bytes, 1, &value);
  }
  EXPECT_NE(rounded, exact);
  EXPECT_THAT(result("bfloat16", "float32"), ElementsAreArray(rounded));
}

TEST_F(ExecutorTest, ReadsAlongTheFirstSource) {
  add_model({{"a", DType::kF32, {3}}, {"b", DType::kF32, {3}}, {"c", DType::kF32, {3}}});
  for (const char* name : {"c", "a", "b"}) add_tensor(name, {3});
  options_.threads = 1;
  std::vector<std::string> order;
  toy::hook() = [&](const TensorContext& context) { order.push_back(context.name); };
  const Execution execution = prepared();
  const OutputLayout layout = lay_out(output_tensors(execution), 1 << 20);
  OutputFiles output = OutputFiles::create(scratch_.path(), layout);
  Job job;
  const auto nothing = [](std::size_t, const TensorOutcome&) {};
  EXPECT_EQ(execute(execution, output, {}, nothing, job).bytes_read, 36U);
  EXPECT_THAT(order, ElementsAre("a", "b", "c"));
  order.clear();
  execute(execution, output, {0, 1, 0}, nothing, job);
  EXPECT_THAT(order, ElementsAre("b", "c"));
}

TEST_F(ExecutorTest, PeakMemoryKnowsBlocksAndThreads) {
  add_model({{"w", DType::kF32, {1000}}, {"v", DType::kF32, {10}}});
  add_tensor("w", {1000});
  add_tensor("v", {10});
  options_.block_elements = 600;  // two units of w, one of v
  options_.threads = 1;
  const Execution one = prepared();
  EXPECT_EQ(one.works[0].blocks, 2U);
  EXPECT_EQ(one.peak_memory(), one.works[0].unit_memory);
  options_.threads = 8;
  EXPECT_EQ(prepared().peak_memory(), 2 * one.works[0].unit_memory + one.works[1].unit_memory);
  options_.memory_limit = one.works[0].unit_memory;
  EXPECT_EQ(prepared().peak_memory(), options_.memory_limit);
  --options_.memory_limit;
  EXPECT_EQ(failure_of([&] { prepared(); }).value().code, Code::kOutOfMemory);
}

TEST_F(ExecutorTest, TheFirstErrorOfAnyThreadIsTold) {
  add_model({{"w", DType::kF32, {1000}}});
  add_tensor("w", {1000});
  options_.block_elements = 10;
  options_.threads = 4;
  toy::hook() = [](const TensorContext&) { throw Error(Code::kNumericError, "no"); };
  EXPECT_EQ(failure_of([&] { result(); }).value().message, "no");
}

}  // namespace
}  // namespace theriac::merge
