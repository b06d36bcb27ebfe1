#include "cpp/engine/train/optimizer.h"

#include <gtest/gtest.h>

namespace theriac::train {
namespace {

struct TwoParameters : torch::nn::Module {
  TwoParameters() {
    wide = register_parameter("wide", at::empty({70, 1000}));  // more than a thread's share
    small = register_parameter("small", at::empty({3, 5}));
    const torch::NoGradGuard no_grad;
    tensor::fill_uniform(wide, -1, 1, 1, "wide");
    tensor::fill_uniform(small, -1, 1, 1, "small");
  }
  at::Tensor wide, small;
};

void set_gradients(const TwoParameters& module, std::uint64_t step) {
  const at::Tensor wide = at::empty({70, 1000}), small = at::empty({5, 3});
  tensor::fill_uniform(wide, -1, 2, step, "wide");
  tensor::fill_uniform(small, -1, 2, step, "small");
  module.wide.mutable_grad() = wide;
  module.small.mutable_grad() = small.t();  // not contiguous
}

// Ours on the CPU without decay, LibTorch's fused operator with it.
TEST(NamedOptimizer, AdamAgreesWithLibTorch) {
  for (const double decay : {0.0, 0.1}) {
    TwoParameters ours, theirs;
    TrainOptions options;
    options.optimizer = "adam";
    options.learning_rate = 0.01;
    options.weight_decay = decay;
    NamedOptimizer optimizer(ours, options);
    torch::optim::Adam reference(theirs.parameters(),
                                 torch::optim::AdamOptions(0.01).weight_decay(decay));
    for (std::uint64_t step = 1; step <= 5; ++step) {
      set_gradients(ours, step);
      set_gradients(theirs, step);
      optimizer.step();
      reference.step();
      EXPECT_TRUE(at::allclose(ours.wide, theirs.wide, 1e-5, 1e-6)) << decay << " step " << step;
      EXPECT_TRUE(at::allclose(ours.small, theirs.small, 1e-5, 1e-6)) << decay << " step " << step;
    }
  }
}

TEST(NamedOptimizer, GoesOnFromItsState) {
  TwoParameters whole, resumed;
  const TrainOptions options;
  NamedOptimizer first(whole, options), second(resumed, options);
  const auto step = [](TwoParameters& module, NamedOptimizer& optimizer, std::uint64_t number) {
    set_gradients(module, number);
    optimizer.step();
  };
  for (std::uint64_t number = 1; number <= 3; ++number) step(whole, first, number);
  for (std::uint64_t number = 1; number <= 2; ++number) step(resumed, second, number);
  NamedOptimizer third(resumed, options);
  third.load_state(second.state());
  step(resumed, third, 3);
  EXPECT_TRUE(at::equal(whole.wide, resumed.wide));
  EXPECT_TRUE(at::equal(whole.small, resumed.small));
}

TEST(NamedOptimizer, ParametersWithoutAGradientStay) {
  TwoParameters module;
  NamedOptimizer optimizer(module, TrainOptions{});
  const at::Tensor before = module.wide.detach().clone();
  module.small.mutable_grad() = at::ones({3, 5});
  optimizer.step();
  EXPECT_TRUE(at::equal(module.wide, before));
  for (const auto& [name, value] : optimizer.state()) EXPECT_EQ(name.rfind("small.", 0), 0) << name;
}

}  // namespace
}  // namespace theriac::train
