#include "cpp/engine/clinical/tree_pretraining_sage.h"

#include <algorithm>
#include <cmath>

namespace theriac::clinical {
namespace {

constexpr int kParts = 3;          // W, U, b
constexpr int kBlockBits = 128;    // of one Philox block
constexpr double kUnit = 65536.0;  // resolution of dropout probabilities

// The first `rows` rows of memory that grows when it is too small: [rows, dim].
at::Tensor rows_of(at::Tensor& memory, std::int64_t rows, std::int64_t dim) {
  if (!memory.defined() || memory.size(0) < rows) memory = at::empty({rows, dim}, at::kFloat);
  return memory.narrow(0, 0, rows);
}

float* values_of(const at::Tensor& matrix) { return matrix.data_ptr<float>(); }

// Element loops run over blocks of a constant length, which the compiler turns into vector
// instructions at any optimisation level.
constexpr std::int64_t kLanes = 16;

void add_to(float* __restrict sum, const float* __restrict values, std::int64_t count) {
  std::int64_t begin = 0;
  for (; begin + kLanes <= count; begin += kLanes) {
    for (std::int64_t i = 0; i < kLanes; ++i) sum[begin + i] += values[begin + i];
  }
  for (; begin < count; ++begin) sum[begin] += values[begin];
}

at::Tensor row_indices(const std::vector<std::int64_t>& rows, std::int64_t count) {
  return at::from_blob(const_cast<std::int64_t*>(rows.data()), {count}, at::kLong);  // only read
}

// Bits that are set with probability keep / 65536: one block a binary digit, from the last digit
// that is set (half keeps after one block). `any` and `all` of the lower digits' bits halve the
// distance to 0 or 1.
std::array<std::uint32_t, 4> keep_bits(std::uint32_t keep, std::array<std::uint32_t, 4> counter,
                                       std::array<std::uint32_t, 2> key) {
  std::array<std::uint32_t, 4> bits{};
  bool started = false;
  for (std::uint32_t digit = 0; digit < 16; ++digit) {
    const bool set = ((keep >> digit) & 1U) != 0;
    if (!set && !started) continue;
    started = true;
    counter[1] = (counter[1] & 0xffffU) | (digit << 16);
    const auto random = philox4x32(counter, key);
    for (std::size_t i = 0; i < 4; ++i) bits[i] = set ? bits[i] | random[i] : bits[i] & random[i];
  }
  return bits;
}

// Keep masks of one (step, layer).
class DropoutMask {
 public:
  DropoutMask(const SageDropout& dropout, int layer)
      : keep_(static_cast<std::uint32_t>(std::lround((1 - dropout.probability) * kUnit))),
        layer_(static_cast<std::uint32_t>(layer)),
        step_(dropout.step) {
    const std::uint64_t key = derive_seed(dropout.seed, "tree.dropout");
    key_ = {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)};
  }
  bool keeps_all() const { return keep_ == static_cast<std::uint32_t>(kUnit); }
  float scale() const { return static_cast<float>(kUnit / std::max<std::uint32_t>(keep_, 1)); }

  // values = keep ? max(values, 0) * scale : 0 for the features of a node.
  void apply(std::int64_t node, float* values, std::int64_t dim) const {
    const float kept_scale = scale();
    for (std::int64_t block = 0; block * kBlockBits < dim; ++block) {
      const auto bits = keeps_all() ? kAll : keep_bits(keep_, counter(node, block), key_);
      for (std::int64_t word = 0; word < 4; ++word) {
        const std::int64_t begin = block * kBlockBits + word * kWordBits;
        const std::int64_t count = std::min(kWordBits, dim - begin);
        if (count <= 0) return;
        apply_word(bits[static_cast<std::size_t>(word)], kept_scale, values + begin, count);
      }
    }
  }

 private:
  static constexpr std::int64_t kWordBits = 32;
  static constexpr std::array<std::uint32_t, 4> kAll = {~0U, ~0U, ~0U, ~0U};

  static void apply_word(std::uint32_t keep, float kept_scale, float* __restrict values,
                         std::int64_t count) {
    static constexpr std::array<std::uint32_t, kWordBits> kBit = [] {
      std::array<std::uint32_t, kWordBits> bit{};
      for (std::uint32_t i = 0; i < kWordBits; ++i) bit[i] = 1U << i;
      return bit;
    }();
    const auto lane = [&](std::size_t i) {
      const float kept = (keep & kBit[i]) != 0 ? kept_scale : 0.0F;
      return (values[i] > 0 ? values[i] : 0.0F) * kept;
    };
    if (count == kWordBits) {
      for (std::size_t i = 0; i < kWordBits; ++i) values[i] = lane(i);
    } else {
      for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) values[i] = lane(i);
    }
  }

