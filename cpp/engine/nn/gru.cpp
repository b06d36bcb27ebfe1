#include "cpp/engine/nn/gru.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpp/engine/nn/dense_kernels.h"

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

// The valid steps of a padded batch, laid out step by step with the longest rows first: step s of
// the reading is a block of `active[s]` rows, and its k-th row follows the k-th row of the block
// before. No step of the recurrence touches padding.
struct Ragged {
  std::vector<std::int64_t> active;  // by step of the reading, not increasing, at least 1
  std::vector<std::int64_t> starts;  // where each block starts
  at::Tensor places;                 // int64 [tokens]: row * T + position in the padded batch

  Ragged(const at::Tensor& lengths, std::int64_t steps, Reading reading) {
    const std::int64_t batch = lengths.size(0);
    const at::Tensor host = lengths.contiguous();
    const std::span<const std::int64_t> length(host.const_data_ptr<std::int64_t>(),
                                               static_cast<std::size_t>(batch));
    std::vector<std::int64_t> rows(length.size());
    std::iota(rows.begin(), rows.end(), std::int64_t{0});
    const auto of = [&](std::int64_t row) {
      return std::clamp<std::int64_t>(length[static_cast<std::size_t>(row)], 0, steps);
    };
    std::stable_sort(rows.begin(), rows.end(),
                     [&](std::int64_t a, std::int64_t b) { return of(a) > of(b); });
    std::int64_t tokens = 0;
    for (const std::int64_t row : rows) tokens += of(row);
    places = at::empty({tokens}, at::kLong);
    auto* place = places.mutable_data_ptr<std::int64_t>();
    for (std::int64_t step = 0, start = 0; start < tokens; ++step) {
      std::int64_t count = 0;
      for (; count < batch; ++count) {
        const std::int64_t row = rows[static_cast<std::size_t>(count)], valid = of(row);
        if (valid <= step) break;
        *place++ = row * steps + (reading == Reading::kForward ? step : valid - 1 - step);
      }
      active.push_back(count);
      starts.push_back(start);
      start += count;
    }
  }

  Ragged(std::vector<std::int64_t> active_rows, at::Tensor token_places)
      : active(std::move(active_rows)), places(std::move(token_places)) {
    for (std::int64_t start = 0; const std::int64_t rows : active) {
      starts.push_back(start);
      start += rows;
    }
  }

