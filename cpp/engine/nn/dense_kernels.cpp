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
void relu_backward_all(float* g, const float* y, float scale, std::size_t n) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  const auto factor = hn::Set(d, scale);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto passes = hn::Gt(hn::LoadU(d, y + i), hn::Zero(d));
    hn::StoreU(hn::IfThenElseZero(passes, hn::Mul(hn::LoadU(d, g + i), factor)), d, g + i);
  }
  for (; i < n; ++i) g[i] = y[i] > 0 ? g[i] * scale : 0.0F;
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

// step(in, out) at whole vectors of the rows `in[k]` and `out[k]`, the tail through zero-padded
// buffers.
template <std::size_t In, std::size_t Out, class Step>
HWY_INLINE void along(const float* (&in)[In], float* (&out)[Out], std::size_t n, Step step) {
  const std::size_t lanes = hn::Lanes(Lanes());
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    step(in, out);
    for (const float*& x : in) x += lanes;
    for (float*& y : out) y += lanes;
  }
  if (i == n) return;
  HWY_ALIGN float tail_in[In][16] = {};
  HWY_ALIGN float tail_out[Out][16] = {};
  const float* from[In];
  float* to[Out];
  for (std::size_t k = 0; k < In; ++k) {
    std::memcpy(tail_in[k], in[k], (n - i) * sizeof(float));
    from[k] = tail_in[k];
  }
  for (std::size_t k = 0; k < Out; ++k) to[k] = tail_out[k];
  step(from, to);
  for (std::size_t k = 0; k < Out; ++k) std::memcpy(out[k], tail_out[k], (n - i) * sizeof(float));
}

// rate: already divided by the first moment's correction. correction: of the second, square root.
void adam_all(const float* g, float rate, float correction, std::size_t n, float* m, float* v,
              float* p) {
  const Lanes d;
  const float* in[] = {g, m, v, p};
  float* out[] = {m, v, p};
  // 1 - .999F would be off by 5e-5 of itself.
  constexpr float kMean = 0.9F, kNewMean = 0.1F, kSquare = 0.999F, kNewSquare = 0.001F;
  constexpr float kEpsilon = 1e-8F;
  along(in, out, n, [&](const float* const* x, float* const* y) {
    const auto gradient = hn::LoadU(d, x[0]);
    const auto mean =
        hn::MulAdd(hn::Set(d, kMean), hn::LoadU(d, x[1]), hn::Mul(hn::Set(d, kNewMean), gradient));
    const auto square = hn::MulAdd(hn::Set(d, kSquare), hn::LoadU(d, x[2]),
                                   hn::Mul(hn::Set(d, kNewSquare), hn::Mul(gradient, gradient)));
    const auto scale = hn::MulAdd(hn::Sqrt(square), hn::Set(d, correction), hn::Set(d, kEpsilon));
    hn::StoreU(mean, d, y[0]);
    hn::StoreU(square, d, y[1]);
    hn::StoreU(hn::NegMulAdd(hn::Set(d, rate), hn::Div(mean, scale), hn::LoadU(d, x[3])), d, y[2]);
  });
}

void gru_all(const float* x, const float* s, std::size_t stride, float* h, std::size_t n) {
  const Lanes d;
  const float* in[] = {x, x + stride, x + 2 * stride, s, s + stride, s + 2 * stride, h};
  float* out[] = {h};
  along(in, out, n, [d](const float* const* v, float* const* y) {
    const auto r = logistic(d, hn::Add(hn::LoadU(d, v[0]), hn::LoadU(d, v[3])));
    const auto z = logistic(d, hn::Add(hn::LoadU(d, v[1]), hn::LoadU(d, v[4])));
    const auto candidate = hn::Tanh(d, hn::MulAdd(r, hn::LoadU(d, v[5]), hn::LoadU(d, v[2])));
    // (1 - z) n + z h
    hn::StoreU(hn::MulAdd(z, hn::Sub(hn::LoadU(d, v[6]), candidate), candidate), d, y[0]);
  });
}

void gru_forward_all(const float* x, const float* s, const float* before, std::size_t rows,
                     std::size_t n, float* saved, float* after) {
  const Lanes d;
  for (; rows > 0; --rows, x += 3 * n, s += 3 * n, before += n, saved += 4 * n, after += n) {
    const float* in[] = {x, x + n, x + 2 * n, s, s + n, s + 2 * n, before};
    float* out[] = {saved, saved + n, saved + 2 * n, saved + 3 * n, after};
    along(in, out, n, [d](const float* const* v, float* const* y) {
      const auto r = logistic(d, hn::Add(hn::LoadU(d, v[0]), hn::LoadU(d, v[3])));
      const auto z = logistic(d, hn::Add(hn::LoadU(d, v[1]), hn::LoadU(d, v[4])));
      const auto share = hn::LoadU(d, v[5]);
      const auto candidate = hn::Tanh(d, hn::MulAdd(r, share, hn::LoadU(d, v[2])));
      hn::StoreU(r, d, y[0]);
      hn::StoreU(z, d, y[1]);
      hn::StoreU(candidate, d, y[2]);
      hn::StoreU(share, d, y[3]);
      hn::StoreU(hn::MulAdd(z, hn::Sub(hn::LoadU(d, v[6]), candidate), candidate), d, y[4]);
    });
  }
}

