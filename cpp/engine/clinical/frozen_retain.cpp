#include <algorithm>

#include "cpp/engine/clinical/frozen_parts.h"

namespace theriac::clinical {
namespace {

using internal::CodeTable;
using internal::FrozenGru;
using internal::FrozenLinear;

// One feature's part of RETAIN; names follow frozen_scorers.h.
struct Block {
  CodeTable table;
  FrozenGru alpha_gru, beta_gru;
  FrozenLinear alpha, beta;

  explicit Block(const FrozenRetainBlockParts& parts)
      : table(parts.table),
        alpha_gru(parts.alpha_gru),
        beta_gru(parts.beta_gru),
        alpha(parts.alpha),
        beta(parts.beta) {}

  std::size_t scratch(std::size_t visits) const noexcept {
    return visits * (table.dim() + alpha_gru.hidden() + beta_gru.hidden() + alpha.padded() +
                     beta.padded() + 1) +
           alpha_gru.scratch(visits) + beta_gru.scratch(visits);
  }

  // context[d] = sum_t alpha_t beta_t * x_t; returns alpha [T].
  std::span<float> read(std::span<const FrozenVisit> visits,
                        std::span<const std::int32_t> FrozenVisit::*ids,
                        std::span<const float> FrozenVisit::*extra, FrozenWorkspace& workspace,
                        std::span<float> context) const {
    const std::size_t count = visits.size(), dim = table.dim();
    const std::span<float> x = workspace.take(count * dim);  // [T, d]
    for (std::size_t t = 0; t < count; ++t)
      table.pool(visits[t].*ids, visits[t].*extra, false, x.subspan(t * dim, dim));
    const std::span<float> alpha_states = workspace.take(count * alpha_gru.hidden());
    const std::span<float> beta_states = workspace.take(count * beta_gru.hidden());
    alpha_gru.run(x.data(), dim, count, true, workspace, alpha_states.data(), alpha_gru.hidden());
    beta_gru.run(x.data(), dim, count, true, workspace, beta_states.data(), beta_gru.hidden());
    const std::span<float> scores = workspace.take(count * alpha.padded());
    alpha.apply(alpha_states.data(), alpha_gru.hidden(), count, scores.data());
    const std::span<float> weights = workspace.take(count);
    for (std::size_t t = 0; t < count; ++t) weights[t] = scores[t * alpha.padded()];
    nn::softmax(weights);
    const std::span<float> gates = workspace.take(count * beta.padded());
    beta.apply(beta_states.data(), beta_gru.hidden(), count, gates.data());
    nn::tanh(gates);
    std::fill(context.begin(), context.end(), 0.0F);
    for (std::size_t t = 0; t < count; ++t) {
      const float* gate = gates.data() + t * beta.padded();
      for (std::size_t i = 0; i < dim; ++i) context[i] += weights[t] * gate[i] * x[t * dim + i];
    }
    return weights;
  }
};

class FrozenRetain final : public FrozenScorer {
 public:
  explicit FrozenRetain(const FrozenRetainParts& parts)
      : diagnoses_(parts.diagnoses), procedures_(parts.procedures), output_(parts.output) {}

  std::int64_t classes() const noexcept override {
    return static_cast<std::int64_t>(output_.out());
  }

  void score(std::span<const FrozenVisit> visits, FrozenWorkspace& workspace,
             std::span<float> probabilities, FrozenAttention* attention) const override {
    const std::size_t first = diagnoses_.table.dim(), second = procedures_.table.dim();
    workspace.reset(diagnoses_.scratch(visits.size()) + procedures_.scratch(visits.size()) + first +
                    second + output_.padded());
    const std::span<float> context = workspace.take(first + second);  // [c_diagnoses; c_procedures]
    const auto alpha_diagnoses =
        diagnoses_.read(visits, &FrozenVisit::diagnoses, &FrozenVisit::diagnoses_extra, workspace,
                        context.first(first));
    const auto alpha_procedures =
        procedures_.read(visits, &FrozenVisit::procedures, &FrozenVisit::procedures_extra,
                         workspace, context.subspan(first, second));
    const std::span<float> logits = workspace.take(output_.padded());
    output_.apply(context.data(), context.size(), 1, logits.data());
    nn::sigmoid(logits);
    std::copy_n(logits.begin(), output_.out(), probabilities.begin());
    if (attention != nullptr) {
      attention->visits.assign(alpha_diagnoses.begin(), alpha_diagnoses.end());
      attention->visits_procedures.assign(alpha_procedures.begin(), alpha_procedures.end());
      attention->memory.clear();
    }
  }

 private:
  Block diagnoses_, procedures_;
  FrozenLinear output_;
};

}  // namespace

std::shared_ptr<const FrozenScorer> make_frozen_retain(const FrozenRetainParts& parts) {
  return std::make_shared<FrozenRetain>(parts);
}

}  // namespace theriac::clinical
