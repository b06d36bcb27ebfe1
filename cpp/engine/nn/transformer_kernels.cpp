#include "cpp/engine/nn/transformer_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpp/engine/nn/transformer_kernels.cpp"
#include <hwy/foreach_target.h>  // re-includes this file once a target
//
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace theriac::nn::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Lanes = hn::CappedTag<float, 8>;

// The sum of term(i) over i < n, whole vectors first: load(i) gives a vector, one(i) a float.
template <class Load, class One>
HWY_INLINE float sum_of(std::size_t n, Load load, One one) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  auto sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) sum = hn::Add(sum, load(i));
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < n; ++i) total += one(i);
  return total;
}

void layer_norm_all(float* x, const float* residual, std::size_t rows, std::size_t n,
                    const float* weight, const float* bias, float epsilon) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  for (std::size_t r = 0; r < rows; ++r, x += n) {
    if (residual != nullptr) {
      std::size_t i = 0;
      for (; i + lanes <= n; i += lanes)
        hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, residual + i)), d, x + i);
      for (; i < n; ++i) x[i] += residual[i];
      residual += n;
    }
    const auto count = static_cast<float>(n);
    const float mean = sum_of(
                           n, [&](std::size_t i) HWY_ATTR { return hn::LoadU(d, x + i); },
                           [&](std::size_t i) { return x[i]; }) /
                       count;
    const auto means = hn::Set(d, mean);
    const float variance = sum_of(
                               n,
                               [&](std::size_t i) HWY_ATTR {
                                 const auto c = hn::Sub(hn::LoadU(d, x + i), means);
                                 return hn::Mul(c, c);
                               },
                               [&](std::size_t i) { return (x[i] - mean) * (x[i] - mean); }) /
                           count;
    const float scale = 1 / std::sqrt(variance + epsilon);
    const auto scales = hn::Set(d, scale);
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      const auto centred = hn::Mul(hn::Sub(hn::LoadU(d, x + i), means), scales);
      hn::StoreU(hn::MulAdd(centred, hn::LoadU(d, weight + i), hn::LoadU(d, bias + i)), d, x + i);
    }
    for (; i < n; ++i) x[i] = (x[i] - mean) * scale * weight[i] + bias[i];
  }
}

// x (1 + erf(x / sqrt 2)) / 2
template <class V>
HWY_INLINE V gelu_of(const Lanes d, V x) {
  const auto one = hn::Set(d, 1.0F);
  const auto z = hn::Abs(hn::Mul(x, hn::Set(d, 0.70710678118654752F)));
  const auto t = hn::Div(one, hn::MulAdd(hn::Set(d, 0.3275911F), z, one));
  auto p = hn::MulAdd(hn::Set(d, 1.061405429F), t, hn::Set(d, -1.453152027F));
  p = hn::MulAdd(p, t, hn::Set(d, 1.421413741F));
  p = hn::MulAdd(p, t, hn::Set(d, -0.284496736F));
  p = hn::MulAdd(p, t, hn::Set(d, 0.254829592F));
  // Past 9.3 the exponential leaves float's range; the result is 0 there anyway.
  const auto bounded = hn::Min(z, hn::Set(d, 9.0F));
  const auto tail = hn::Mul(hn::Mul(p, t), hn::Exp(d, hn::Neg(hn::Mul(bounded, bounded))));
  const auto erf = hn::CopySign(hn::Sub(one, tail), x);
  return hn::Mul(hn::Mul(hn::Set(d, 0.5F), x), hn::Add(one, erf));
}

void gelu_all(float* x, std::size_t n) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(gelu_of(d, hn::LoadU(d, x + i)), d, x + i);
  if (i == n) return;
  HWY_ALIGN float tail[16] = {};
  std::memcpy(tail, x + i, (n - i) * sizeof(float));
  hn::Store(gelu_of(d, hn::Load(d, tail)), d, tail);
  std::memcpy(x + i, tail, (n - i) * sizeof(float));
}

HWY_INLINE float dot_of(const float* a, const float* b, std::size_t n) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  auto sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    sum = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum);
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < n; ++i) total += a[i] * b[i];
  return total;
}

// e^x of x <= 0, n of them in place; returns their sum, added up in order.
HWY_INLINE float exponentials(float* x, std::size_t n) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Exp(d, hn::LoadU(d, x + i)), d, x + i);
  if (i < n) {
    HWY_ALIGN float tail[16] = {};
    std::memcpy(tail, x + i, (n - i) * sizeof(float));
    hn::Store(hn::Exp(d, hn::Load(d, tail)), d, tail);
    std::memcpy(x + i, tail, (n - i) * sizeof(float));
  }
  float sum = 0;
  for (i = 0; i < n; ++i) sum += x[i];
  return sum;
}

