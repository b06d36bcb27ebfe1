#include "cpp/engine/nn/gru.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpp/engine/nn/dense_kernels.h"
#include "cpp/engine/nn/tensor_product.h"

namespace theriac::nn {
namespace {

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

// The tokens in the order of a recurrence: step by step, the longest rows first. Step s of the
// reading is a block of `active[s]` tokens, and its k-th token follows the k-th one of the block
// before.
struct Ragged {
  std::vector<std::int64_t> active;  // by step of the reading, not increasing, at least 1
  std::vector<std::int64_t> starts;  // where each block starts
  at::Tensor order;                  // int64 [tokens]: which token

  Ragged(const StepLayout& layout, Reading reading) {
    std::vector<std::int64_t> rows(layout.length.size()), first(layout.length.size());
    std::iota(rows.begin(), rows.end(), std::int64_t{0});
    std::exclusive_scan(layout.length.begin(), layout.length.end(), first.begin(), std::int64_t{0});
    const auto length = [&](std::int64_t row) {
      return layout.length[static_cast<std::size_t>(row)];
    };
    std::stable_sort(rows.begin(), rows.end(),
                     [&](std::int64_t a, std::int64_t b) { return length(a) > length(b); });
    order = at::empty({layout.tokens()}, at::kLong);
    auto* token = order.mutable_data_ptr<std::int64_t>();
    for (std::int64_t step = 0, start = 0; start < layout.tokens(); ++step) {
      std::int64_t count = 0;
      for (const std::int64_t row : rows) {
        if (length(row) <= step) break;
        *token++ = first[static_cast<std::size_t>(row)] +
                   (reading == Reading::kForward ? step : length(row) - 1 - step);
        ++count;
      }
      active.push_back(count);
      starts.push_back(start);
      start += count;
    }
  }

  Ragged(std::vector<std::int64_t> active_rows, at::Tensor token_order)
      : active(std::move(active_rows)), order(std::move(token_order)) {
    for (std::int64_t start = 0; const std::int64_t rows : active) {
      starts.push_back(start);
      start += rows;
    }
  }

