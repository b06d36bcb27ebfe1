#include "cpp/engine/clinical/interaction_loss.h"

#include <algorithm>
#include <cmath>

#include "cpp/core/base/random.h"

namespace theriac::clinical {

at::Tensor bce_loss(const at::Tensor& logits, const at::Tensor& targets) {
  return at::binary_cross_entropy_with_logits(logits, targets);
}

at::Tensor margin_loss(const at::Tensor& logits, const at::Tensor& targets) {
  const at::Tensor s = logits.sigmoid();
  // [batch, t, i]: what class t in the target lacks to be 1 above class i outside it.
  const at::Tensor shortfall = (1 - s.unsqueeze(2) + s.unsqueeze(1)).clamp_min(0);
  const at::Tensor counted = targets.unsqueeze(2) * (1 - targets).unsqueeze(1);
  return (shortfall * counted).sum({1, 2}).mean() / logits.size(1);
}

at::Tensor interaction_loss(const at::Tensor& logits, const at::Tensor& interactions) {
  const at::Tensor s = logits.sigmoid();
  const auto classes = static_cast<double>(logits.size(1));
  return (s.matmul(interactions) * s).sum(1).mean() / (classes * classes);
}

double interaction_rate(const at::Tensor& logits, const at::Tensor& interactions) {
  const at::NoGradGuard no_grad;
  const at::Tensor sets = logits.ge(0).to(at::kFloat);  // sigmoid(x) >= 0.5
  const at::Tensor sizes = sets.sum(1);
  const double pairs = (sizes * (sizes - 1)).sum().item<double>();  // ordered pairs, as below
  if (pairs == 0) return 0;
  return (sets.matmul(interactions) * sets).sum().item<double>() / pairs;
}

const OptionTable<LossOptions>& LossOptions::table() {
  static const auto table =
      OptionTable<LossOptions>("loss", "What training minimises")
          .real("bce", &LossOptions::bce, {0.0, 1e6}, "weight of the binary cross-entropy")
          .real("margin", &LossOptions::margin, {0.0, 1e6}, "weight of the multi-label margin loss")
          .flag("interactions", &LossOptions::interactions,
                "minimise interactions in steps whose recommended sets interact more than "
                "target_rate")
          .real("target_rate", &LossOptions::target_rate, {0.0, 1.0},
                "interaction rate that is accepted")
          .real("temperature", &LossOptions::temperature, {0.0, 1e6, true, false},
                "how readily a step above the target minimises interactions; larger is readier")
          .real("decay", &LossOptions::decay, {0.0, 1.0, true, false},
                "factor on the temperature after each epoch");
  return table;
}

double interaction_step_probability(double rate, const LossOptions& options, std::int64_t epoch) {
  const double temperature =
      options.temperature * std::pow(options.decay, static_cast<double>(epoch));
  return std::min(1.0, std::exp((options.target_rate - rate) / temperature));
}

at::Tensor recommendation_loss(const at::Tensor& logits, const at::Tensor& targets,
                               const at::Tensor& interactions, const LossOptions& options,
                               const train::Step& step) {
  if (options.interactions) {
    const double rate = interaction_rate(logits, interactions);
    if (rate > options.target_rate) {
      Random draw(step.seed, "interaction step", static_cast<std::uint64_t>(step.number));
      if (draw.chance(interaction_step_probability(rate, options, step.epoch))) {
        return interaction_loss(logits, interactions);
      }
    }
  }
  at::Tensor loss = options.bce * bce_loss(logits, targets);
  if (options.margin > 0) loss = loss + options.margin * margin_loss(logits, targets);
  return loss;
}

}  // namespace theriac::clinical
