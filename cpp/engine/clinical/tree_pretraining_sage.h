// Three GraphSAGE layers on a tree, forward and backward by hand (Hamilton, Ying, Leskovec,
// "Inductive Representation Learning on Large Graphs", NeurIPS 2017, as HIER uses it; medication.md
// section 7.3).
//
// In a tree every node has at most one in-neighbour, its parent, so the mean aggregator is exact:
//   a_i = W h_parent(i) + b + U h_i,   h = dropout(ReLU(a)) in layers 1 and 2,   z = a in layer 3,
// with h_parent(root) = 0. z of a node depends on the node and three levels of ancestors, and
// siblings share their parent's half: a step computes each needed node once and each needed
// parent's product once.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "cpp/engine/nn/matrix_product.h"
#include "cpp/engine/nn/worker_team.h"
#include "cpp/engine/tensor/tensor.h"

namespace theriac::clinical {

inline constexpr int kSageLayers = 3;

// Which nodes each layer must compute for the outputs wanted. Rows of layer l are the first rows[l]
// of `nodes`, and their distinct parents the first parents[l] of `parent_row`; both only grow
// downwards.
struct SagePlan {
  std::vector<std::int64_t> nodes;        // [rows[1] and their parents] distinct nodes of the tree
  std::vector<std::int64_t> parent_row;   // [parents[1]] row of each distinct parent
  std::vector<std::int64_t> parent_node;  // [parents[1]] its node
  std::vector<std::int32_t> parent_of;    // [rows[1]] a row's place in parent_row; -1 for the root
  std::vector<std::int32_t> place_of;  // [rows[0]] where in parent_row a row stands; -1 if nowhere
  std::array<std::int64_t, kSageLayers + 1> rows{};  // [l] rows that layer l computes; [0] inputs
  std::array<std::int64_t, kSageLayers + 1>
      parents{};  // [l] distinct parents of these rows; [0] unused
};

// Makes plans for one tree; reuses its memory. Not shared between threads.
class SagePlanner {
 public:
  explicit SagePlanner(std::vector<std::int32_t> parents);  // [nodes], -1 for the root

  std::int32_t parent(std::int32_t node) const { return parents_[static_cast<std::size_t>(node)]; }
  std::int64_t nodes() const noexcept { return static_cast<std::int64_t>(parents_.size()); }
  // `wanted` may repeat nodes; valid until the next call.
  const SagePlan& plan(std::span<const std::int32_t> wanted);
  // Row of a node that the last plan holds.
  std::int64_t row(std::int32_t node) const { return row_[static_cast<std::size_t>(node)]; }

 private:
  void add_row(std::int32_t node);
  void add_parent(std::int64_t row);

  std::vector<std::int32_t> parents_;
  std::vector<std::int64_t> row_;    // [nodes] row in the current plan, or -1
  std::vector<std::int32_t> place_;  // [nodes] place in parent_row, or -1
  SagePlan plan_;
};

// Inverted dropout whose bit for (step, layer, node, feature) does not depend on who shares the
// batch.
struct SageDropout {
  double probability = 0;  // rounded to 1/65536
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
};

// The layers' weights, and one step's activations. CPU, float32. Not shared between threads; works
// on up to `threads` of its own, whose number changes no bit of a result.
class SageStack {
 public:
  // All weights U(-1/sqrt(dim), 1/sqrt(dim)) from the seed.
  SageStack(std::int64_t dim, std::uint64_t seed, int threads = 1);

  // Layers count from 1. Views into `parameters()`.
  at::Tensor neighbour(int layer) const;  // W [dim, dim]
  at::Tensor own(int layer) const;        // U [dim, dim]
  at::Tensor bias(int layer) const;       // b [dim]
  // One flat vector, [3 * (2 * dim * dim + dim)], so that an optimiser step is one operation.
  at::Tensor& parameters() { return parameters_; }
  const at::Tensor& gradient() const { return gradient_; }  // the same layout

  // z of the wanted nodes, [rows[3], dim] in plan order; valid until the next call. `input` [nodes,
  // dim], contiguous.
  at::Tensor forward(const at::Tensor& input, const SagePlan& plan, const SageDropout& dropout);
  // From dL/dz [rows[3], dim] to `gradient()`, for the input, the plan and the activations of the
  // last forward.
  void backward(const SagePlan& plan, const at::Tensor& dz);
  // Adam along `gradient()`; counts its own steps.
  void update(double rate);

 private:
  struct Layer {
    nn::PackedFactor neighbour, own;                           // W, U or their transposes
    float *neighbour_gradient, *own_gradient, *bias_gradient;  // views into gradient_
    at::Tensor output;                                         // [rows, dim]
    at::Tensor d_output;                                       // [rows, dim] dL/da
  };
  // One thread's part of a phase.
  struct Shared;
  void forward_layer(const Shared& shared, int layer, int member);
  void backward_layer(const Shared& shared, int layer, int member);
  void sum_over_children(const Shared& shared, int layer, int member);
  void weight_gradients(const Shared& shared, int layer, int member);
  void gradients_of_parents(const Shared& shared, int layer, int member);
  void gradients_below(const Shared& shared, int layer, int member);
  // Repacks every layer's weights for products from the right, transposed or not.
  void pack(int first_layer, bool transposed, int member);

  at::Tensor section(const at::Tensor& flat, int layer, int part) const;
  Layer& at_layer(int layer) { return layers_[static_cast<std::size_t>(layer - 1)]; }
  // h below a layer's rows [rows[layer], dim], and below their parents [parents[layer], dim].
  nn::MatrixView below(const Shared& shared, int layer);
  nn::MatrixView below_parents(const Shared& shared, int layer);

  std::int64_t dim_;
  nn::WorkerTeam team_;
  double keep_scale_ = 1;  // of the last forward
  at::Tensor input_;       // of the last forward
  at::Tensor parameters_, gradient_;
  at::Tensor mean_, square_;  // Adam's moments, as the parameters
  std::uint64_t updates_ = 0;
  std::array<Layer, kSageLayers> layers_;
  // Memory of one step; grows to the largest batch seen.
  at::Tensor messages_;                    // [parents, dim] W h of the parents
  at::Tensor to_parents_;                  // [parents, dim] sums of the children's gradients
  at::Tensor through_parents_;             // [parents, dim] W^T of these
  std::vector<nn::PackedFactor> scratch_;  // one a member
};

}  // namespace theriac::clinical
