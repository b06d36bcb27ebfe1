// Affine map y = x W^T + b with PyTorch's default initialisation, drawn from the job's own seed.
#pragma once

#include <cstdint>
#include <string>

#include "cpp/engine/tensor/tensor.h"

namespace theriac::nn {

// Fills a weight [out, in] and a bias [out] (may be undefined) as torch.nn.Linear does:
// kaiming-uniform with a = sqrt(5) is U(-1/sqrt(in), 1/sqrt(in)) for both. `name` is the purpose:
// give each layer its own.
void init_linear(at::Tensor weight, at::Tensor bias, std::uint64_t seed, const std::string& name);

// torch::nn::Linear without its draws from LibTorch's default generator, which the host may be
// using. Parameters: weight [out, in], bias [out].
class LinearImpl : public torch::nn::Module {
 public:
  LinearImpl(std::int64_t in, std::int64_t out, std::uint64_t seed, const std::string& name,
             bool with_bias = true);
  at::Tensor forward(const at::Tensor& x) const;  // [..., in] -> [..., out]

  at::Tensor weight, bias;
};
TORCH_MODULE(Linear);

}  // namespace theriac::nn
