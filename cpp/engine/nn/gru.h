// Gated recurrent unit over visits (Cho et al., "Learning Phrase Representations using RNN
// Encoder-Decoder", EMNLP 2014) in the form and with the gate order of PyTorch:
//
//     r = s(W_ir x + b_ir + W_hr h + b_hr)         z = s(W_iz x + b_iz + W_hz h + b_hz)
//     n = tanh(W_in x + b_in + r (W_hn h + b_hn))  h' = (1 - z) n + z h,  h = 0 at the start
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpp/engine/tensor/tensor.h"

namespace theriac::nn {

// Where the valid steps of a padded batch are: "tokens", all steps of the first row, then of the
// second. Blocks work on [tokens, n] instead of [batch, T, n], so that nobody computes padding.
// Immutable.
struct StepLayout {
  // lengths int64 [batch] on any device, 0 to `steps` (others are clamped).
  StepLayout(const at::Tensor& lengths, std::int64_t steps);

  std::int64_t batch() const { return static_cast<std::int64_t>(length.size()); }
  std::int64_t tokens() const { return places.size(0); }

  at::Tensor pack(
      const at::Tensor& padded) const;  // [batch, T, n] or [batch, T] -> [tokens, n or 1]
  at::Tensor pad(const at::Tensor& tokens) const;  // [tokens, n] -> [batch, T, n], zeros between
  at::Tensor sum_rows(const at::Tensor& tokens) const;  // [tokens, n] -> [batch, n]

  std::int64_t steps;                // T
  std::vector<std::int64_t> length;  // [batch]
  at::Tensor places;                 // int64 [tokens]: row * T + step, on the device of `lengths`
  at::Tensor rows;                   // int64 [tokens]: row
};

// In which order a row's valid steps are read. Backward: from the last valid step to the first, so
// that the output at step t has read the steps from the end down to t.
enum class Reading { kForward, kBackward };

// Weights of one layer and direction, as GruImpl's parameters are.
struct GruWeights {
  at::Tensor weight_ih, weight_hh, bias_ih, bias_hh;
};
// [tokens, in] -> [tokens, hidden]; see GruImpl::forward.
at::Tensor gru(const GruWeights& weights, const at::Tensor& tokens, const StepLayout& layout,
               Reading reading = Reading::kForward);

// One layer, one direction. Parameters: weight_ih [3h, in], weight_hh [3h, h], bias_ih [3h],
// bias_hh [3h], gates r, z, n; all U(-1/sqrt(h), 1/sqrt(h)).
class GruImpl : public torch::nn::Module {
 public:
  GruImpl(std::int64_t in, std::int64_t hidden, std::uint64_t seed, const std::string& name);

  // input [batch, T, in], lengths int64 [batch], 0 to T -> [batch, T, hidden]. Outputs past a
  // length are 0, and whatever the input holds there (also NaN) reaches neither outputs nor
  // gradients. Causal in its order of reading, so a patient's outputs do not depend on who shares
  // the batch.
  at::Tensor forward(const at::Tensor& input, const at::Tensor& lengths,
                     Reading reading = Reading::kForward) const;
  // The same without padding: [tokens, in] -> [tokens, hidden].
  at::Tensor forward(const at::Tensor& tokens, const StepLayout& layout,
                     Reading reading = Reading::kForward) const;

  std::int64_t hidden() const { return weight_hh.size(1); }
  GruWeights weights() const { return {weight_ih, weight_hh, bias_ih, bias_hh}; }

  at::Tensor weight_ih, weight_hh, bias_ih, bias_hh;
};
TORCH_MODULE(Gru);

// The same outputs and gradients, [tokens, hidden], from LibTorch's own operators, on any device and
// for any type of number: what forward() uses where the fused form (float32 on the CPU) does not
// apply.
at::Tensor composed_gru(const GruWeights& weights, const at::Tensor& tokens,
                        const StepLayout& layout, Reading reading);

// [batch, T] bool: position t of a row is before its length.
at::Tensor valid_steps(const at::Tensor& lengths, std::int64_t steps);
// Each row's first `length` steps in reverse order; steps past a length are copies of a valid one.
at::Tensor reverse_valid(const at::Tensor& x, const at::Tensor& lengths);
// The output at each row's last valid step: [batch, T, h], lengths >= 1 -> [batch, h].
at::Tensor last_valid(const at::Tensor& outputs, const at::Tensor& lengths);

}  // namespace theriac::nn
