#include "cpp/engine/nn/summed_rows.h"

#include <string>

#include "cpp/engine/nn/dense_kernels.h"

namespace theriac::nn {
namespace {

// Calls body(set, row) in the order of the ids.
template <class Body>
void for_each_row(const at::Tensor& ids, const at::Tensor& offsets, const Body& body) {
  const auto* id = ids.const_data_ptr<std::int64_t>();
  const auto* offset = offsets.const_data_ptr<std::int64_t>();
  for (std::int64_t set = 0; set + 1 < offsets.numel(); ++set) {
    for (std::int64_t i = offset[set]; i < offset[set + 1]; ++i) body(set, id[i]);
  }
}

class SummedRows : public torch::autograd::Function<SummedRows> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& table,
                            const at::Tensor& ids, const at::Tensor& offsets) {
    context->save_for_backward({ids, offsets});
    const std::int64_t dim = table.size(1), rows = table.size(0);
    for_each_row(ids, offsets, [&](std::int64_t /*set*/, std::int64_t row) {
      if (row < 0 || row >= rows) {
        throw Error(Code::kInvalidArgument, "id " + std::to_string(row) +
                                                " is no row of a table of " + std::to_string(rows));
      }
    });
    const at::Tensor out = table.new_zeros({offsets.numel() - 1, dim});
    context->saved_data["rows"] = rows;
    const auto* from = table.const_data_ptr<float>();
    auto* to = out.mutable_data_ptr<float>();
    for_each_row(ids, offsets, [&](std::int64_t set, std::int64_t row) {
      add({to + set * dim, static_cast<std::size_t>(dim)}, from + row * dim);
    });
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    if (!context->needs_input_grad(0)) return {at::Tensor(), at::Tensor(), at::Tensor()};
    const auto kept = context->get_saved_variables();
    const at::Tensor gradient = gradients[0].contiguous();
    const std::int64_t dim = gradient.size(1);
    const at::Tensor out = gradient.new_zeros({context->saved_data["rows"].toInt(), dim});
    const auto* from = gradient.const_data_ptr<float>();
    auto* to = out.mutable_data_ptr<float>();
    for_each_row(kept[0], kept[1], [&](std::int64_t set, std::int64_t row) {
      add({to + row * dim, static_cast<std::size_t>(dim)}, from + set * dim);
    });
    return {out, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor summed_rows(const at::Tensor& table, const at::Tensor& ids, const at::Tensor& offsets) {
  if (table.is_cpu() && table.scalar_type() == at::kFloat && ids.scalar_type() == at::kLong) {
    return SummedRows::apply(table.contiguous(), ids.contiguous(), offsets.contiguous());
  }
  constexpr std::int64_t kSum = 0;
  return std::get<0>(at::embedding_bag(table, ids, offsets, /*scale_grad_by_freq=*/false, kSum,
                                       /*sparse=*/false, /*per_sample_weights=*/{},
                                       /*include_last_offset=*/true));
}

}  // namespace theriac::nn
