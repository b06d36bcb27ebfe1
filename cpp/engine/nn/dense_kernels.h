// Dense layers at batch 1 over packed float32 weights: what scoring one patient consists of; and the
// gates of a GRU, forward and backward, for training.
//
// A weight matrix is read once a call, in order, so its time is bytes over the bandwidth of the
// cache that holds it. LibTorch's dispatcher costs more than that at these sizes (bench/README.md
// has both). SIMD with run-time dispatch by Highway; reduction order is fixed by the layout, never
// by threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace theriac::nn {

// A matrix [out, in], packed in blocks of kBlock outputs: block b holds, for each input i in turn,
// W[32 b .. 32 b + 31][i]. Outputs beyond `out` are zero rows. Immutable; may be shared between
// threads.
class PackedMatrix {
 public:
  static constexpr std::size_t kBlock = 32;
  PackedMatrix() = default;
  // row_major: [out, in], contiguous.
  PackedMatrix(const float* row_major, std::size_t out, std::size_t in);

  std::size_t out() const noexcept { return out_; }
  std::size_t in() const noexcept { return in_; }
  std::size_t padded_out() const noexcept { return (out_ + kBlock - 1) / kBlock * kBlock; }
  const float* data() const noexcept { return weights_.data(); }
  std::size_t bytes() const noexcept { return weights_.size() * sizeof(float); }

 private:
  std::size_t out_ = 0, in_ = 0;
  std::vector<float> weights_;
};

// y[v] = W x[v] (+ bias) for `vectors` inputs at once; W is streamed once for all of them. x:
// [vectors, in] rows `x_stride` apart; y: [vectors, padded_out] rows `y_stride` apart. bias:
// [padded_out] or empty.
void multiply(const PackedMatrix& weights, const float* x, std::size_t x_stride,
              std::size_t vectors, std::span<const float> bias, float* y,
              std::size_t y_stride) noexcept;

// y += x
void add(std::span<float> y, const float* x) noexcept;
// y += a x
void add_scaled(std::span<float> y, float a, const float* x) noexcept;
float dot(std::span<const float> x, const float* y) noexcept;
void relu(std::span<float> x) noexcept;
// Back through y = scale ReLU(x), dropout included where y is 0: g = scale g where y > 0, else 0.
void relu_backward(std::span<float> g, const float* y, float scale) noexcept;
void tanh(std::span<float> x) noexcept;
void sigmoid(std::span<float> x) noexcept;
// Numerically stable, in place; an empty span stays empty.
void softmax(std::span<float> x) noexcept;

// One step of Adam (Kingma and Ba, ICLR 2015, algorithm 1) with moments .9 and .999 and epsilon
// 1e-8, on `n` parameters: `step` counts from 1.
void adam_update(const float* gradient, double rate, std::uint64_t step, std::size_t n, float* mean,
                 float* square, float* parameters) noexcept;

// One GRU step (gates r, z, n as PyTorch orders them): `input_gates` [3 h] = W_ih x + b_ih,
// `hidden_gates` [3 h] = W_hh h + b_hh, both with gates `gate_stride` apart; h is updated in place.
void gru_update(const float* input_gates, const float* hidden_gates, std::size_t gate_stride,
                std::span<float> h) noexcept;

// The same step for `rows` rows at once, for training: all arrays row-major and contiguous, gates
// [rows, 3 h], states [rows, h]. `saved` [rows, 4 h] receives r, z, n and W_hn h + b_hn.
void gru_forward(const float* input_gates, const float* hidden_gates, const float* before,
                 std::size_t rows, std::size_t hidden, float* saved, float* after) noexcept;
// Its gradients: of both kinds of gates before their activations [rows, 3 h], and of the state
// before the step without its way through W_hh [rows, h].
void gru_backward(const float* saved, const float* before, const float* after_gradient,
                  std::size_t rows, std::size_t hidden, float* input_gate_gradients,
                  float* hidden_gate_gradients, float* before_gradient) noexcept;

}  // namespace theriac::nn
