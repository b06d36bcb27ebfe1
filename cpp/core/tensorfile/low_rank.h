// The product of two thin matrices, added to a wide one: what a LoRA adapter does to a weight.
#pragma once

#include <cstddef>

namespace theriac::tensorfile {

// out[i, j] += scale * sum over k of left[i, k] * right[k, j], with left [rows, rank] and right
// [rank, columns]; rows of `right` and `out` are their strides apart. Float32, each element's sum in
// the order of k and without fused steps: the result depends neither on the processor nor on how a
// matrix is divided into calls. `out` overlaps no input.
void add_product(const float* left, const float* right, std::size_t rank, std::size_t right_stride,
                 float scale, std::size_t rows, std::size_t columns, float* out,
                 std::size_t out_stride);

}  // namespace theriac::tensorfile
