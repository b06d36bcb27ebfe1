// The kernels of merge methods on one thread, without files: nanoseconds an element of the output, k = 3 models and a base,
// values as in bfloat16 checkpoints. `threshold` is what exact top-k costs ties: the passes before the output.
//
//     merge_bench [--benchmark_filter=ties]
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <vector>

#include "cpp/core/base/random.h"
#include "cpp/core/merge/method.h"
#include "cpp/core/merge/method_parameters.h"
#include "cpp/core/tensorfile/convert.h"

namespace {

using namespace theriac;
using namespace theriac::merge;

constexpr std::size_t kBlock = std::size_t{1} << 17, kBlocks = 16, kModels = 3;

std::vector<float> drawn(std::uint64_t seed, double deviation, const std::vector<float>* around) {
  std::vector<float> out(kBlock * kBlocks);
  Random random(seed, "bench");
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double centre = around == nullptr ? 0 : static_cast<double>((*around)[i]);
    out[i] = static_cast<float>(centre + deviation * random.normal());
  }
  std::vector<char> halves(2 * out.size());
  tensorfile::from_float(tensorfile::DType::kBF16, out.data(), out.size(), halves.data());
  tensorfile::to_float(tensorfile::DType::kBF16, halves.data(), out.size(), out.data());
  return out;
}

Parameters parameters_of(const std::string& method, ParameterScope scope) {
  Parameters out;
  for (const ParameterDeclaration& declaration : find_method(method)->parameters) {
    if (declaration.scope != scope) continue;
    if (declaration.name == "weight") {
      out.set(declaration, 0.4);
    } else if (declaration.name == "density") {
      out.set(declaration, 0.5);
    } else if (declaration.name == "t") {
      out.set(declaration, 0.4);
    } else if (declaration.fallback) {
      out.set(declaration, *declaration.fallback);
    }
  }
  return out;
}

struct Data {
  std::vector<float> base = drawn(0, 0.02, nullptr);
  std::vector<std::vector<float>> models;
  Data() {
    for (std::uint64_t m = 1; m <= kModels; ++m) models.push_back(drawn(m, 0.001, &base));
  }
};

const Data& data() {
  static const Data made;
  return made;
}

// One tensor from the first pass on; `applies`: with the output.
void run(benchmark::State& state, const std::string& method, std::size_t models, bool applies) {
  const Parameters global = parameters_of(method, ParameterScope::kGlobal);
  const Parameters own = parameters_of(method, ParameterScope::kModel);
  TensorContext context;
  context.name = "tensor";
  context.shape = {kBlock * kBlocks / 2048, 2048};
  context.has_base = true;
  context.parameters = &global;
  context.base_parameters = &own;
  context.keepable = kBlock * kBlocks;  // as without a memory limit
  for (std::size_t m = 0; m < models; ++m) {
    context.model_parameters.push_back(&own);
    context.model_keys.push_back(m);
  }
  std::vector<float> out(kBlock);
  const auto block_at = [&](std::size_t b, std::vector<const float*>& pointers) {
    pointers.clear();
    for (std::size_t m = 0; m < models; ++m)
      pointers.push_back(data().models[m].data() + b * kBlock);
    return Block{b * kBlock, kBlock, data().base.data() + b * kBlock, pointers};
  };
  std::vector<const float*> pointers;
  for (auto _ : state) {
    const auto merge = find_kernel(method)->make(context);
    for (int pass = 0; pass < merge->passes(); ++pass) {
      std::vector<std::unique_ptr<Partial>> partials;
      for (std::size_t b = 0; b < kBlocks; ++b)
        partials.push_back(merge->observe(pass, block_at(b, pointers)));
      merge->end_pass(pass, partials);
    }
    for (std::size_t b = 0; applies && b < kBlocks; ++b) {
      merge->apply(block_at(b, pointers), out.data());
      benchmark::DoNotOptimize(out.data());
    }
  }
  state.counters["ns/element"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * 1e-9 * static_cast<double>(kBlock * kBlocks),
      benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void convert(benchmark::State& state, bool widens) {
  std::vector<char> halves(2 * kBlock);
  std::vector<float> floats(data().base.begin(), data().base.begin() + kBlock);
  tensorfile::from_float(tensorfile::DType::kBF16, floats.data(), kBlock, halves.data());
  for (auto _ : state) {
    if (widens) {
      tensorfile::to_float(tensorfile::DType::kBF16, halves.data(), kBlock, floats.data());
    } else {
      tensorfile::from_float(tensorfile::DType::kBF16, floats.data(), kBlock, halves.data());
    }
    benchmark::ClobberMemory();
  }
  state.counters["ns/element"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * 1e-9 * static_cast<double>(kBlock),
      benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  for (const char* method : {"linear", "task_arithmetic", "ties", "dare_ties", "della",
                             "breadcrumbs", "model_stock", "sce"}) {
    benchmark::RegisterBenchmark(
        method, [method](benchmark::State& state) { run(state, method, kModels, true); });
  }
  benchmark::RegisterBenchmark("slerp",
                               [](benchmark::State& state) { run(state, "slerp", 1, true); });
  benchmark::RegisterBenchmark("ties threshold",
                               [](benchmark::State& state) { run(state, "ties", kModels, false); });
  benchmark::RegisterBenchmark("bfloat16 to float32",
                               [](benchmark::State& state) { convert(state, true); });
  benchmark::RegisterBenchmark("float32 to bfloat16",
                               [](benchmark::State& state) { convert(state, false); });
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
