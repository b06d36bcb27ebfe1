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

// x (1 + erf(x / sqrt 2)) / 2, with erf(z) = z P(z^2) / Q(z^2) for |z| < 3.832, beyond which it rounds to
// 1 (a rational approximation fitted to 1.2e-8 there by reweighted least squares).
template <class V>
HWY_INLINE V gelu_of(const Lanes d, V x) {
  const auto set = [&](float value) HWY_ATTR { return hn::Set(d, value); };
  const auto one = set(1.0F);
  const auto z = hn::Mul(x, set(0.70710678118654752F));
  const auto u = hn::Mul(z, z);
  auto p = hn::MulAdd(set(2.10540383704938e-06F), u, set(0.00028771214419975877F));
  p = hn::MulAdd(p, u, set(0.0037369122728705406F));
  p = hn::MulAdd(p, u, set(0.052672844380140305F));
  p = hn::MulAdd(p, u, set(0.18928657472133636F));
  p = hn::MulAdd(p, u, set(1.1283791065216064F));
  auto q = hn::MulAdd(set(3.8809204852441326e-05F), u, set(0.0011619993019849062F));
  q = hn::MulAdd(q, u, set(0.014909222722053528F));
  q = hn::MulAdd(q, u, set(0.11371233314275742F));
  q = hn::MulAdd(q, u, set(0.5010829567909241F));
  q = hn::MulAdd(q, u, one);
  const auto within = hn::Lt(u, set(3.832F * 3.832F));
  const auto erf = hn::IfThenElse(within, hn::Mul(z, hn::Div(p, q)), hn::CopySign(one, x));
  const auto half = hn::Mul(x, set(0.5F));
  return hn::MulAdd(half, erf, half);
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

// e^(x - highest) of n numbers in place; returns their sum. Numbers after them are overwritten, as many
// as fill a vector.
HWY_INLINE float exponentials(float* x, std::size_t n, float highest) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  const auto top = hn::Set(d, highest);
  auto sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i < n; i += lanes) {
    const auto e = hn::Exp(d, hn::Sub(hn::LoadU(d, x + i), top));
    hn::StoreU(e, d, x + i);
    sum = hn::Add(sum, hn::IfThenElseZero(hn::FirstN(d, n - i), e));
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// Where key j's row stands among the rows of k and v.
HWY_INLINE std::size_t key_row(const AttentionShape& shape, const std::uint32_t* rows,
                               std::size_t j) {
  return (rows == nullptr ? j : rows[j]) * shape.key_stride;
}

HWY_INLINE void one_query(const AttentionShape& shape, const float* q, const float* k,
                          const float* v, const std::uint32_t* rows, const std::uint8_t* blocked,
                          std::size_t keys, float* weights, float* out) {
  constexpr float kBlocked = -10000;
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  float highest = -INFINITY;
  for (std::size_t j = 0; j < keys; ++j) {
    weights[j] = dot_of(q, k + key_row(shape, rows, j), shape.head) * shape.scale;
    if (blocked != nullptr && blocked[j] != 0) weights[j] += kBlocked;
    highest = std::max(highest, weights[j]);
  }
  // Below -104 the exponential is 0: a blocked key beside one that counts has no share at all.
  const float share = 1 / exponentials(weights, keys, highest);
  const auto shares = hn::Set(d, share);
  std::size_t wide = 0;
  for (; wide + 4 * lanes <= shape.head; wide += 4 * lanes) {
    auto a = hn::Zero(d), b = a, e = a, f = a;
    for (std::size_t j = 0; j < keys; ++j) {
      const float* from = v + key_row(shape, rows, j) + wide;
      const auto weight = hn::Set(d, weights[j]);
      a = hn::MulAdd(weight, hn::LoadU(d, from), a);
      b = hn::MulAdd(weight, hn::LoadU(d, from + lanes), b);
      e = hn::MulAdd(weight, hn::LoadU(d, from + 2 * lanes), e);
      f = hn::MulAdd(weight, hn::LoadU(d, from + 3 * lanes), f);
    }
    hn::StoreU(hn::Mul(a, shares), d, out + wide);
    hn::StoreU(hn::Mul(b, shares), d, out + wide + lanes);
    hn::StoreU(hn::Mul(e, shares), d, out + wide + 2 * lanes);
    hn::StoreU(hn::Mul(f, shares), d, out + wide + 3 * lanes);
  }
  for (std::size_t c = wide; c + lanes <= shape.head; c += lanes) {
    auto total = hn::Zero(d);
    for (std::size_t j = 0; j < keys; ++j)
      total =
          hn::MulAdd(hn::Set(d, weights[j]), hn::LoadU(d, v + key_row(shape, rows, j) + c), total);
    hn::StoreU(hn::Mul(total, shares), d, out + c);
  }
  for (std::size_t c = shape.head / lanes * lanes; c < shape.head; ++c) {
    float total = 0;
    for (std::size_t j = 0; j < keys; ++j) total += weights[j] * v[key_row(shape, rows, j) + c];
    out[c] = total * share;
  }
}

void causal_attention_all(const AttentionShape& shape, const float* q, const float* k,
                          const float* v, const std::uint32_t* rows, const std::uint8_t* blocked,
                          std::size_t queries, std::size_t offset, float* weights, float* out) {
  for (std::size_t i = 0; i < queries; ++i) {
    for (std::size_t h = 0; h < shape.heads; ++h) {
      const std::size_t at = h * shape.head, key_at = shape.one_key_value ? 0 : at;
      one_query(shape, q + i * shape.query_stride + at, k + key_at, v + key_at, rows, blocked,
                i + offset + 1, weights, out + i * shape.out_stride + at);
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
                      const std::uint32_t* rows, const std::uint8_t* blocked, std::size_t queries,
                      std::size_t offset, float* weights, float* out) noexcept {
  HWY_DYNAMIC_DISPATCH(causal_attention_all)
  (shape, q, k, v, rows, blocked, queries, offset, weights, out);
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
