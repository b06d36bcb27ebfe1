// Training of networks that predict the next item at every position of a sequence (sequential-tta.md
// sections 1.2, 1.3 and 4): binary cross-entropy of the next item against one drawn item.
#pragma once

#include <functional>
#include <memory>

#include "cpp/core/metrics/ranking.h"
#include "cpp/engine/sequence/ranking_protocol.h"
#include "cpp/engine/sequence/sequence_recommender.h"
#include "cpp/engine/sequence/token_batch.h"
#include "cpp/engine/train/fit_loop.h"

namespace theriac::sequence {

// The network to train, as this file needs it. Not shared between threads.
struct NextItemNetwork {
  torch::nn::Module* module = nullptr;
  at::Tensor item_vectors;  // the module's own [rows, dim]
  std::int64_t max_length = 0;
  at::Device device = at::kCPU;
  std::function<at::Tensor(const TokenBatch&, const at::Generator&)> forward;  // [tokens, dim]
  std::function<std::shared_ptr<const NextItemScorer>()> freeze;
};

// One drawn id a position: uniform over 1 ... rows - 1, redrawn while it is among `own` (sorted); keyed
// by (seed, epoch, user), so that a user's draws depend neither on the batch nor on other users.
void draw_negatives(std::span<const std::int32_t> own, std::int64_t rows, std::uint64_t seed,
                    std::int64_t epoch, std::int64_t user, std::span<std::int32_t> out);

// The fit loop's view of it. Users with fewer than two items are no examples.
class NextItemTraining final : public train::Trainable {
 public:
  // `select`: the metric that picks the epoch, such as "ndcg@20".
  NextItemTraining(NextItemNetwork network, const FitData& data, const std::string& select,
                   int threads, Job& job);

  torch::nn::Module& module() override { return *network_.module; }
  std::int64_t examples() const override { return static_cast<std::int64_t>(users_.size()); }
  at::Tensor loss(std::span<const std::int64_t> batch, const train::Step& step) override;
  std::optional<train::Validation> validate() override;

 private:
  NextItemNetwork network_;
  const data::Sequences& train_;
  std::vector<std::int64_t> users_;  // of each example
  std::optional<MappedSequences> valid_;
  RankingOptions ranking_;
  std::string select_;
  int threads_;
  Job& job_;
};

// Mean over tokens of -log s(h . e_next) - log(1 - s(h . e_drawn)). hidden, next, drawn: [tokens, dim].
at::Tensor next_item_loss(const at::Tensor& hidden, const at::Tensor& next,
                          const at::Tensor& drawn);

}  // namespace theriac::sequence
