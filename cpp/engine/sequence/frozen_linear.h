// y = x W^T + b over rows, from frozen weights (matrix_product.h).
#pragma once

#include <cstddef>
#include <vector>

#include "cpp/engine/nn/linear.h"
#include "cpp/engine/nn/matrix_product.h"

namespace theriac::sequence {

// A tensor's numbers in row-major order, as float32 on the CPU.
std::vector<float> values(const at::Tensor& tensor);

// Immutable once made; may be shared between threads.
class FrozenLinear {
 public:
  FrozenLinear() = default;
  // weight: [out, in] row-major; bias: [out], or empty: none.
  FrozenLinear(const std::vector<float>& weight, std::vector<float> bias, std::size_t in);
  explicit FrozenLinear(const nn::LinearImpl& layer);
  // Layers of one input, their outputs beside each other.
  explicit FrozenLinear(std::initializer_list<const nn::LinearImpl*> layers);

  std::size_t out() const { return factor_.columns(); }
  // x: [rows, in] rows `x_stride` apart; y: [rows, out].
  void apply(const float* x, std::size_t x_stride, std::size_t rows, float* y) const;

 private:
  nn::PackedFactor factor_;  // [in, out]
  std::vector<float> bias_;
};

}  // namespace theriac::sequence
