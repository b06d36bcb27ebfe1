#include "cpp/engine/nn/dense_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpp/engine/nn/dense_kernels.cpp"
#include <hwy/foreach_target.h>  // re-includes this file once a target
//
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace theriac::nn::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// At most 8 lanes, so that four vectors divide a block of 32 on every target; wider vectors would
// not be faster, since weights come from the second-level cache or beyond.
using Lanes = hn::CappedTag<float, 8>;

constexpr std::size_t kBlock = 32;

// One input against one block of 32 outputs. Two sets of sums, for even and odd inputs, hide the
// latency of the multiply-add.
HWY_INLINE void multiply_block(const float* HWY_RESTRICT w, std::size_t in,
                               const float* HWY_RESTRICT x, const float* bias,
                               float* HWY_RESTRICT y) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  for (std::size_t o = 0; o < kBlock; o += 4 * lanes) {
    auto a0 = bias == nullptr ? hn::Zero(d) : hn::LoadU(d, bias + o);
    auto a1 = bias == nullptr ? hn::Zero(d) : hn::LoadU(d, bias + o + lanes);
    auto a2 = bias == nullptr ? hn::Zero(d) : hn::LoadU(d, bias + o + 2 * lanes);
    auto a3 = bias == nullptr ? hn::Zero(d) : hn::LoadU(d, bias + o + 3 * lanes);
    auto b0 = hn::Zero(d), b1 = hn::Zero(d), b2 = hn::Zero(d), b3 = hn::Zero(d);
    std::size_t i = 0;
    for (; i + 2 <= in; i += 2) {
      const float* even = w + i * kBlock + o;
      const float* odd = even + kBlock;
      const auto x0 = hn::Set(d, x[i]), x1 = hn::Set(d, x[i + 1]);
      a0 = hn::MulAdd(hn::LoadU(d, even), x0, a0);
      a1 = hn::MulAdd(hn::LoadU(d, even + lanes), x0, a1);
      a2 = hn::MulAdd(hn::LoadU(d, even + 2 * lanes), x0, a2);
      a3 = hn::MulAdd(hn::LoadU(d, even + 3 * lanes), x0, a3);
      b0 = hn::MulAdd(hn::LoadU(d, odd), x1, b0);
      b1 = hn::MulAdd(hn::LoadU(d, odd + lanes), x1, b1);
      b2 = hn::MulAdd(hn::LoadU(d, odd + 2 * lanes), x1, b2);
      b3 = hn::MulAdd(hn::LoadU(d, odd + 3 * lanes), x1, b3);
    }
    if (i < in) {
      const float* even = w + i * kBlock + o;
      const auto x0 = hn::Set(d, x[i]);
      a0 = hn::MulAdd(hn::LoadU(d, even), x0, a0);
      a1 = hn::MulAdd(hn::LoadU(d, even + lanes), x0, a1);
      a2 = hn::MulAdd(hn::LoadU(d, even + 2 * lanes), x0, a2);
      a3 = hn::MulAdd(hn::LoadU(d, even + 3 * lanes), x0, a3);
    }
    float* out = y + o;
    hn::StoreU(hn::Add(a0, b0), d, out);
    hn::StoreU(hn::Add(a1, b1), d, out + lanes);
    hn::StoreU(hn::Add(a2, b2), d, out + 2 * lanes);
    hn::StoreU(hn::Add(a3, b3), d, out + 3 * lanes);
  }
}

// A block of weights ([in, 32] floats: 16 KB at in = 128) stays in the first-level cache while each
// input passes over it, so the matrix is still streamed once.
void multiply_all(const float* weights, std::size_t in, std::size_t padded_out, const float* x,
                  std::size_t x_stride, std::size_t vectors, const float* bias, float* y,
                  std::size_t y_stride) {
  for (std::size_t o = 0; o < padded_out; o += kBlock) {
    const float* block = weights + o * in;
    for (std::size_t v = 0; v < vectors; ++v) {
      multiply_block(block, in, x + v * x_stride, bias == nullptr ? nullptr : bias + o,
                     y + v * y_stride + o);
    }
  }
}

// body(vector) over x in place, whole vectors first, the tail through a zero-padded buffer.
template <class Body>
HWY_INLINE void map(float* x, std::size_t n, Body body) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(body(hn::LoadU(d, x + i)), d, x + i);
  if (i == n) return;
  HWY_ALIGN float tail[16] = {};
  std::memcpy(tail, x + i, (n - i) * sizeof(float));
  hn::Store(body(hn::Load(d, tail)), d, tail);
  std::memcpy(x + i, tail, (n - i) * sizeof(float));
}

template <class V>
HWY_INLINE V logistic(const Lanes d, V x) {
  const V one = hn::Set(d, 1.0F);
  // Past +-88 the exponential leaves float's range; the result is 0 or 1 there anyway.
  const V bounded = hn::Min(hn::Max(x, hn::Set(d, -87.0F)), hn::Set(d, 87.0F));
  return hn::Div(one, hn::Add(one, hn::Exp(d, hn::Neg(bounded))));
}

void add_all(float* y, const float* x, std::size_t n) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::Add(hn::LoadU(d, y + i), hn::LoadU(d, x + i)), d, y + i);
  for (; i < n; ++i) y[i] += x[i];
}

void add_scaled_all(float* y, float a, const float* x, std::size_t n) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  const auto scale = hn::Set(d, a);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::MulAdd(hn::LoadU(d, x + i), scale, hn::LoadU(d, y + i)), d, y + i);
  for (; i < n; ++i) y[i] += a * x[i];
}

