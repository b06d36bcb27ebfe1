// Codes to vectors: ids, relation embedding and position encoding in any combination (HIER; Liang
// et al., "Self-supervised Hierarchical Representation for Medication Recommendation", 2024;
// medication.md section 7).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cpp/core/base/options.h"
#include "cpp/core/codes/hierarchy.h"
#include "cpp/core/data/cohort.h"
#include "cpp/engine/clinical/relation_table.h"
#include "cpp/engine/tensor/tensor.h"

namespace theriac::clinical {

struct EncoderOptions {
  std::int64_t dim = 128;
  bool use_relation = true;        // frozen tree embedding R[c]
  bool use_position = true;        // ReLU(W onehot(c) + b), trained with the backbone
  bool use_id = false;             // ordinary embedding E[c]
  std::string layout = "aligned";  // aligned | h: slot 0 only for ICD-9 E codes, or for every 'E'
  std::string unknown =
      "nearest_ancestor";  // nearest_ancestor | zero: relation of codes outside the tree
  static const OptionTable<EncoderOptions>& table();  // refuses all three parts off, in CodeEncoder
};

// How one code was read.
struct CodeReading {
  enum class How { kKnown, kUnseen, kSubstituted, kUnusable } how = How::kUnusable;
  std::string relation_node;  // node whose relation vector was used, may be empty
};

// One encoder a field (diagnoses, procedures). A torch module with the parameters "position.weight"
// [dim, features], "position.bias" [dim] and "id.weight" [codes, dim], each only if its part is on.
// Const members may run concurrently once nothing changes the parameters.
class CodeEncoder : public torch::nn::Module {
 public:
  // Throws kInvalidArgument when all parts are off or a table has another width than `dim`.
  CodeEncoder(const EncoderOptions& options, const data::Vocabulary& vocabulary,
              const RelationTables& tables, std::uint64_t seed, const std::string& name);

  std::int64_t dim() const;
  // Vectors of vocabulary codes: ids int64 [n] -> [n, dim]. Gradients reach position and id, never
  // R.
  at::Tensor encode(const at::Tensor& ids);
  // Sum over each set: ids int64 [total], offsets int64 [sets + 1] -> [sets, dim]. An empty set is
  // exactly 0.
  at::Tensor pool(const at::Tensor& ids, const at::Tensor& offsets);

  // Frozen view for inference on the CPU: vectors of the whole vocabulary [size, dim] ...
  at::Tensor frozen_table() const;
  // ... and of any code, in or outside the vocabulary, added to sum[dim]. `reading` says how it was
  // found. A code that is outside the vocabulary and has neither relation nor position is kUnusable
  // and adds nothing. Position counts for unseen codes only if the vocabulary has codes of their
  // system and they have its form. A code of the vocabulary adds its row of `frozen_table`, to the
  // bit.
  CodeReading add_code(const codes::MedicalCode& code, std::span<float> sum) const;

  // The frozen relation vectors move with the parameters, but are no part of the module's state.
  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Device device, bool non_blocking = false) override;

 private:
  struct Parts;
  std::shared_ptr<Parts> parts_;
};

}  // namespace theriac::clinical
