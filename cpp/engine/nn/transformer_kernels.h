// Parts of a transformer block over ragged float32 rows, without a dispatcher or a thread pool: what
// scoring histories consists of beside matrix products (matrix_product.h).
//
// A row's result depends on that row alone (attention: on its own sequence), never on how many are
// computed together. SIMD with run-time dispatch by Highway.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace theriac::nn {

// x[r] = LayerNorm(x[r] + residual[r]), r < rows, both [rows, width], contiguous; `residual` may be
// null. Biased variance, epsilon inside the root (Ba et al., arXiv 1607.06450).
void layer_norm(float* x, const float* residual, std::size_t rows, std::size_t width,
                const float* weight, const float* bias, float epsilon) noexcept;

// x (1 + erf(x / sqrt 2)) / 2 in place, to 1e-6 absolute, and to float precision past |x| = 5.5.
void gelu(std::span<float> x) noexcept;

// Several heads of one sequence's attention, beside each other in a row, `head` floats each.
struct AttentionShape {
  std::size_t heads = 1, head = 1;               // width = heads * head
  std::size_t query_stride = 1, key_stride = 1;  // floats from a row of q, of k and v, to the next
  std::size_t out_stride = 1;
  float scale = 1;             // of q k^T
  bool one_key_value = false;  // all heads read the same k and v, [keys, head]
};
inline constexpr std::size_t kAttentionSpare = 8;
// out[i] = softmax over keys j <= i + offset of scale q[i] k[row j], times v[row j]; i < queries. Row j
// is rows[j], or j when `rows` is null, so that sequences may share rows. Key j counts when `blocked` is
// null or blocked[j] is 0. `weights`: scratch of queries + offset + kAttentionSpare floats. A query without a key that
// counts attends to all keys 0 ... i + offset alike, as a finite mask does.
void causal_attention(const AttentionShape& shape, const float* q, const float* k, const float* v,
                      const std::uint32_t* rows, const std::uint8_t* blocked, std::size_t queries,
                      std::size_t offset, float* weights, float* out) noexcept;

// How many of `scores` are above `value`.
std::size_t count_above(std::span<const float> scores, float value) noexcept;
std::size_t count_equal(std::span<const float> scores, float value) noexcept;
// Position of the first score at or after `from` that is above `value`; scores.size() without one.
std::size_t find_above(std::span<const float> scores, std::size_t from, float value) noexcept;

}  // namespace theriac::nn
