#include "cpp/engine/sequence/sasrec.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "cpp/engine/nn/dense_kernels.h"
#include "cpp/engine/nn/transformer_kernels.h"
#include "cpp/engine/sequence/frozen_linear.h"
#include "cpp/engine/sequence/prefix_rows.h"

namespace theriac::sequence {
namespace {

constexpr double kEpsilon = 1e-12;  // of layer normalisation
constexpr double kInitial = 0.02;   // standard deviation of every initial weight

// N(0, .02^2) for weights, 0 for biases, as the reference starts; also the padding row of the item
// table, which no gradient reaches afterwards.
nn::Linear linear(std::int64_t in, std::int64_t out, std::uint64_t seed, const std::string& name) {
  nn::Linear made(in, out, seed, name);
  tensor::fill_normal(made->weight, 0, kInitial, seed, name + ".weight");
  const torch::NoGradGuard no_grad;
  made->bias.zero_();
  return made;
}

}  // namespace

NormImpl::NormImpl(std::int64_t width) {
  weight = register_parameter("weight", at::ones({width}));
  bias = register_parameter("bias", at::zeros({width}));
}
at::Tensor NormImpl::forward(const at::Tensor& x) const {
  return at::layer_norm(x, {weight.size(0)}, weight, bias, kEpsilon);
}

TableImpl::TableImpl(std::int64_t rows, std::int64_t width) {
  weight = register_parameter("weight", at::zeros({rows, width}));
}

SasrecAttentionImpl::SasrecAttentionImpl(const SasrecShape& shape, std::uint64_t seed,
                                         const std::string& name) {
  const auto part = [&](const char* own) {
    return register_module(own, linear(shape.hidden, shape.hidden, seed, name + "." + own));
  };
  query = part("query");
  key = part("key");
  value = part("value");
  dense = part("dense");
  norm = register_module("LayerNorm", Norm(shape.hidden));
}

SasrecFeedForwardImpl::SasrecFeedForwardImpl(const SasrecShape& shape, std::uint64_t seed,
                                             const std::string& name) {
  dense_1 = register_module("dense_1", linear(shape.hidden, shape.inner, seed, name + ".dense_1"));
  dense_2 = register_module("dense_2", linear(shape.inner, shape.hidden, seed, name + ".dense_2"));
  norm = register_module("LayerNorm", Norm(shape.hidden));
}

SasrecLayerImpl::SasrecLayerImpl(const SasrecShape& shape, std::uint64_t seed,
                                 const std::string& name) {
  attention = register_module("attention", SasrecAttention(shape, seed, name + ".attention"));
  intermediate =
      register_module("intermediate", SasrecFeedForward(shape, seed, name + ".intermediate"));
}

SasrecImpl::SasrecImpl(const SasrecShape& shape, std::uint64_t seed) : shape_(shape) {
  item_embeddings_ = register_module("item_embeddings", Table(shape.rows, shape.hidden));
  position_embeddings_ =
      register_module("position_embeddings", Table(shape.max_length, shape.hidden));
  tensor::fill_normal(item_embeddings_->weight, 0, kInitial, seed, "sasrec.item_embeddings");
  tensor::fill_normal(position_embeddings_->weight, 0, kInitial, seed,
                      "sasrec.position_embeddings");
  norm_ = register_module("LayerNorm", Norm(shape.hidden));
  layers_ = torch::nn::ModuleList();
  for (std::int64_t i = 0; i < shape.layers; ++i)
    layers_->push_back(SasrecLayer(shape, seed, "sasrec.layer." + std::to_string(i)));
  struct Encoder : torch::nn::Module {};
  const auto encoder = register_module("item_encoder", std::make_shared<Encoder>());
  encoder->register_module("layer", layers_);
}

at::Tensor SasrecImpl::attend(const SasrecAttentionImpl& attention, const at::Tensor& x,
                              const TokenBatch& batch,
                              const std::optional<at::Generator>& generator) const {
  const at::Tensor context = causal_self_attention(
      attention.query->forward(x), attention.key->forward(x), attention.value->forward(x), batch,
      shape_.heads, shape_.attention_dropout, generator);
  const at::Tensor out =
      tensor::dropout(attention.dense->forward(context), shape_.dropout, generator);
  return attention.norm->forward(out + x);
}

at::Tensor SasrecImpl::forward(const TokenBatch& batch,
                               const std::optional<at::Generator>& generator) const {
  at::Tensor x = at::embedding(item_embeddings_->weight, batch.ids) +
                 at::embedding(position_embeddings_->weight, batch.slot);
  x = tensor::dropout(norm_->forward(x), shape_.dropout, generator);  // [tokens, hidden]
  for (const auto& module : *layers_) {
    const auto& layer = *module->as<SasrecLayerImpl>();
    const at::Tensor h = attend(*layer.attention, x, batch, generator);
    const SasrecFeedForwardImpl& own = *layer.intermediate;
    const at::Tensor f = own.dense_2->forward(at::gelu(own.dense_1->forward(h)));
    x = own.norm->forward(tensor::dropout(f, shape_.dropout, generator) + h);
  }
  return x;
}

namespace {

struct FrozenNorm {
  std::vector<float> weight, bias;
  FrozenNorm() = default;
  explicit FrozenNorm(const NormImpl& norm)
      : weight(values(norm.weight)), bias(values(norm.bias)) {}
  void apply(float* x, const float* residual, std::size_t rows) const {
    nn::layer_norm(x, residual, rows, weight.size(), weight.data(), bias.data(),
                   static_cast<float>(kEpsilon));
  }
};

struct FrozenLayer {
  FrozenLinear query_key_value, dense, dense_1, dense_2;
  FrozenNorm attention_norm, norm;
  explicit FrozenLayer(const SasrecLayerImpl& layer)
      : dense(*layer.attention->dense),
        dense_1(*layer.intermediate->dense_1),
        dense_2(*layer.intermediate->dense_2),
        attention_norm(*layer.attention->norm),
        norm(*layer.intermediate->norm) {
    const SasrecAttentionImpl& a = *layer.attention;
    query_key_value = FrozenLinear({a.query.get(), a.key.get(), a.value.get()});
  }
};

// Attention of one query a sequence, without keys and values of every token: with k_j = K x_j and
// v_j = V x_j, scores are q k_j = (K^T q) x_j and the sum of w_j v_j is V (sum of w_j x_j), head by head;
// biases of keys add the same to every score of a query, which its softmax cancels, and those of values
// their whole selves, as weights sum to 1.
class FrozenReadOut {
 public:
  FrozenReadOut(const SasrecAttentionImpl& attention, std::size_t heads)
      : query_(*attention.query), hidden_(query_.out()), head_(hidden_ / heads) {
    const std::vector<float> key = values(attention.key->weight),
                             value = values(attention.value->weight);  // [heads head, hidden]
    value_bias_ = values(attention.value->bias);
    for (std::size_t h = 0; h < heads; ++h) {
      const std::size_t at = h * head_ * hidden_;
      key_.emplace_back().pack({key.data() + at, hidden_, 1}, head_, hidden_);
      value_.emplace_back().pack(nn::MatrixView{value.data() + at, hidden_, 1}.transposed(),
                                 hidden_, head_);
    }
  }

