// Two-layer graph convolution over medication classes, one-hot node features (Kipf and Welling,
// "Semi-Supervised Classification with Graph Convolutional Networks", ICLR 2017, with the row
// normalisation of GAMENet: Shang et al., AAAI 2019):
//
//     N = A' (dropout(ReLU(A' W1 + b1)) W2) + b2,   A' = D^-1 (A + I)
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cpp/engine/tensor/tensor.h"

namespace theriac::nn {

// D^-1 (A + I): rows sum to 1. `adjacency` [n, n], non-negative.
at::Tensor normalise_adjacency(const at::Tensor& adjacency);

// Parameters: gcn1.weight [n, d], gcn1.bias [d], gcn2.weight [d, d], gcn2.bias [d], all
// U(-1/sqrt(d), ..). Buffer: adjacency [n, n], normalised, so that a saved model needs no graph
// beside it.
class GraphConvolutionImpl : public torch::nn::Module {
 public:
  GraphConvolutionImpl(const at::Tensor& adjacency, std::int64_t dim, double dropout,
                       std::uint64_t seed, const std::string& name);

  // Node vectors [n, dim]. Dropout only with a generator.
  at::Tensor forward(const std::optional<at::Generator>& generator) const;

 private:
  // One layer's parameters under their published names.
  struct LayerImpl : torch::nn::Module {
    LayerImpl(std::int64_t in, std::int64_t out, std::uint64_t seed, const std::string& name);
    at::Tensor weight, bias;
  };
  std::shared_ptr<LayerImpl> gcn1_, gcn2_;
  at::Tensor adjacency_;
  double dropout_;
};
TORCH_MODULE(GraphConvolution);

}  // namespace theriac::nn
