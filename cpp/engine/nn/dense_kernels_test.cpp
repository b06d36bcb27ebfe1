#include "cpp/engine/nn/dense_kernels.h"

#include <gtest/gtest.h>

#include "cpp/engine/tensor/tensor.h"

namespace theriac::nn {
namespace {

TEST(DenseKernels, AdamAgreesWithLibTorch) {
  for (const std::int64_t n : {1, 7, 16, 45}) {
    const at::Tensor ours = at::empty({n});
    tensor::fill_uniform(ours, -1, 1, 3, "weights");
    const at::Tensor theirs = ours.clone().requires_grad_();
    torch::optim::Adam reference({theirs}, torch::optim::AdamOptions(0.01));
    const at::Tensor mean = at::zeros({n}), square = at::zeros({n}), gradient = at::empty({n});
    for (std::uint64_t step = 1; step <= 30; ++step) {
      tensor::fill_uniform(gradient, -2, 1, step, "gradient");
      theirs.mutable_grad() = gradient.clone();
      reference.step();
      adam_update(gradient.data_ptr<float>(), 0.01, step, static_cast<std::size_t>(n),
                  mean.data_ptr<float>(), square.data_ptr<float>(), ours.data_ptr<float>());
      ASSERT_TRUE(at::allclose(ours, theirs.detach(), 1e-5, 1e-6)) << n << " step " << step;
    }
  }
}

TEST(DenseKernels, ReluPassesGradientsWhereItIsPositive) {
  for (const std::int64_t n : {0, 1, 7, 16, 45}) {
    const at::Tensor y = at::empty({n}), g = at::empty({n});
    tensor::fill_uniform(y, -1, 1, 3, "outputs");
    tensor::fill_uniform(g, -1, 1, 4, "gradients");
    y.relu_();
    if (n > 0) y[n - 1] = -0.0F;
    const at::Tensor expected = at::where(y > 0, g * 2.5F, at::zeros_like(g));
    relu_backward({g.data_ptr<float>(), static_cast<std::size_t>(n)}, y.data_ptr<float>(), 2.5F);
    EXPECT_TRUE(at::equal(g, expected)) << n;
  }
}

}  // namespace
}  // namespace theriac::nn
