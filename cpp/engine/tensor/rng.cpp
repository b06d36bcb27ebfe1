// Randomness with the job's own seed. LibTorch's default generator is process-wide, so concurrent
// jobs that draw from it disturb each other; nothing here touches it.
#include <ATen/CPUGeneratorImpl.h>

#include "cpp/engine/tensor/tensor.h"

namespace theriac::tensor {
namespace {

template <class Draw>
void fill(at::Tensor tensor, Draw draw) {
  const torch::NoGradGuard no_grad;
  at::Tensor drawn = at::empty(tensor.sizes(), at::kDouble);  // CPU, shape of `tensor`
  double* values = drawn.data_ptr<double>();
  for (std::int64_t i = 0; i < drawn.numel(); ++i) values[i] = draw();
  tensor.copy_(drawn);
}

}  // namespace

at::Generator make_generator(std::uint64_t seed, std::string_view purpose, std::uint64_t position) {
  return at::make_generator<at::CPUGeneratorImpl>(Random(seed, purpose, position).bits64());
}

void fill_uniform(at::Tensor tensor, double low, double high, std::uint64_t seed,
                  std::string_view purpose) {
  Random random(seed, purpose);
  fill(std::move(tensor), [&] { return random.uniform(low, high); });
}

void fill_normal(at::Tensor tensor, double mean, double std, std::uint64_t seed,
                 std::string_view purpose) {
  Random random(seed, purpose);
  fill(std::move(tensor), [&] { return mean + std * random.normal(); });
}

at::Tensor dropout(const at::Tensor& x, double p, const std::optional<at::Generator>& generator) {
  if (!(p >= 0 && p <= 1)) {
    throw Error(Code::kInvalidArgument,
                "dropout probability is " + std::to_string(p) + "; expected 0 to 1");
  }
  if (p == 0 || !generator || !generator->defined()) return x;
  if (p == 1) return at::zeros_like(x) * x;  // keeps x in the graph, with a zero gradient
  at::Tensor kept = at::empty(x.sizes(), at::kFloat).bernoulli_(1 - p, generator);  // CPU
  return x * kept.div_(1 - p).to(x.options());
}

}  // namespace theriac::tensor
