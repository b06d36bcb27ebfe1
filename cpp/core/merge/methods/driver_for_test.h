// Runs one method on one tensor, or on the tensors of a model, as the executor does, but with blocks
// of any size, observed in any order. `merged` runs every case with several sizes and orders and
// fails where any output differs in a bit.
#pragma once

#include <gmock/gmock.h>

#include <cstring>
#include <map>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpp/core/base/random.h"
#include "cpp/core/merge/method.h"
#include "cpp/core/merge/method_parameters.h"

namespace theriac::merge {

using Values = std::vector<float>;
using SettingsForTest = std::map<std::string, ParameterValue>;

struct MergeCase {
  std::string method;
  std::vector<std::uint64_t> shape;
  std::optional<Values> base;
  std::vector<Values> models;
  SettingsForTest global;
  std::vector<SettingsForTest> own;  // one a model, or one for all
  SettingsForTest base_own;
  std::string name = "tensor";
  std::uint64_t seed = 0;
  std::vector<std::uint64_t> keys;  // empty: 0, 1, ...
  std::vector<std::size_t> tasks;   // empty: 0, 1, ...
  std::string folder;
  double t = 0;
  Accumulate accumulate = Accumulate::kFloat32;
  tensorfile::DType dtype = tensorfile::DType::kF32;
};

inline Parameters parameters_for(const std::string& method, ParameterScope scope,
                                 const SettingsForTest& given) {
  Parameters out;
  for (const ParameterDeclaration& declaration : find_method(method)->parameters) {
    if (declaration.scope != scope) continue;
    const auto found = given.find(declaration.name);
    if (found != given.end()) {
      out.set(declaration, found->second);
    } else if (declaration.fallback) {
      out.set(declaration, *declaration.fallback);
    }
  }
  for (const auto& [name, value] : given) {
    if (find_method(method)->find(name) == nullptr) {
      throw std::runtime_error(method + " declares no " + name);
    }
  }
  return out;
}

// What a context points to.
class ContextForTest {
 public:
  explicit ContextForTest(const MergeCase& c)
      : global_(parameters_for(c.method, ParameterScope::kGlobal, c.global)),
        base_(parameters_for(c.method, ParameterScope::kModel, c.base_own)) {
    own_.reserve(c.models.size());
    for (std::size_t m = 0; m < c.models.size(); ++m) {
      const SettingsForTest none;
      const SettingsForTest& own = c.own.empty() ? none : c.own[m < c.own.size() ? m : 0];
      own_.push_back(parameters_for(c.method, ParameterScope::kModel, own));
      context_.model_parameters.push_back(&own_.back());
      context_.model_keys.push_back(c.keys.empty() ? m : c.keys[m]);
      context_.model_tasks.push_back(c.tasks.empty() ? m : c.tasks[m]);
    }
    context_.folder = c.folder;
    context_.t = c.t;
    context_.name = c.name;
    context_.shape = c.shape;
    context_.has_base = c.base.has_value();
    context_.dtype = c.dtype;
    context_.accumulate = c.accumulate;
    context_.parameters = &global_;
    context_.base_parameters = c.base ? &base_ : nullptr;
    context_.seed = c.seed;
  }
  const TensorContext& get() const { return context_; }

