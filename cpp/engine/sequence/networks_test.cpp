// SASRec and GRU4Rec: sizes, names, and the frozen form beside the network that trains.
#include <gtest/gtest.h>

#include <set>

#include "cpp/core/base/test_support.h"
#include "cpp/engine/nn/dense_kernels.h"
#include "cpp/engine/sequence/gru4rec.h"
#include "cpp/engine/sequence/next_item_training.h"
#include "cpp/engine/sequence/sasrec.h"

namespace theriac::sequence {
namespace {

constexpr std::int64_t kItems = 40;

SasrecShape small_sasrec() {
  SasrecShape shape;
  shape.rows = kItems + 2;
  shape.hidden = 12;
  shape.inner = 20;
  shape.heads = 3;
  shape.max_length = 9;
  return shape;
}
Gru4recShape small_gru4rec() {
  Gru4recShape shape;
  shape.rows = kItems + 2;
  shape.embedding = 12;
  shape.hidden = 10;
  shape.max_length = 9;
  return shape;
}

// Weights of a size that makes every part count; .02 would leave attention nearly even.
template <class Module>
Module louder(Module module) {
  const at::NoGradGuard no_grad;
  for (const auto& item : module->named_parameters()) {
    tensor::fill_normal(item.value(),
                        item.key().find("LayerNorm.weight") == std::string::npos ? 0 : 1, 0.4, 11,
                        item.key());
  }
  return module;
}

std::int64_t parameters_of(const torch::nn::Module& module) {
  std::int64_t count = 0;
  for (const at::Tensor& parameter : module.parameters()) count += parameter.numel();
  return count;
}

// Sequences of 1 ... 9 items.
struct Drawn {
  std::vector<std::int32_t> ids;
  std::vector<std::size_t> offsets{0};
  explicit Drawn(std::size_t sequences, std::uint64_t seed = 1) {
    Random random(seed, "histories");
    for (std::size_t s = 0; s < sequences; ++s) {
      const std::uint64_t n = 1 + random.below(9);
      for (std::uint64_t i = 0; i < n; ++i)
        ids.push_back(static_cast<std::int32_t>(1 + random.below(kItems)));
      offsets.push_back(ids.size());
    }
  }
  HistoryBatch batch() const { return {ids, offsets, {}, {}}; }
  TokenBatch tokens() const {
    return TokenBatch(ids, {offsets.begin(), offsets.end()}, 9, at::kCPU);
  }
};

std::vector<float> encoded(const HistoryEncoder& encoder, const HistoryBatch& batch) {
  std::vector<float> out(batch.size() * encoder.dim());
  const auto scratch = encoder.scratch();
  encoder.encode(batch, *scratch, out.data());
  return out;
}

template <class Module>
void expect_frozen_twin(const Module& module) {
  const Drawn drawn(300);
  const at::NoGradGuard no_grad;
  const at::Tensor hidden = module->forward(drawn.tokens(), std::nullopt);
  const auto encoder = freeze(*module);
  const std::vector<float> vectors = encoded(*encoder, drawn.batch());
  double worst = 0;
  for (std::size_t s = 0; s + 1 < drawn.offsets.size(); ++s) {
    const at::Tensor row = hidden[static_cast<std::int64_t>(drawn.offsets[s + 1]) - 1];
    for (std::size_t c = 0; c < encoder->dim(); ++c) {
      const double other = row[static_cast<std::int64_t>(c)].template item<double>();
      worst = std::max(worst, std::abs(other - vectors[s * encoder->dim() + c]));
    }
  }
  EXPECT_LT(worst, 1e-5);
}

template <class Module>
void expect_alone_as_among_others(const Module& module) {
  const Drawn drawn(100);
  const auto encoder = freeze(*module);
  const std::vector<float> all = encoded(*encoder, drawn.batch());
  for (std::size_t s = 0; s + 1 < drawn.offsets.size(); ++s) {
    const auto first = drawn.ids.begin() + static_cast<std::ptrdiff_t>(drawn.offsets[s]);
    const std::vector<std::int32_t> one(
        first, first + static_cast<std::ptrdiff_t>(drawn.offsets[s + 1] - drawn.offsets[s]));
    const std::vector<std::size_t> offsets{0, one.size()};
    const std::vector<float> alone = encoded(*encoder, {one, offsets, {}, {}});
    for (std::size_t c = 0; c < encoder->dim(); ++c)
      ASSERT_EQ(alone[c], all[s * encoder->dim() + c]) << s;
  }
}

TEST(Sasrec, SizesAndNamesOfThePublishedFiles) {
  SasrecShape shape;
  shape.rows = 12103;
  const Sasrec model(shape, 1);
  EXPECT_EQ(parameters_of(*model), 877'888);
  std::set<std::string> names;
  for (const auto& item : model->named_parameters()) names.insert(item.key());
  for (const char* name :
       {"item_embeddings.weight", "position_embeddings.weight", "LayerNorm.weight",
        "LayerNorm.bias", "item_encoder.layer.0.attention.query.weight",
        "item_encoder.layer.1.attention.dense.bias",
        "item_encoder.layer.1.attention.LayerNorm.weight",
        "item_encoder.layer.0.intermediate.dense_1.weight",
        "item_encoder.layer.1.intermediate.LayerNorm.bias"})
    EXPECT_TRUE(names.contains(name)) << name;
  EXPECT_EQ(names.size(), 4U + 2 * 16);
  EXPECT_NEAR(model->item_vectors().std().item<double>(), 0.02, 1e-3);
  EXPECT_GT(model->item_vectors()[0].abs().max().item<double>(), 0);  // padding too
}

TEST(Gru4rec, SizesAndNamesOfThePublishedFiles) {
  Gru4recShape shape;
  shape.rows = 12103;
  const Gru4rec model(shape, 1);
  EXPECT_EQ(parameters_of(*model), 856'576);
  std::set<std::string> names;
  for (const auto& item : model->named_parameters()) names.insert(item.key());
  EXPECT_EQ(names,
            (std::set<std::string>{"item_embedding.weight", "gru_layers.weight_ih_l0",
                                   "gru_layers.weight_hh_l0", "dense.weight", "dense.bias"}));
  EXPECT_NEAR(model->item_vectors().std().item<double>(), std::sqrt(2.0 / (12103 + 64)), 3e-4);
}

TEST(Sasrec, FrozenFormIsTheNetwork) { expect_frozen_twin(louder(Sasrec(small_sasrec(), 1))); }
TEST(Gru4rec, FrozenFormIsTheNetwork) { expect_frozen_twin(louder(Gru4rec(small_gru4rec(), 1))); }

TEST(Sasrec, AVectorDependsOnItsSequenceAlone) {
  expect_alone_as_among_others(louder(Sasrec(small_sasrec(), 1)));
}
TEST(Gru4rec, AVectorDependsOnItsSequenceAlone) {
  expect_alone_as_among_others(louder(Gru4rec(small_gru4rec(), 1)));
}

// A table too large for its items' gates to be kept gives the same bits.
TEST(Gru4rec, GatesAreKeptOrComputed) {
  const Gru4rec small = louder(Gru4rec(small_gru4rec(), 1));
  Gru4recShape shape = small_gru4rec();
  shape.rows = 600'000;
  const Gru4rec large(shape, 1);
  const at::NoGradGuard no_grad;
  for (const auto& item : small->named_parameters()) {
    at::Tensor to = large->named_parameters()[item.key()];
    to.narrow(0, 0, item.value().size(0)).copy_(item.value());
  }
  Drawn drawn(60);
  std::vector<std::uint8_t> marks(drawn.ids.size());
  for (std::size_t i = 0; i < marks.size(); ++i) marks[i] = static_cast<std::uint8_t>(i % 3);
  HistoryBatch batch = drawn.batch();
  for (int marked = 0; marked < 2; ++marked) {
    EXPECT_EQ(encoded(*freeze(*small), batch), encoded(*freeze(*large), batch)) << marked;
    batch.marks = marks;
  }
}

// The recurrence of the specification, without biases: inputs 1 and -2.
TEST(Gru4rec, HandValuesOfTheRecurrence) {
  const at::Tensor ih = at::tensor({0.5F, -0.3F, 0.2F, 0.1F, 1.0F, -0.7F}).view({6, 1});
  const std::vector<float> hh{0.1F, 0.2F, 0.3F, -0.1F, 0.0F, 0.4F,
                              0.2F, 0.2F, 0.5F, -0.5F, 0.6F, 0.1F};
  std::vector<float> state(2, 0.0F);
  for (const float input : {1.0F, -2.0F}) {
    std::vector<float> x(6), s(6, 0.0F);
    for (std::size_t g = 0; g < 6; ++g) {
      x[g] = ih[static_cast<std::int64_t>(g)][0].item<float>() * input;
      s[g] = hh[2 * g] * state[0] + hh[2 * g + 1] * state[1];
    }
    nn::gru_update(x.data(), s.data(), 2, state);
    if (input > 0) {
      EXPECT_NEAR(state[0], 0.3428438, 1e-6);
      EXPECT_NEAR(state[1], -0.2870873, 1e-6);
    }
  }
  EXPECT_NEAR(state[0], -0.4711838, 1e-6);
  EXPECT_NEAR(state[1], 0.3670459, 1e-6);
}

// A blocked step leaves no trace: neither its item, nor itself as the place that is read.
template <class Module>
void expect_blocked_steps_leave_no_trace(const Module& module) {
  const auto encoder = freeze(*module);
  const std::vector<std::size_t> offsets{0, 5};
  const std::vector<std::uint8_t> none(5, 0);
  const auto blocked = [](std::size_t at) {
    std::vector<std::uint8_t> marks(5, 0);
    marks[at] = static_cast<std::uint8_t>(augment::Mark::kBlocked);
    return marks;
  };
  const std::vector<std::int32_t> ids{3, 9, 4, 22, 7};
  EXPECT_EQ(encoded(*encoder, {ids, offsets, none, {}}), encoded(*encoder, {ids, offsets, {}, {}}));
  for (std::size_t at = 0; at < 5; ++at) {
    std::vector<std::int32_t> other = ids;
    other[at] = 31;
    const auto marks = blocked(at);
    EXPECT_EQ(encoded(*encoder, {ids, offsets, marks, {}}),
              encoded(*encoder, {other, offsets, marks, {}}))
        << at;
    EXPECT_NE(encoded(*encoder, {ids, offsets, marks, {}}),
              encoded(*encoder, {ids, offsets, {}, {}}));
  }
}
TEST(Sasrec, BlockedStepsLeaveNoTrace) {
  expect_blocked_steps_leave_no_trace(louder(Sasrec(small_sasrec(), 1)));
}
TEST(Gru4rec, BlockedStepsLeaveNoTrace) {
  expect_blocked_steps_leave_no_trace(louder(Gru4rec(small_gru4rec(), 1)));
}

// Layer normalisation removes a constant on every dimension: only the interval's width matters.
TEST(Sasrec, NoiseOfAShiftedIntervalIsTheSame) {
  const auto encoder = freeze(*louder(Sasrec(small_sasrec(), 1)));
  const std::vector<std::int32_t> ids{3, 9, 4};
  const std::vector<std::size_t> offsets{0, 3};
  const std::vector<augment::Noise> noise{{0.5, 1, 1, 2, 0}}, shifted{{-0.25, 0.25, 1, 2, 0}};
  const auto a = encoded(*encoder, {ids, offsets, {}, noise}),
             b = encoded(*encoder, {ids, offsets, {}, shifted}),
             clean = encoded(*encoder, {ids, offsets, {}, {}});
  for (std::size_t c = 0; c < a.size(); ++c) EXPECT_NEAR(a[c], b[c], 1e-4);
  EXPECT_NE(a, clean);
}

TEST(NextItemLoss, HandValues) {
  const at::Tensor one = at::ones({2, 1});
  const at::Tensor positive = at::tensor({1.0F, -2.0F}).view({2, 1}),
                   negative = at::tensor({-0.5F, 0.3F}).view({2, 1});
  EXPECT_NEAR(
      next_item_loss(one.narrow(0, 0, 1), positive.narrow(0, 0, 1), negative.narrow(0, 0, 1))
          .item<double>(),
      0.7873387, 1e-6);
  EXPECT_NEAR(next_item_loss(one, positive, negative).item<double>(), 1.8843110, 1e-6);
}

TEST(Negatives, AreOfNobodyAndOfAll) {
  const std::vector<std::int32_t> own{1, 2, 3, 5};
  std::vector<std::int32_t> out(4000);
  draw_negatives(own, 10, 1, 0, 7, out);
  std::vector<int> counts(10);
  for (const std::int32_t id : out) ++counts[static_cast<std::size_t>(id)];
  for (const std::int32_t id : {0, 1, 2, 3, 5}) EXPECT_EQ(counts[static_cast<std::size_t>(id)], 0);
  for (const std::int32_t id : {4, 6, 7, 8, 9})  // the spare id too
    EXPECT_NEAR(counts[static_cast<std::size_t>(id)], 800, 120) << id;
  std::vector<std::int32_t> again(10), other(10);
  draw_negatives(own, 10, 1, 0, 7, again);
  EXPECT_TRUE(std::equal(again.begin(), again.end(), out.begin()));
  draw_negatives(own, 10, 1, 1, 7, other);
  EXPECT_NE(again, other);
  std::vector<std::int32_t> all{1, 2, 3};
  draw_negatives(all, 4, 1, 0, 0, again);  // everything is the user's own: it ends all the same
}

}  // namespace
}  // namespace theriac::sequence
