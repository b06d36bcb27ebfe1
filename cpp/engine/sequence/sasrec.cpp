#include "cpp/engine/sequence/sasrec.h"

#include <algorithm>
#include <cmath>

#include "cpp/engine/nn/dense_kernels.h"
#include "cpp/engine/nn/transformer_kernels.h"
#include "cpp/engine/sequence/frozen_linear.h"

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
  FrozenLinear query, key_value, query_key_value, dense, dense_1, dense_2;
  FrozenNorm attention_norm, norm;
  explicit FrozenLayer(const SasrecLayerImpl& layer)
      : query(*layer.attention->query),
        dense(*layer.attention->dense),
        dense_1(*layer.intermediate->dense_1),
        dense_2(*layer.intermediate->dense_2),
        attention_norm(*layer.attention->norm),
        norm(*layer.intermediate->norm) {
    const SasrecAttentionImpl& a = *layer.attention;
    key_value = FrozenLinear({a.key.get(), a.value.get()});
    query_key_value = FrozenLinear({a.query.get(), a.key.get(), a.value.get()});
  }
};

// Sequences are computed some at a time, so that their rows stay in the second-level cache.
constexpr std::size_t kTokensAtOnce = 384;

class SasrecScratch final : public EncoderScratch {
 public:
  std::vector<float> x, projected, context, inner, last, query;
  std::vector<float> key_value;                // of one sequence, token after token
  std::vector<std::uint32_t> row_of, buckets;  // [tokens]; a hash table of rows + 1
  std::vector<std::uint64_t> keys;             // of the rows: what stands before them, and their id
  std::vector<std::size_t> first_new;          // [sequences] the first token with a row of its own
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
      if (const auto* layer = module->as<SasrecLayerImpl>()) layers_.emplace_back(*layer);
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

  // Tokens that the same tokens in the same slots stand before have the same hidden states, as no token
  // reads a later one: they share a row. Copies of one history have many such beginnings in common. Embeds
  // each row once, in the order of first use, and returns how many there are.
  std::size_t embed_rows(const HistoryBatch& batch, std::size_t first, std::size_t last,
                         SasrecScratch& own) const {
    const bool shared = batch.marks.empty() && batch.noise.empty();
    const std::size_t begin = batch.offsets[first], tokens = batch.offsets[last] - begin;
    float* x = room(own.x, tokens * hidden_);
    own.row_of.resize(tokens);
    own.first_new.assign(last - first, 0);
    own.keys.clear();
    std::size_t buckets = 64;
    while (buckets < 2 * tokens) buckets *= 2;
    own.buckets.assign(buckets, 0);
    for (std::size_t s = first, t = 0; s < last; ++s) {
      const std::size_t n = batch.length(s);
      std::uint64_t before = n;  // a row before it, or the length of a sequence that begins
      bool old = shared;
      for (std::size_t i = 0; i < n; ++i, ++t) {
        const auto id = static_cast<std::uint32_t>(batch.ids[begin + t]);
        const std::uint64_t key = before << 32U | id;
        std::uint32_t* bucket = old ? find_row(key, own) : nullptr;
        if (bucket != nullptr && *bucket != 0) {
          own.row_of[t] = *bucket - 1;
        } else {
          if (old) own.first_new[s - first] = i;
          old = false;
          own.row_of[t] = static_cast<std::uint32_t>(own.keys.size());
          embed(batch, s, begin + t, max_length() - n + i, x + own.keys.size() * hidden_);
          own.keys.push_back(key);
          if (shared) *find_row(key, own) = static_cast<std::uint32_t>(own.keys.size());
        }
        before = max_length() + 1 + own.row_of[t];
      }
      if (old) own.first_new[s - first] = n;
    }
    norm_.apply(x, nullptr, own.keys.size());
    return own.keys.size();
  }

  // The bucket of a key: 0 in it where there is no such row yet.
  static std::uint32_t* find_row(std::uint64_t key, SasrecScratch& own) {
    const std::size_t mask = own.buckets.size() - 1;
    std::size_t b = (key * 0x9e3779b97f4a7c15U) >> 32U & mask;
    while (own.buckets[b] != 0 && own.keys[own.buckets[b] - 1] != key) b = (b + 1) & mask;
    return &own.buckets[b];
  }