float dot_all(const float* x, const float* y, std::size_t n) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  auto sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    sum = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, y + i), sum);
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < n; ++i) total += x[i] * y[i];
  return total;
}

void relu_all(float* x, std::size_t n) {
  const Lanes d;
  map(x, n, [d](auto v) { return hn::Max(v, hn::Zero(d)); });
}
void tanh_all(float* x, std::size_t n) {
  const Lanes d;
  map(x, n, [d](auto v) { return hn::Tanh(d, v); });
}
void sigmoid_all(float* x, std::size_t n) {
  const Lanes d;
  map(x, n, [d](auto v) { return logistic(d, v); });
}
void exp_shifted_all(float* x, float shift, std::size_t n) {
  const Lanes d;
  const auto s = hn::Set(d, shift);
  map(x, n, [d, s](auto v) { return hn::Exp(d, hn::Sub(v, s)); });
}

void gru_all(const float* in, const float* hid, std::size_t stride, float* h, std::size_t n) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  const auto step = [&](const float* ir, const float* iz, const float* nn_in, const float* hr,
                        const float* hz, const float* hnn, const float* state) {
    const auto r = logistic(d, hn::Add(hn::LoadU(d, ir), hn::LoadU(d, hr)));
    const auto z = logistic(d, hn::Add(hn::LoadU(d, iz), hn::LoadU(d, hz)));
    const auto candidate = hn::Tanh(d, hn::MulAdd(r, hn::LoadU(d, hnn), hn::LoadU(d, nn_in)));
    return hn::MulAdd(z, hn::Sub(hn::LoadU(d, state), candidate), candidate);  // (1 - z) n + z h
  };
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(step(in + i, in + stride + i, in + 2 * stride + i, hid + i, hid + stride + i,
                    hid + 2 * stride + i, h + i),
               d, h + i);
  }
  if (i == n) return;
  HWY_ALIGN float tail[7][16] = {};
  const float* sources[7] = {in + i,  in + stride + i,  in + 2 * stride + i,
                             hid + i, hid + stride + i, hid + 2 * stride + i,
                             h + i};
  for (std::size_t k = 0; k < 7; ++k) std::memcpy(tail[k], sources[k], (n - i) * sizeof(float));
  hn::Store(step(tail[0], tail[1], tail[2], tail[3], tail[4], tail[5], tail[6]), d, tail[6]);
  std::memcpy(h + i, tail[6], (n - i) * sizeof(float));
}

}  // namespace theriac::nn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace theriac::nn {

HWY_EXPORT(multiply_all);
HWY_EXPORT(add_all);
HWY_EXPORT(add_scaled_all);
HWY_EXPORT(dot_all);
HWY_EXPORT(relu_all);
HWY_EXPORT(tanh_all);
HWY_EXPORT(sigmoid_all);
HWY_EXPORT(exp_shifted_all);
HWY_EXPORT(gru_all);

PackedMatrix::PackedMatrix(const float* row_major, std::size_t out, std::size_t in)
    : out_(out), in_(in), weights_(padded_out() * in, 0.0F) {
  for (std::size_t o = 0; o < out; ++o) {
    float* block = weights_.data() + o / kBlock * kBlock * in;
    for (std::size_t i = 0; i < in; ++i) block[i * kBlock + o % kBlock] = row_major[o * in + i];
  }
}

void multiply(const PackedMatrix& weights, const float* x, std::size_t x_stride,
              std::size_t vectors, std::span<const float> bias, float* y,
              std::size_t y_stride) noexcept {
  HWY_DYNAMIC_DISPATCH(multiply_all)
  (weights.data(), weights.in(), weights.padded_out(), x, x_stride, vectors,
   bias.empty() ? nullptr : bias.data(), y, y_stride);
}

void add(std::span<float> y, const float* x) noexcept {
  HWY_DYNAMIC_DISPATCH(add_all)(y.data(), x, y.size());
}
void add_scaled(std::span<float> y, float a, const float* x) noexcept {
  HWY_DYNAMIC_DISPATCH(add_scaled_all)(y.data(), a, x, y.size());
}
float dot(std::span<const float> x, const float* y) noexcept {
  return HWY_DYNAMIC_DISPATCH(dot_all)(x.data(), y, x.size());
}
void relu(std::span<float> x) noexcept { HWY_DYNAMIC_DISPATCH(relu_all)(x.data(), x.size()); }
void tanh(std::span<float> x) noexcept { HWY_DYNAMIC_DISPATCH(tanh_all)(x.data(), x.size()); }
void sigmoid(std::span<float> x) noexcept { HWY_DYNAMIC_DISPATCH(sigmoid_all)(x.data(), x.size()); }

void softmax(std::span<float> x) noexcept {
  if (x.empty()) return;
  HWY_DYNAMIC_DISPATCH(exp_shifted_all)(x.data(), *std::max_element(x.begin(), x.end()), x.size());
  float sum = 0;
  for (const float value : x) sum += value;
  for (float& value : x) value /= sum;
}

void gru_update(const float* input_gates, const float* hidden_gates, std::size_t gate_stride,
                std::span<float> h) noexcept {
  HWY_DYNAMIC_DISPATCH(gru_all)(input_gates, hidden_gates, gate_stride, h.data(), h.size());
}

}  // namespace theriac::nn
#endif
