#include "cpp/engine/train/optimizer.h"

#include <unordered_map>

namespace theriac::train {
namespace {

using torch::optim::AdamParamState;
using torch::optim::AdamWParamState;
using torch::optim::OptimizerParamState;
using torch::optim::RMSpropParamState;

// The state of one parameter, whatever the optimiser: how many steps, and references to its
// moments.
struct Moments {
  std::int64_t* steps = nullptr;
  std::vector<std::pair<std::string, at::Tensor*>> tensors;
};

template <class Adam>
Moments adam_moments(OptimizerParamState& state) {
  auto& adam = static_cast<Adam&>(state);
  return {&adam.step(), {{"exp_avg", &adam.exp_avg()}, {"exp_avg_sq", &adam.exp_avg_sq()}}};
}

Moments rmsprop_moments(OptimizerParamState& state) {
  auto& rmsprop = static_cast<RMSpropParamState&>(state);
  return {&rmsprop.step(), {{"square_avg", &rmsprop.square_avg()}}};
}

// Plain SGD keeps no state, so it never gets here.
Moments moments_of(const std::string& kind, OptimizerParamState& state) {
  if (kind == "adam") return adam_moments<AdamParamState>(state);
  if (kind == "adamw") return adam_moments<AdamWParamState>(state);
  return rmsprop_moments(state);
}

std::unique_ptr<OptimizerParamState> empty_state(const std::string& kind) {
  if (kind == "adam") return std::make_unique<AdamParamState>();
  if (kind == "adamw") return std::make_unique<AdamWParamState>();
  return std::make_unique<RMSpropParamState>();
}

std::unique_ptr<torch::optim::Optimizer> make_optimizer(const TrainOptions& options,
                                                        const std::vector<at::Tensor>& parameters) {
  const double rate = options.learning_rate, decay = options.weight_decay;
  if (options.optimizer == "adam") {
    return std::make_unique<torch::optim::Adam>(
        parameters, torch::optim::AdamOptions(rate).weight_decay(decay));
  }
  if (options.optimizer == "adamw") {
    return std::make_unique<torch::optim::AdamW>(
        parameters, torch::optim::AdamWOptions(rate).weight_decay(decay));
  }
  if (options.optimizer == "rmsprop") {
    return std::make_unique<torch::optim::RMSprop>(
        parameters, torch::optim::RMSpropOptions(rate).weight_decay(decay));
  }
  if (options.optimizer == "sgd") {
    return std::make_unique<torch::optim::SGD>(parameters,
                                               torch::optim::SGDOptions(rate).weight_decay(decay));
  }
  throw Error(Code::kInvalidArgument,
              "optimizer '" + options.optimizer + "' is not one of adam, adamw, sgd, rmsprop");
}

using ByName = std::unordered_map<std::string, at::Tensor>;

at::Tensor take(const ByName& state, const std::string& name, at::IntArrayRef shape) {
  const auto found = state.find(name);
  if (found != state.end() && found->second.sizes() == shape) return found->second;
  throw Error(Code::kDataError, "optimiser state '" + name + "' is missing or has another shape")
      .at("tensor", name);
}

std::unique_ptr<OptimizerParamState> restored_state(const std::string& kind, const ByName& state,
                                                    const std::string& name,
                                                    const at::Tensor& parameter) {
  std::unique_ptr<OptimizerParamState> result = empty_state(kind);
  const Moments moments = moments_of(kind, *result);
  *moments.steps = take(state, name + ".step", {}).item<std::int64_t>();
  for (const auto& [moment, tensor] : moments.tensors) {
    *tensor = take(state, name + "." + moment, parameter.sizes()).to(parameter.options()).clone();
  }
  return result;
}

}  // namespace

NamedOptimizer::NamedOptimizer(const torch::nn::Module& module, const TrainOptions& options)
    : kind_(options.optimizer), clip_norm_(options.clip_norm) {
  for (const auto& item : module.named_parameters()) {
    if (!item.value().requires_grad()) continue;
    names_.push_back(item.key());
    parameters_.push_back(item.value());
  }
  optimizer_ = make_optimizer(options, parameters_);
}

void NamedOptimizer::step() {
  if (clip_norm_ > 0) torch::nn::utils::clip_grad_norm_(parameters_, clip_norm_);
  optimizer_->step();
}

tensor::NamedTensors NamedOptimizer::state() const {
  tensor::NamedTensors result;
  for (std::size_t i = 0; i < names_.size(); ++i) {
    const auto found = optimizer_->state().find(parameters_[i].unsafeGetTensorImpl());
    if (found == optimizer_->state().end()) continue;
    const Moments moments = moments_of(kind_, *found->second);
    result.emplace_back(names_[i] + ".step", at::scalar_tensor(*moments.steps, at::kLong));
    for (const auto& [moment, tensor] : moments.tensors) {
      result.emplace_back(names_[i] + "." + moment, *tensor);
    }
  }
  return result;
}

void NamedOptimizer::load_state(const tensor::NamedTensors& state) {
  const ByName by_name(state.begin(), state.end());
  optimizer_->state().clear();
  for (std::size_t i = 0; i < names_.size(); ++i) {
    if (!by_name.contains(names_[i] + ".step")) continue;
    optimizer_->state()[parameters_[i].unsafeGetTensorImpl()] =
        restored_state(kind_, by_name, names_[i], parameters_[i]);
  }
}

}  // namespace theriac::train
