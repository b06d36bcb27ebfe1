// RETAIN: two attentions over a patient's visits, read backwards in time (Choi et al., "RETAIN: An
// Interpretable Predictive Model for Healthcare using Reverse Time Attention Mechanism", NeurIPS
// 2016; medication.md section 6, in the aligned and masked form).
#pragma once

#include <cstdint>
#include <memory>

#include "cpp/engine/clinical/backbone.h"

namespace theriac::clinical {

// One field's visits x_t [batch, visits, d] to one context [batch, d]:
// sum_t alpha_t beta_t * x_t, alpha_t scalar (softmax over time), beta_t in (-1, 1)^d, both from
// GRUs that have seen the visits T, T-1, ..., t.
class RetainBlockImpl : public torch::nn::Module {
 public:
  RetainBlockImpl(std::int64_t dim, std::uint64_t seed, const std::string& name);
  at::Tensor forward(const at::Tensor& visits, const nn::StepLayout& layout) const;
  FrozenRetainBlockParts parts(const at::Tensor& table) const;

 private:
  nn::Gru alpha_gru_{nullptr}, beta_gru_{nullptr};
  nn::Linear alpha_{nullptr}, beta_{nullptr};
};
TORCH_MODULE(RetainBlock);

class Retain : public Backbone {
 public:
  // `dropout` is on visit vectors.
  Retain(const EncoderOptions& encoder, double dropout, const BackboneSetup& setup);
  at::Tensor forward(const VisitBatch& batch, const train::Step* step) const override;
  at::Tensor loss(const VisitBatch& batch, const train::Step& step) const override;
  std::shared_ptr<const FrozenScorer> freeze() const override;

 private:
  double dropout_;
  RetainBlock diagnoses_block_{nullptr}, procedures_block_{nullptr};
  nn::Linear output_{nullptr};
};

}  // namespace theriac::clinical
