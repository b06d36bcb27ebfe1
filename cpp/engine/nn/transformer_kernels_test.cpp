#include "cpp/engine/nn/transformer_kernels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "cpp/core/base/random.h"
#include "cpp/engine/tensor/tensor.h"

namespace theriac::nn {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::Pointwise;

std::vector<float> drawn(std::size_t n, std::uint64_t seed, double scale = 1) {
  Random random(seed, "kernels");
  std::vector<float> out(n);
  for (float& value : out) value = static_cast<float>(scale * random.normal());
  return out;
}

at::Tensor tensor_of(const std::vector<float>& values, at::IntArrayRef shape) {
  return at::tensor(values).view(shape);
}

TEST(TransformerKernels, GeluOfTheSpecification) {
  std::vector<float> x{-2, -1, 0, 0.5, 1, 2};
  gelu(x);
  EXPECT_THAT(x, Pointwise(FloatNear(4e-7F),
                           {-0.0455003F, -0.1586553F, 0.0F, 0.3457312F, 0.8413447F, 1.9544997F}));
}

TEST(TransformerKernels, GeluBesideLibTorch) {
  std::vector<float> x;
  for (int i = -4000; i <= 4000; ++i) x.push_back(static_cast<float>(i) / 200);
  const at::Tensor expected = at::gelu(tensor_of(x, {static_cast<std::int64_t>(x.size())}));
  gelu(x);
  for (std::size_t i = 0; i < x.size(); ++i)
    EXPECT_NEAR(x[i], expected[static_cast<std::int64_t>(i)].item<float>(), 1e-6F) << i;
  std::vector<float> far{-1e30F, -5e4F, -6, 6, 5e4F, std::numeric_limits<float>::infinity()};
  gelu(far);
  EXPECT_THAT(far, Pointwise(FloatNear(0), {0.0F, 0.0F, 0.0F, 6.0F, 5e4F,
                                            std::numeric_limits<float>::infinity()}));
}

TEST(TransformerKernels, LayerNormOfTheSpecification) {
  std::vector<float> x{1, 2, 3, 4};
  const std::vector<float> ones(4, 1), zeros(4, 0);
  layer_norm(x.data(), nullptr, 1, 4, ones.data(), zeros.data(), 1e-12F);
  EXPECT_THAT(x, Pointwise(FloatNear(1e-6F), {-1.3416408F, -0.4472136F, 0.4472136F, 1.3416408F}));
}

TEST(TransformerKernels, LayerNormBesideLibTorch) {
  for (const std::int64_t width : {1, 3, 8, 13, 64}) {
    const auto count = static_cast<std::size_t>(5 * width);
    std::vector<float> x = drawn(count, 1);
    const std::vector<float> residual = drawn(count, 2),
                             weight = drawn(static_cast<std::size_t>(width), 3),
                             bias = drawn(static_cast<std::size_t>(width), 4);
    const at::Tensor expected =
        at::layer_norm(tensor_of(x, {5, width}) + tensor_of(residual, {5, width}), {width},
                       at::tensor(weight), at::tensor(bias), 1e-5);
    layer_norm(x.data(), residual.data(), 5, static_cast<std::size_t>(width), weight.data(),
               bias.data(), 1e-5F);
    EXPECT_LT((tensor_of(x, {5, width}) - expected).abs().max().item<float>(), 2e-5F) << width;
  }
}

// q = k = v of two features; the first key is a padding.
TEST(TransformerKernels, AttentionOfTheSpecification) {
  const std::vector<float> rows{1, 0, 0, 1, 1, 1};
  const std::vector<float> weights_as_values{1, 0, 0, 0, 1, 0, 0, 0, 1};  // v: unit vectors
  const std::vector<std::uint8_t> blocked{1, 0, 0};
  std::vector<float> scratch(3 + kAttentionSpare);
  // One head of width 2 over q and k; each output feature reads one key's weight.
  for (std::size_t feature = 0; feature < 3; ++feature) {
    std::vector<float> v(6, 0.0F), out(6);
    for (std::size_t j = 0; j < 3; ++j) v[2 * j] = weights_as_values[3 * j + feature];
    causal_attention({1, 2, 2, 2, 2, 0.70710678F}, rows.data(), rows.data(), v.data(), nullptr,
                     blocked.data(), 3, 0, scratch.data(), out.data());
    const float expected[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0.3302385F, 0.6697615F}};
    for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(out[2 * i], expected[i][feature], 1e-6F) << i;
  }
}

