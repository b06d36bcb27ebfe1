#include "cpp/engine/sequence/token_batch.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "cpp/engine/nn/dense_kernels.h"

namespace theriac::sequence {
namespace {

// Where each sequence's weights start in the ragged list of (query, key) pairs, one head.
std::vector<std::int64_t> pair_starts(const std::vector<std::int64_t>& starts) {
  std::vector<std::int64_t> pairs{0};
  for (std::size_t s = 0; s + 1 < starts.size(); ++s) {
    const std::int64_t n = starts[s + 1] - starts[s];
    pairs.push_back(pairs.back() + n * (n + 1) / 2);
  }
  return pairs;
}

struct Heads {
  std::size_t count, width;  // width of one
  std::size_t row() const { return count * width; }
  float scale() const { return 1 / std::sqrt(static_cast<float>(width)); }
};

// One head of one sequence. weights: [n (n + 1) / 2] softmax of the causal pairs, row after row; keep:
// the same, or null.
void attend(const float* q, const float* k, const float* v, std::int64_t n, const Heads& heads,
            const float* keep, float* weights, float* out) {
  const std::size_t stride = heads.row();
  for (std::int64_t i = 0; i < n; ++i) {
    const auto row = static_cast<std::size_t>(i);
    const std::span<const float> query(q + row * stride, heads.width);
    for (std::size_t j = 0; j <= row; ++j)
      weights[j] = nn::dot(query, k + j * stride) * heads.scale();
    nn::softmax({weights, row + 1});
    const std::span<float> to(out + row * stride, heads.width);
    std::fill(to.begin(), to.end(), 0.0F);
    for (std::size_t j = 0; j <= row; ++j)
      nn::add_scaled(to, keep == nullptr ? weights[j] : weights[j] * keep[j], v + j * stride);
    weights += row + 1;
    if (keep != nullptr) keep += row + 1;
  }
}

struct HeadGradients {
  float *q, *k, *v;
};

void attend_back(const float* q, const float* k, const float* v, const float* weights,
                 const float* keep, const float* out_gradient, std::int64_t n, const Heads& heads,
                 std::vector<float>& scratch, const HeadGradients& to) {
  const std::size_t stride = heads.row();
  scratch.resize(std::max(scratch.size(), static_cast<std::size_t>(n)));
  for (std::int64_t i = 0; i < n; ++i) {
    const auto row = static_cast<std::size_t>(i);
    const float* dy = out_gradient + row * stride;
    const std::span<const float> from(dy, heads.width);
    float inner = 0;  // sum over keys of weight times its gradient
    for (std::size_t j = 0; j <= row; ++j) {
      const float kept = keep == nullptr ? 1.0F : keep[j];
      nn::add_scaled({to.v + j * stride, heads.width}, weights[j] * kept, dy);
      scratch[j] = nn::dot(from, v + j * stride) * kept;
      inner += scratch[j] * weights[j];
    }
    for (std::size_t j = 0; j <= row; ++j) {
      const float gradient = weights[j] * (scratch[j] - inner) * heads.scale();
      nn::add_scaled({to.q + row * stride, heads.width}, gradient, k + j * stride);
      nn::add_scaled({to.k + j * stride, heads.width}, gradient, q + row * stride);
    }
    weights += row + 1;
    if (keep != nullptr) keep += row + 1;
  }
}

// Weights and masks of head h of sequence s start at heads * pairs[s] + h * (pairs of the sequence).
class RaggedAttention : public torch::autograd::Function<RaggedAttention> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q,
                            const at::Tensor& k, const at::Tensor& v, const at::Tensor& keep,
                            const std::vector<std::int64_t>& starts, std::int64_t heads) {
    const Heads shape{static_cast<std::size_t>(heads), static_cast<std::size_t>(q.size(1) / heads)};
    const std::vector<std::int64_t> pairs = pair_starts(starts);
    const at::Tensor weights = q.new_empty({heads * pairs.back()});
    const at::Tensor out = at::empty_like(q);
    each_head(starts, pairs, shape, [&](std::int64_t token, std::int64_t n, std::int64_t pair) {
      attend(q.const_data_ptr<float>() + token, k.const_data_ptr<float>() + token,
             v.const_data_ptr<float>() + token, n, shape,
             keep.numel() > 0 ? keep.const_data_ptr<float>() + pair : nullptr,
             weights.mutable_data_ptr<float>() + pair, out.mutable_data_ptr<float>() + token);
    });
    context->save_for_backward({q, k, v, weights, keep});
    context->saved_data["starts"] = starts;
    context->saved_data["heads"] = heads;
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto kept = context->get_saved_variables();
    const at::Tensor &q = kept[0], &k = kept[1], &v = kept[2], &weights = kept[3], &keep = kept[4];
    const std::vector<std::int64_t> starts = context->saved_data["starts"].toIntVector();
    const std::int64_t heads = context->saved_data["heads"].toInt();
    const Heads shape{static_cast<std::size_t>(heads), static_cast<std::size_t>(q.size(1) / heads)};
    const at::Tensor dy = gradients[0].contiguous();
    const at::Tensor dq = at::zeros_like(q), dk = at::zeros_like(k), dv = at::zeros_like(v);
    each_head(starts, pair_starts(starts), shape,
              [&](std::int64_t token, std::int64_t n, std::int64_t pair) {
                thread_local std::vector<float> scratch;
                attend_back(
                    q.const_data_ptr<float>() + token, k.const_data_ptr<float>() + token,
                    v.const_data_ptr<float>() + token, weights.const_data_ptr<float>() + pair,
                    keep.numel() > 0 ? keep.const_data_ptr<float>() + pair : nullptr,
                    dy.const_data_ptr<float>() + token, n, shape, scratch,
                    {dq.mutable_data_ptr<float>() + token, dk.mutable_data_ptr<float>() + token,
                     dv.mutable_data_ptr<float>() + token});
              });
    return {dq, dk, dv, at::Tensor(), at::Tensor(), at::Tensor()};
  }