 private:
  Parameters global_, base_;
  std::vector<Parameters> own_;
  TensorContext context_;
};

inline Block block_of(const MergeCase& c, std::uint64_t first, std::size_t count,
                      std::vector<const float*>& pointers) {
  pointers.clear();
  for (const Values& model : c.models) pointers.push_back(model.data() + first);
  return {first, count, c.base ? c.base->data() + first : nullptr, pointers};
}

// One tensor cut into blocks, which come in random order.
class BlocksForTest {
 public:
  // `unit`: elements or rows a block, as the method's granularity has it.
  BlocksForTest(const MergeCase& c, const TensorContext& context, Granularity granularity,
                std::uint64_t unit, std::uint64_t order_seed)
      : case_(c), n_(context.elements()), size_(unit), random_(order_seed, "order") {
    if (granularity == Granularity::kRows) size_ = unit * context.row_length();
    if (granularity == Granularity::kTensor) size_ = n_;
    for (std::uint64_t first = 0; first < n_; first += size_) firsts_.push_back(first);
    order_.resize(firsts_.size());
    std::iota(order_.begin(), order_.end(), std::size_t{0});
  }
  std::size_t size() const { return firsts_.size(); }
  const std::vector<std::size_t>& shuffled() {
    random_.shuffle(order_);
    return order_;
  }
  Block at(std::size_t b) {
    const auto count = static_cast<std::size_t>(std::min(size_, n_ - firsts_[b]));
    return block_of(case_, firsts_[b], count, pointers_);
  }

 private:
  const MergeCase& case_;
  std::uint64_t n_, size_;
  Random random_;
  std::vector<std::uint64_t> firsts_;
  std::vector<std::size_t> order_;
  std::vector<const float*> pointers_;
};

inline Values merged_tensor(const MergeCase& c, const TensorContext& context, std::uint64_t unit,
                            std::uint64_t order_seed) {
  const std::unique_ptr<TensorMerge> merge = find_kernel(c.method)->make(context);
  BlocksForTest blocks(c, context, merge->granularity(), unit, order_seed);
  for (int pass = 0; pass < merge->passes(); ++pass) {
    std::vector<std::unique_ptr<Partial>> partials(blocks.size());
    for (const std::size_t b : blocks.shuffled()) {
      partials[b] = merge->observe(pass, blocks.at(b));
    }
    merge->end_pass(pass, partials);
  }
  Values out(context.elements());
  for (const std::size_t b : blocks.shuffled()) {
    const Block block = blocks.at(b);
    merge->apply(block, out.data() + block.first);
  }
  return out;
}

// Cases of one method, each a tensor of the model. `summary`: what the statistics tell.
inline std::vector<Values> merged_model_in_blocks(const std::vector<MergeCase>& tensors,
                                                  std::uint64_t unit, std::uint64_t order_seed,
                                                  Json* summary = nullptr) {
  const MethodKernel& kernel = *find_kernel(tensors.front().method);
  std::vector<std::unique_ptr<ContextForTest>> owners;
  std::vector<TensorContext> contexts;
  std::size_t tasks = 0;
  for (const MergeCase& c : tensors) {
    owners.push_back(std::make_unique<ContextForTest>(c));
    contexts.push_back(owners.back()->get());
    contexts.back().index = contexts.size() - 1;
    contexts.back().keepable = order_seed % 2 == 0 ? 1U << 20 : 0;  // which changes no bytes
    for (const std::size_t task : contexts.back().model_tasks) tasks = std::max(tasks, task + 1);
  }
  for (TensorContext& context : contexts) context.tasks = tasks;
  std::unique_ptr<ModelStatistics> statistics;
  if (kernel.make_statistics != nullptr) statistics = kernel.make_statistics(contexts);
  for (TensorContext& context : contexts) context.statistics = statistics.get();
  for (int pass = 0; statistics && pass < statistics->passes(); ++pass) {
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      const Granularity granularity = kernel.make(contexts[t])->granularity();
      BlocksForTest blocks(tensors[t], contexts[t], granularity, unit, order_seed);
      std::vector<std::unique_ptr<Partial>> partials(blocks.size());
      for (const std::size_t b : blocks.shuffled()) {
        partials[b] = statistics->observe(pass, t, blocks.at(b));
      }
      for (const auto& partial : partials) statistics->absorb(pass, t, *partial);
    }
    statistics->end_pass(pass);
  }
  if (summary != nullptr && statistics) *summary = statistics->summary();
  std::vector<Values> out;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    out.push_back(merged_tensor(tensors[t], contexts[t], unit, order_seed));
  }
  return out;
}

