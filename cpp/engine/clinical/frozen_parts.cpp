#include "cpp/engine/clinical/frozen_parts.h"

#include <algorithm>

namespace theriac::clinical::internal {

std::span<const float> values(const at::Tensor& tensor, std::initializer_list<std::int64_t> shape,
                              const char* name) {
  if (!tensor.defined() || tensor.scalar_type() != at::kFloat || !tensor.is_cpu() ||
      !tensor.is_contiguous() || tensor.sizes() != at::IntArrayRef(shape.begin(), shape.size())) {
    throw Error(Code::kInternal,
                std::string("frozen scorer: ") + name +
                    " is not a contiguous float32 CPU tensor of the expected shape")
        .at("tensor", name);
  }
  return {tensor.const_data_ptr<float>(), static_cast<std::size_t>(tensor.numel())};
}

namespace {

std::vector<float> padded_bias(const at::Tensor& bias, std::int64_t out, std::size_t padded,
                               const char* name) {
  const auto source = values(bias, {out}, name);
  std::vector<float> copy(padded, 0.0F);
  std::copy(source.begin(), source.end(), copy.begin());
  return copy;
}

}  // namespace

FrozenLinear::FrozenLinear(const FrozenLinearParts& parts) {
  const std::int64_t out = parts.weight.size(0), in = parts.weight.size(1);
  weight = nn::PackedMatrix(values(parts.weight, {out, in}, "linear.weight").data(),
                            static_cast<std::size_t>(out), static_cast<std::size_t>(in));
  bias = padded_bias(parts.bias, out, weight.padded_out(), "linear.bias");
}

CodeTable::CodeTable(const at::Tensor& table) : dim_(static_cast<std::size_t>(table.size(1))) {
  const auto source = values(table, {table.size(0), table.size(1)}, "code table");
  rows_.assign(source.begin(), source.end());
}

void CodeTable::pool(std::span<const std::int32_t> ids, std::span<const float> extra, bool mean,
                     std::span<float> out) const noexcept {
  if (extra.empty()) {
    std::fill(out.begin(), out.end(), 0.0F);
  } else {
    std::copy(extra.begin(), extra.end(), out.begin());
  }
  for (const std::int32_t id : ids)
    nn::add(out, rows_.data() + static_cast<std::size_t>(id) * dim_);
  if (mean && ids.size() > 1) {
    const float share = 1.0F / static_cast<float>(ids.size());
    for (float& value : out) value *= share;
  }
}

FrozenGru::FrozenGru(const FrozenGruParts& parts) {
  const std::int64_t gates = parts.weight_ih.size(0), in = parts.weight_ih.size(1),
                     hidden = gates / 3;
  in_ = static_cast<std::size_t>(in);
  hidden_ = static_cast<std::size_t>(hidden);
  weight_ih_ = nn::PackedMatrix(values(parts.weight_ih, {gates, in}, "gru.weight_ih").data(),
                                static_cast<std::size_t>(gates), in_);
  weight_hh_ = nn::PackedMatrix(values(parts.weight_hh, {gates, hidden}, "gru.weight_hh").data(),
                                static_cast<std::size_t>(gates), hidden_);
  bias_ih_ = padded_bias(parts.bias_ih, gates, weight_ih_.padded_out(), "gru.bias_ih");
  bias_hh_ = padded_bias(parts.bias_hh, gates, weight_hh_.padded_out(), "gru.bias_hh");
}

std::size_t FrozenGru::scratch(std::size_t visits) const noexcept {
  return (visits + 1) * weight_ih_.padded_out() + hidden_;
}

void FrozenGru::run(const float* x, std::size_t x_stride, std::size_t visits, bool backwards,
                    FrozenWorkspace& workspace, float* states, std::size_t stride) const {
  const std::size_t gates = weight_ih_.padded_out();
  const std::span<float> input_gates = workspace.take(visits * gates);  // [visits, 3 hidden]
  const std::span<float> hidden_gates = workspace.take(gates);          // [3 hidden]
  const std::span<float> state = workspace.take(hidden_);
  nn::multiply(weight_ih_, x, x_stride, visits, bias_ih_, input_gates.data(), gates);
  std::fill(state.begin(), state.end(), 0.0F);
  for (std::size_t step = 0; step < visits; ++step) {
    const std::size_t visit = backwards ? visits - 1 - step : step;
    if (step == 0) {
      std::copy(bias_hh_.begin(), bias_hh_.end(), hidden_gates.begin());
    } else {
      nn::multiply(weight_hh_, state.data(), hidden_, 1, bias_hh_, hidden_gates.data(), gates);
    }
    nn::gru_update(input_gates.data() + visit * gates, hidden_gates.data(), hidden_, state);
    std::copy(state.begin(), state.end(), states + visit * stride);
  }
}

}  // namespace theriac::clinical::internal
