// Linear, GRU and graph convolution; one source because each source that includes LibTorch costs
// seconds.
#include <cmath>

#include "cpp/engine/nn/graph_convolution.h"
#include "cpp/engine/nn/gru.h"
#include "cpp/engine/nn/linear.h"

namespace theriac::nn {
namespace {

double inverse_root(std::int64_t size) { return 1 / std::sqrt(static_cast<double>(size)); }

void fill_symmetric(at::Tensor tensor, double bound, std::uint64_t seed,
                    const std::string& purpose) {
  tensor::fill_uniform(std::move(tensor), -bound, bound, seed, purpose);
}

void check_input(const at::Tensor& input, const at::Tensor& lengths, std::int64_t in) {
  if (input.dim() != 3 || input.size(2) != in) {
    throw Error(Code::kInvalidArgument,
                "GRU input must be [batch, steps, " + std::to_string(in) + "]");
  }
  if (lengths.dim() != 1 || lengths.size(0) != input.size(0) ||
      lengths.scalar_type() != at::kLong) {
    throw Error(Code::kInvalidArgument, "GRU lengths must be int64 [batch]");
  }
}

}  // namespace

void init_linear(at::Tensor weight, at::Tensor bias, std::uint64_t seed, const std::string& name) {
  const double bound = inverse_root(weight.size(1));
  fill_symmetric(weight, bound, seed, name + ".weight");
  if (bias.defined()) fill_symmetric(bias, bound, seed, name + ".bias");
}

LinearImpl::LinearImpl(std::int64_t in, std::int64_t out, std::uint64_t seed,
                       const std::string& name, bool with_bias) {
  weight = register_parameter("weight", at::empty({out, in}));
  if (with_bias) bias = register_parameter("bias", at::empty({out}));
  init_linear(weight, bias, seed, name);
}

at::Tensor LinearImpl::forward(const at::Tensor& x) const {
  return at::linear(x, weight, bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt);
}

GruImpl::GruImpl(std::int64_t in, std::int64_t hidden, std::uint64_t seed,
                 const std::string& name) {
  weight_ih = register_parameter("weight_ih", at::empty({3 * hidden, in}));
  weight_hh = register_parameter("weight_hh", at::empty({3 * hidden, hidden}));
  bias_ih = register_parameter("bias_ih", at::empty({3 * hidden}));
  bias_hh = register_parameter("bias_hh", at::empty({3 * hidden}));
  for (const auto& item : named_parameters()) {
    fill_symmetric(item.value(), inverse_root(hidden), seed, name + "." + item.key());
  }
}

at::Tensor GruImpl::forward(const at::Tensor& input, const at::Tensor& lengths) const {
  check_input(input, lengths, weight_ih.size(1));
  const std::int64_t batch = input.size(0), steps = input.size(1);
  if (batch == 0 || steps == 0) return input.new_zeros({batch, steps, hidden()});
  const at::Tensor padding =  // [batch, T, 1]
      valid_steps(lengths.to(input.device()), steps).logical_not().unsqueeze(2);
  const at::Tensor clean = input.masked_fill(padding, 0);          // [batch, T, in]
  const at::Tensor start = input.new_zeros({1, batch, hidden()});  // [layers, batch, h]
  const at::Tensor outputs = std::get<0>(at::gru(
      clean, start, {weight_ih, weight_hh, bias_ih, bias_hh}, /*has_biases=*/true, /*num_layers=*/1,
      /*dropout=*/0.0, /*train=*/is_training(), /*bidirectional=*/false, /*batch_first=*/true));
  return outputs.masked_fill(padding, 0);  // [batch, T, h]
}

at::Tensor valid_steps(const at::Tensor& lengths, std::int64_t steps) {
  return at::arange(steps, lengths.options()).unsqueeze(0).lt(lengths.unsqueeze(1));
}

at::Tensor last_valid(const at::Tensor& outputs, const at::Tensor& lengths) {
  const at::Tensor last = lengths.to(outputs.device()).sub(1).view({-1, 1, 1});
  return outputs.gather(1, last.expand({-1, 1, outputs.size(2)})).squeeze(1);
}

at::Tensor normalise_adjacency(const at::Tensor& adjacency) {
  if (adjacency.dim() != 2 || adjacency.size(0) != adjacency.size(1)) {
    throw Error(Code::kInvalidArgument, "an adjacency must be a square matrix");
  }
  const at::Tensor with_self =
      adjacency.to(at::kFloat) + at::eye(adjacency.size(0), at::kFloat).to(adjacency.device());
  return with_self / with_self.sum(1, /*keepdim=*/true);
}

GraphConvolutionImpl::LayerImpl::LayerImpl(std::int64_t in, std::int64_t out, std::uint64_t seed,
                                           const std::string& name) {
  weight = register_parameter("weight", at::empty({in, out}));
  bias = register_parameter("bias", at::empty({out}));
  fill_symmetric(weight, inverse_root(out), seed, name + ".weight");
  fill_symmetric(bias, inverse_root(out), seed, name + ".bias");
}

GraphConvolutionImpl::GraphConvolutionImpl(const at::Tensor& adjacency, std::int64_t dim,
                                           double dropout, std::uint64_t seed,
                                           const std::string& name)
    : dropout_(dropout) {
  const std::int64_t nodes = adjacency.size(0);
  gcn1_ = register_module("gcn1", std::make_shared<LayerImpl>(nodes, dim, seed, name + ".gcn1"));
  gcn2_ = register_module("gcn2", std::make_shared<LayerImpl>(dim, dim, seed, name + ".gcn2"));
  adjacency_ = register_buffer("adjacency", normalise_adjacency(adjacency));
}

at::Tensor GraphConvolutionImpl::forward(const std::optional<at::Generator>& generator) const {
  // One-hot features: A' X W1 is A' W1.
  const at::Tensor inner = at::relu(at::addmm(gcn1_->bias, adjacency_, gcn1_->weight));  // [n, d]
  const at::Tensor kept = tensor::dropout(inner, dropout_, generator);
  return at::addmm(gcn2_->bias, adjacency_, kept.mm(gcn2_->weight));  // [n, d]
}

}  // namespace theriac::nn
