// Training sequences of a batch without their padding: token after token, sequence after sequence.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cpp/engine/tensor/tensor.h"

namespace theriac::sequence {

// Immutable. Sequence s is tokens starts[s] ... starts[s + 1] - 1, oldest first, at most `slots` of
// them; token i of a sequence of length n stands in slot `slots - n + i`.
struct TokenBatch {
  // ids: of all tokens; starts: [sequences + 1].
  TokenBatch(std::span<const std::int32_t> ids, std::vector<std::int64_t> starts,
             std::int64_t slots, at::Device device);

  std::int64_t sequences() const { return static_cast<std::int64_t>(starts.size()) - 1; }
  std::int64_t tokens() const { return starts.back(); }

  at::Tensor ids;      // int64 [tokens]
  at::Tensor slot;     // int64 [tokens]
  std::int64_t slots;  // a sequence's places, padding included
  std::vector<std::int64_t> starts;
};

// Causal self-attention of each sequence (Vaswani et al., 2017, section 3.2): q, k, v [tokens, width],
// heads beside each other -> [tokens, width]. Dropout on the attention weights. float32 on the CPU goes
// through one fused operator over real pairs of tokens; everything else through LibTorch's operators on
// padded rows.
at::Tensor causal_self_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 const TokenBatch& batch, std::int64_t heads, double dropout,
                                 const std::optional<at::Generator>& generator);
// The second way alone, for any device and type of number.
at::Tensor composed_self_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const TokenBatch& batch, std::int64_t heads, double dropout,
                                   const std::optional<at::Generator>& generator);

}  // namespace theriac::sequence
