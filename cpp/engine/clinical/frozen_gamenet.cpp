#include <algorithm>

#include "cpp/engine/clinical/frozen_parts.h"

namespace theriac::clinical {
namespace {

using internal::CodeTable;
using internal::FrozenGru;
using internal::FrozenLinear;

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

// Names follow frozen_scorers.h.
class FrozenGamenet final : public FrozenScorer {
 public:
  explicit FrozenGamenet(const FrozenGamenetParts& parts)
      : mean_(parts.mean_pooling),
        diagnoses_(parts.diagnoses),
        procedures_(parts.procedures),
        diagnoses_gru_(parts.diagnoses_gru),
        procedures_gru_(parts.procedures_gru),
        query_(parts.query),
        classes_(size(parts.memory.size(0))),
        width_(size(parts.memory.size(1))) {
    const auto memory =
        internal::values(parts.memory, {parts.memory.size(0), parts.memory.size(1)}, "memory");
    memory_rows_.assign(memory.begin(), memory.end());
    memory_ = nn::PackedMatrix(memory.data(), classes_, width_);
    for (const FrozenLinearParts& layer : parts.output) output_.emplace_back(layer);
  }

  std::int64_t classes() const noexcept override { return static_cast<std::int64_t>(classes_); }

  void score(std::span<const FrozenVisit> visits, FrozenWorkspace& workspace,
             std::span<float> probabilities, FrozenAttention* attention) const override {
    const std::size_t count = visits.size(), states = 2 * diagnoses_gru_.hidden(),
                      queries_width = query_.padded();
    workspace.reset(scratch(count));
    const std::span<float> hidden = workspace.take(count * states);  // [T, 2h]
    encode(visits, diagnoses_, diagnoses_gru_, &FrozenVisit::diagnoses,
           &FrozenVisit::diagnoses_extra, workspace, hidden.data());
    encode(visits, procedures_, procedures_gru_, &FrozenVisit::procedures,
           &FrozenVisit::procedures_extra, workspace, hidden.data() + diagnoses_gru_.hidden());
    nn::relu(hidden);
    const std::span<float> queries = workspace.take(count * queries_width);  // [T, m]
    query_.apply(hidden.data(), states, count, queries.data());
    const float* query = queries.data() + (count - 1) * queries_width;

    const std::span<float> facts = workspace.take(3 * width_);  // [query; fact1; fact2]
    std::copy_n(query, width_, facts.begin());
    const std::span<float> read = workspace.take(memory_.padded_out());  // a, [V_m]
    nn::multiply(memory_, query, width_, 1, {}, read.data(), read.size());
    nn::softmax(read.first(classes_));
    weigh_memory(read.first(classes_), facts.subspan(width_, width_));
    const std::span<float> history = workspace.take(count);  // w, [T - 1] and a zero
    read_history(visits, queries, query, history, facts, workspace.take(classes_));
    decide(facts, workspace, probabilities);
    if (attention != nullptr) {
      attention->visits.assign(history.begin(), history.end());
      attention->memory.assign(read.begin(), read.begin() + static_cast<std::ptrdiff_t>(classes_));
      attention->visits_procedures.clear();
    }
  }

 private:
  std::size_t scratch(std::size_t count) const noexcept {
    std::size_t total = count * 2 * diagnoses_gru_.hidden() + count * query_.padded() + 3 * width_ +
                        memory_.padded_out() + count + classes_;
    total += count * (diagnoses_.dim() + procedures_.dim()) + diagnoses_gru_.scratch(count) +
             procedures_gru_.scratch(count);
    for (const FrozenLinear& layer : output_) total += layer.padded();
    return total;
  }

  using Ids = std::span<const std::int32_t> FrozenVisit::*;
  using Extra = std::span<const float> FrozenVisit::*;
  void encode(std::span<const FrozenVisit> visits, const CodeTable& table, const FrozenGru& gru,
              Ids ids, Extra extra, FrozenWorkspace& workspace, float* states) const {
    const std::span<float> pooled = workspace.take(visits.size() * table.dim());  // [T, d]
    for (std::size_t t = 0; t < visits.size(); ++t) {
      table.pool(visits[t].*ids, visits[t].*extra, mean_,
                 pooled.subspan(t * table.dim(), table.dim()));
    }
    gru.run(pooled.data(), table.dim(), visits.size(), false, workspace, states, 2 * gru.hidden());
  }

  // out = memory^T weights; rows of zero weight are skipped.
  void weigh_memory(std::span<const float> weights, std::span<float> out) const noexcept {
    std::fill(out.begin(), out.end(), 0.0F);
    for (std::size_t m = 0; m < weights.size(); ++m) {
      if (weights[m] != 0.0F) nn::add_scaled(out, weights[m], memory_rows_.data() + m * width_);
    }
  }

  void read_history(std::span<const FrozenVisit> visits, std::span<const float> queries,
                    const float* query, std::span<float> weights, std::span<float> facts,
                    std::span<float> classes_read) const noexcept {
    const std::size_t past = visits.size() - 1;
    weights[past] = 0.0F;
    if (past == 0) {
      std::copy_n(facts.begin() + static_cast<std::ptrdiff_t>(width_), width_,
                  facts.begin() + static_cast<std::ptrdiff_t>(2 * width_));
      return;
    }
    for (std::size_t t = 0; t < past; ++t)
      weights[t] = nn::dot(std::span(query, width_), queries.data() + t * query_.padded());
    nn::softmax(weights.first(past));
    std::fill(classes_read.begin(), classes_read.end(), 0.0F);  // u, [V_m]
    for (std::size_t t = 0; t < past; ++t) {
      for (const std::int32_t m : visits[t].medications)
        classes_read[static_cast<std::size_t>(m)] += weights[t];
    }
    weigh_memory(classes_read, facts.subspan(2 * width_, width_));
  }

  void decide(std::span<float> facts, FrozenWorkspace& workspace,
              std::span<float> probabilities) const {
    std::span<float> x = facts;
    for (const FrozenLinear& layer : output_) {
      if (output_.size() > 1) nn::relu(x);
      const std::span<float> y = workspace.take(layer.padded());
      layer.apply(x.data(), x.size(), 1, y.data());
      x = y.first(layer.out());
    }
    nn::sigmoid(x);
    std::copy(x.begin(), x.end(), probabilities.begin());
  }

  bool mean_;
  CodeTable diagnoses_, procedures_;
  FrozenGru diagnoses_gru_, procedures_gru_;
  FrozenLinear query_;
  std::size_t classes_, width_;
  std::vector<float> memory_rows_;  // [V_m, m], for memory^T a
  nn::PackedMatrix memory_;         // the same, for memory q
  std::vector<FrozenLinear> output_;
};

}  // namespace

std::shared_ptr<const FrozenScorer> make_frozen_gamenet(const FrozenGamenetParts& parts) {
  return std::make_shared<FrozenGamenet>(parts);
}

}  // namespace theriac::clinical
