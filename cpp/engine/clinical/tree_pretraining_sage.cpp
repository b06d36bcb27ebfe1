#include "cpp/engine/clinical/tree_pretraining_sage.h"

#include <algorithm>
#include <cmath>

#include "cpp/engine/nn/dense_kernels.h"

namespace theriac::clinical {
namespace {

constexpr int kParts = 3;          // W, U, b
constexpr int kBlockBits = 128;    // of one Philox block
constexpr double kUnit = 65536.0;  // resolution of dropout probabilities

// Memory for at least `rows` rows; its values are lost when it grows.
void reserve_rows(at::Tensor& memory, std::int64_t rows, std::int64_t dim) {
  if (!memory.defined() || memory.size(0) < rows) memory = at::empty({rows, dim}, at::kFloat);
}

float* values_of(const at::Tensor& matrix) { return matrix.data_ptr<float>(); }

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

// A member's least share: of rows, the kernel's tile; of columns, its panel.
constexpr std::int64_t kRowGrain = 6;
constexpr std::int64_t kColumnGrain = 16;
constexpr std::int64_t kUpdateGrain = 64;  // of parameters
// Rows that are finished while they are still in the first-level cache.
constexpr std::int64_t kStretch = 48;

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

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
    plan_.parent_node.push_back(above);
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
  plan_.parent_node.clear();
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
  plan_.place_of.clear();
  for (const std::int64_t node : plan_.nodes)
    plan_.place_of.push_back(place_[static_cast<std::size_t>(node)]);
  return plan_;
}

SageStack::SageStack(std::int64_t dim, std::uint64_t seed, int threads)
    : dim_(dim),
      team_(static_cast<int>(
          std::clamp<std::int64_t>(threads, 1, (dim + kColumnGrain - 1) / kColumnGrain))),
      parameters_(at::empty({kSageLayers * (2 * dim * dim + dim)}, at::kFloat)),
      gradient_(at::zeros_like(parameters_)),
      mean_(at::zeros_like(parameters_)),
      square_(at::zeros_like(parameters_)),
      scratch_(static_cast<std::size_t>(team_.members())) {
  const double bound = 1 / std::sqrt(static_cast<double>(dim));
  tensor::fill_uniform(parameters_, -bound, bound, seed, "tree.weights");
  for (int layer = 1; layer <= kSageLayers; ++layer) {
    at_layer(layer).neighbour_gradient = values_of(section(gradient_, layer, 0));
    at_layer(layer).own_gradient = values_of(section(gradient_, layer, 1));
    at_layer(layer).bias_gradient = values_of(section(gradient_, layer, 2));
    pack(layer, true, layer % team_.members());
  }
  // Members may not fail, so their memory is there before they start.
  const at::Tensor widest = at::zeros({nn::kLongProductStretch, dim}, at::kFloat);
  for (nn::PackedFactor& scratch : scratch_) {
    scratch.pack({values_of(widest), size(dim), 1}, size(nn::kLongProductStretch), size(dim));
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

// What all members see of one call.
struct SageStack::Shared {
  const SagePlan& plan;
  SageDropout dropout;
};

void SageStack::pack(int layer, bool transposed, int member) {
  if (layer % team_.members() != member) return;
  const auto packed = [&](nn::PackedFactor& factor, const at::Tensor& weight) {
    const nn::MatrixView view{values_of(weight), size(dim_), 1};
    factor.pack(transposed ? view.transposed() : view, size(dim_), size(dim_));
  };
  packed(at_layer(layer).neighbour, neighbour(layer));
  packed(at_layer(layer).own, own(layer));
}

nn::MatrixView SageStack::below(const Shared& shared, int layer) {
  if (layer == 1) return {values_of(input_), size(dim_), 1, shared.plan.nodes.data()};
  return {values_of(at_layer(layer - 1).output), size(dim_), 1};
}

nn::MatrixView SageStack::below_parents(const Shared& shared, int layer) {
  const auto& rows = layer == 1 ? shared.plan.parent_node : shared.plan.parent_row;
  return {layer == 1 ? values_of(input_) : values_of(at_layer(layer - 1).output), size(dim_), 1,
          rows.data()};
}

// a = W h_parent + b + U h, then ReLU and dropout below the last layer.
void SageStack::forward_layer(const Shared& shared, int layer, int member) {
  const SagePlan& plan = shared.plan;
  const auto l = static_cast<std::size_t>(layer);
  const Layer& state = at_layer(layer);
  float* message = values_of(messages_);
  const auto [first_parent, last_parent] = team_.share(member, plan.parents[l], kRowGrain);
  nn::product(below_parents(shared, layer).from_row(size(first_parent)),
              size(last_parent - first_parent), state.neighbour, message + first_parent * dim_,
              size(dim_));
  team_.barrier();

  const DropoutMask mask(shared.dropout, layer);
  const float* b = values_of(bias(layer));
  const nn::MatrixView h = below(shared, layer);
  const auto [first, last] = team_.share(member, plan.rows[l], kRowGrain);
  for (std::int64_t begin = first; begin < last; begin += kStretch) {
    const std::int64_t end = std::min(begin + kStretch, last);
    float* a = values_of(state.output) + begin * dim_;
    nn::product(h.from_row(size(begin)), size(end - begin), state.own, a, size(dim_));
    for (std::int64_t row = begin; row < end; ++row, a += dim_) {
      nn::add({a, size(dim_)}, b);
      const std::int32_t parent = plan.parent_of[size(row)];
      if (parent >= 0) nn::add({a, size(dim_)}, message + parent * dim_);
      if (layer < kSageLayers) mask.apply(plan.nodes[size(row)], a, dim_);
    }
  }
  team_.barrier();
}

at::Tensor SageStack::forward(const at::Tensor& input, const SagePlan& plan,
                              const SageDropout& dropout) {
  const torch::NoGradGuard no_grad;
  reserve_rows(messages_, plan.parents[1], dim_);
  for (int layer = 1; layer <= kSageLayers; ++layer) {
    reserve_rows(at_layer(layer).output, plan.rows[static_cast<std::size_t>(layer)], dim_);
  }
  keep_scale_ = DropoutMask(dropout, 1).scale();
  input_ = input;
  const Shared shared{plan, dropout};
  team_.run([&](int member) {
    for (int layer = 1; layer <= kSageLayers; ++layer) pack(layer, true, member);
    team_.barrier();
    for (int layer = 1; layer <= kSageLayers; ++layer) forward_layer(shared, layer, member);
  });
  return at_layer(kSageLayers).output.narrow(0, 0, plan.rows[kSageLayers]);
}

// Sums of the children's gradients for each distinct parent, and over all rows for the bias.
// Members share the columns, so that a sum is made by one of them in the order of the rows.
void SageStack::sum_over_children(const Shared& shared, int layer, int member) {
  const SagePlan& plan = shared.plan;
  const auto l = static_cast<std::size_t>(layer);
  const auto [first, last] = team_.share(member, dim_, kColumnGrain);
  const std::int64_t columns = last - first;
  float* sums = values_of(to_parents_) + first;
  for (std::int64_t place = 0; place < plan.parents[l]; ++place)
    std::fill_n(sums + place * dim_, columns, 0.0F);
  float* bias_sum = at_layer(layer).bias_gradient + first;
  std::fill_n(bias_sum, columns, 0.0F);
  const float* g = values_of(at_layer(layer).d_output) + first;
  for (std::int64_t row = 0; row < plan.rows[l]; ++row, g += dim_) {
    nn::add({bias_sum, size(columns)}, g);
    const std::int32_t parent = plan.parent_of[size(row)];
    if (parent >= 0) nn::add({sums + parent * dim_, size(columns)}, g);
  }
}

// dW = (sums over children)^T h_parents, dU = (dL/da)^T h. Members share the columns.
void SageStack::weight_gradients(const Shared& shared, int layer, int member) {
  const auto l = static_cast<std::size_t>(layer);
  const auto [first, last] = team_.share(member, dim_, kColumnGrain);
  const auto gradient_of = [&, first = first, last = last](const at::Tensor& gradient,
                                                           const nn::MatrixView& h,
                                                           std::int64_t inner, float* out) {
    const nn::MatrixView left{values_of(gradient), size(dim_), 1};
    nn::long_product(left.transposed(), size(dim_), h.from_column(size(first)), size(inner),
                     size(last - first), out + first, size(dim_),
                     scratch_[static_cast<std::size_t>(member)]);
  };
  const Layer& state = at_layer(layer);
  gradient_of(to_parents_, below_parents(shared, layer), shared.plan.parents[l],
              state.neighbour_gradient);
  gradient_of(state.d_output, below(shared, layer), shared.plan.rows[l], state.own_gradient);
}

// W^T of the sums over children. Members share the parents.
void SageStack::gradients_of_parents(const Shared& shared, int layer, int member) {
  const auto [first, last] =
      team_.share(member, shared.plan.parents[static_cast<std::size_t>(layer)], kRowGrain);
  nn::product({values_of(to_parents_) + first * dim_, size(dim_), 1}, size(last - first),
              at_layer(layer).neighbour, values_of(through_parents_) + first * dim_, size(dim_));
}

// dL/da of the layer below: U^T dL/da where the row itself is wanted, what comes through its
// children, and ReLU and dropout, which pass exactly where h is positive. Members share the rows.
void SageStack::gradients_below(const Shared& shared, int layer, int member) {
  const SagePlan& plan = shared.plan;
  const auto l = static_cast<std::size_t>(layer);
  const auto scale = static_cast<float>(keep_scale_);
  const Layer& state = at_layer(layer);
  const Layer& under = at_layer(layer - 1);
  const auto [first, last] = team_.share(member, plan.rows[l - 1], kRowGrain);
  for (std::int64_t begin = first; begin < last; begin += kStretch) {
    const std::int64_t end = std::min(begin + kStretch, last);
    const std::int64_t own = std::clamp(plan.rows[l] - begin, std::int64_t{0}, end - begin);
    float* g = values_of(under.d_output) + begin * dim_;
    nn::product({values_of(state.d_output) + begin * dim_, size(dim_), 1}, size(own), state.own, g,
                size(dim_));
    std::fill_n(g + own * dim_, (end - begin - own) * dim_, 0.0F);
    for (std::int64_t row = begin; row < end; ++row, g += dim_) {
      const std::int32_t place = plan.place_of[size(row)];
      if (place >= 0 && place < plan.parents[l])
        nn::add({g, size(dim_)}, values_of(through_parents_) + place * dim_);
      nn::relu_backward({g, size(dim_)}, values_of(under.output) + row * dim_, scale);
    }
  }
}

void SageStack::backward_layer(const Shared& shared, int layer, int member) {
  sum_over_children(shared, layer, member);
  team_.barrier();
  weight_gradients(shared, layer, member);
  if (layer == 1) return;  // the inputs are not trained
  gradients_of_parents(shared, layer, member);
  team_.barrier();
  gradients_below(shared, layer, member);
  team_.barrier();
}

void SageStack::backward(const SagePlan& plan, const at::Tensor& dz) {
  const torch::NoGradGuard no_grad;
  at_layer(kSageLayers).d_output = dz;
  for (int layer = 1; layer < kSageLayers; ++layer) {
    reserve_rows(at_layer(layer).d_output, plan.rows[static_cast<std::size_t>(layer)], dim_);
  }
  reserve_rows(to_parents_, plan.parents[1], dim_);
  reserve_rows(through_parents_, plan.parents[1], dim_);
  const Shared shared{plan, {}};
  team_.run([&](int member) {
    for (int layer = 2; layer <= kSageLayers; ++layer) pack(layer, false, member);
    // The first barrier of the last layer stands between packing and use.
    for (int layer = kSageLayers; layer >= 1; --layer) backward_layer(shared, layer, member);
  });
}

void SageStack::update(double rate) {
  ++updates_;
  team_.run([&](int member) {
    const auto [first, last] = team_.share(member, parameters_.numel(), kUpdateGrain);
    nn::adam_update(values_of(gradient_) + first, rate, updates_, size(last - first),
                    values_of(mean_) + first, values_of(square_) + first,
                    values_of(parameters_) + first);
  });
}

}  // namespace theriac::clinical
