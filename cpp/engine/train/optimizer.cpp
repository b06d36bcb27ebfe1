#include "cpp/engine/train/optimizer.h"

#include <ATen/Parallel.h>

#include <unordered_map>

#include "cpp/engine/nn/dense_kernels.h"

namespace theriac::train {
namespace {

using Parameters = std::vector<at::Tensor>;

// Adam (Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015) and AdamW
// (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019) with the usual
// moments 0.9 and 0.999 and epsilon 1e-8: one pass over memory a step where torch::optim::Adam makes a
// dozen. Ours on the CPU, LibTorch's fused operators elsewhere and for weight decay.
class AdamRule : public UpdateRule {
 public:
  AdamRule(const Parameters& parameters, double rate, double decay, bool decoupled)
      : rate_(rate), decay_(decay), decoupled_(decoupled), slots_(parameters.size()) {
    for (std::size_t i = 0; i < slots_.size(); ++i) slots_[i].parameter = parameters[i];
  }

  void step() override {
    const at::NoGradGuard no_grad;
    Parameters parameters, gradients, means, squares, steps;
    for (Slot& slot : slots_) {
      if (!slot.parameter.grad().defined()) continue;
      if (!slot.mean.defined()) slot.begin();
      ++slot.count;
      if (update_here(slot)) continue;
      parameters.push_back(slot.parameter);
      gradients.push_back(slot.parameter.grad().contiguous());  // it reads them as if they were
      means.push_back(slot.mean);
      squares.push_back(slot.square);
      steps.push_back(slot.steps.fill_(static_cast<double>(slot.count)));
    }
    if (parameters.empty()) return;
    constexpr double kMean = 0.9, kSquare = 0.999, kEpsilon = 1e-8;
    const auto update = [&](auto rule) {
      rule(parameters, gradients, means, squares, {}, steps, rate_, kMean, kSquare, decay_,
           kEpsilon, /*amsgrad=*/false, /*maximize=*/false, {}, {});
    };
    using Fused =
        void (*)(at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList,
                 at::TensorList, double, double, double, double, double, bool, bool,
                 const std::optional<at::Tensor>&, const std::optional<at::Tensor>&);
    update(decoupled_ ? static_cast<Fused>(at::_fused_adamw_)
                      : static_cast<Fused>(at::_fused_adam_));
  }

  std::vector<std::string> moment_names() const override { return {"exp_avg", "exp_avg_sq"}; }

  Memory memory(std::size_t parameter) const override {
    const Slot& slot = slots_[parameter];
    if (!slot.mean.defined()) return {};
    return {slot.count, {{"exp_avg", slot.mean}, {"exp_avg_sq", slot.square}}};
  }

  void remember(std::size_t parameter, const Memory& memory) override {
    Slot& slot = slots_[parameter];
    slot = Slot{slot.parameter, {}, {}, {}, 0};
    if (memory.steps == 0) return;
    slot.begin();
    slot.count = memory.steps;
    slot.mean.copy_(memory.moments.at(0).second);
    slot.square.copy_(memory.moments.at(1).second);
  }

 private:
  struct Slot {
    at::Tensor parameter, mean, square;
    at::Tensor steps;  // float, as the operators want it; exact to 2^24 steps
    std::int64_t count = 0;
    void begin() {
      mean = at::zeros_like(parameter, parameter.options().requires_grad(false));
      square = at::zeros_like(mean);
      steps = at::zeros({}, mean.options().dtype(at::kFloat));
    }
  };
  // Whether our own pass applies; then it is done.
  bool update_here(Slot& slot) const {
    constexpr std::int64_t kGrain = 1 << 15;
    const at::Tensor& p = slot.parameter;
    if (!p.is_cpu() || p.scalar_type() != at::kFloat || !p.is_contiguous() || decay_ != 0)
      return false;
    const at::Tensor gradient = p.grad().contiguous();
    const auto* g = gradient.const_data_ptr<float>();
    auto *mean = slot.mean.mutable_data_ptr<float>(),
         *square = slot.square.mutable_data_ptr<float>(), *values = p.mutable_data_ptr<float>();
    at::parallel_for(0, p.numel(), kGrain, [&](std::int64_t first, std::int64_t last) {
      nn::adam_update(g + first, rate_, static_cast<std::uint64_t>(slot.count),
                      static_cast<std::size_t>(last - first), mean + first, square + first,
                      values + first);
    });
    return true;
  }