  std::size_t heads() const { return key_.size(); }
  std::size_t head() const { return head_; }
  // input: [rows, hidden]; q: scratch [rows, hidden]; of_keys: [rows, heads, hidden].
  void ask(const float* input, std::size_t rows, float* q, float* of_keys) const {
    query_.apply(input, hidden_, rows, q);
    for (std::size_t h = 0; h < heads(); ++h) {
      nn::product({q + h * head_, hidden_, 1}, rows, key_[h], of_keys + h * hidden_,
                  heads() * hidden_);
    }
  }
  // sums: [rows, heads, hidden]; context: [rows, heads head].
  void answer(const float* sums, std::size_t rows, float* context) const {
    for (std::size_t h = 0; h < heads(); ++h) {
      nn::product({sums + h * hidden_, heads() * hidden_, 1}, rows, value_[h],
                  value_bias_.data() + h * head_, context + h * head_, hidden_);
    }
  }

 private:
  FrozenLinear query_;
  std::size_t hidden_, head_;
  std::vector<nn::PackedFactor> key_, value_;  // [heads] of [head, hidden] and [hidden, head]
  std::vector<float> value_bias_;
};

// Sequences are computed some at a time, and the rows of a block's second half fewer at a time, so that
// what passes from one product to the next stays in the second-level cache.
constexpr std::size_t kTokensAtOnce = 384, kRowsAtOnce = 96;

class SasrecScratch final : public EncoderScratch {
 public:
  PrefixRows rows;
  std::vector<float> x, projected, context, inner, attended, query;
  std::vector<float> weights;
  std::vector<std::uint8_t> blocked;
};

class FrozenSasrec final : public HistoryEncoder {
 public:
  explicit FrozenSasrec(const SasrecImpl& model)
      : shape_(model.shape()),
        hidden_(static_cast<std::size_t>(model.shape().hidden)),
        items_(values(model.item_vectors())) {
    for (const auto& item : model.named_children()) {
      if (item.key() == "position_embeddings")
        positions_ = values(item.value()->as<TableImpl>()->weight);
      if (item.key() == "LayerNorm") norm_ = FrozenNorm(*item.value()->as<NormImpl>());
    }
    for (const auto& module : model.modules(/*include_self=*/false)) {
      const auto* layer = module->as<SasrecLayerImpl>();
      if (layer == nullptr) continue;
      layers_.emplace_back(*layer);
      read_out_.emplace(*layer->attention, static_cast<std::size_t>(shape_.heads));  // the last's
    }
  }

