// Gated recurrent unit over visits (Cho et al., "Learning Phrase Representations using RNN
// Encoder-Decoder", EMNLP 2014) in the form and with the gate order of PyTorch:
//
//     r = s(W_ir x + b_ir + W_hr h + b_hr)         z = s(W_iz x + b_iz + W_hz h + b_hz)
//     n = tanh(W_in x + b_in + r (W_hn h + b_hn))  h' = (1 - z) n + z h,  h = 0 at the start
#pragma once

#include <cstdint>
#include <string>

#include "cpp/engine/tensor/tensor.h"

namespace theriac::nn {

// One layer, one direction. Parameters: weight_ih [3h, in], weight_hh [3h, h], bias_ih [3h],
// bias_hh [3h], gates r, z, n; all U(-1/sqrt(h), 1/sqrt(h)).
class GruImpl : public torch::nn::Module {
 public:
  GruImpl(std::int64_t in, std::int64_t hidden, std::uint64_t seed, const std::string& name);

  // input [batch, T, in], lengths int64 [batch], 0 to T -> [batch, T, hidden]. Outputs past a
  // length are 0, and whatever the input holds there (also NaN) reaches neither outputs nor
  // gradients. Causal, so a patient's outputs do not depend on who shares the batch.
  at::Tensor forward(const at::Tensor& input, const at::Tensor& lengths) const;

  std::int64_t hidden() const { return weight_hh.size(1); }

  at::Tensor weight_ih, weight_hh, bias_ih, bias_hh;
};
TORCH_MODULE(Gru);

// [batch, T] bool: position t of a row is before its length.
at::Tensor valid_steps(const at::Tensor& lengths, std::int64_t steps);
// The output at each row's last valid step: [batch, T, h], lengths >= 1 -> [batch, h].
at::Tensor last_valid(const at::Tensor& outputs, const at::Tensor& lengths);

}  // namespace theriac::nn
