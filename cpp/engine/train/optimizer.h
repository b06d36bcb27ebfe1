// Update rules by name, and their state as named tensors (LibTorch's own serialisation is a
// pickle).
#pragma once

#include <memory>
#include <string>

#include "cpp/engine/train/fit_loop.h"

namespace theriac::train {

// How parameters move along their gradients.
class UpdateRule {
 public:
  // What the rule remembers of one parameter. `steps` is 0 for one that was never updated.
  struct Memory {
    std::int64_t steps = 0;
    tensor::NamedTensors moments;  // of the parameter's shape
  };
  virtual ~UpdateRule() = default;
  virtual void step() = 0;                                    // parameters without a gradient stay
  virtual std::vector<std::string> moment_names() const = 0;  // empty: nothing is remembered
  virtual Memory memory(std::size_t parameter) const = 0;
  virtual void remember(std::size_t parameter, const Memory& memory) = 0;
};

// A module's trainable parameters with an update rule over them, in registration order.
class NamedOptimizer {
 public:
  NamedOptimizer(const torch::nn::Module& module, const TrainOptions& options);

  // One update from the gradients at hand, after clipping their global norm to `clip_norm` (0: not
  // at all).
  void step();
  void zero_grad();

  // "<parameter>.<moment>" tensors and int64 "<parameter>.step"; only parameters that have been
  // updated.
  tensor::NamedTensors state() const;
  // Throws kDataError on a tensor that does not fit.
  void load_state(const tensor::NamedTensors& state);

 private:
  double clip_norm_;
  std::vector<std::string> names_;
  std::vector<at::Tensor> parameters_;
  std::unique_ptr<UpdateRule> rule_;
};

}  // namespace theriac::train
