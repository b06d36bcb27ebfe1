#include "cpp/engine/sequence/gru4rec.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpp/engine/nn/dense_kernels.h"
#include "cpp/engine/nn/gru.h"
#include "cpp/engine/sequence/frozen_linear.h"
#include "cpp/engine/sequence/prefix_rows.h"

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

// Of the gates that every item's vector alone gives, [rows, 3 hidden]: kept where they take no more.
constexpr std::size_t kMostGateBytes = std::size_t{64} << 20U;
// So many that a step has rows enough for its products, and the states stay in cache.
constexpr std::size_t kTokensAtOnce = 1024;

class Gru4recScratch final : public EncoderScratch {
 public:
  PrefixRows rows;
  std::vector<std::uint32_t> order, place;  // rows by position, and where each one went
  std::vector<std::uint32_t> starts;        // [slots + 1] where the next row of a position goes
  std::vector<float> x, input_gates, hidden_gates, states, last;
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
    const std::size_t rows = items_.size() / dim_;
    if (rows <= kMostGateBytes / sizeof(float) / (3 * hidden_)) {
      gates_.resize(rows * 3 * hidden_);
      input_.apply(items_.data(), dim_, rows, gates_.data());
      zero_gates_.assign(3 * hidden_, 0.0F);
    }
    pad_states();
  }

  std::size_t dim() const override { return dim_; }
  std::size_t max_length() const override { return slots_; }
  bool takes_noise() const override { return false; }
  std::unique_ptr<EncoderScratch> scratch() const override {
    return std::make_unique<Gru4recScratch>();
  }

  void encode(const HistoryBatch& batch, EncoderScratch& scratch, float* vectors) const override {
    auto& own = static_cast<Gru4recScratch&>(scratch);
    for (std::size_t first = 0; first < batch.size();) {
      std::size_t last = first + 1;
      while (last < batch.size() && batch.offsets[last + 1] - batch.offsets[first] <= kTokensAtOnce)
        ++last;
      encode_some(batch, first, last, own, vectors + first * dim_);
      first = last;
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

  bool zero(const HistoryBatch& batch, std::size_t token) const {
    return mark(batch, token) == augment::Mark::kZero;
  }

  // What the items of rows alone add to the gates, [rows, 3 hidden], where it is not kept.
  void input_gates(const HistoryBatch& batch, std::span<const std::uint32_t> rows,
                   Gru4recScratch& own, float* gates) const {
    float* x = room(own.x, rows.size() * dim_);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const std::size_t token = token_of(batch, own.rows.rows()[rows[r]]);
      if (zero(batch, token)) {
        std::fill_n(x + r * dim_, dim_, 0.0F);
      } else {
        std::copy_n(items_.data() + static_cast<std::size_t>(batch.ids[token]) * dim_, dim_,
                    x + r * dim_);
      }
    }
    input_.apply(x, dim_, rows.size(), gates);
  }

  const float* kept_gates(const HistoryBatch& batch, std::size_t token) const {
    if (zero(batch, token)) return zero_gates_.data();
    return gates_.data() + static_cast<std::size_t>(batch.ids[token]) * 3 * hidden_;
  }

  static std::size_t token_of(const HistoryBatch& batch, PrefixRows::Row row) {
    return batch.offsets[row.sequence] + row.position;
  }

  // Rows by their position, so that those of one position are computed together.
  void sort_rows(Gru4recScratch& own) const {
    const std::span<const PrefixRows::Row> rows = own.rows.rows();
    own.starts.assign(slots_ + 1, 0);
    for (const PrefixRows::Row& row : rows) ++own.starts[row.position + 1];
    std::partial_sum(own.starts.begin(), own.starts.end(), own.starts.begin());
    own.order.resize(rows.size());
    own.place.resize(rows.size());
    for (std::uint32_t r = 0; r < rows.size(); ++r) {
      own.place[r] = own.starts[rows[r].position]++;
      own.order[own.place[r]] = r;
    }
  }

  // The state that a row starts from.
  const float* before(const HistoryBatch& batch, PrefixRows::Row row, const Gru4recScratch& own,
                      const float* states) const {
    if (row.position == 0) return prefix_.data() + (slots_ - batch.length(row.sequence)) * hidden_;
    return states + own.place[own.rows.of(row.sequence)[row.position - 1]] * hidden_;
  }

  void encode_some(const HistoryBatch& batch, std::size_t first, std::size_t last,
                   Gru4recScratch& own, float* vectors) const {
    own.rows.build(batch, first, last, slots_);
    sort_rows(own);
    const std::span<const PrefixRows::Row> rows = own.rows.rows();
    float* states = room(own.states, rows.size() * hidden_);
    for (std::size_t begin = 0, end = 0; begin < rows.size(); begin = end) {
      const std::size_t position = rows[own.order[begin]].position;
      while (end < rows.size() && rows[own.order[end]].position == position) ++end;
      const std::span<const std::uint32_t> some(own.order.data() + begin, end - begin);
      step(batch, some, own, states, states + begin * hidden_);
    }
    float* of_sequences = room(own.last, (last - first) * hidden_);
    for (std::size_t s = first; s < last; ++s) {
      const std::uint32_t row = own.rows.of(s)[batch.length(s) - 1];
      std::copy_n(states + own.place[row] * hidden_, hidden_, of_sequences + (s - first) * hidden_);
    }
    dense_.apply(of_sequences, hidden_, last - first, vectors);
  }

  // Rows of one position; states: of all rows so far; out: of these.
  void step(const HistoryBatch& batch, std::span<const std::uint32_t> rows, Gru4recScratch& own,
            const float* states, float* out) const {
    const std::size_t width = 3 * hidden_;
    float* computed = nullptr;
    if (gates_.empty()) {
      computed = room(own.input_gates, rows.size() * width);
      input_gates(batch, rows, own, computed);
    }
    for (std::size_t r = 0; r < rows.size(); ++r)
      std::copy_n(before(batch, own.rows.rows()[rows[r]], own, states), hidden_, out + r * hidden_);
    float* from_state = room(own.hidden_gates, rows.size() * width);
    state_.apply(out, hidden_, rows.size(), from_state);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const std::size_t token = token_of(batch, own.rows.rows()[rows[r]]);
      if (mark(batch, token) == augment::Mark::kBlocked) continue;  // the state is carried over
      const float* gates = computed == nullptr ? kept_gates(batch, token) : computed + r * width;
      nn::gru_update(gates, from_state + r * width, hidden_, {out + r * hidden_, hidden_});
    }
  }

  std::size_t dim_, hidden_, slots_;
  std::vector<float> items_;    // [rows, dim]
  FrozenLinear input_, state_;  // to the three gates
  FrozenLinear dense_;
  std::vector<float> gates_;       // [rows, 3 hidden] of every item alone, or empty
  std::vector<float> zero_gates_;  // [3 hidden] of a vector of zeros
  std::vector<float> prefix_;      // [slots + 1, hidden]
};

}  // namespace

std::shared_ptr<const HistoryEncoder> freeze(const Gru4recImpl& model) {
  return std::make_shared<FrozenGru4rec>(model);
}

}  // namespace theriac::sequence