  std::int64_t tokens() const { return order.size(0); }
  std::int64_t widest() const { return active.empty() ? 0 : active[0]; }
  std::size_t steps() const { return active.size(); }
};

// The state before each step of the reading but the first: [tokens - active[0], h].
at::Tensor states_before(const at::Tensor& states, const Ragged& ragged) {
  std::vector<at::Tensor> parts;
  for (std::size_t s = 1; s < ragged.steps(); ++s)
    parts.push_back(states.narrow(0, ragged.starts[s - 1], ragged.active[s]));
  return parts.empty() ? states.narrow(0, 0, 0) : at::cat(parts);
}

float* row(const at::Tensor& tensor, std::int64_t index) {
  return tensor.mutable_data_ptr<float>() + index * tensor.size(1);
}

void fill_rows(const at::Tensor& bias, std::int64_t rows, float* out) {
  const auto* values = bias.const_data_ptr<float>();
  for (std::int64_t r = 0; r < rows; ++r, out += bias.numel())
    std::copy_n(values, bias.numel(), out);
}

// One product over all tokens for the input's share, one per step for the state's, and one fused
// pass per step for the gates, forward and backward. LibTorch's own GRU records some thirty small
// operators a step instead, and computes padding too (bench/README.md has both).
class FusedGru : public torch::autograd::Function<FusedGru> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input,
                            const at::Tensor& weight_ih, const at::Tensor& weight_hh,
                            const at::Tensor& bias_ih, const at::Tensor& bias_hh,
                            const Ragged& ragged) {
    const std::int64_t hidden = weight_hh.size(1);
    const at::Tensor x = input.index_select(0, ragged.order);
    const at::Tensor input_gates = input.new_empty({ragged.tokens(), 3 * hidden});
    multiply_rows(row(x, 0), ragged.tokens(), packed(weight_ih, Way::kForward), bias_ih,
                  row(input_gates, 0));
    const at::Tensor saved = input.new_empty({ragged.tokens(), 4 * hidden});
    const at::Tensor states = input.new_empty({ragged.tokens(), hidden});
    const at::Tensor start_state = input.new_zeros({ragged.widest(), hidden});
    const at::Tensor hidden_gates = input.new_empty({ragged.widest(), 3 * hidden});
    const PackedFactor state_weight = packed(weight_hh, Way::kForward);
    for (std::size_t s = 0; s < ragged.steps(); ++s) {
      const std::int64_t rows = ragged.active[s], start = ragged.starts[s];
      const at::Tensor& before_all = s == 0 ? start_state : states;
      const float* before = row(before_all, s == 0 ? 0 : ragged.starts[s - 1]);
      if (s == 0) {
        fill_rows(bias_hh, rows, row(hidden_gates, 0));  // the state before is 0
      } else {
        multiply_rows(before, rows, state_weight, bias_hh, row(hidden_gates, 0));
      }
      gru_forward(row(input_gates, start), row(hidden_gates, 0), before,
                  static_cast<std::size_t>(rows), static_cast<std::size_t>(hidden),
                  row(saved, start), row(states, start));
    }
    context->save_for_backward({x, weight_ih, weight_hh, saved, states, ragged.order});
    context->saved_data["active"] = ragged.active;
    return at::empty_like(states).index_copy_(0, ragged.order, states);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto kept = context->get_saved_variables();
    const at::Tensor &x = kept[0], &weight_ih = kept[1], &weight_hh = kept[2], &saved = kept[3],
                     &states = kept[4];
    const Ragged ragged(context->saved_data["active"].toIntVector(), kept[5]);
    const std::int64_t hidden = weight_hh.size(1);
    const at::Tensor from_outputs = gradients[0].index_select(0, ragged.order);  // [tokens, h]
    const at::Tensor input_gates = saved.new_empty({ragged.tokens(), 3 * hidden});
    const at::Tensor hidden_gates = saved.new_empty({ragged.tokens(), 3 * hidden});
    const at::Tensor start_state = saved.new_zeros({ragged.widest(), hidden});
    const at::Tensor to_before = saved.new_empty({ragged.widest(), hidden});
    const PackedFactor state_weight = packed(weight_hh, Way::kBackward);
    for (std::size_t s = ragged.steps(); s-- > 0;) {
      const std::int64_t rows = ragged.active[s], start = ragged.starts[s];
      const at::Tensor& before_all = s == 0 ? start_state : states;
      gru_backward(row(saved, start), row(before_all, s == 0 ? 0 : ragged.starts[s - 1]),
                   row(from_outputs, start), static_cast<std::size_t>(rows),
                   static_cast<std::size_t>(hidden), row(input_gates, start),
                   row(hidden_gates, start), row(to_before, 0));
      if (s == 0) break;
      // What reaches the state before: directly, and through W_hh.
      float* state_gradient = row(from_outputs, ragged.starts[s - 1]);
      add({state_gradient, static_cast<std::size_t>(rows * hidden)}, row(to_before, 0));
      add_multiplied_rows(row(hidden_gates, start), rows, state_weight, state_gradient);
    }
    const std::int64_t first = ragged.widest();  // tokens whose state before is 0
    const at::Tensor later = hidden_gates.narrow(0, first, ragged.tokens() - first);
    at::Tensor to_input;
    if (context->needs_input_grad(0)) {
      const at::Tensor in_order = at::empty_like(x);
      multiply_rows(row(input_gates, 0), ragged.tokens(), packed(weight_ih, Way::kBackward), {},
                    row(in_order, 0));
      to_input = at::empty_like(x).index_copy_(0, ragged.order, in_order);
    }
    return {to_input,
            transposed_product(input_gates, x),
            transposed_product(later, states_before(states, ragged)),
            input_gates.sum(0),
            hidden_gates.sum(0),
            at::Tensor()};
  }
};

}  // namespace

GruImpl::GruImpl(std::int64_t in, std::int64_t hidden, std::uint64_t seed,
                 const std::string& name) {
  weight_ih = register_parameter("weight_ih", at::empty({3 * hidden, in}));
  weight_hh = register_parameter("weight_hh", at::empty({3 * hidden, hidden}));
  bias_ih = register_parameter("bias_ih", at::empty({3 * hidden}));
  bias_hh = register_parameter("bias_hh", at::empty({3 * hidden}));
  const double bound = 1 / std::sqrt(static_cast<double>(hidden));
  for (const auto& item : named_parameters()) {
    tensor::fill_uniform(item.value(), -bound, bound, seed, name + "." + item.key());
  }
}

at::Tensor GruImpl::forward(const at::Tensor& input, const at::Tensor& lengths,
                            Reading reading) const {
  check_input(input, lengths, weight_ih.size(1));
  const StepLayout layout(lengths.to(input.device()), input.size(1));
  return layout.pad(forward(layout.pack(input), layout, reading));
}

