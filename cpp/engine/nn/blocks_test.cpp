#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cpp/engine/nn/graph_convolution.h"
#include "cpp/engine/nn/gru.h"
#include "cpp/engine/nn/linear.h"

namespace theriac::nn {
namespace {

at::Tensor filled(at::IntArrayRef shape, const std::string& purpose) {
  const at::Tensor tensor = at::empty(shape);
  tensor::fill_uniform(tensor, -1, 1, 11, purpose);
  return tensor;
}

at::Tensor lengths_of(std::vector<std::int64_t> lengths) { return at::tensor(lengths, at::kLong); }

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The recurrence as the header writes it, in plain doubles. x [T, in] -> [T, hidden].
std::vector<std::vector<double>> by_hand(const Gru& gru, const at::Tensor& x) {
  const auto hidden = gru->hidden(), in = x.size(1);
  const auto affine = [](const at::Tensor& w, const at::Tensor& b, std::int64_t row,
                         const auto& v) {
    double sum = b[row].item<double>();
    for (std::int64_t j = 0; j < w.size(1); ++j)
      sum += w[row][j].item<double>() * v[static_cast<std::size_t>(j)];
    return sum;
  };
  std::vector<double> h(static_cast<std::size_t>(hidden), 0.0);
  std::vector<std::vector<double>> outputs;
  for (std::int64_t t = 0; t < x.size(0); ++t) {
    std::vector<double> v, next;
    for (std::int64_t j = 0; j < in; ++j) v.push_back(x[t][j].item<double>());
    for (std::int64_t i = 0; i < hidden; ++i) {
      const auto from_input = [&](std::int64_t gate) {
        return affine(gru->weight_ih, gru->bias_ih, gate * hidden + i, v);
      };
      const auto from_state = [&](std::int64_t gate) {
        return affine(gru->weight_hh, gru->bias_hh, gate * hidden + i, h);
      };
      const double r = sigmoid(from_input(0) + from_state(0));
      const double z = sigmoid(from_input(1) + from_state(1));
      const double n = std::tanh(from_input(2) + r * from_state(2));
      next.push_back((1 - z) * n + z * h[static_cast<std::size_t>(i)]);
    }
    h = next;
    outputs.push_back(h);
  }
  return outputs;
}

// Gradients of sum(weights * forward()) for each of the module's parameters, in their order.
template <class Forward>
std::vector<at::Tensor> gradients_of(torch::nn::Module& module, const Forward& forward) {
  module.zero_grad();
  const at::Tensor out = forward();
  const at::Tensor weights = at::empty(out.sizes());
  tensor::fill_uniform(weights, -1, 1, 9, "weights");
  (out * weights.to(out.scalar_type())).sum().backward();
  std::vector<at::Tensor> result;
  for (const at::Tensor& parameter : module.parameters())
    result.push_back(parameter.grad().to(at::kFloat));
  return result;
}

// What is fused for float32 on the CPU beside LibTorch's operators, which float64 takes.
TEST(Linear, FusedAgreesWithDoubles) {
  for (const std::int64_t rows : {0, 1, 7, 300}) {
    Linear layer(45, 33, 3, "layer"), doubles(45, 33, 3, "layer");
    doubles->to(at::kDouble);
    const at::Tensor x = at::empty({rows, 45});
    tensor::fill_uniform(x, -1, 1, 4, "x");
    const at::Tensor ours = x.clone().requires_grad_(), theirs = x.to(at::kDouble).requires_grad_();
    EXPECT_TRUE(
        at::allclose(layer->forward(ours).to(at::kDouble), doubles->forward(theirs), 1e-5, 1e-5));
    const auto a = gradients_of(*layer, [&] { return layer->forward(ours); });
    const auto b = gradients_of(*doubles, [&] { return doubles->forward(theirs); });
    for (std::size_t i = 0; i < a.size(); ++i)
      EXPECT_TRUE(at::allclose(a[i], b[i], 1e-4, 1e-4)) << i;
    EXPECT_TRUE(at::allclose(ours.grad(), theirs.grad().to(at::kFloat), 1e-5, 1e-5)) << rows;
  }
}

TEST(GraphConvolution, FusedAgreesWithDoubles) {
  const at::Tensor adjacency = at::empty({37, 37});
  tensor::fill_uniform(adjacency, 0, 1, 5, "adjacency");  // not symmetric
  for (const bool drops : {false, true}) {
    GraphConvolution layer(adjacency, 24, 0.4, 3, "graph"), doubles(adjacency, 24, 0.4, 3, "graph");
    doubles->to(at::kDouble);
    const auto generator = [&]() -> std::optional<at::Generator> {
      if (!drops) return std::nullopt;
      return tensor::make_generator(7, "dropout", 0);
    };
    const at::Tensor expected = doubles->forward(generator());
    EXPECT_TRUE(at::allclose(layer->forward(generator()).to(at::kDouble), expected, 1e-5, 1e-5));
    {
      const at::NoGradGuard no_grad;
      EXPECT_TRUE(at::allclose(layer->forward(generator()).to(at::kDouble), expected, 1e-5, 1e-5));
    }
    const auto a = gradients_of(*layer, [&] { return layer->forward(generator()); });
    const auto b = gradients_of(*doubles, [&] { return doubles->forward(generator()); });
    ASSERT_EQ(a.size(), 4);
    for (std::size_t i = 0; i < a.size(); ++i)
      EXPECT_TRUE(at::allclose(a[i], b[i], 1e-4, 1e-4)) << i;
  }
}

TEST(Gru, FollowsTheRecurrence) {
  const Gru gru(3, 2, 1, "gru");
  const at::Tensor x = filled({1, 4, 3}, "x");
  const at::Tensor y = gru->forward(x, lengths_of({4}));
  const auto expected = by_hand(gru, x[0]);
  for (std::int64_t t = 0; t < 4; ++t) {
    for (std::int64_t i = 0; i < 2; ++i) {
      EXPECT_NEAR(y[0][t][i].item<double>(),
                  expected[static_cast<std::size_t>(t)][static_cast<std::size_t>(i)], 1e-6)
          << t << "," << i;
    }
  }
}

TEST(Gru, OutputsDoNotDependOnTheBatch) {
  const Gru gru(5, 4, 1, "gru");
  const at::Tensor x = filled({3, 6, 5}, "x");
  const std::vector<std::int64_t> lengths = {6, 2, 4};
  const at::Tensor together = gru->forward(x, lengths_of(lengths));
  for (std::int64_t row = 0; row < 3; ++row) {
    const std::int64_t length = lengths[static_cast<std::size_t>(row)];
    const at::Tensor alone =
        gru->forward(x.slice(0, row, row + 1).slice(1, 0, length), lengths_of({length}));
    EXPECT_LT((together[row].slice(0, 0, length) - alone[0]).abs().max().item<double>(), 1e-5)
        << row;
    if (length < 6) {
      EXPECT_EQ(together[row].slice(0, length).abs().max().item<double>(), 0);
    }
  }
}

// The fused form against LibTorch's operators: outputs, and the gradients of everything that has
// one. Sizes that do and do not fill the vectors; rows of no, one and many steps.
TEST(Gru, FusedAgreesWithComposed) {
  for (const auto& [in, hidden] : {std::pair{4, 8}, {3, 5}, {16, 13}, {7, 32}}) {
    for (const Reading reading : {Reading::kForward, Reading::kBackward}) {
      for (const auto& lengths : {std::vector<std::int64_t>{3, 0, 6, 1, 6}, {1, 1}, {5}}) {
        SCOPED_TRACE(std::to_string(hidden) + " " + std::to_string(lengths.size()) +
                     (reading == Reading::kForward ? " forward" : " backward"));
        Gru gru(in, hidden, 3, "gru");
        const auto batch = static_cast<std::int64_t>(lengths.size());
        const at::Tensor weights = filled({batch, 6, hidden}, "weights");
        const auto results = [&](bool fused) {
          gru->zero_grad();
          const at::Tensor x = filled({batch, 6, in}, "x").requires_grad_(true);
          const StepLayout layout(lengths_of(lengths), 6);
          const at::Tensor y =
              fused ? gru->forward(x, lengths_of(lengths), reading)
                    : layout.pad(composed_gru(gru->weights(), layout.pack(x), layout, reading));
          (y * weights).sum().backward();
          return std::vector<at::Tensor>{
              y.detach(),          x.grad(),           gru->weight_ih.grad(), gru->weight_hh.grad(),
              gru->bias_ih.grad(), gru->bias_hh.grad()};
        };
        const auto ours = results(true), theirs = results(false);
        for (std::size_t i = 0; i < ours.size(); ++i) {
          ASSERT_EQ(ours[i].sizes(), theirs[i].sizes()) << i;
          EXPECT_LT((ours[i] - theirs[i]).abs().max().item<double>(), 2e-5) << i;
        }
      }
    }
  }
}

TEST(Gru, BackwardReadsTheReversedRow) {
  const Gru gru(3, 4, 1, "gru");
  const at::Tensor x = filled({2, 5, 3}, "x"), lengths = lengths_of({5, 2});
  const at::Tensor expected =
      reverse_valid(gru->forward(reverse_valid(x, lengths), lengths), lengths);
  const at::Tensor y = gru->forward(x, lengths, Reading::kBackward);
  EXPECT_LT((y[0] - expected[0]).abs().max().item<double>(), 1e-6);
  EXPECT_LT((y[1].slice(0, 0, 2) - expected[1].slice(0, 0, 2)).abs().max().item<double>(), 1e-6);
}

// Doubles take LibTorch's operators.
TEST(Gru, DoublesAgreeWithFloats) {
  Gru gru(3, 5, 1, "gru");
  const at::Tensor x = filled({2, 4, 3}, "x"), lengths = lengths_of({4, 3});
  const at::Tensor y = gru->forward(x, lengths);
  gru->to(at::kDouble);
  EXPECT_LT((gru->forward(x.to(at::kDouble), lengths) - y).abs().max().item<double>(), 1e-6);
}

TEST(Gru, PaddingReachesNeitherOutputsNorGradients) {
  Gru gru(2, 3, 1, "gru");
  const at::Tensor clean = filled({1, 3, 2}, "x");
  const at::Tensor dirty = clean.clone();
  dirty.slice(1, 2).fill_(std::numeric_limits<float>::quiet_NaN());
  const auto gradient = [&](const at::Tensor& x) {
    gru->zero_grad();
    gru->forward(x, lengths_of({2})).sum().backward();
    return gru->weight_ih.grad().clone();
  };
  EXPECT_TRUE(gru->forward(dirty, lengths_of({2})).equal(gru->forward(clean, lengths_of({2}))));
  EXPECT_TRUE(gradient(dirty).equal(gradient(clean)));
}

TEST(Gru, EmptyInputsAndBadOnes) {
  const Gru gru(2, 3, 1, "gru");
  EXPECT_EQ(gru->forward(at::zeros({2, 0, 2}), lengths_of({0, 0})).sizes(),
            (std::vector<std::int64_t>{2, 0, 3}));
  EXPECT_EQ(gru->forward(at::ones({1, 2, 2}), lengths_of({0})).abs().sum().item<double>(), 0);
  EXPECT_THROW(gru->forward(at::zeros({1, 2, 5}), lengths_of({2})), Error);
  EXPECT_THROW(gru->forward(at::zeros({1, 2, 2}), lengths_of({2, 2})), Error);
  EXPECT_THROW(gru->forward(at::zeros({1, 2, 2}), at::ones({1})), Error);
}

TEST(Gru, StartsAsPyTorchDoes) {
  const Gru gru(8, 16, 1, "gru");
  std::vector<std::string> names;
  for (const auto& item : gru->named_parameters()) {
    names.push_back(item.key());
    EXPECT_LE(item.value().abs().max().item<double>(), 0.25);
    EXPECT_GT(item.value().abs().max().item<double>(), 0.2);
  }
  EXPECT_THAT(names, testing::ElementsAre("weight_ih", "weight_hh", "bias_ih", "bias_hh"));
  EXPECT_TRUE(gru->weight_ih.equal(Gru(8, 16, 1, "gru")->weight_ih));
  EXPECT_FALSE(gru->weight_ih.equal(Gru(8, 16, 1, "other")->weight_ih));
  EXPECT_FALSE(gru->weight_ih.equal(Gru(8, 16, 2, "gru")->weight_ih));
}

TEST(Steps, LayoutPacksAndPads) {
  const at::Tensor x = at::arange(12, at::kFloat).view({3, 2, 2});
  const StepLayout layout(lengths_of({1, 0, 5}), 2);  // clamped to two steps
  EXPECT_THAT(layout.length, testing::ElementsAre(1, 0, 2));
  const at::Tensor tokens = layout.pack(x);
  EXPECT_TRUE(tokens.equal(at::tensor({0.F, 1.F, 8.F, 9.F, 10.F, 11.F}).view({3, 2})));
  const at::Tensor padded = layout.pad(tokens);
  EXPECT_TRUE(padded[0].equal(at::tensor({0.F, 1.F, 0.F, 0.F}).view({2, 2})));
  EXPECT_EQ(padded[1].abs().sum().item<float>(), 0);
  EXPECT_TRUE(padded[2].equal(x[2]));
  EXPECT_TRUE(
      layout.sum_rows(tokens).equal(at::tensor({0.F, 1.F, 0.F, 0.F, 18.F, 20.F}).view({3, 2})));
  EXPECT_TRUE(layout.rows.equal(lengths_of({0, 2, 2})));
}

TEST(Steps, LastValid) {
  const at::Tensor y = at::arange(6, at::kFloat).reshape({2, 3, 1});
  EXPECT_TRUE(last_valid(y, lengths_of({2, 3})).equal(at::tensor({1.f, 5.f}).reshape({2, 1})));
}

TEST(Linear, IsAffineWithPyTorchBounds) {
  const Linear layer(4, 1000, 1, "a");
  EXPECT_LE(layer->weight.abs().max().item<double>(), 0.5);
  EXPECT_GT(layer->weight.abs().max().item<double>(), 0.49);
  EXPECT_LE(layer->bias.abs().max().item<double>(), 0.5);
  const at::Tensor x = filled({2, 4}, "x");
  const at::Tensor expected = x.mm(layer->weight.t()) + layer->bias;
  EXPECT_LT((layer->forward(x) - expected).abs().max().item<double>(), 1e-6);
  const Linear plain(4, 2, 1, "a", false);
  EXPECT_EQ(plain->named_parameters().size(), 1U);
  EXPECT_TRUE(plain->forward(at::zeros({1, 4})).equal(at::zeros({1, 2})));
}

TEST(GraphConvolution, NormalisesRows) {
  const at::Tensor edge = at::zeros({3, 3});
  edge[0][1] = edge[1][0] = 1;
  const at::Tensor expected =
      at::tensor({.5f, .5f, 0.f, .5f, .5f, 0.f, 0.f, 0.f, 1.f}).reshape({3, 3});
  EXPECT_TRUE(normalise_adjacency(edge).equal(expected));
  EXPECT_THROW(normalise_adjacency(at::zeros({2, 3})), Error);
}

TEST(GraphConvolution, FollowsTheFormula) {
  const at::Tensor graph = at::zeros({4, 4});
  graph[0][2] = graph[2][0] = graph[1][3] = graph[3][1] = graph[0][3] = graph[3][0] = 1;
  const GraphConvolution gcn(graph, 3, 0.5, 1, "gcn");
  const auto p = gcn->named_parameters();
  const at::Tensor a = normalise_adjacency(graph);
  const at::Tensor inner = (a.mm(at::eye(4)).mm(p["gcn1.weight"]) + p["gcn1.bias"]).clamp_min(0);
  const at::Tensor expected = a.mm(inner.mm(p["gcn2.weight"])) + p["gcn2.bias"];
  EXPECT_LT((gcn->forward(std::nullopt) - expected).abs().max().item<double>(), 1e-6);
  EXPECT_FALSE(gcn->forward(tensor::make_generator(1, "d")).equal(expected));
  EXPECT_TRUE(gcn->named_buffers()["adjacency"].equal(a));
  EXPECT_EQ(p["gcn1.weight"].sizes(), (std::vector<std::int64_t>{4, 3}));
  EXPECT_LE(p["gcn1.weight"].abs().max().item<double>(), 1 / std::sqrt(3.0));
}

}  // namespace
}  // namespace theriac::nn
