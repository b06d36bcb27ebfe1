#include "cpp/engine/sequence/gru4rec.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpp/engine/nn/dense_kernels.h"
#include "cpp/engine/nn/gru.h"
#include "cpp/engine/sequence/frozen_linear.h"

namespace theriac::sequence {
namespace {

// Glorot and Bengio, AISTATS 2010: of a matrix [rows, columns].
double fan(const at::Tensor& matrix) {
  return static_cast<double>(matrix.size(0) + matrix.size(1));
}

}  // namespace

Gru4recImpl::Gru4recImpl(const Gru4recShape& shape, std::uint64_t seed) : shape_(shape) {
  struct Part : torch::nn::Module {};
  const auto items = register_module("item_embedding", std::make_shared<Part>());
  items_ = items->register_parameter("weight", at::empty({shape.rows, shape.embedding}));
  const auto layer = register_module("gru_layers", std::make_shared<Part>());
  weight_ih =
      layer->register_parameter("weight_ih_l0", at::empty({3 * shape.hidden, shape.embedding}));
  weight_hh =
      layer->register_parameter("weight_hh_l0", at::empty({3 * shape.hidden, shape.hidden}));
  dense =
      register_module("dense", nn::Linear(shape.hidden, shape.embedding, seed, "gru4rec.dense"));
  tensor::fill_normal(items_, 0, std::sqrt(2 / fan(items_)), seed, "gru4rec.item_embedding");
  for (const auto& [weight, name] : {std::pair{weight_ih, "ih"}, std::pair{weight_hh, "hh"}}) {
    const double bound = std::sqrt(6 / fan(weight));
    tensor::fill_uniform(weight, -bound, bound, seed, std::string("gru4rec.weight_") + name);
  }
}

at::Tensor Gru4recImpl::forward(const TokenBatch& batch,
                                const std::optional<at::Generator>& generator) const {
  const std::int64_t rows = batch.sequences(), slots = batch.slots;
  std::vector<std::int64_t> place;  // of each token among rows * slots steps
  for (std::size_t s = 0; s + 1 < batch.starts.size(); ++s) {
    for (std::int64_t i = batch.starts[s]; i < batch.starts[s + 1]; ++i)
      place.push_back(static_cast<std::int64_t>(s + 1) * slots - batch.starts[s + 1] + i);
  }
  const at::Tensor places = at::tensor(place, at::kLong).to(batch.ids.device());
  const at::Tensor ids = batch.ids.new_zeros({rows * slots}).index_copy_(0, places, batch.ids);
  const at::Tensor x = tensor::dropout(at::embedding(items_, ids), shape_.dropout, generator);
  const at::Tensor none = x.new_zeros({3 * shape_.hidden});
  const nn::StepLayout layout(at::full({rows}, slots, batch.ids.options()), slots);
  const at::Tensor states = nn::gru({weight_ih, weight_hh, none, none}, x, layout);
  return dense->forward(states.index_select(0, places));
}

namespace {

class Gru4recScratch final : public EncoderScratch {
 public:
  std::vector<float> x, input_gates, hidden_gates, states;
  std::vector<std::size_t> order;
};

class FrozenGru4rec final : public HistoryEncoder {
 public:
  explicit FrozenGru4rec(const Gru4recImpl& model)
      : dim_(static_cast<std::size_t>(model.shape().embedding)),
        hidden_(static_cast<std::size_t>(model.shape().hidden)),
        slots_(static_cast<std::size_t>(model.shape().max_length)),
        items_(values(model.item_vectors())),
        input_(values(model.weight_ih), {}, dim_),
        state_(values(model.weight_hh), {}, hidden_),
        dense_(*model.dense) {
    pad_states();
  }

  std::size_t dim() const override { return dim_; }
  std::size_t max_length() const override { return slots_; }
  bool takes_noise() const override { return false; }
  std::unique_ptr<EncoderScratch> scratch() const override {
    return std::make_unique<Gru4recScratch>();
  }

  void encode(const HistoryBatch& batch, EncoderScratch& scratch, float* vectors) const override {
    constexpr std::size_t kSequencesAtOnce = 96;
    auto& own = static_cast<Gru4recScratch&>(scratch);
    for (std::size_t first = 0; first < batch.size(); first += kSequencesAtOnce) {
      const std::size_t last = std::min(first + kSequencesAtOnce, batch.size());
      encode_some(batch, first, last, own, vectors + first * dim_);
    }
  }