at::Tensor GruImpl::forward(const at::Tensor& tokens, const StepLayout& layout,
                            Reading reading) const {
  return gru(weights(), tokens, layout, reading);
}

at::Tensor gru(const GruWeights& w, const at::Tensor& tokens, const StepLayout& layout,
               Reading reading) {
  if (tokens.dim() != 2 || tokens.size(0) != layout.tokens() ||
      tokens.size(1) != w.weight_ih.size(1)) {
    throw Error(Code::kInvalidArgument, "GRU tokens must be [" + std::to_string(layout.tokens()) +
                                            ", " + std::to_string(w.weight_ih.size(1)) + "]");
  }
  if (layout.tokens() == 0) return tokens.new_zeros({0, w.weight_hh.size(1)});
  if (!are_host_floats({tokens, w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh}))
    return composed_gru(w, tokens, layout, reading);
  return FusedGru::apply(tokens, w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh,
                         Ragged(layout, reading));
}

at::Tensor composed_gru(const GruWeights& w, const at::Tensor& tokens, const StepLayout& layout,
                        Reading reading) {
  const at::Tensor lengths = at::tensor(layout.length, at::kLong).to(tokens.device());
  const auto in_order = [&](const at::Tensor& x) {
    return reading == Reading::kForward ? x : reverse_valid(x, lengths);
  };
  const at::Tensor start = tokens.new_zeros({1, layout.batch(), w.weight_hh.size(1)});
  const at::Tensor outputs = std::get<0>(
      at::gru(in_order(layout.pad(tokens)), start, {w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh},
              /*has_biases=*/true, /*num_layers=*/1, /*dropout=*/0.0,
              /*train=*/w.weight_ih.requires_grad(), /*bidirectional=*/false,
              /*batch_first=*/true));
  return layout.pack(in_order(outputs));
}

StepLayout::StepLayout(const at::Tensor& lengths, std::int64_t all_steps) : steps(all_steps) {
  const at::Tensor host = lengths.cpu().contiguous();
  const auto* given = host.const_data_ptr<std::int64_t>();
  length.assign(given, given + host.numel());
  for (std::int64_t& valid : length) valid = std::clamp<std::int64_t>(valid, 0, steps);
  const std::int64_t count = std::accumulate(length.begin(), length.end(), std::int64_t{0});
  const at::Tensor where = at::empty({2, count}, at::kLong);  // places, rows
  auto* place = where.mutable_data_ptr<std::int64_t>();
  auto* row_of = place + count;
  for (std::int64_t r = 0; r < batch(); ++r) {
    for (std::int64_t s = 0; s < length[static_cast<std::size_t>(r)]; ++s) {
      *place++ = r * steps + s;
      *row_of++ = r;
    }
  }
  const at::Tensor there = where.to(lengths.device());
  places = there[0];
  rows = there[1];
}

at::Tensor StepLayout::pack(const at::Tensor& padded) const {
  const std::int64_t width = padded.dim() == 3 ? padded.size(2) : 1;
  return padded.reshape({batch() * steps, width}).index_select(0, places);
}

at::Tensor StepLayout::pad(const at::Tensor& tokens) const {
  return tokens.new_zeros({batch() * steps, tokens.size(1)})
      .index_copy(0, places, tokens)
      .view({batch(), steps, tokens.size(1)});
}

at::Tensor StepLayout::sum_rows(const at::Tensor& tokens) const {
  return tokens.new_zeros({batch(), tokens.size(1)}).index_add(0, rows, tokens);
}

at::Tensor valid_steps(const at::Tensor& lengths, std::int64_t steps) {
  return at::arange(steps, lengths.options()).unsqueeze(0).lt(lengths.unsqueeze(1));
}

at::Tensor reverse_valid(const at::Tensor& x, const at::Tensor& lengths) {
  const at::Tensor steps = at::arange(x.size(1), lengths.options()).unsqueeze(0);  // [1, T]
  const at::Tensor from =
      (lengths.unsqueeze(1) - 1 - steps).clamp_min(0).unsqueeze(2);  // [batch, T, 1]
  return x.gather(1, from.expand({-1, -1, x.size(2)}));
}

at::Tensor last_valid(const at::Tensor& outputs, const at::Tensor& lengths) {
  const at::Tensor last = lengths.to(outputs.device()).sub(1).view({-1, 1, 1});
  return outputs.gather(1, last.expand({-1, 1, outputs.size(2)})).squeeze(1);
}

}  // namespace theriac::nn