  std::size_t dim() const override { return hidden_; }
  std::size_t max_length() const override { return static_cast<std::size_t>(shape_.max_length); }
  bool takes_noise() const override { return true; }
  std::unique_ptr<EncoderScratch> scratch() const override {
    return std::make_unique<SasrecScratch>();
  }

  void encode(const HistoryBatch& batch, EncoderScratch& scratch, float* vectors) const override {
    auto& own = static_cast<SasrecScratch&>(scratch);
    for (std::size_t first = 0; first < batch.size();) {
      std::size_t last = first + 1;
      while (last < batch.size() && batch.offsets[last + 1] - batch.offsets[first] <= kTokensAtOnce)
        ++last;
      encode_some(batch, first, last, own, vectors + first * hidden_);
      first = last;
    }
  }

 private:
  void embed(const HistoryBatch& batch, std::size_t sequence, std::size_t token, std::size_t slot,
             float* x) const {
    const bool zero = !batch.marks.empty() &&
                      batch.marks[token] == static_cast<std::uint8_t>(augment::Mark::kZero);
    if (zero) {
      std::fill_n(x, hidden_, 0.0F);
    } else {
      std::copy_n(items_.data() + static_cast<std::size_t>(batch.ids[token]) * hidden_, hidden_, x);
    }
    if (!batch.noise.empty()) batch.noise[sequence].add_to({x, hidden_}, slot);
    nn::add({x, hidden_}, positions_.data() + slot * hidden_);
  }

  // Embeds the rows of some sequences, normalised, and returns how many there are.
  std::size_t embed_rows(const HistoryBatch& batch, std::size_t first, std::size_t last,
                         SasrecScratch& own) const {
    own.rows.build(batch, first, last, max_length());
    const std::span<const PrefixRows::Row> rows = own.rows.rows();
    float* x = room(own.x, rows.size() * hidden_);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const auto [s, i] = rows[r];
      embed(batch, s, batch.offsets[s] + i, max_length() - batch.length(s) + i, x + r * hidden_);
    }
    norm_.apply(x, nullptr, rows.size());
    return rows.size();
  }

  // The token a sequence is read at: its last one that is not blocked, or the last.
  static std::size_t read_out(const HistoryBatch& batch, std::size_t s) {
    const std::size_t n = batch.length(s);
    if (batch.marks.empty()) return n - 1;
    for (std::size_t i = n; i-- > 0;) {
      if (batch.marks[batch.offsets[s] + i] != static_cast<std::uint8_t>(augment::Mark::kBlocked))
        return i;
    }
    return n - 1;
  }

  // Whether key j counts: id 0 and blocked tokens do not. Null where all count.
  const std::uint8_t* blocked_keys(const HistoryBatch& batch, std::size_t s,
                                   std::vector<std::uint8_t>& scratch) const {
    const std::size_t n = batch.length(s), begin = batch.offsets[s];
    bool any = false;
    scratch.assign(n, 0);
    for (std::size_t i = 0; i < n; ++i) {
      const bool marked = !batch.marks.empty() && batch.marks[begin + i] != 0;
      if (batch.ids[begin + i] == 0 || marked) {
        scratch[i] = 1;
        any = true;
      }
    }
    return any ? scratch.data() : nullptr;
  }

  void encode_some(const HistoryBatch& batch, std::size_t first, std::size_t last,
                   SasrecScratch& own, float* vectors) const {
    const std::size_t rows = embed_rows(batch, first, last, own);
    for (std::size_t l = 0; l + 1 < layers_.size(); ++l)
      whole_layer(layers_[l], batch, first, last, rows, own);
    last_layer(layers_.back(), batch, first, last, own, vectors);
  }