inline Values merged_in_blocks(const MergeCase& c, std::uint64_t unit, std::uint64_t order_seed) {
  return merged_model_in_blocks({c}, unit, order_seed).front();
}

inline bool same_bytes(const Values& a, const Values& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

inline Values merged(const MergeCase& c) {
  const Values out = merged_in_blocks(c, 1U << 30, 0);
  constexpr std::uint64_t kMostBlocks = 200;
  for (const std::uint64_t unit : {1, 3, 64, 1000}) {
    if (out.size() / unit > kMostBlocks) continue;
    EXPECT_TRUE(same_bytes(out, merged_in_blocks(c, unit, unit))) << c.method << ", unit " << unit;
  }
  return out;
}

inline std::vector<Values> merged_model(const std::vector<MergeCase>& tensors,
                                        Json* summary = nullptr) {
  const std::vector<Values> out = merged_model_in_blocks(tensors, 1U << 30, 0, summary);
  for (const std::uint64_t unit : {3, 64}) {
    const std::vector<Values> other = merged_model_in_blocks(tensors, unit, unit);
    for (std::size_t t = 0; t < out.size(); ++t) {
      EXPECT_TRUE(same_bytes(out[t], other[t])) << tensors[t].method << ", tensor " << t;
    }
  }
  return out;
}

inline void expect_near(const Values& actual, const std::vector<double>& expected,
                        double tolerance = 1e-6) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_NEAR(static_cast<double>(actual[i]), expected[i], tolerance) << "element " << i;
  }
}

// The running example of the specification: base 1, three differences.
inline MergeCase running_example(const std::string& method) {
  MergeCase c;
  c.method = method;
  c.shape = {6};
  c.base = Values(6, 1.0F);
  const std::vector<std::vector<double>> differences{
      {.9, -.2, 0, .5, -.6, .1}, {-.4, .3, 0, .5, .2, -.8}, {.1, -.7, 0, -.5, .3, .4}};
  for (const auto& difference : differences) {
    Values model;
    for (const double d : difference) model.push_back(static_cast<float>(1 + d));
    c.models.push_back(model);
  }
  return c;
}
// The same differences, exactly, from a base of 0.
inline MergeCase running_differences(const std::string& method) {
  MergeCase c = running_example(method);
  c.base = Values(6, 0.0F);
  c.models = {{.9F, -.2F, 0, .5F, -.6F, .1F},
              {-.4F, .3F, 0, .5F, .2F, -.8F},
              {.1F, -.7F, 0, -.5F, .3F, .4F}};
  return c;
}

inline Values random_values(std::size_t n, std::uint64_t seed, double scale = 1.0) {
  Random random(seed, "values");
  Values out(n);
  for (float& value : out) value = static_cast<float>(scale * random.normal());
  return out;
}
inline std::size_t elements_of(const std::vector<std::uint64_t>& shape) {
  std::size_t n = 1;
  for (const std::uint64_t size : shape) n *= size;
  return n;
}
inline const std::vector<std::vector<std::uint64_t>>& shapes_for_test() {
  static const std::vector<std::vector<std::uint64_t>> shapes{
      {}, {0}, {3, 0}, {1}, {1, 1}, {7}, {5, 9}, {2, 3, 4}, {1500}, {40, 33}};
  return shapes;
}

// A base and `models` fine-tuned copies of it.
inline MergeCase random_case(const std::string& method, const std::vector<std::uint64_t>& shape,
                             std::size_t models, std::uint64_t seed) {
  MergeCase c;
  c.method = method;
  c.shape = shape;
  const std::size_t n = elements_of(shape);
  c.base = random_values(n, seed);
  for (std::size_t m = 0; m < models; ++m) {
    const Values change = random_values(n, 1000 * seed + m + 1, 0.1);
    Values model = *c.base;
    for (std::size_t i = 0; i < n; ++i) model[i] += change[i];
    c.models.push_back(model);
  }
  return c;
}

}  // namespace theriac::merge
