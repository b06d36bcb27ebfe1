// Runs one method on one tensor as the executor does, but with blocks of any size, observed in any
// order. `merged` runs every case with several sizes and orders and fails where any output differs
// in a bit.
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
    }
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

// `unit`: elements or rows a block, as the method's granularity has it.
inline Values merged_in_blocks(const MergeCase& c, std::uint64_t unit, std::uint64_t order_seed) {
  const ContextForTest context(c);
  const std::unique_ptr<TensorMerge> merge = find_kernel(c.method)->make(context.get());
  const std::uint64_t n = context.get().elements();
  std::uint64_t size = unit;
  if (merge->granularity() == Granularity::kRows) size = unit * context.get().row_length();
  if (merge->granularity() == Granularity::kTensor) size = n;
  std::vector<std::uint64_t> firsts;
  for (std::uint64_t first = 0; first < n; first += size) firsts.push_back(first);
  Random random(order_seed, "order");
  std::vector<std::size_t> order(firsts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::vector<const float*> pointers;
  const auto block = [&](std::size_t b) {
    return block_of(c, firsts[b], static_cast<std::size_t>(std::min(size, n - firsts[b])),
                    pointers);
  };
  for (int pass = 0; pass < merge->passes(); ++pass) {
    std::vector<std::unique_ptr<Partial>> partials(firsts.size());
    random.shuffle(order);
    for (const std::size_t b : order) partials[b] = merge->observe(pass, block(b));
    merge->end_pass(pass, partials);
  }
  Values out(n);
  random.shuffle(order);
  for (const std::size_t b : order) merge->apply(block(b), out.data() + firsts[b]);
  return out;
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