  // Keys and values of one sequence's tokens beside each other; rows: [rows, stride], keys first.
  const float* keys_of(const HistoryBatch& batch, std::size_t first, std::size_t s,
                       const float* rows, std::size_t stride, SasrecScratch& own) const {
    float* out = room(own.key_value, max_length() * 2 * hidden_);
    const std::size_t at = batch.offsets[s] - batch.offsets[first];
    for (std::size_t i = 0; i < batch.length(s); ++i)
      std::copy_n(rows + own.row_of[at + i] * stride, 2 * hidden_, out + i * 2 * hidden_);
    return out;
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
    last_layer(layers_.back(), batch, first, last, rows, own, vectors);
  }

  nn::AttentionShape attention_shape(std::size_t query_stride) const {
    const auto heads = static_cast<std::size_t>(shape_.heads);
    const std::size_t head = hidden_ / heads;
    return {heads,       head,    query_stride,
            2 * hidden_, hidden_, 1 / std::sqrt(static_cast<float>(head))};
  }

  void whole_layer(const FrozenLayer& layer, const HistoryBatch& batch, std::size_t first,
                   std::size_t last, std::size_t rows, SasrecScratch& own) const {
    float* x = own.x.data();
    float* qkv = room(own.projected, rows * 3 * hidden_);
    float* context = room(own.context, rows * hidden_);
    float* weights = room(own.weights, max_length());
    layer.query_key_value.apply(x, hidden_, rows, qkv);
    for (std::size_t s = first; s < last; ++s) {
      const std::size_t from = own.first_new[s - first], n = batch.length(s);
      if (from == n) continue;
      const float* k = keys_of(batch, first, s, qkv + hidden_, 3 * hidden_, own);
      // A sequence's new rows stand beside each other.
      const std::size_t row = own.row_of[batch.offsets[s] - batch.offsets[first] + from];
      nn::causal_attention(attention_shape(3 * hidden_), qkv + row * 3 * hidden_, k, k + hidden_,
                           blocked_keys(batch, s, own.blocked), n - from, from, weights,
                           context + row * hidden_);
    }
    finish(layer, context, x, rows, own);
    std::copy_n(context, rows * hidden_, x);
  }

  // From the heads' outputs to the layer's, in place of `context`; x: the layer's input.
  void finish(const FrozenLayer& layer, float* context, const float* x, std::size_t rows,
              SasrecScratch& own) const {
    float* h = room(own.last, rows * hidden_);
    layer.dense.apply(context, hidden_, rows, h);
    layer.attention_norm.apply(h, x, rows);
    const std::size_t width = layer.dense_1.out();
    float* f = room(own.inner, rows * width);
    layer.dense_1.apply(h, hidden_, rows, f);
    nn::gelu({f, rows * width});
    layer.dense_2.apply(f, width, rows, context);
    layer.norm.apply(context, h, rows);
  }

  // Keys and values of all rows, everything else of the one that a sequence is read at.
  void last_layer(const FrozenLayer& layer, const HistoryBatch& batch, std::size_t first,
                  std::size_t last, std::size_t rows, SasrecScratch& own, float* vectors) const {
    const float* x = own.x.data();
    const std::size_t sequences = last - first;
    float* kv = room(own.projected, rows * 2 * hidden_);
    layer.key_value.apply(x, hidden_, rows, kv);
    float* input = room(own.query, 2 * sequences * hidden_);
    float* q = input + sequences * hidden_;
    for (std::size_t s = first; s < last; ++s) {
      const std::size_t token = batch.offsets[s] - batch.offsets[first] + read_out(batch, s);
      std::copy_n(x + own.row_of[token] * hidden_, hidden_, input + (s - first) * hidden_);
    }
    layer.query.apply(input, hidden_, sequences, q);
    float* weights = room(own.weights, max_length());
    for (std::size_t s = first; s < last; ++s) {
      const float* k = keys_of(batch, first, s, kv, 2 * hidden_, own);
      nn::causal_attention(attention_shape(hidden_), q + (s - first) * hidden_, k, k + hidden_,
                           blocked_keys(batch, s, own.blocked), 1, read_out(batch, s), weights,
                           vectors + (s - first) * hidden_);
    }
    finish(layer, vectors, input, sequences, own);
  }

  SasrecShape shape_;
  std::size_t hidden_;
  std::vector<float> items_, positions_;
  FrozenNorm norm_;
  std::vector<FrozenLayer> layers_;
};

}  // namespace

std::shared_ptr<const HistoryEncoder> freeze(const SasrecImpl& model) {
  return std::make_shared<FrozenSasrec>(model);
}

}  // namespace theriac::sequence
