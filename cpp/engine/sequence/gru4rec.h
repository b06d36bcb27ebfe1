// GRU4Rec: a gated recurrent unit over the last items of a user (Hidasi et al., "Session-based
// Recommendations with Recurrent Neural Networks", ICLR 2016), in the form and under the tensor names
// of the TTA4SR authors' code (sequential-tta.md section 3): no biases in the recurrence, histories
// right-aligned in `max_length` steps, and the padding in front of them read like any item.
#pragma once

#include <cstdint>
#include <memory>

#include "cpp/engine/nn/linear.h"
#include "cpp/engine/sequence/history_encoder.h"
#include "cpp/engine/sequence/token_batch.h"

namespace theriac::sequence {

struct Gru4recShape {
  std::int64_t rows = 0;  // of the item table: items + 2
  std::int64_t embedding = 64, hidden = 128, max_length = 50;
  double dropout = 0.3;  // on embedded items
};

// Not shared between threads while it trains.
class Gru4recImpl : public torch::nn::Module {
 public:
  Gru4recImpl(const Gru4recShape& shape, std::uint64_t seed);

  // User vectors after every token, [tokens, embedding]. `generator`: of dropout; undefined: none.
  at::Tensor forward(const TokenBatch& batch, const std::optional<at::Generator>& generator) const;
  const at::Tensor& item_vectors() const { return items_; }
  const Gru4recShape& shape() const { return shape_; }

  at::Tensor weight_ih, weight_hh;  // [3 hidden, embedding], [3 hidden, hidden]; gates r, z, n
  nn::Linear dense{nullptr};        // hidden -> embedding

 private:
  Gru4recShape shape_;
  at::Tensor items_;
};
TORCH_MODULE(Gru4rec);

// A frozen copy of the weights. The states after 0 ... max_length paddings are computed here, once.
std::shared_ptr<const HistoryEncoder> freeze(const Gru4recImpl& model);

}  // namespace theriac::sequence
