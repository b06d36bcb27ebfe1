// A model with a LoRA adapter on top, as if the adapter had been merged into it: the weights that the
// adapter changes are computed in float32 when a block of them is asked for. Nothing is written, and
// neither whole weights nor whole deltas are held.
//
// With W the model's weight, A [r, in], B [out, r] and s = alpha / r (rsLoRA: alpha / sqrt(r)):
//
//     W + s B A                                  linear modules and convolutions
//     W + s (B A)^T                              embeddings, and linear ones with fan_in_fan_out
//     m (W + s B A) / |W + s B A|, by row        DoRA, with m the magnitude vector
//     b + s b_B                                  biases of B (lora_bias)
//
// Papers: LoRA 2106.09685, rsLoRA 2312.03732, DoRA 2402.09353. Tensors of modules_to_save, resized
// embeddings and trained biases replace the model's.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cpp/core/merge/plan.h"
#include "cpp/core/tensorfile/adapter.h"
#include "cpp/core/tensorfile/model_files.h"

namespace theriac::merge {

struct AdaptedModel {
  tensorfile::ModelFiles files;
  // What the adapter changes in the model's config.json: an output head that is no longer the
  // embedding. Already in files.config().
  std::vector<ConfigEdit> config_edits;
};

// `dtype`: the type that changed weights count as, instead of the model's own. Reads headers only.
// Throws kDataError naming the adapter's tensor where it does not fit the model (no such module,
// shapes), kUnsupported for DoRA where rows are no output units.
AdaptedModel apply_adapter(std::shared_ptr<const tensorfile::ModelFiles> model,
                           std::shared_ptr<const tensorfile::Adapter> adapter,
                           std::optional<tensorfile::DType> dtype = std::nullopt);

}  // namespace theriac::merge