  double rate_, decay_;
  bool decoupled_;
  std::vector<Slot> slots_;
};

// Plain descent keeps no memory.
class DescentRule : public UpdateRule {
 public:
  DescentRule(const Parameters& parameters, double rate, double decay)
      : optimizer_(parameters, torch::optim::SGDOptions(rate).weight_decay(decay)) {}
  void step() override { optimizer_.step(); }
  std::vector<std::string> moment_names() const override { return {}; }
  Memory memory(std::size_t) const override { return {}; }
  void remember(std::size_t, const Memory&) override {}

 private:
  torch::optim::SGD optimizer_;
};

class RmspropRule : public UpdateRule {
 public:
  RmspropRule(const Parameters& parameters, double rate, double decay)
      : parameters_(parameters),
        optimizer_(parameters, torch::optim::RMSpropOptions(rate).weight_decay(decay)) {}
  void step() override { optimizer_.step(); }
  std::vector<std::string> moment_names() const override { return {"square_avg"}; }

  Memory memory(std::size_t parameter) const override {
    const auto found = optimizer_.state().find(parameters_[parameter].unsafeGetTensorImpl());
    if (found == optimizer_.state().end()) return {};
    const auto& state = static_cast<const torch::optim::RMSpropParamState&>(*found->second);
    return {state.step(), {{"square_avg", state.square_avg()}}};
  }

  void remember(std::size_t parameter, const Memory& memory) override {
    void* const key = parameters_[parameter].unsafeGetTensorImpl();
    optimizer_.state().erase(key);
    if (memory.steps == 0) return;
    auto state = std::make_unique<torch::optim::RMSpropParamState>();
    state->step(memory.steps);
    state->square_avg(memory.moments.at(0)
                          .second.to(parameters_[parameter].options().requires_grad(false))
                          .clone());
    optimizer_.state()[key] = std::move(state);
  }

 private:
  Parameters parameters_;
  torch::optim::RMSprop optimizer_;
};

std::unique_ptr<UpdateRule> make_rule(const TrainOptions& options, const Parameters& parameters) {
  const double rate = options.learning_rate, decay = options.weight_decay;
  if (options.optimizer == "adam")
    return std::make_unique<AdamRule>(parameters, rate, decay, /*decoupled=*/false);
  if (options.optimizer == "adamw")
    return std::make_unique<AdamRule>(parameters, rate, decay, /*decoupled=*/true);
  if (options.optimizer == "rmsprop") return std::make_unique<RmspropRule>(parameters, rate, decay);
  if (options.optimizer == "sgd") return std::make_unique<DescentRule>(parameters, rate, decay);
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

}  // namespace

NamedOptimizer::NamedOptimizer(const torch::nn::Module& module, const TrainOptions& options)
    : clip_norm_(options.clip_norm) {
  for (const auto& item : module.named_parameters()) {
    if (!item.value().requires_grad()) continue;
    names_.push_back(item.key());
    parameters_.push_back(item.value());
  }
  rule_ = make_rule(options, parameters_);
}

void NamedOptimizer::step() {
  if (clip_norm_ > 0) torch::nn::utils::clip_grad_norm_(parameters_, clip_norm_);
  rule_->step();
}

void NamedOptimizer::zero_grad() {
  for (at::Tensor& parameter : parameters_) parameter.mutable_grad() = at::Tensor();
}

tensor::NamedTensors NamedOptimizer::state() const {
  tensor::NamedTensors result;
  for (std::size_t i = 0; i < names_.size(); ++i) {
    const UpdateRule::Memory memory = rule_->memory(i);
    if (memory.steps == 0) continue;
    result.emplace_back(names_[i] + ".step", at::scalar_tensor(memory.steps, at::kLong));
    for (const auto& [moment, tensor] : memory.moments)
      result.emplace_back(names_[i] + "." + moment, tensor);
  }
  return result;
}

void NamedOptimizer::load_state(const tensor::NamedTensors& state) {
  const ByName by_name(state.begin(), state.end());
  std::vector<UpdateRule::Memory> memories(names_.size());
  for (std::size_t i = 0; i < names_.size(); ++i) {
    if (!by_name.contains(names_[i] + ".step")) continue;
    memories[i].steps = take(by_name, names_[i] + ".step", {}).item<std::int64_t>();
    for (const std::string& moment : rule_->moment_names()) {
      memories[i].moments.emplace_back(
          moment, take(by_name, names_[i] + "." + moment, parameters_[i].sizes()));
    }
  }
  for (std::size_t i = 0; i < names_.size(); ++i) rule_->remember(i, memories[i]);
}

}  // namespace theriac::train
