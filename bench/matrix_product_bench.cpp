// Products of the sizes that training asks for, ours beside LibTorch's (MKL) on one thread: rows x
// 128 by 128 x 128 forward (weights transposed) and backward, and a weight's gradient over the rows.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include "cpp/engine/nn/matrix_product.h"

namespace {

using theriac::nn::MatrixView;
using theriac::nn::PackedFactor;

constexpr std::int64_t kDim = 128;
constexpr auto kSize = static_cast<std::size_t>(kDim);

MatrixView view(const at::Tensor& matrix) {
  return {matrix.const_data_ptr<float>(), static_cast<std::size_t>(matrix.stride(0)),
          static_cast<std::size_t>(matrix.stride(1))};
}

void report(benchmark::State& state) {
  const double flops = 2.0 * static_cast<double>(state.range(0)) * kDim * kDim;
  state.counters["GFlop/s"] =
      benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

struct Case {
  at::Tensor x, w, out, gradient;
  explicit Case(std::int64_t rows)
      : x(at::randn({rows, kDim})),
        w(at::randn({kDim, kDim})),
        out(at::randn({rows, kDim})),
        gradient(at::empty({kDim, kDim})) {}
};

// The weight is packed once and used by 4 products, as by the steps of a recurrence.
void forward_ours(benchmark::State& state) {
  Case c(state.range(0));
  PackedFactor factor;
  for (int use = 0; auto _ : state) {
    if (use++ % 4 == 0) factor.pack(view(c.w).transposed(), kSize, kSize);
    product(view(c.x), static_cast<std::size_t>(state.range(0)), factor,
            c.out.mutable_data_ptr<float>(), kSize);
  }
  report(state);
}

void forward_libtorch(benchmark::State& state) {
  Case c(state.range(0));
  for (auto _ : state) at::mm_out(c.out, c.x, c.w.t());
  report(state);
}

void gradient_ours(benchmark::State& state) {
  Case c(state.range(0));
  PackedFactor scratch;
  for (auto _ : state) {
    long_product(view(c.out).transposed(), kSize, view(c.x),
                 static_cast<std::size_t>(state.range(0)), kSize,
                 c.gradient.mutable_data_ptr<float>(), kSize, scratch);
  }
  report(state);
}

void gradient_libtorch(benchmark::State& state) {
  Case c(state.range(0));
  for (auto _ : state) at::mm_out(c.gradient, c.out.t(), c.x);
  report(state);
}

BENCHMARK(forward_ours)->Arg(8)->Arg(32)->Arg(256)->Arg(1000);
BENCHMARK(forward_libtorch)->Arg(8)->Arg(32)->Arg(256)->Arg(1000);
BENCHMARK(gradient_ours)->Arg(32)->Arg(256)->Arg(1000);
BENCHMARK(gradient_libtorch)->Arg(32)->Arg(256)->Arg(1000);

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