 private:
  // body(offset of the head's first token in the arrays, tokens, offset of its first pair)
  template <class Body>
  static void each_head(const std::vector<std::int64_t>& starts,
                        const std::vector<std::int64_t>& pairs, const Heads& shape,
                        const Body& body) {
    constexpr std::int64_t kSequences = 32;  // that are worth another thread
    at::parallel_for(0, static_cast<std::int64_t>(starts.size()) - 1, kSequences,
                     [&](std::int64_t first, std::int64_t last) {
                       for (std::int64_t s = first; s < last; ++s) {
                         const auto at = static_cast<std::size_t>(s);
                         const auto heads = static_cast<std::int64_t>(shape.count);
                         const std::int64_t own = pairs[at + 1] - pairs[at];
                         for (std::int64_t h = 0; h < heads; ++h) {
                           body(starts[at] * static_cast<std::int64_t>(shape.row()) +
                                    h * static_cast<std::int64_t>(shape.width),
                                starts[at + 1] - starts[at], heads * pairs[at] + h * own);
                         }
                       }
                     });
  }
};

}  // namespace

TokenBatch::TokenBatch(std::span<const std::int32_t> all, std::vector<std::int64_t> first,
                       std::int64_t places, at::Device device)
    : slots(places), starts(std::move(first)) {
  const at::Tensor both = at::empty({2, tokens()}, at::kLong);
  auto* id = both.mutable_data_ptr<std::int64_t>();
  std::copy(all.begin(), all.end(), id);
  auto* place = id + tokens();
  for (std::size_t s = 0; s + 1 < starts.size(); ++s) {
    for (std::int64_t i = starts[s]; i < starts[s + 1]; ++i) *place++ = slots - starts[s + 1] + i;
  }
  const at::Tensor there = both.to(device);
  ids = there[0];
  slot = there[1];
}

at::Tensor composed_self_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const TokenBatch& batch, std::int64_t heads, double dropout,
                                   const std::optional<at::Generator>& generator) {
  const std::int64_t width = q.size(1), rows = batch.sequences(), slots = batch.slots;
  std::vector<std::int64_t> place;
  for (std::size_t s = 0; s + 1 < batch.starts.size(); ++s) {
    for (std::int64_t i = batch.starts[s]; i < batch.starts[s + 1]; ++i)
      place.push_back(static_cast<std::int64_t>(s + 1) * slots - batch.starts[s + 1] + i);
  }
  const at::Tensor places = at::tensor(place, at::kLong).to(q.device());
  const auto padded = [&](const at::Tensor& x) {  // [rows, heads, slots, width / heads]
    return x.new_zeros({rows * slots, width})
        .index_copy(0, places, x)
        .view({rows, slots, heads, width / heads})
        .transpose(1, 2);
  };
  const at::Tensor real =
      q.new_zeros({rows * slots}).index_fill(0, places, 1).view({rows, 1, 1, slots});
  const at::Tensor causal = at::ones({slots, slots}, q.options()).tril();
  const at::Tensor mask = (1 - real * causal) * -10000.0;  // [rows, 1, slots, slots]
  const double scale = 1 / std::sqrt(static_cast<double>(width / heads));
  const at::Tensor weights =
      at::softmax(at::matmul(padded(q), padded(k).transpose(2, 3)) * scale + mask, -1);
  return at::matmul(tensor::dropout(weights, dropout, generator), padded(v))
      .transpose(1, 2)
      .reshape({rows * slots, width})
      .index_select(0, places);
}

at::Tensor causal_self_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 const TokenBatch& batch, std::int64_t heads, double dropout,
                                 const std::optional<at::Generator>& generator) {
  if (!q.is_cpu() || q.scalar_type() != at::kFloat)
    return composed_self_attention(q, k, v, batch, heads, dropout, generator);
  at::Tensor keep = q.new_empty({0});  // without dropout
  if (dropout > 0 && generator && generator->defined()) {
    const at::NoGradGuard no_grad;
    keep =
        tensor::dropout(at::ones({heads * pair_starts(batch.starts).back()}), dropout, generator);
  }
  return RaggedAttention::apply(q.contiguous(), k.contiguous(), v.contiguous(), keep, batch.starts,
                                heads);
}

}  // namespace theriac::sequence
