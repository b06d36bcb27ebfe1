// Linear and graph convolution; one source because each source that includes LibTorch costs
// seconds.
#include <cmath>

#include "cpp/engine/nn/dense_kernels.h"
#include "cpp/engine/nn/graph_convolution.h"
#include "cpp/engine/nn/linear.h"
#include "cpp/engine/nn/tensor_product.h"

namespace theriac::nn {
namespace {

double inverse_root(std::int64_t size) { return 1 / std::sqrt(static_cast<double>(size)); }

void fill_symmetric(at::Tensor tensor, double bound, std::uint64_t seed,
                    const std::string& purpose) {
  tensor::fill_uniform(std::move(tensor), -bound, bound, seed, purpose);
}

// One product each way instead of LibTorch's operators.
class FusedLinear : public torch::autograd::Function<FusedLinear> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight, const at::Tensor& bias) {
    context->save_for_backward({x, weight});
    const at::Tensor out = x.new_empty({x.size(0), weight.size(0)});
    multiply_rows(x.const_data_ptr<float>(), x.size(0), packed(weight, Way::kForward), bias,
                  out.mutable_data_ptr<float>());
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto kept = context->get_saved_variables();
    const at::Tensor &x = kept[0], &weight = kept[1];
    const at::Tensor gradient = gradients[0].contiguous();
    at::Tensor to_x;
    if (context->needs_input_grad(0)) {
      to_x = at::empty_like(x);
      multiply_rows(gradient.const_data_ptr<float>(), x.size(0), packed(weight, Way::kBackward), {},
                    to_x.mutable_data_ptr<float>());
    }
    return {to_x, transposed_product(gradient, x), gradient.sum(0)};
  }
};

// left right (+ bias), all contiguous but `left`, which may be a transposed view.
at::Tensor multiplied(const MatrixView& left, std::int64_t rows, const at::Tensor& right,
                      const at::Tensor& bias) {
  const at::Tensor out = right.new_empty({rows, right.size(1)});
  const auto columns = static_cast<std::size_t>(right.size(1));
  const PackedFactor factor = packed(right, Way::kBackward);
  if (bias.defined()) {
    product(left, static_cast<std::size_t>(rows), factor, bias.const_data_ptr<float>(),
            out.mutable_data_ptr<float>(), columns);
  } else {
    product(left, static_cast<std::size_t>(rows), factor, out.mutable_data_ptr<float>(), columns);
  }
  return out;
}

// Both layers at once: A h W2 + b2 with h = dropout(ReLU(A W1 + b1)).
class FusedGraphConvolution : public torch::autograd::Function<FusedGraphConvolution> {
 public:
  // `mask`: what multiplies each element of h; none without dropout.
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& adjacency,
                            const at::Tensor& weight1, const at::Tensor& bias1,
                            const at::Tensor& weight2, const at::Tensor& bias2,
                            const std::optional<at::Tensor>& mask) {
    const std::int64_t nodes = adjacency.size(0);
    const at::Tensor h = multiplied(view(adjacency), nodes, weight1, bias1).relu_();
    if (mask) h.mul_(*mask);
    context->save_for_backward({adjacency, h, weight2, mask.value_or(at::Tensor())});
    return multiplied(view(adjacency), nodes, multiplied(view(h), nodes, weight2, {}), bias2);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto kept = context->get_saved_variables();
    const at::Tensor &adjacency = kept[0], &h = kept[1], &weight2 = kept[2];
    const std::int64_t nodes = h.size(0);
    const at::Tensor gradient = gradients[0].contiguous();
    const at::Tensor to_product =
        multiplied(view(adjacency).transposed(), nodes, gradient, {});  // A^T g
    const at::Tensor to_h = at::empty_like(h);
    multiply_rows(to_product.const_data_ptr<float>(), nodes, packed(weight2, Way::kForward), {},
                  to_h.mutable_data_ptr<float>());
    if (kept[3].defined()) to_h.mul_(kept[3]);
    relu_backward({to_h.mutable_data_ptr<float>(), static_cast<std::size_t>(to_h.numel())},
                  h.const_data_ptr<float>(), 1);
    return {at::Tensor(),    multiplied(view(adjacency).transposed(), nodes, to_h, {}),
            to_h.sum(0),     transposed_product(h, to_product),
            gradient.sum(0), at::Tensor()};
  }
};

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
  const bool trains = at::GradMode::is_enabled() && weight.requires_grad();
  if (trains && bias.defined() && x.dim() == 2 && are_host_floats({x, weight, bias})) {
    return FusedLinear::apply(x.contiguous(), weight, bias);
  }
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
  const bool fused = at::GradMode::is_enabled() && dropout_ < 1 && adjacency_.is_contiguous() &&
                     are_host_floats({adjacency_, gcn1_->weight, gcn2_->weight});
  if (fused) {
    const bool drops = dropout_ > 0 && generator && generator->defined();
    const at::Tensor& w = gcn1_->weight;
    std::optional<at::Tensor> mask;
    if (drops) mask = tensor::dropout(at::ones(w.sizes(), at::kFloat), dropout_, generator);
    return FusedGraphConvolution::apply(adjacency_, w, gcn1_->bias, gcn2_->weight, gcn2_->bias,
                                        mask);
  }
  // One-hot features: A' X W1 is A' W1.
  const at::Tensor inner = at::relu(at::addmm(gcn1_->bias, adjacency_, gcn1_->weight));  // [n, d]
  const at::Tensor kept = tensor::dropout(inner, dropout_, generator);
  return at::addmm(gcn2_->bias, adjacency_, kept.mm(gcn2_->weight));  // [n, d]
}

}  // namespace theriac::nn