void gru_backward_all(const float* saved, const float* before, const float* d_after,
                      std::size_t rows, std::size_t n, float* d_x, float* d_s, float* d_before) {
  const Lanes d;
  for (; rows > 0; --rows, saved += 4 * n, before += n, d_after += n, d_x += 3 * n, d_s += 3 * n,
                   d_before += n) {
    const float* in[] = {saved, saved + n, saved + 2 * n, saved + 3 * n, before, d_after};
    float* out[] = {d_x, d_x + n, d_x + 2 * n, d_s, d_s + n, d_s + 2 * n, d_before};
    along(in, out, n, [d](const float* const* v, float* const* y) {
      const auto one = hn::Set(d, 1.0F);
      const auto r = hn::LoadU(d, v[0]), z = hn::LoadU(d, v[1]), candidate = hn::LoadU(d, v[2]);
      const auto dh = hn::LoadU(d, v[5]);
      // Through n = tanh(x_n + r s_n) and h' = (1 - z) n + z h.
      const auto dn =
          hn::Mul(hn::Mul(dh, hn::Sub(one, z)), hn::NegMulAdd(candidate, candidate, one));
      const auto dz =
          hn::Mul(hn::Mul(dh, hn::Sub(hn::LoadU(d, v[4]), candidate)), hn::Mul(z, hn::Sub(one, z)));
      const auto dr = hn::Mul(hn::Mul(dn, hn::LoadU(d, v[3])), hn::Mul(r, hn::Sub(one, r)));
      hn::StoreU(dr, d, y[0]);
      hn::StoreU(dz, d, y[1]);
      hn::StoreU(dn, d, y[2]);
      hn::StoreU(dr, d, y[3]);
      hn::StoreU(dz, d, y[4]);
      hn::StoreU(hn::Mul(dn, r), d, y[5]);
      hn::StoreU(hn::Mul(dh, z), d, y[6]);
    });
  }
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
HWY_EXPORT(relu_backward_all);
HWY_EXPORT(tanh_all);
HWY_EXPORT(sigmoid_all);
HWY_EXPORT(exp_shifted_all);
HWY_EXPORT(adam_all);
HWY_EXPORT(gru_all);
HWY_EXPORT(gru_forward_all);
HWY_EXPORT(gru_backward_all);

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
void relu_backward(std::span<float> g, const float* y, float scale) noexcept {
  HWY_DYNAMIC_DISPATCH(relu_backward_all)(g.data(), y, scale, g.size());
}
void tanh(std::span<float> x) noexcept { HWY_DYNAMIC_DISPATCH(tanh_all)(x.data(), x.size()); }
void sigmoid(std::span<float> x) noexcept { HWY_DYNAMIC_DISPATCH(sigmoid_all)(x.data(), x.size()); }

void softmax(std::span<float> x) noexcept {
  if (x.empty()) return;
  HWY_DYNAMIC_DISPATCH(exp_shifted_all)(x.data(), *std::max_element(x.begin(), x.end()), x.size());
  float sum = 0;
  for (const float value : x) sum += value;
  for (float& value : x) value /= sum;
}

void adam_update(const float* gradient, double rate, std::uint64_t step, std::size_t n, float* mean,
                 float* square, float* parameters) noexcept {
  const auto t = static_cast<double>(step);
  HWY_DYNAMIC_DISPATCH(adam_all)
  (gradient, static_cast<float>(rate / (1 - std::pow(0.9, t))),
   static_cast<float>(1 / std::sqrt(1 - std::pow(0.999, t))), n, mean, square, parameters);
}

void gru_update(const float* input_gates, const float* hidden_gates, std::size_t gate_stride,
                std::span<float> h) noexcept {
  HWY_DYNAMIC_DISPATCH(gru_all)(input_gates, hidden_gates, gate_stride, h.data(), h.size());
}

void gru_forward(const float* input_gates, const float* hidden_gates, const float* before,
                 std::size_t rows, std::size_t hidden, float* saved, float* after) noexcept {
  HWY_DYNAMIC_DISPATCH(gru_forward_all)
  (input_gates, hidden_gates, before, rows, hidden, saved, after);
}

void gru_backward(const float* saved, const float* before, const float* after_gradient,
                  std::size_t rows, std::size_t hidden, float* input_gate_gradients,
                  float* hidden_gate_gradients, float* before_gradient) noexcept {
  HWY_DYNAMIC_DISPATCH(gru_backward_all)
  (saved, before, after_gradient, rows, hidden, input_gate_gradients, hidden_gate_gradients,
   before_gradient);
}

}  // namespace theriac::nn
#endif
