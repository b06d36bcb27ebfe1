// SASRec: a causal transformer over the last items of a user (Kang and McAuley, "Self-Attentive
// Sequential Recommendation", ICDM 2018), in the form and under the tensor names of the TTA4SR
// authors' code (sequential-tta.md section 2): post-norm blocks, learned positions, right-aligned
// histories, item vectors shared between input and output.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpp/engine/nn/linear.h"
#include "cpp/engine/sequence/history_encoder.h"
#include "cpp/engine/sequence/token_batch.h"

namespace theriac::sequence {

struct SasrecShape {
  std::int64_t rows = 0;  // of the item table: items + 2, with the padding id 0 and a spare last id
  std::int64_t hidden = 64, inner = 256, layers = 2, heads = 2, max_length = 50;
  double dropout = 0.5, attention_dropout = 0.5;
};

// Weight and bias under the names that the published files have.
struct NormImpl : torch::nn::Module {
  explicit NormImpl(std::int64_t width);
  at::Tensor forward(const at::Tensor& x) const;  // [..., width]
  at::Tensor weight, bias;
};
TORCH_MODULE(Norm);

struct TableImpl : torch::nn::Module {
  TableImpl(std::int64_t rows, std::int64_t width);
  at::Tensor weight;
};
TORCH_MODULE(Table);

struct SasrecAttentionImpl : torch::nn::Module {
  SasrecAttentionImpl(const SasrecShape& shape, std::uint64_t seed, const std::string& name);
  nn::Linear query{nullptr}, key{nullptr}, value{nullptr}, dense{nullptr};
  Norm norm{nullptr};
};
TORCH_MODULE(SasrecAttention);

struct SasrecFeedForwardImpl : torch::nn::Module {
  SasrecFeedForwardImpl(const SasrecShape& shape, std::uint64_t seed, const std::string& name);
  nn::Linear dense_1{nullptr}, dense_2{nullptr};
  Norm norm{nullptr};
};
TORCH_MODULE(SasrecFeedForward);

struct SasrecLayerImpl : torch::nn::Module {
  SasrecLayerImpl(const SasrecShape& shape, std::uint64_t seed, const std::string& name);
  SasrecAttention attention{nullptr};
  SasrecFeedForward intermediate{nullptr};
};
TORCH_MODULE(SasrecLayer);

// Not shared between threads while it trains.
class SasrecImpl : public torch::nn::Module {
 public:
  SasrecImpl(const SasrecShape& shape, std::uint64_t seed);

  // Hidden states of every token, [tokens, hidden]. `generator`: of dropout; undefined: none. Padding
  // is not computed: no valid position reads it.
  at::Tensor forward(const TokenBatch& batch, const std::optional<at::Generator>& generator) const;
  const at::Tensor& item_vectors() const { return item_embeddings_->weight; }
  const SasrecShape& shape() const { return shape_; }

 private:
  at::Tensor attend(const SasrecAttentionImpl& attention, const at::Tensor& x,
                    const TokenBatch& batch, const std::optional<at::Generator>& generator) const;

  SasrecShape shape_;
  Table item_embeddings_{nullptr}, position_embeddings_{nullptr};
  Norm norm_{nullptr};
  torch::nn::ModuleList layers_{nullptr};
};
TORCH_MODULE(Sasrec);

// A frozen copy of the weights.
std::shared_ptr<const HistoryEncoder> freeze(const SasrecImpl& model);

}  // namespace theriac::sequence
