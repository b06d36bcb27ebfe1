#include "cpp/engine/sequence/token_batch.h"

#include <gtest/gtest.h>

namespace theriac::sequence {
namespace {

at::Tensor drawn(at::IntArrayRef shape, const char* name) {
  at::Tensor x = at::empty(shape);
  tensor::fill_normal(x, 0, 1, 7, name);
  return x;
}

// The scores of the specification: a sequence of three slots whose first is padding; q = k.
TEST(SelfAttention, HandValuesWithAPadding) {
  const std::vector<std::int32_t> ids{5, 6};
  const TokenBatch batch(ids, {0, 2}, 3, at::kCPU);
  EXPECT_EQ(batch.slot[0].item<std::int64_t>(), 1);
  const at::Tensor q = at::tensor({0.0F, 1.0F, 1.0F, 1.0F}).view({2, 2});
  const at::Tensor v = at::eye(2);
  for (const bool fused : {true, false}) {
    const at::Tensor out = fused ? causal_self_attention(q, q, v, batch, 1, 0, std::nullopt)
                                 : composed_self_attention(q, q, v, batch, 1, 0, std::nullopt);
    EXPECT_NEAR(out[0][0].item<float>(), 1, 1e-6);
    EXPECT_NEAR(out[1][0].item<float>(), 0.3302385, 1e-6);
    EXPECT_NEAR(out[1][1].item<float>(), 0.6697615, 1e-6);
  }
}

TEST(SelfAttention, BothWaysGiveTheSameOutputsAndGradients) {
  const std::vector<std::int32_t> ids(13, 1);
  const TokenBatch batch(ids, {0, 1, 6, 13}, 9, at::kCPU);
  const at::Tensor weight = drawn({13, 6}, "weight");
  std::vector<at::Tensor> outputs, gradients;
  for (const bool fused : {true, false}) {
    std::vector<at::Tensor> inputs;
    for (const char* name : {"q", "k", "v"})
      inputs.push_back(drawn({13, 6}, name).requires_grad_(true));
    const at::Tensor out =
        fused ? causal_self_attention(inputs[0], inputs[1], inputs[2], batch, 2, 0, std::nullopt)
              : composed_self_attention(inputs[0], inputs[1], inputs[2], batch, 2, 0, std::nullopt);
    (out * weight).sum().backward();
    outputs.push_back(out.detach());
    for (const at::Tensor& input : inputs) gradients.push_back(input.grad());
  }
  EXPECT_LT((outputs[0] - outputs[1]).abs().max().item<float>(), 1e-6F);
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_LT((gradients[i] - gradients[i + 3]).abs().max().item<float>(), 2e-6F) << i;
}

// With dropout the operator must be the derivative of itself: finite differences in float32.
TEST(SelfAttention, GradientsUnderDropout) {
  const std::vector<std::int32_t> ids(5, 1);
  const TokenBatch batch(ids, {0, 5}, 5, at::kCPU);
  const at::Tensor weight = drawn({5, 4}, "weight");
  std::vector<at::Tensor> inputs;
  for (const char* name : {"q", "k", "v"})
    inputs.push_back(drawn({5, 4}, name).requires_grad_(true));
  const auto loss = [&] {
    const at::Generator generator = tensor::make_generator(3, "test");
    const at::Tensor out =
        causal_self_attention(inputs[0], inputs[1], inputs[2], batch, 2, 0.5, generator);
    return (out * weight).sum();
  };
  loss().backward();
  const at::NoGradGuard no_grad;
  for (at::Tensor& input : inputs) {
    for (std::int64_t i = 0; i < input.numel(); ++i) {
      float& value = input.mutable_data_ptr<float>()[i];
      const float kept = value;
      constexpr float kStep = 1e-2F;
      value = kept + kStep;
      const auto up = loss().item<double>();
      value = kept - kStep;
      const auto down = loss().item<double>();
      value = kept;
      EXPECT_NEAR((up - down) / (2 * kStep), input.grad().view(-1)[i].item<double>(), 2e-3) << i;
    }
  }
}

}  // namespace
}  // namespace theriac::sequence
