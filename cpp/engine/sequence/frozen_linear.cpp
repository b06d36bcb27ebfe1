#include "cpp/engine/sequence/frozen_linear.h"

namespace theriac::sequence {
namespace {

std::vector<float> joined(std::initializer_list<const nn::LinearImpl*> layers, bool weights) {
  std::vector<float> all;
  for (const nn::LinearImpl* layer : layers) {
    const std::vector<float> own = values(weights ? layer->weight : layer->bias);
    all.insert(all.end(), own.begin(), own.end());
  }
  return all;
}

}  // namespace

std::vector<float> values(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().to(at::kCPU, at::kFloat).contiguous().view(-1);
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

FrozenLinear::FrozenLinear(const std::vector<float>& weight, std::vector<float> bias,
                           std::size_t in)
    : bias_(std::move(bias)) {
  factor_.pack(nn::MatrixView{weight.data(), in, 1}.transposed(), in, weight.size() / in);
}

FrozenLinear::FrozenLinear(const nn::LinearImpl& layer) : FrozenLinear({&layer}) {}

FrozenLinear::FrozenLinear(std::initializer_list<const nn::LinearImpl*> layers)
    : FrozenLinear(joined(layers, true), joined(layers, false),
                   static_cast<std::size_t>((*layers.begin())->weight.size(1))) {}

void FrozenLinear::apply(const float* x, std::size_t x_stride, std::size_t rows, float* y) const {
  if (bias_.empty()) {
    nn::product({x, x_stride, 1}, rows, factor_, y, out());
  } else {
    nn::product({x, x_stride, 1}, rows, factor_, bias_.data(), y, out());
  }
}

}  // namespace theriac::sequence
