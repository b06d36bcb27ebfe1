// Linear and graph convolution; one source because each source that includes LibTorch costs
// seconds.
#include <cmath>

#include "cpp/engine/nn/graph_convolution.h"
#include "cpp/engine/nn/linear.h"

namespace theriac::nn {
namespace {

double inverse_root(std::int64_t size) { return 1 / std::sqrt(static_cast<double>(size)); }

void fill_symmetric(at::Tensor tensor, double bound, std::uint64_t seed,
                    const std::string& purpose) {
  tensor::fill_uniform(std::move(tensor), -bound, bound, seed, purpose);
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