  // Word 1 holds the block of features, and above it the binary digit (keep_bits).
  std::array<std::uint32_t, 4> counter(std::int64_t node, std::int64_t block) const {
    return {static_cast<std::uint32_t>(node), static_cast<std::uint32_t>(block),
            static_cast<std::uint32_t>(step_),
            static_cast<std::uint32_t>(step_ >> 32) ^ (layer_ << 24)};
  }
  std::uint32_t keep_, layer_;
  std::uint64_t step_;
  std::array<std::uint32_t, 2> key_{};
};

// output = output + bias + the parent's message, for every row of a layer.
void add_bias_and_messages(const at::Tensor& output, const at::Tensor& bias,
                           const at::Tensor& messages, const SagePlan& plan) {
  const std::int64_t dim = output.size(1), rows = output.size(0);
  float* a = values_of(output);
  const float* b = values_of(bias);
  const float* message = values_of(messages);
  for (std::int64_t row = 0; row < rows; ++row, a += dim) {
    add_to(a, b, dim);
    const std::int32_t parent = plan.parent_of[static_cast<std::size_t>(row)];
    if (parent >= 0) add_to(a, message + parent * dim, dim);
  }
}

void activate(const at::Tensor& output, const SagePlan& plan, const DropoutMask& mask) {
  const std::int64_t dim = output.size(1), rows = output.size(0);
  float* a = values_of(output);
  for (std::int64_t row = 0; row < rows; ++row, a += dim) {
    mask.apply(plan.nodes[static_cast<std::size_t>(row)], a, dim);
  }
}

// dL/da from dL/dh, in place: ReLU and dropout passed exactly where h is positive.
void mask_gradient(const at::Tensor& gradient, const at::Tensor& output, float scale) {
  float* __restrict g = values_of(gradient);
  const float* __restrict h = values_of(output);
  const std::int64_t count = gradient.numel();
  const auto lane = [&](std::int64_t i) { return h[i] > 0 ? g[i] * scale : 0.0F; };
  std::int64_t begin = 0;
  for (; begin + kLanes <= count; begin += kLanes) {
    for (std::int64_t i = begin; i < begin + kLanes; ++i) g[i] = lane(i);
  }
  for (; begin < count; ++begin) g[begin] = lane(begin);
}

// Sum of the children's gradients for each distinct parent, and over all rows for the bias.
void sum_over_children(const at::Tensor& gradient, const SagePlan& plan, const at::Tensor& parents,
                       const at::Tensor& bias_gradient) {
  const std::int64_t dim = gradient.size(1), rows = gradient.size(0);
  parents.zero_();
  bias_gradient.zero_();
  const float* g = values_of(gradient);
  float* bias = values_of(bias_gradient);
  float* sums = values_of(parents);
  for (std::int64_t row = 0; row < rows; ++row, g += dim) {
    add_to(bias, g, dim);
    const std::int32_t parent = plan.parent_of[static_cast<std::size_t>(row)];
    if (parent >= 0) add_to(sums + parent * dim, g, dim);
  }
}

// rows[parent_row[place]] += through_parents[place]
void add_to_parents(const at::Tensor& rows, const at::Tensor& through_parents,
                    const SagePlan& plan) {
  const std::int64_t dim = rows.size(1), parents = through_parents.size(0);
  float* sums = values_of(rows);
  const float* values = values_of(through_parents);
  for (std::int64_t place = 0; place < parents; ++place, values += dim) {
    add_to(sums + plan.parent_row[static_cast<std::size_t>(place)] * dim, values, dim);
  }
}

}  // namespace

SagePlanner::SagePlanner(std::vector<std::int32_t> parents)
    : parents_(std::move(parents)), row_(parents_.size(), -1), place_(parents_.size(), -1) {}

void SagePlanner::add_row(std::int32_t node) {
  std::int64_t& row = row_[static_cast<std::size_t>(node)];
  if (row >= 0) return;
  row = static_cast<std::int64_t>(plan_.nodes.size());
  plan_.nodes.push_back(node);
}

void SagePlanner::add_parent(std::int64_t row) {
  const std::int32_t above =
      parent(static_cast<std::int32_t>(plan_.nodes[static_cast<std::size_t>(row)]));
  if (above < 0) {
    plan_.parent_of.push_back(-1);
    return;
  }
  std::int32_t& place = place_[static_cast<std::size_t>(above)];
  if (place < 0) {
    add_row(above);
    place = static_cast<std::int32_t>(plan_.parent_row.size());
    plan_.parent_row.push_back(row_[static_cast<std::size_t>(above)]);
  }
  plan_.parent_of.push_back(place);
}

