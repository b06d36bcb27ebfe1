// A backbone: a network that turns a patient's visits into one logit per medication class. It gets
// code vectors from two encoders, so that ids, relation embedding and position encoding serve every
// backbone alike.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "cpp/engine/clinical/code_encoder.h"
#include "cpp/engine/clinical/frozen_scorers.h"
#include "cpp/engine/clinical/visit_batch.h"
#include "cpp/engine/nn/gru.h"
#include "cpp/engine/nn/linear.h"
#include "cpp/engine/train/fit_loop.h"

namespace theriac::clinical {

// What a backbone is built on. `relations` may be empty when the encoders use none.
struct BackboneSetup {
  const Vocabularies* vocabularies = nullptr;
  RelationTables relations;
  at::Tensor
      co_occurrence;  // 0/1 [classes, classes]: classes given in one visit of the training data
  at::Tensor interactions;  // 0/1 [classes, classes], or undefined: no interaction knowledge
  std::uint64_t seed = 0;
};

// Which steps of a padded batch a backbone believes in. kFromOutputs reproduces a defect of
// PyHealth's layers (medication.md section 6): padding counts as visits, so an answer depends on
// who shares the batch. It exists for tests and comparisons; such a backbone refuses to be frozen.
enum class VisitMask { kFromLengths, kFromOutputs };

// Parameters start from (seed, name) alone. Train with one thread; `forward` in inference mode may
// run concurrently.
class Backbone : public torch::nn::Module {
 public:
  // Logits [batch, classes]. `step` null: inference, no dropout.
  virtual at::Tensor forward(const VisitBatch& batch, const train::Step* step) const = 0;
  // Scalar, training mode.
  virtual at::Tensor loss(const VisitBatch& batch, const train::Step& step) const = 0;
  // From weights on the CPU.
  virtual std::shared_ptr<const FrozenScorer> freeze() const = 0;

  const std::shared_ptr<CodeEncoder>& diagnoses_encoder() const { return diagnoses_; }
  const std::shared_ptr<CodeEncoder>& procedures_encoder() const { return procedures_; }

 protected:
  Backbone(const EncoderOptions& options, const BackboneSetup& setup);

  std::shared_ptr<CodeEncoder> diagnoses_, procedures_;
};

// Sum over each valid visit's set of its code vectors, plus what lies outside the vocabulary:
// [tokens, dim] of the layout.
at::Tensor summed_visits(CodeEncoder& encoder, const CodeSets& sets, const at::Tensor& outside,
                         const nn::StepLayout& layout);
// Mean over each set of its code vectors after dropout on every vector: [tokens, dim].
at::Tensor averaged_visits(CodeEncoder& encoder, const CodeSets& sets, const nn::StepLayout& layout,
                           double dropout, const std::optional<at::Generator>& generator);

// The step's generator for a purpose; none in inference.
std::optional<at::Generator> generator_of(const train::Step* step, std::string_view purpose);

// Contiguous float copies on the CPU for FrozenScorer makers.
at::Tensor frozen_copy(const at::Tensor& tensor);
FrozenGruParts frozen_parts(const nn::Gru& gru);
FrozenLinearParts frozen_parts(const nn::Linear& linear);

}  // namespace theriac::clinical
