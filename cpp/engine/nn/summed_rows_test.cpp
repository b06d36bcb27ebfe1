#include "cpp/engine/nn/summed_rows.h"

#include <gtest/gtest.h>

namespace theriac::nn {
namespace {

at::Tensor random(at::IntArrayRef shape, const char* purpose) {
  const at::Tensor out = at::empty(shape);
  tensor::fill_uniform(out, -1, 1, 5, purpose);
  return out;
}

TEST(SummedRows, AgreeWithEmbeddingBag) {
  const at::Tensor ids = at::tensor({3, 0, 3, 6, 1, 1, 1, 5}, at::kLong);
  const at::Tensor offsets = at::tensor({0, 0, 3, 4, 4, 8, 8}, at::kLong);
  for (const std::int64_t dim : {1, 8, 45}) {
    const at::Tensor ours = random({7, dim}, "table").requires_grad_();
    const at::Tensor theirs = ours.detach().clone().requires_grad_();
    const at::Tensor weights = random({6, dim}, "weights");
    const at::Tensor sums = summed_rows(ours, ids, offsets);
    const at::Tensor expected =
        std::get<0>(at::embedding_bag(theirs, ids, offsets, false, 0, false, {}, true));
    EXPECT_TRUE(at::allclose(sums, expected, 1e-6, 1e-6)) << dim;
    EXPECT_TRUE(at::equal(sums[0], at::zeros({dim})));
    (sums * weights).sum().backward();
    (expected * weights).sum().backward();
    EXPECT_TRUE(at::allclose(ours.grad(), theirs.grad(), 1e-6, 1e-6)) << dim;
    EXPECT_TRUE(at::equal(ours.grad()[2], at::zeros({dim})));  // which no set has
  }
}

TEST(SummedRows, OfNothing) {
  const at::Tensor table = random({3, 4}, "table").requires_grad_();
  const at::Tensor none = at::empty({0}, at::kLong);
  EXPECT_TRUE(at::equal(summed_rows(table, none, at::zeros({3}, at::kLong)), at::zeros({2, 4})));
  EXPECT_EQ(summed_rows(table, none, at::zeros({1}, at::kLong)).size(0), 0);
}

TEST(SummedRows, RefusesIdsOutsideTheTable) {
  for (const std::int64_t id : {-1, 3}) {
    EXPECT_THROW(
        summed_rows(random({3, 4}, "table"), at::tensor({id}), at::tensor({0, 1}, at::kLong)),
        Error);
  }
}

TEST(SummedRows, InFloat64) {
  const at::Tensor table = random({3, 4}, "table").to(at::kDouble);
  const at::Tensor sums =
      summed_rows(table, at::tensor({2, 0}, at::kLong), at::tensor({0, 2}, at::kLong));
  EXPECT_TRUE(at::allclose(sums[0], table[0] + table[2]));
}

}  // namespace
}  // namespace theriac::nn