TEST(TransformerKernels, AttentionBesideLibTorch) {
  constexpr std::int64_t kHeads = 3, kHead = 5, kRows = 7, kWidth = kHeads * kHead;
  const std::vector<float> qkv = drawn(kRows * 3 * kWidth, 5);
  std::vector<float> out(kRows * kWidth), last(kWidth), scratch(kRows + kAttentionSpare);
  const AttentionShape shape{kHeads, kHead, 3 * kWidth, 3 * kWidth, kWidth, 0.4F};
  causal_attention(shape, qkv.data(), qkv.data() + kWidth, qkv.data() + 2 * kWidth, nullptr,
                   nullptr, kRows, 0, scratch.data(), out.data());
  const at::Tensor all = tensor_of(qkv, {kRows, 3, kHeads, kHead}).permute({1, 2, 0, 3});
  const at::Tensor mask = at::ones({kRows, kRows}).triu(1) * -1e9;
  const at::Tensor expected =
      at::matmul(at::softmax(at::matmul(all[0], all[1].transpose(1, 2)) * 0.4 + mask, -1), all[2])
          .transpose(0, 1)
          .reshape({kRows, kWidth});
  EXPECT_LT((tensor_of(out, {kRows, kWidth}) - expected).abs().max().item<float>(), 1e-6F);
  // One query alone gives the same bits.
  causal_attention(shape, qkv.data() + 4 * 3 * kWidth, qkv.data() + kWidth, qkv.data() + 2 * kWidth,
                   nullptr, nullptr, 1, 4, scratch.data(), last.data());
  for (std::size_t c = 0; c < kWidth; ++c) EXPECT_EQ(last[c], out[4 * kWidth + c]);
  // So do keys that stand elsewhere.
  const std::vector<std::uint32_t> rows{6, 2, 0, 5, 1};
  std::vector<float> apart(qkv.size()), again(kWidth);
  for (std::size_t j = 0; j < rows.size(); ++j)
    std::copy_n(qkv.data() + j * 3 * kWidth, 3 * kWidth, apart.data() + rows[j] * 3 * kWidth);
  causal_attention(shape, qkv.data() + 4 * 3 * kWidth, apart.data() + kWidth,
                   apart.data() + 2 * kWidth, rows.data(), nullptr, 1, 4, scratch.data(),
                   again.data());
  EXPECT_EQ(again, last);
  // Heads that share their keys: as many copies of the first head's.
  std::vector<float> repeated(kRows * kWidth), one(kWidth), each(kWidth);
  for (std::size_t j = 0; j < kRows; ++j) {
    for (std::size_t h = 0; h < kHeads; ++h)
      std::copy_n(qkv.data() + j * 3 * kWidth, kHead, repeated.data() + j * kWidth + h * kHead);
  }
  const float* query = qkv.data() + 6 * 3 * kWidth;
  causal_attention({kHeads, kHead, kWidth, kWidth, kWidth, 0.4F}, query, repeated.data(),
                   repeated.data(), nullptr, nullptr, 1, 6, scratch.data(), each.data());
  causal_attention({kHeads, kHead, kWidth, kWidth, kWidth, 0.4F, true}, query, repeated.data(),
                   repeated.data(), nullptr, nullptr, 1, 6, scratch.data(), one.data());
  EXPECT_EQ(one, each);
}

TEST(TransformerKernels, CountsAndFinds) {
  std::vector<float> x{3, 1, 2, 2, 5, -1, 2, 9, 2, 0, 2};
  EXPECT_EQ(count_above(x, 2), 3U);
  EXPECT_EQ(count_equal(x, 2), 5U);
  EXPECT_EQ(find_above(x, 0, 2), 0U);
  EXPECT_EQ(find_above(x, 1, 2), 4U);
  EXPECT_EQ(find_above(x, 5, 2), 7U);
  EXPECT_EQ(find_above(x, 8, 2), x.size());
  x[9] = std::nanf("");
  EXPECT_EQ(count_above(x, -INFINITY), 10U);
  EXPECT_EQ(find_above(x, 9, -INFINITY), 10U);
}

}  // namespace
}  // namespace theriac::nn