  float attention_scale() const {
    return 1 / std::sqrt(static_cast<float>(shape_.hidden / shape_.heads));
  }

  void whole_layer(const FrozenLayer& layer, const HistoryBatch& batch, std::size_t first,
                   std::size_t last, std::size_t rows, SasrecScratch& own) const {
    float* qkv = room(own.projected, rows * 3 * hidden_);
    float* context = room(own.context, rows * hidden_);
    float* weights = room(own.weights, max_length() + nn::kAttentionSpare);
    const auto heads = static_cast<std::size_t>(shape_.heads);
    const nn::AttentionShape shape{heads,       hidden_ / heads, 3 * hidden_,
                                   3 * hidden_, hidden_,         attention_scale()};
    layer.query_key_value.apply(own.x.data(), hidden_, rows, qkv);
    for (std::size_t s = first; s < last; ++s) {
      const std::size_t from = own.rows.first_own(s), n = batch.length(s);
      if (from == n) continue;
      const std::size_t row = own.rows.of(s)[from];
      nn::causal_attention(shape, qkv + row * 3 * hidden_, qkv + hidden_, qkv + 2 * hidden_,
                           own.rows.of(s), blocked_keys(batch, s, own.blocked), n - from, from,
                           weights, context + row * hidden_);
    }
    finish(layer, context, own.x.data(), rows, own);
    own.x.swap(own.context);
  }

  // From the heads' outputs to the layer's, in place of `context`; x: the layer's input.
  void finish(const FrozenLayer& layer, float* context, const float* x, std::size_t rows,
              SasrecScratch& own) const {
    const std::size_t width = layer.dense_1.out();
    float* h = room(own.attended, kRowsAtOnce * hidden_);
    float* f = room(own.inner, kRowsAtOnce * width);
    for (std::size_t r = 0; r < rows; r += kRowsAtOnce) {
      const std::size_t some = std::min(kRowsAtOnce, rows - r);
      float* part = context + r * hidden_;
      layer.dense.apply(part, hidden_, some, h);
      layer.attention_norm.apply(h, x + r * hidden_, some);
      layer.dense_1.apply(h, hidden_, some, f);
      nn::gelu({f, some * width});
      layer.dense_2.apply(f, width, some, part);
      layer.norm.apply(part, h, some);
    }
  }

  // Of the one row that a sequence is read at.
  void last_layer(const FrozenLayer& layer, const HistoryBatch& batch, std::size_t first,
                  std::size_t last, SasrecScratch& own, float* vectors) const {
    const float* x = own.x.data();
    const FrozenReadOut& read = *read_out_;
    const std::size_t sequences = last - first, wide = read.heads() * hidden_;
    const nn::AttentionShape shape{
        read.heads(), hidden_, wide, hidden_, wide, attention_scale(), /*one_key_value=*/true};
    float* input = room(own.query, 2 * sequences * hidden_);
    float* q = input + sequences * hidden_;
    for (std::size_t s = first; s < last; ++s) {
      const std::size_t row = own.rows.of(s)[read_out(batch, s)];
      std::copy_n(x + row * hidden_, hidden_, input + (s - first) * hidden_);
    }
    float* of_keys = room(own.projected, 2 * sequences * wide);
    float* sums = of_keys + sequences * wide;
    read.ask(input, sequences, q, of_keys);
    float* weights = room(own.weights, max_length() + nn::kAttentionSpare);
    for (std::size_t s = first; s < last; ++s) {
      const std::size_t at = (s - first) * wide;
      nn::causal_attention(shape, of_keys + at, x, x, own.rows.of(s),
                           blocked_keys(batch, s, own.blocked), 1, read_out(batch, s), weights,
                           sums + at);
    }
    read.answer(sums, sequences, vectors);
    finish(layer, vectors, input, sequences, own);
  }

  SasrecShape shape_;
  std::size_t hidden_;
  std::vector<float> items_, positions_;
  FrozenNorm norm_;
  std::vector<FrozenLayer> layers_;
  std::optional<FrozenReadOut> read_out_;  // of the last layer
};

}  // namespace

std::shared_ptr<const HistoryEncoder> freeze(const SasrecImpl& model) {
  return std::make_shared<FrozenSasrec>(model);
}

}  // namespace theriac::sequence
