// Products of float32 tensors in host memory by matrix_product.h, for autograd functions of training
// steps: LibTorch's own scale the output, repack a weight at every call and go through the dispatcher
// for each piece.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "cpp/engine/nn/matrix_product.h"
#include "cpp/engine/tensor/tensor.h"

namespace theriac::nn {

bool are_host_floats(std::initializer_list<at::Tensor> tensors);

// Of a matrix.
MatrixView view(const at::Tensor& matrix);

// A weight [out, in], repacked for `x W^T` (forward) or `gradient W` (backward).
enum class Way { kForward, kBackward };
PackedFactor packed(const at::Tensor& weight, Way way);

// out = left factor (+ bias, which may be undefined), for `rows` contiguous rows of both, on as many
// threads as the work is worth.
void multiply_rows(const float* left, std::int64_t rows, const PackedFactor& factor,
                   const at::Tensor& bias, float* out);
// out += left factor
void add_multiplied_rows(const float* left, std::int64_t rows, const PackedFactor& factor,
                         float* out);

// left^T right over all their rows, as a weight's gradient is: left [rows, out], right [rows, in] ->
// [out, in].
at::Tensor transposed_product(const at::Tensor& left, const at::Tensor& right);

// a b, or a b^T (Way::kForward, as a layer's weight is used); a [n, k]. Gradients reach both. By
// LibTorch's operators where a tensor is not in host memory as float32.
at::Tensor matrix_product(const at::Tensor& a, const at::Tensor& b, Way way);

}  // namespace theriac::nn
