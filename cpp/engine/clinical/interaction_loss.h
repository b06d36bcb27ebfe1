// Losses over recommended sets: accuracy (binary cross-entropy, multi-label margin) and drug
// interactions (medication.md sections 5 and 5.1). All take and return tensors on one device.
#pragma once

#include <cstdint>

#include "cpp/core/base/options.h"
#include "cpp/engine/tensor/tensor.h"
#include "cpp/engine/train/fit_loop.h"

namespace theriac::clinical {

// Mean over batch and classes; logits and targets [batch, classes].
at::Tensor bce_loss(const at::Tensor& logits, const at::Tensor& targets);

// sum over pairs (t in Y, i not in Y) of max(0, 1 - (s_t - s_i)) / classes, s = sigmoid(logits);
// mean over the batch. (PyTorch's multilabel_margin_loss on probabilities, for 0/1 targets.)
at::Tensor margin_loss(const at::Tensor& logits, const at::Tensor& targets);

// s^T A s / classes^2 with s = sigmoid(logits), mean over the batch. `interactions`: 0/1 [classes,
// classes].
at::Tensor interaction_loss(const at::Tensor& logits, const at::Tensor& interactions);

// Interacting pairs over all pairs inside the sets {s >= 0.5}, pooled over the batch; 0 without a
// pair.
double interaction_rate(const at::Tensor& logits, const at::Tensor& interactions);

// Which loss a step minimises.
struct LossOptions {
  double margin = 0;          // weight of the margin loss
  double bce = 1;             // weight of the cross-entropy
  bool interactions = false;  // anneal between accuracy and interaction loss
  double target_rate = 0.05;  // tau: at most this interaction rate is wanted
  double temperature = 0.5;   // Temp of the first epoch, ...
  double decay = 0.85;        // ... multiplied by this after each
  static const OptionTable<LossOptions>& table();
};

// exp(-(rate - target) / temperature), at most 1: how likely a step above the target minimises
// interactions alone (GAMENet, section 5.1).
double interaction_step_probability(double rate, const LossOptions& options, std::int64_t epoch);

// bce * cross-entropy + margin * margin loss, or, when interactions are on and the batch's rate is
// above the target, with the probability above the interaction loss alone. The draw is the step's
// own.
at::Tensor recommendation_loss(const at::Tensor& logits, const at::Tensor& targets,
                               const at::Tensor& interactions, const LossOptions& options,
                               const train::Step& step);

}  // namespace theriac::clinical