 private:
  // prefix_[p]: the state after p paddings. They are real inputs to this network, and the state still
  // moves at the last of them.
  void pad_states() {
    prefix_.assign((slots_ + 1) * hidden_, 0.0F);
    std::vector<float> gates(3 * hidden_), own(3 * hidden_);
    input_.apply(items_.data(), dim_, 1, gates.data());
    for (std::size_t p = 1; p <= slots_; ++p) {
      float* state = prefix_.data() + p * hidden_;
      std::copy_n(state - hidden_, hidden_, state);
      state_.apply(state, hidden_, 1, own.data());
      nn::gru_update(gates.data(), own.data(), hidden_, {state, hidden_});
    }
  }

  static augment::Mark mark(const HistoryBatch& batch, std::size_t token) {
    return batch.marks.empty() ? augment::Mark::kNone
                               : static_cast<augment::Mark>(batch.marks[token]);
  }

  void embed(const HistoryBatch& batch, std::size_t s, std::size_t i, float* x) const {
    const std::size_t token = batch.offsets[s] + i;
    if (mark(batch, token) == augment::Mark::kZero) {
      std::fill_n(x, dim_, 0.0F);
    } else {
      std::copy_n(items_.data() + static_cast<std::size_t>(batch.ids[token]) * dim_, dim_, x);
    }
    if (!batch.noise.empty()) batch.noise[s].add_to({x, dim_}, slots_ - batch.length(s) + i);
  }

  // Step by step, the longest sequences first: step i is that of the sequences with more than i items.
  void encode_some(const HistoryBatch& batch, std::size_t first, std::size_t last,
                   Gru4recScratch& own, float* vectors) const {
    const std::size_t rows = last - first;
    own.order.resize(rows);
    std::iota(own.order.begin(), own.order.end(), first);
    std::sort(own.order.begin(), own.order.end(), [&](std::size_t a, std::size_t b) {
      return batch.length(a) != batch.length(b) ? batch.length(a) > batch.length(b) : a < b;
    });
    float* states = room(own.states, rows * hidden_);
    for (std::size_t r = 0; r < rows; ++r) {
      std::copy_n(prefix_.data() + (slots_ - batch.length(own.order[r])) * hidden_, hidden_,
                  states + r * hidden_);
    }
    float* x = room(own.x, rows * std::max(dim_, hidden_));
    float* gates = room(own.input_gates, rows * 3 * hidden_);
    float* from_state = room(own.hidden_gates, rows * 3 * hidden_);
    for (std::size_t i = 0; i < batch.length(own.order[0]); ++i) {
      std::size_t active = 0;
      while (active < rows && batch.length(own.order[active]) > i) ++active;
      for (std::size_t r = 0; r < active; ++r) embed(batch, own.order[r], i, x + r * dim_);
      input_.apply(x, dim_, active, gates);
      state_.apply(states, hidden_, active, from_state);
      for (std::size_t r = 0; r < active; ++r) {
        const bool skipped =
            mark(batch, batch.offsets[own.order[r]] + i) == augment::Mark::kBlocked;
        if (skipped) continue;  // the state is carried over
        nn::gru_update(gates + r * 3 * hidden_, from_state + r * 3 * hidden_, hidden_,
                       {states + r * hidden_, hidden_});
      }
    }
    dense_.apply(states, hidden_, rows, x);
    for (std::size_t r = 0; r < rows; ++r)
      std::copy_n(x + r * dim_, dim_, vectors + (own.order[r] - first) * dim_);
  }

  std::size_t dim_, hidden_, slots_;
  std::vector<float> items_;    // [rows, dim]
  FrozenLinear input_, state_;  // to the three gates
  FrozenLinear dense_;
  std::vector<float> prefix_;  // [slots + 1, hidden]
};

}  // namespace

std::shared_ptr<const HistoryEncoder> freeze(const Gru4recImpl& model) {
  return std::make_shared<FrozenGru4rec>(model);
}

}  // namespace theriac::sequence