  std::int64_t tokens() const { return places.size(0); }
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

// One gemm over all tokens for the input's share, one per step for the state's, and one fused pass
// per step for the gates, forward and backward. LibTorch's own GRU records some thirty small
// operators a step instead, and computes padding too (bench/README.md has both).
class FusedGru : public torch::autograd::Function<FusedGru> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input,
                            const at::Tensor& weight_ih, const at::Tensor& weight_hh,
                            const at::Tensor& bias_ih, const at::Tensor& bias_hh,
                            const Ragged& ragged) {
    const std::int64_t batch = input.size(0), steps = input.size(1), hidden = weight_hh.size(1);
    const at::Tensor x = input.reshape({batch * steps, -1}).index_select(0, ragged.places);
    const at::Tensor input_gates = at::addmm(bias_ih, x, weight_ih.t());  // [tokens, 3h]
    const at::Tensor saved = input.new_empty({ragged.tokens(), 4 * hidden});
    const at::Tensor states = input.new_empty({ragged.tokens(), hidden});
    const at::Tensor start_state = input.new_zeros({ragged.widest(), hidden});
    const at::Tensor hidden_gates = bias_hh.repeat({ragged.widest(), 1});  // memory of its own
    for (std::size_t s = 0; s < ragged.steps(); ++s) {
      const std::int64_t rows = ragged.active[s], start = ragged.starts[s];
      const at::Tensor before = s == 0 ? start_state : states.narrow(0, ragged.starts[s - 1], rows);
      if (s > 0) {
        at::Tensor gates = hidden_gates.narrow(0, 0, rows);
        at::addmm_out(gates, bias_hh, before, weight_hh.t());
      }
      gru_forward(row(input_gates, start), row(hidden_gates, 0), row(before, 0),
                  static_cast<std::size_t>(rows), static_cast<std::size_t>(hidden),
                  row(saved, start), row(states, start));
    }
    context->save_for_backward({x, weight_ih, weight_hh, saved, states, ragged.places});
    context->saved_data["active"] = ragged.active;
    context->saved_data["batch"] = batch;
    context->saved_data["steps"] = steps;
    at::Tensor outputs = input.new_zeros({batch * steps, hidden});
    outputs.index_copy_(0, ragged.places, states);
    return outputs.view({batch, steps, hidden});
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto kept = context->get_saved_variables();
    const at::Tensor &x = kept[0], &weight_ih = kept[1], &weight_hh = kept[2], &saved = kept[3],
                     &states = kept[4];
    const Ragged ragged(context->saved_data["active"].toIntVector(), kept[5]);
    const std::int64_t batch = context->saved_data["batch"].toInt();
    const std::int64_t steps = context->saved_data["steps"].toInt();
    const std::int64_t hidden = weight_hh.size(1);
    const at::Tensor from_outputs =  // [tokens, h]
        gradients[0].reshape({batch * steps, hidden}).index_select(0, ragged.places);
    const at::Tensor input_gates = saved.new_empty({ragged.tokens(), 3 * hidden});
    const at::Tensor hidden_gates = saved.new_empty({ragged.tokens(), 3 * hidden});
    const at::Tensor start_state = saved.new_zeros({ragged.widest(), hidden});
    const at::Tensor to_before = saved.new_empty({ragged.widest(), hidden});
    for (std::size_t s = ragged.steps(); s-- > 0;) {
      const std::int64_t rows = ragged.active[s], start = ragged.starts[s];
      const at::Tensor before = s == 0 ? start_state : states.narrow(0, ragged.starts[s - 1], rows);
      gru_backward(row(saved, start), row(before, 0), row(from_outputs, start),
                   static_cast<std::size_t>(rows), static_cast<std::size_t>(hidden),
                   row(input_gates, start), row(hidden_gates, start), row(to_before, 0));
      if (s == 0) break;
      // What reaches the state before: directly, and through W_hh.
      at::Tensor state_gradient = from_outputs.narrow(0, ragged.starts[s - 1], rows);
      state_gradient.add_(to_before.narrow(0, 0, rows));
      state_gradient.addmm_(hidden_gates.narrow(0, start, rows), weight_hh);
    }
    const std::int64_t first = ragged.widest();  // tokens whose state before is 0
    const at::Tensor later = hidden_gates.narrow(0, first, ragged.tokens() - first);
    at::Tensor to_input;
    if (context->needs_input_grad(0)) {
      to_input = x.new_zeros({batch * steps, x.size(1)});
      to_input.index_copy_(0, ragged.places, input_gates.mm(weight_ih));
      to_input = to_input.view({batch, steps, x.size(1)});
    }
    return {to_input,           input_gates.t().mm(x), later.t().mm(states_before(states, ragged)),
            input_gates.sum(0), hidden_gates.sum(0),   at::Tensor()};
  }
};

bool fused_applies(const GruImpl& gru, const at::Tensor& input) {
  for (const at::Tensor& tensor : {input, gru.weight_ih, gru.weight_hh, gru.bias_ih, gru.bias_hh}) {
    if (!tensor.is_cpu() || tensor.scalar_type() != at::kFloat) return false;
  }
  return true;
}

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
  if (!fused_applies(*this, input)) return composed_gru(*this, input, lengths, reading);
  const Ragged ragged(lengths.cpu(), input.size(1), reading);
  if (ragged.tokens() == 0) return input.new_zeros({input.size(0), input.size(1), hidden()});
  return FusedGru::apply(input, weight_ih, weight_hh, bias_ih, bias_hh, ragged);
}

at::Tensor composed_gru(const GruImpl& gru, const at::Tensor& input, const at::Tensor& lengths,
                        Reading reading) {
  check_input(input, lengths, gru.weight_ih.size(1));
  const std::int64_t batch = input.size(0), steps = input.size(1);
  if (batch == 0 || steps == 0) return input.new_zeros({batch, steps, gru.hidden()});
  const at::Tensor valid = lengths.to(input.device());
  const at::Tensor padding = valid_steps(valid, steps).logical_not().unsqueeze(2);  // [batch, T, 1]
  const auto in_order = [&](const at::Tensor& x) {
    return reading == Reading::kForward ? x : reverse_valid(x, valid);
  };
  const at::Tensor clean = in_order(input.masked_fill(padding, 0));    // [batch, T, in]
  const at::Tensor start = input.new_zeros({1, batch, gru.hidden()});  // [layers, batch, h]
  const at::Tensor outputs = std::get<0>(
      at::gru(clean, start, {gru.weight_ih, gru.weight_hh, gru.bias_ih, gru.bias_hh},
              /*has_biases=*/true, /*num_layers=*/1, /*dropout=*/0.0, /*train=*/gru.is_training(),
              /*bidirectional=*/false, /*batch_first=*/true));
  return in_order(outputs).masked_fill(padding, 0);  // [batch, T, h]
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