HWY_INLINE void one_query(const AttentionShape& shape, const float* q, const float* k,
                          const float* v, const std::uint8_t* blocked, std::size_t keys,
                          float* weights, float* out) {
  constexpr float kBlocked = -10000;
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  float highest = -INFINITY;
  for (std::size_t j = 0; j < keys; ++j) {
    weights[j] = dot_of(q, k + j * shape.key_stride, shape.head) * shape.scale;
    if (blocked != nullptr && blocked[j] != 0) weights[j] += kBlocked;
    highest = std::max(highest, weights[j]);
  }
  // Below -104 the exponential is 0: a blocked key beside one that counts has no share at all.
  for (std::size_t j = 0; j < keys; ++j) weights[j] -= highest;
  const float sum = exponentials(weights, keys);
  for (std::size_t c = 0; c + lanes <= shape.head; c += lanes) {
    auto total = hn::Zero(d);
    for (std::size_t j = 0; j < keys; ++j)
      total = hn::MulAdd(hn::Set(d, weights[j] / sum), hn::LoadU(d, v + j * shape.key_stride + c),
                         total);
    hn::StoreU(total, d, out + c);
  }
  for (std::size_t c = shape.head / lanes * lanes; c < shape.head; ++c) {
    float total = 0;
    for (std::size_t j = 0; j < keys; ++j) total += weights[j] / sum * v[j * shape.key_stride + c];
    out[c] = total;
  }
}

void causal_attention_all(const AttentionShape& shape, const float* q, const float* k,
                          const float* v, const std::uint8_t* blocked, std::size_t queries,
                          std::size_t offset, float* weights, float* out) {
  for (std::size_t i = 0; i < queries; ++i) {
    for (std::size_t h = 0; h < shape.heads; ++h) {
      const std::size_t at = h * shape.head;
      one_query(shape, q + i * shape.query_stride + at, k + at, v + at, blocked, i + offset + 1,
                weights, out + i * shape.out_stride + at);
    }
  }
}

std::size_t count_above_all(const float* x, std::size_t n, float value) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  const auto limit = hn::Set(d, value);
  std::size_t count = 0, i = 0;
  for (; i + lanes <= n; i += lanes) count += hn::CountTrue(d, hn::Gt(hn::LoadU(d, x + i), limit));
  for (; i < n; ++i) count += x[i] > value ? 1 : 0;
  return count;
}

std::size_t count_equal_all(const float* x, std::size_t n, float value) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  const auto wanted = hn::Set(d, value);
  std::size_t count = 0, i = 0;
  for (; i + lanes <= n; i += lanes) count += hn::CountTrue(d, hn::Eq(hn::LoadU(d, x + i), wanted));
  for (; i < n; ++i) count += x[i] == value ? 1 : 0;
  return count;
}

std::size_t find_above_all(const float* x, std::size_t from, std::size_t n, float value) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  const auto limit = hn::Set(d, value);
  std::size_t i = from;
  for (; i + lanes <= n; i += lanes) {
    const auto first = hn::FindFirstTrue(d, hn::Gt(hn::LoadU(d, x + i), limit));
    if (first >= 0) return i + static_cast<std::size_t>(first);
  }
  for (; i < n; ++i) {
    if (x[i] > value) return i;
  }
  return n;
}

}  // namespace theriac::nn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace theriac::nn {

HWY_EXPORT(layer_norm_all);
HWY_EXPORT(gelu_all);
HWY_EXPORT(causal_attention_all);
HWY_EXPORT(count_above_all);
HWY_EXPORT(count_equal_all);
HWY_EXPORT(find_above_all);

void layer_norm(float* x, const float* residual, std::size_t rows, std::size_t width,
                const float* weight, const float* bias, float epsilon) noexcept {
  HWY_DYNAMIC_DISPATCH(layer_norm_all)(x, residual, rows, width, weight, bias, epsilon);
}
void gelu(std::span<float> x) noexcept { HWY_DYNAMIC_DISPATCH(gelu_all)(x.data(), x.size()); }
void causal_attention(const AttentionShape& shape, const float* q, const float* k, const float* v,
                      const std::uint8_t* blocked, std::size_t queries, std::size_t offset,
                      float* weights, float* out) noexcept {
  HWY_DYNAMIC_DISPATCH(causal_attention_all)
  (shape, q, k, v, blocked, queries, offset, weights, out);
}
std::size_t count_above(std::span<const float> scores, float value) noexcept {
  return HWY_DYNAMIC_DISPATCH(count_above_all)(scores.data(), scores.size(), value);
}
std::size_t count_equal(std::span<const float> scores, float value) noexcept {
  return HWY_DYNAMIC_DISPATCH(count_equal_all)(scores.data(), scores.size(), value);
}
std::size_t find_above(std::span<const float> scores, std::size_t from, float value) noexcept {
  return HWY_DYNAMIC_DISPATCH(find_above_all)(scores.data(), from, scores.size(), value);
}

}  // namespace theriac::nn
#endif
