// A LoRA adapter out of a fine-tuned model: the differences from its base, cut to low rank.
//
// For a matrix D = model - base (of a convolution [out, in, k...]: as [out, in k...]) with singular
// triplets u_j, s_j, v_j, the adapter holds B A of the first r, the closest matrix of that rank
// (Eckart & Young 1936): A = sqrt(S) V^T, B = U sqrt(S), or with the scale in A alone A = S V^T,
// B = U. Where r is small beside the matrix the triplets come from a randomised range finder with
// oversampling 10 and two power iterations (Halko, Martinsson & Tropp, arXiv 0909.4061); the energy
// that was captured, sum_{j<r} s_j^2 / ||D||_F^2, is reported for every module.
//
// The folder is PEFT's: adapter_config.json with r = lora_alpha = the greatest rank, so that the
// scale is 1, and rank_pattern, alpha_pattern for modules of another rank; adapter_model.safetensors.
// Embeddings are saved whole (modules_to_save) unless decomposed on request; so are tensors that have
// no matrix, such as norms; a bias becomes the difference lora_B.bias. What did not change is left
// out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cpp/core/base/job.h"
#include "cpp/core/base/json.h"
#include "cpp/core/merge/plan.h"
#include "cpp/core/tensorfile/model_files.h"

namespace theriac::merge {

struct ExtractionOptions {
  std::uint64_t max_rank = 128;
  double sv_epsilon = 0;             // singular values up to this are dropped
  bool distribute_scale = true;      // sqrt(S) to both factors
  bool embed_lora = false;           // embeddings as low rank, too
  bool skip_undecomposable = false;  // leaves norms and other tensors without a matrix out
  tensorfile::DType dtype = tensorfile::DType::kF32;
  std::string base_name;  // for adapter_config.json
  std::uint64_t seed = 0;
  std::uint64_t memory_limit = 0;  // of the largest matrix' work, in bytes; 0: none

  // From the parameters of the recipe's method 'extract_lora'.
  static ExtractionOptions of(const Parameters& parameters);
};

// Writes adapter_config.json and adapter_model.safetensors into `folder`, which exists. `plan`: of
// method extract_lora, each tensor with the base's and the model's. Returns {"modules": [{"module",
// "shape", "rank", "energy", "relative_error", "randomised"}], "saved": [names], "skipped": [names],
// "energy": of all decomposed ones together}.
//
// The adapter is held in memory until it is written: rank times the sum of the modules' sides.
// Throws kDataError where nothing differs, kNumericError for NaN or infinite differences,
// kOutOfMemory, kIoError, kCancelled.
Json extract_adapter(const MergePlan& plan,
                     const std::vector<const tensorfile::ModelFiles*>& models,
                     const std::filesystem::path& folder, const ExtractionOptions& options,
                     Job& job);

}  // namespace theriac::merge
