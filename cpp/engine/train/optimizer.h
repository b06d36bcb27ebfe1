// LibTorch's optimisers by name, and their state as named tensors (LibTorch's own serialisation is
// a pickle).
#pragma once

#include <memory>
#include <string>

#include "cpp/engine/train/fit_loop.h"

namespace theriac::train {

// A module's trainable parameters with an optimiser over them, in registration order.
class NamedOptimizer {
 public:
  NamedOptimizer(const torch::nn::Module& module, const TrainOptions& options);

  // One update from the gradients at hand, after clipping their global norm to `clip_norm` (0: not
  // at all).
  void step();
  void zero_grad() { optimizer_->zero_grad(); }

  // "<parameter>.<moment>" tensors and int64 "<parameter>.step"; only parameters that have been
  // updated.
  tensor::NamedTensors state() const;
  // Throws kDataError on a tensor that does not fit.
  void load_state(const tensor::NamedTensors& state);

 private:
  std::string kind_;
  double clip_norm_;
  std::vector<std::string> names_;
  std::vector<at::Tensor> parameters_;
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
};

}  // namespace theriac::train
