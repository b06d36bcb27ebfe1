#include "cpp/engine/nn/tensor_product.h"

#include <ATen/Parallel.h>

#include <algorithm>

namespace theriac::nn {
namespace {

// Least multiply-adds that are worth another thread.
constexpr std::int64_t kWorkOfAThread = 1 << 21;

// Calls body(first, rows) for the threads' shares of the rows.
template <class Body>
void share_rows(std::int64_t rows, const PackedFactor& factor, const Body& body) {
  const auto work = static_cast<std::int64_t>(factor.inner() * factor.columns());
  const std::int64_t grain =
      std::max<std::int64_t>(kWorkOfAThread / std::max<std::int64_t>(work, 1), 6);
  at::parallel_for(0, rows, grain, [&](std::int64_t first, std::int64_t last) {
    body(static_cast<std::size_t>(first), static_cast<std::size_t>(last - first));
  });
}

at::Tensor multiplied(const at::Tensor& left, const PackedFactor& factor) {
  const at::Tensor out =
      left.new_empty({left.size(0), static_cast<std::int64_t>(factor.columns())});
  multiply_rows(left.const_data_ptr<float>(), left.size(0), factor, {},
                out.mutable_data_ptr<float>());
  return out;
}

class MatrixProduct : public torch::autograd::Function<MatrixProduct> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& a,
                            const at::Tensor& b, bool transposed) {
    context->save_for_backward({a, b});
    context->saved_data["transposed"] = transposed;
    return multiplied(a, packed(b, transposed ? Way::kForward : Way::kBackward));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto kept = context->get_saved_variables();
    const at::Tensor &a = kept[0], &b = kept[1];
    const bool transposed = context->saved_data["transposed"].toBool();
    const at::Tensor gradient = gradients[0].contiguous();
    at::Tensor to_a, to_b;
    if (context->needs_input_grad(0)) {
      to_a = multiplied(gradient, packed(b, transposed ? Way::kBackward : Way::kForward));
    }
    if (context->needs_input_grad(1)) {
      to_b = transposed ? transposed_product(gradient, a) : transposed_product(a, gradient);
    }
    return {to_a, to_b, at::Tensor()};
  }
};

}  // namespace

at::Tensor matrix_product(const at::Tensor& a, const at::Tensor& b, Way way) {
  const bool transposed = way == Way::kForward;
  if (!are_host_floats({a, b})) return a.matmul(transposed ? b.t() : b);
  return MatrixProduct::apply(a.contiguous(), b.contiguous(), transposed);
}

bool are_host_floats(std::initializer_list<at::Tensor> tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const at::Tensor& tensor) {
    return tensor.is_cpu() && tensor.scalar_type() == at::kFloat;
  });
}

MatrixView view(const at::Tensor& matrix) {
  return {matrix.const_data_ptr<float>(), static_cast<std::size_t>(matrix.stride(0)),
          static_cast<std::size_t>(matrix.stride(1))};
}

PackedFactor packed(const at::Tensor& weight, Way way) {
  const MatrixView matrix = view(weight);
  const auto out = static_cast<std::size_t>(weight.size(0));
  const auto in = static_cast<std::size_t>(weight.size(1));
  PackedFactor factor;
  if (way == Way::kForward) {
    factor.pack(matrix.transposed(), in, out);
  } else {
    factor.pack(matrix, out, in);
  }
  return factor;
}

void multiply_rows(const float* left, std::int64_t rows, const PackedFactor& factor,
                   const at::Tensor& bias, float* out) {
  share_rows(rows, factor, [&](std::size_t first, std::size_t count) {
    const MatrixView part{left + first * factor.inner(), factor.inner(), 1};
    float* const to = out + first * factor.columns();
    if (bias.defined()) {
      product(part, count, factor, bias.const_data_ptr<float>(), to, factor.columns());
    } else {
      product(part, count, factor, to, factor.columns());
    }
  });
}

void add_multiplied_rows(const float* left, std::int64_t rows, const PackedFactor& factor,
                         float* out) {
  share_rows(rows, factor, [&](std::size_t first, std::size_t count) {
    product({left + first * factor.inner(), factor.inner(), 1}, count, factor,
            out + first * factor.columns(), factor.columns(), Sum::kAdd);
  });
}

at::Tensor transposed_product(const at::Tensor& left, const at::Tensor& right) {
  const std::int64_t in = right.size(1);
  const at::Tensor out = left.new_empty({left.size(1), in});
  const at::Tensor rows = left.t().contiguous();  // read row by row: its columns share cache sets
  const std::int64_t work = left.size(0) * left.size(1);
  const std::int64_t grain =
      std::max<std::int64_t>(kWorkOfAThread / std::max<std::int64_t>(work, 1), 16);
  at::parallel_for(0, in, grain, [&](std::int64_t first, std::int64_t last) {
    PackedFactor scratch;
    long_product(view(rows), static_cast<std::size_t>(left.size(1)),
                 view(right).from_column(static_cast<std::size_t>(first)),
                 static_cast<std::size_t>(left.size(0)), static_cast<std::size_t>(last - first),
                 out.mutable_data_ptr<float>() + first, static_cast<std::size_t>(in), scratch);
  });
  return out;
}

}  // namespace theriac::nn
