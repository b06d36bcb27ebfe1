// GAMENet: graph-augmented memory of medication classes, read by the patient's state and by the
// patient's own past (Shang et al., "GAMENet: Graph Augmented MEmory Networks for Recommending
// Medication Combination", AAAI 2019; medication.md sections 5.1 and 6).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "cpp/engine/clinical/backbone.h"
#include "cpp/engine/clinical/interaction_loss.h"
#include "cpp/engine/nn/graph_convolution.h"

namespace theriac::clinical {

struct GamenetShape {
  bool original = false;       // section 5.1; false: section 6 as HIER uses it
  double dropout = 0;          // original: on code vectors
  double graph_dropout = 0.5;  // between the graph convolutions
  LossOptions loss;
  VisitMask mask = VisitMask::kFromLengths;
};

// What a query finds in the memory and in the past (golden numbers: section 12.3).
struct MemoryReads {
  at::Tensor query;            // the one that asks: [batch, m]
  at::Tensor memory_weights;   // a: [batch, classes]
  at::Tensor fact1;            // [batch, m]
  at::Tensor history_weights;  // w: [batch, visits], 0 from the last visit on
  at::Tensor fact2;  // [batch, m]; fact1 for a patient without a past, as the original has it
};
// queries [batch, visits, m]: the one at a row's last visit asks, the earlier ones are keys.
// history [batch, visits, classes], memory [classes, m], lengths int64 [batch].
MemoryReads read_memory(const at::Tensor& queries, const at::Tensor& history,
                        const at::Tensor& lengths, const at::Tensor& memory);

// Node vectors of the co-occurrence graph minus a learned share of those of the interaction graph,
// if there is one: [classes, m]. The share is sigmoid(beta) with beta 0 at the start, or in the
// original form the plain scalar lambda from U(-0.1, 0.1). Names: ehr.gcn1.weight, ..., ddi...,
// beta or lambda.
class GraphMemoryImpl : public torch::nn::Module {
 public:
  GraphMemoryImpl(const GamenetShape& shape, std::int64_t dim, const BackboneSetup& setup);
  at::Tensor forward(const train::Step* step) const;

 private:
  bool original_;
  nn::GraphConvolution ehr_{nullptr}, ddi_{nullptr};
  at::Tensor share_;  // [1]
};
TORCH_MODULE(GraphMemory);

class Gamenet : public Backbone {
 public:
  Gamenet(const EncoderOptions& encoder, const GamenetShape& shape, const BackboneSetup& setup);
  at::Tensor forward(const VisitBatch& batch, const train::Step* step) const override;
  at::Tensor loss(const VisitBatch& batch, const train::Step& step) const override;
  std::shared_ptr<const FrozenScorer> freeze() const override;

 private:
  at::Tensor pooled(CodeEncoder& encoder, const CodeSets& sets, const at::Tensor& outside,
                    const nn::StepLayout& layout, const train::Step* step,
                    std::string_view field) const;
  at::Tensor logits(const at::Tensor& reads) const;

  GamenetShape shape_;
  nn::Gru diagnoses_gru_{nullptr}, procedures_gru_{nullptr};
  nn::Linear query_{nullptr};
  GraphMemory memory_{nullptr};
  nn::Linear output1_{nullptr},
      output2_{nullptr};     // the corrected form has output2 alone, named "output"
  at::Tensor interactions_;  // for the loss; undefined without knowledge
};

}  // namespace theriac::clinical