const SagePlan& SagePlanner::plan(std::span<const std::int32_t> wanted) {
  for (const std::int64_t node : plan_.nodes) {
    row_[static_cast<std::size_t>(node)] = -1;
    place_[static_cast<std::size_t>(node)] = -1;
  }
  plan_.nodes.clear();
  plan_.parent_row.clear();
  plan_.parent_of.clear();
  for (const std::int32_t node : wanted) add_row(node);
  for (std::size_t layer = kSageLayers; layer > 0; --layer) {
    plan_.rows[layer] = static_cast<std::int64_t>(plan_.nodes.size());
    for (auto row = static_cast<std::int64_t>(plan_.parent_of.size()); row < plan_.rows[layer];
         ++row) {
      add_parent(row);
    }
    plan_.parents[layer] = static_cast<std::int64_t>(plan_.parent_row.size());
  }
  plan_.rows[0] = static_cast<std::int64_t>(plan_.nodes.size());
  return plan_;
}

SageStack::SageStack(std::int64_t dim, std::uint64_t seed)
    : dim_(dim),
      parameters_(at::empty({kSageLayers * (2 * dim * dim + dim)}, at::kFloat)),
      gradient_(at::zeros_like(parameters_)) {
  const double bound = 1 / std::sqrt(static_cast<double>(dim));
  tensor::fill_uniform(parameters_, -bound, bound, seed, "tree.weights");
  for (int layer = 1; layer <= kSageLayers; ++layer) {
    at_layer(layer).neighbour_gradient = section(gradient_, layer, 0);
    at_layer(layer).own_gradient = section(gradient_, layer, 1);
    at_layer(layer).bias_gradient = section(gradient_, layer, 2);
  }
}

at::Tensor SageStack::section(const at::Tensor& flat, int layer, int part) const {
  static_assert(kParts == 3);
  const std::int64_t square = dim_ * dim_;
  const std::int64_t begin = (layer - 1) * (2 * square + dim_) + part * square;
  if (part == 2) return flat.narrow(0, begin, dim_);
  return flat.narrow(0, begin, square).view({dim_, dim_});
}

at::Tensor SageStack::neighbour(int layer) const { return section(parameters_, layer, 0); }
at::Tensor SageStack::own(int layer) const { return section(parameters_, layer, 1); }
at::Tensor SageStack::bias(int layer) const { return section(parameters_, layer, 2); }

at::Tensor SageStack::forward(const at::Tensor& input, const SagePlan& plan,
                              const SageDropout& dropout) {
  const torch::NoGradGuard no_grad;
  at::Tensor below;  // h of the layer below, [rows of it, dim]
  for (int layer = 1; layer <= kSageLayers; ++layer) {
    const auto l = static_cast<std::size_t>(layer);
    Layer& state = at_layer(layer);
    const at::Tensor parent_rows = row_indices(plan.parent_row, plan.parents[l]);
    if (layer == 1) below = input.index_select(0, row_indices(plan.nodes, plan.rows[0]));
    state.from_self = below.narrow(0, 0, plan.rows[l]);
    state.from_parents = below.index_select(0, parent_rows);
    at::Tensor messages = rows_of(messages_, plan.parents[l], dim_);
    at::Tensor output = rows_of(state.output, plan.rows[l], dim_);
    at::mm_out(messages, state.from_parents, neighbour(layer).t());
    at::mm_out(output, state.from_self, own(layer).t());
    add_bias_and_messages(output, bias(layer), messages, plan);
    if (layer < kSageLayers) {
      const DropoutMask mask(dropout, layer);
      keep_scale_ = mask.scale();
      activate(output, plan, mask);
    }
    below = output;
  }
  return below;
}

void SageStack::backward(const SagePlan& plan, const at::Tensor& dz) {
  const torch::NoGradGuard no_grad;
  at::Tensor gradient = dz;  // dL/da of the layer, [rows, dim]
  for (int layer = kSageLayers; layer >= 1; --layer) {
    const auto l = static_cast<std::size_t>(layer);
    Layer& state = at_layer(layer);
    const at::Tensor to_parents = rows_of(message_gradient_, plan.parents[l], dim_);
    sum_over_children(gradient, plan, to_parents, state.bias_gradient);
    at::mm_out(state.neighbour_gradient, to_parents.t(), state.from_parents);
    at::mm_out(state.own_gradient, gradient.t(), state.from_self);
    if (layer == 1) return;  // the inputs are not trained
    at::Tensor below = rows_of(output_gradient_[l - 1], plan.rows[l - 1], dim_);
    at::Tensor direct = below.narrow(0, 0, plan.rows[l]);
    at::mm_out(direct, gradient, own(layer));
    below.narrow(0, plan.rows[l], plan.rows[l - 1] - plan.rows[l]).zero_();
    at::Tensor through_parents = rows_of(parent_gradient_, plan.parents[l], dim_);
    at::mm_out(through_parents, to_parents, neighbour(layer));
    add_to_parents(below, through_parents, plan);
    mask_gradient(below, at_layer(layer - 1).output.narrow(0, 0, plan.rows[l - 1]),
                  static_cast<float>(keep_scale_));
    gradient = below;
  }
}

}  // namespace theriac::clinical
