// The backbones and what they share; one source because each source that includes LibTorch costs
// seconds.
#include "cpp/engine/clinical/backbone.h"

#include <limits>

#include "cpp/engine/clinical/gamenet.h"
#include "cpp/engine/clinical/retain.h"
#include "cpp/engine/nn/dense_kernels.h"
#include "cpp/engine/nn/tensor_product.h"

namespace theriac::clinical {

Backbone::Backbone(const EncoderOptions& options, const BackboneSetup& setup) {
  const Vocabularies& v = *setup.vocabularies;
  diagnoses_ = register_module(
      "diagnoses", std::make_shared<CodeEncoder>(options, v.diagnoses, setup.relations, setup.seed,
                                                 "diagnoses"));
  procedures_ = register_module(
      "procedures", std::make_shared<CodeEncoder>(options, v.procedures, setup.relations,
                                                  setup.seed, "procedures"));
}

at::Tensor summed_visits(CodeEncoder& encoder, const CodeSets& sets, const at::Tensor& outside,
                         const nn::StepLayout& layout) {
  // Padding places are empty sets, so each valid one ends where the next valid one starts.
  const at::Tensor offsets =
      at::cat({sets.offsets.index_select(0, layout.places), sets.offsets.narrow(0, -1, 1)});
  const at::Tensor sums = encoder.pool(sets.ids, offsets);
  return outside.defined() ? sums + layout.pack(outside) : sums;
}

at::Tensor averaged_visits(CodeEncoder& encoder, const CodeSets& sets, const nn::StepLayout& layout,
                           double dropout, const std::optional<at::Generator>& generator) {
  const at::Tensor vectors =
      tensor::dropout(encoder.encode(sets.ids), dropout, generator);  // [total, dim]
  const at::Tensor sizes = sets.offsets.diff();                       // [sets]
  const at::Tensor set_of = at::repeat_interleave(sizes);             // [total]
  const at::Tensor sums =
      vectors.new_zeros({sizes.size(0), encoder.dim()}).index_add(0, set_of, vectors);
  return (sums / sizes.clamp_min(1).unsqueeze(1)).index_select(0, layout.places);
}

std::optional<at::Generator> generator_of(const train::Step* step, std::string_view purpose) {
  if (step == nullptr) return std::nullopt;
  return step->generator(purpose);
}

at::Tensor frozen_copy(const at::Tensor& tensor) {
  return tensor.detach()
      .to(at::kCPU, at::kFloat, /*non_blocking=*/false, /*copy=*/true)
      .contiguous();
}

FrozenGruParts frozen_parts(const nn::Gru& gru) {
  return {frozen_copy(gru->weight_ih), frozen_copy(gru->weight_hh), frozen_copy(gru->bias_ih),
          frozen_copy(gru->bias_hh)};
}

FrozenLinearParts frozen_parts(const nn::Linear& linear) {
  return {frozen_copy(linear->weight), frozen_copy(linear->bias)};
}

// ----------------------------------------------------------------------------------------------
// GAMENet

namespace {

// Attention of a row's last query over its earlier visits, and what was given there: one pass each
// way instead of some thirty operators on short rows.
class Recall : public torch::autograd::Function<Recall> {
 public:
  // queries [batch, visits, m], query [batch, m], history [batch, visits, classes], lengths int64
  // [batch] -> sums of the past rows [batch, classes] and their weights [batch, visits], which no
  // gradient comes back through.
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const at::Tensor& queries, const at::Tensor& query,
                                                const at::Tensor& history,
                                                const at::Tensor& lengths) {
    const at::Tensor recalled = history.new_zeros({history.size(0), history.size(2)});
    const at::Tensor weights = history.new_zeros({history.size(0), history.size(1)});
    for_each_past(lengths, history.size(1), [&](std::int64_t row, std::size_t past) {
      const std::span<float> w(values(weights, row), past);
      for (std::size_t t = 0; t < past; ++t)
        w[t] = nn::dot(span(query, row), visit(queries, row, t));
      nn::softmax(w);
      for (std::size_t t = 0; t < past; ++t)
        nn::add_scaled(span(recalled, row), w[t], visit(history, row, t));
    });
    context->save_for_backward({queries, query, history, lengths, weights});
    context->mark_non_differentiable({weights});
    return {recalled, weights};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto kept = context->get_saved_variables();
    const at::Tensor &queries = kept[0], &query = kept[1], &history = kept[2], &weights = kept[4];
    const at::Tensor gradient = gradients[0].contiguous();
    const at::Tensor to_queries = at::zeros_like(queries), to_query = at::zeros_like(query);
    std::vector<float> scores(static_cast<std::size_t>(history.size(1)));
    for_each_past(kept[3], history.size(1), [&](std::int64_t row, std::size_t past) {
      const float* w = values(weights, row);
      float mean = 0;
      for (std::size_t t = 0; t < past; ++t) {
        scores[t] = nn::dot(span(gradient, row), visit(history, row, t));
        mean += w[t] * scores[t];
      }
      for (std::size_t t = 0; t < past; ++t) {
        const float score = w[t] * (scores[t] - mean);
        nn::add_scaled(span(to_query, row), score, visit(queries, row, t));
        nn::add_scaled({visit(to_queries, row, t), static_cast<std::size_t>(query.size(1))}, score,
                       values(query, row));
      }
    });
    return {to_queries, to_query, at::Tensor(), at::Tensor()};
  }

 private:
  // Calls body(row, past visits) for rows that have any.
  template <class Body>
  static void for_each_past(const at::Tensor& lengths, std::int64_t visits, const Body& body) {
    const auto* length = lengths.const_data_ptr<std::int64_t>();
    for (std::int64_t row = 0; row < lengths.numel(); ++row) {
      const std::int64_t past = std::min(length[row], visits) - 1;
      if (past > 0) body(row, static_cast<std::size_t>(past));
    }
  }
  static float* values(const at::Tensor& matrix, std::int64_t row) {
    return matrix.mutable_data_ptr<float>() + row * matrix.size(1);
  }
  static std::span<float> span(const at::Tensor& matrix, std::int64_t row) {
    return {values(matrix, row), static_cast<std::size_t>(matrix.size(1))};
  }
  static float* visit(const at::Tensor& visits, std::int64_t row, std::size_t t) {
    return visits.mutable_data_ptr<float>() +
           (row * visits.size(1) + static_cast<std::int64_t>(t)) * visits.size(2);
  }
};

// The same by LibTorch's operators: {recalled, weights}.
torch::autograd::variable_list composed_recall(const at::Tensor& queries, const at::Tensor& query,
                                               const at::Tensor& history,
                                               const at::Tensor& lengths) {
  // Far below any score, yet finite: a patient without a past gets weights that are multiplied away
  // instead of NaN, whose gradient would spread.
  constexpr double kNowhere = -1e30;
  const at::Tensor past = nn::valid_steps(lengths - 1, queries.size(1));    // [batch, visits]
  const at::Tensor scores = queries.matmul(query.unsqueeze(2)).squeeze(2);  // [batch, visits]
  const at::Tensor weights = scores.masked_fill(past.logical_not(), kNowhere).softmax(1) * past;
  return {weights.unsqueeze(1).bmm(history).squeeze(1), weights};
}

}  // namespace

MemoryReads read_memory(const at::Tensor& queries, const at::Tensor& history,
                        const at::Tensor& lengths, const at::Tensor& memory) {
  MemoryReads reads;
  const at::Tensor query = nn::last_valid(queries, lengths);
  reads.query = query;
  reads.memory_weights =
      nn::matrix_product(query, memory, nn::Way::kForward).softmax(1);  // [batch, classes]
  reads.fact1 = nn::matrix_product(reads.memory_weights, memory, nn::Way::kBackward);  // [batch, m]

  const bool fused = nn::are_host_floats({queries, history}) && lengths.is_cpu();
  const auto recall =
      fused ? Recall::apply(queries.contiguous(), query, history.contiguous(), lengths.contiguous())
            : composed_recall(queries, query, history, lengths);
  reads.history_weights = recall[1];
  reads.fact2 = at::where(lengths.gt(1).unsqueeze(1),
                          nn::matrix_product(recall[0], memory, nn::Way::kBackward), reads.fact1);
  return reads;
}

GraphMemoryImpl::GraphMemoryImpl(const GamenetShape& shape, std::int64_t dim,
                                 const BackboneSetup& setup)
    : original_(shape.original) {
  ehr_ = register_module("ehr", nn::GraphConvolution(setup.co_occurrence, dim, shape.graph_dropout,
                                                     setup.seed, "memory.ehr"));
  if (!setup.interactions.defined()) return;
  ddi_ = register_module("ddi", nn::GraphConvolution(setup.interactions, dim, shape.graph_dropout,
                                                     setup.seed, "memory.ddi"));
  share_ = register_parameter(original_ ? "lambda" : "beta", at::zeros({1}, at::kFloat));
  if (original_) tensor::fill_uniform(share_, -0.1, 0.1, setup.seed, "memory.lambda");
}

at::Tensor GraphMemoryImpl::forward(const train::Step* step) const {
  const at::Tensor together = ehr_->forward(generator_of(step, "memory.ehr"));
  if (!ddi_) return together;
  const at::Tensor share = original_ ? share_ : share_.sigmoid();
  return together - share * ddi_->forward(generator_of(step, "memory.ddi"));
}

Gamenet::Gamenet(const EncoderOptions& encoder, const GamenetShape& shape,
                 const BackboneSetup& setup)
    : Backbone(encoder, setup), shape_(shape), interactions_(setup.interactions) {
  const std::int64_t d = encoder.dim, classes = setup.vocabularies->classes.size();
  const std::int64_t hidden = shape.original ? 2 * d : d;
  const std::uint64_t seed = setup.seed;
  diagnoses_gru_ = register_module("diagnoses_gru", nn::Gru(d, hidden, seed, "diagnoses_gru"));
  procedures_gru_ = register_module("procedures_gru", nn::Gru(d, hidden, seed, "procedures_gru"));
  query_ = register_module("query", nn::Linear(2 * hidden, d, seed, "query"));
  memory_ = register_module("memory", GraphMemory(shape, d, setup));
  if (shape.original)
    output1_ = register_module("output1", nn::Linear(3 * d, 2 * d, seed, "output1"));
  const std::string last = shape.original ? "output2" : "output";
  output2_ = register_module(last, nn::Linear(shape.original ? 2 * d : 3 * d, classes, seed, last));
  if (shape.loss.interactions && !interactions_.defined()) {
    throw Error(Code::kInvalidArgument,
                "option 'loss.interactions' is on but there is no interaction table; set "
                "'interactions' to a CSV file");
  }
}

at::Tensor Gamenet::pooled(CodeEncoder& encoder, const CodeSets& sets, const at::Tensor& outside,
                           const nn::StepLayout& layout, const train::Step* step,
                           std::string_view field) const {
  if (!shape_.original) return summed_visits(encoder, sets, outside, layout);
  return averaged_visits(encoder, sets, layout, shape_.dropout, generator_of(step, field));
}

at::Tensor Gamenet::logits(const at::Tensor& reads) const {
  if (!shape_.original) return output2_->forward(reads);
  return output2_->forward(output1_->forward(reads.relu()).relu());
}

at::Tensor Gamenet::forward(const VisitBatch& batch, const train::Step* step) const {
  const at::Tensor lengths = shape_.mask == VisitMask::kFromLengths
                                 ? batch.lengths
                                 : at::full_like(batch.lengths, batch.visits);
  const nn::StepLayout layout(lengths, batch.visits);
  const at::Tensor dx =
      pooled(*diagnoses_, batch.diagnoses, batch.diagnoses_outside, layout, step, "diagnoses");
  const at::Tensor px =
      pooled(*procedures_, batch.procedures, batch.procedures_outside, layout, step, "procedures");
  const at::Tensor states =  // [tokens, 2 hidden]
      at::cat({diagnoses_gru_->forward(dx, layout), procedures_gru_->forward(px, layout)}, 1);
  const at::Tensor queries = layout.pad(query_->forward(states.relu()));  // [batch, visits, d]
  const MemoryReads reads = read_memory(queries, batch.history, lengths, memory_->forward(step));
  return logits(at::cat({reads.query, reads.fact1, reads.fact2}, 1));
}

at::Tensor Gamenet::loss(const VisitBatch& batch, const train::Step& step) const {
  const at::Tensor interactions =
      interactions_.defined() ? interactions_.to(batch.targets.device()) : interactions_;
  return recommendation_loss(forward(batch, &step), batch.targets, interactions, shape_.loss, step);
}

std::shared_ptr<const FrozenScorer> Gamenet::freeze() const {
  if (shape_.mask != VisitMask::kFromLengths) {
    throw Error(Code::kUnsupported,
                "a model whose answers depend on the batch cannot be frozen for serving");
  }
  const at::NoGradGuard no_grad;
  FrozenGamenetParts parts;
  parts.mean_pooling = shape_.original;
  parts.diagnoses = frozen_copy(diagnoses_->frozen_table());
  parts.procedures = frozen_copy(procedures_->frozen_table());
  parts.diagnoses_gru = frozen_parts(diagnoses_gru_);
  parts.procedures_gru = frozen_parts(procedures_gru_);
  parts.query = frozen_parts(query_);
  parts.memory = frozen_copy(memory_->forward(nullptr));
  if (shape_.original) parts.output.push_back(frozen_parts(output1_));
  parts.output.push_back(frozen_parts(output2_));
  return make_frozen_gamenet(parts);
}

// -----------------------------------------------------------------------------------------------
// RETAIN

RetainBlockImpl::RetainBlockImpl(std::int64_t dim, std::uint64_t seed, const std::string& name) {
  alpha_gru_ = register_module("alpha_gru", nn::Gru(dim, dim, seed, name + ".alpha_gru"));
  beta_gru_ = register_module("beta_gru", nn::Gru(dim, dim, seed, name + ".beta_gru"));
  alpha_ = register_module("alpha", nn::Linear(dim, 1, seed, name + ".alpha"));
  beta_ = register_module("beta", nn::Linear(dim, dim, seed, name + ".beta"));
}

at::Tensor RetainBlockImpl::forward(const at::Tensor& visits, const nn::StepLayout& layout) const {
  // Read backwards, yet in the order of the visits, so that the attention of a visit meets that
  // visit.
  const at::Tensor alpha_states = alpha_gru_->forward(visits, layout, nn::Reading::kBackward);
  const at::Tensor beta_states = beta_gru_->forward(visits, layout, nn::Reading::kBackward);
  const at::Tensor scores = alpha_->forward(alpha_states).squeeze(1);  // [tokens]
  const at::Tensor alpha =                                             // softmax over each row
      scores.new_full({layout.batch() * layout.steps}, -std::numeric_limits<double>::infinity())
          .index_copy(0, layout.places, scores)
          .view({layout.batch(), layout.steps})
          .softmax(1);
  const at::Tensor beta = beta_->forward(beta_states).tanh();  // [tokens, d]
  return layout.sum_rows(layout.pack(alpha) * beta * visits);  // [batch, d]
}

FrozenRetainBlockParts RetainBlockImpl::parts(const at::Tensor& table) const {
  return {frozen_copy(table), frozen_parts(alpha_gru_), frozen_parts(beta_gru_),
          frozen_parts(alpha_), frozen_parts(beta_)};
}

Retain::Retain(const EncoderOptions& encoder, double dropout, const BackboneSetup& setup)
    : Backbone(encoder, setup), dropout_(dropout) {
  const std::int64_t d = encoder.dim;
  diagnoses_block_ =
      register_module("diagnoses_block", RetainBlock(d, setup.seed, "diagnoses_block"));
  procedures_block_ =
      register_module("procedures_block", RetainBlock(d, setup.seed, "procedures_block"));
  output_ = register_module(
      "output", nn::Linear(2 * d, setup.vocabularies->classes.size(), setup.seed, "output"));
}

at::Tensor Retain::forward(const VisitBatch& batch, const train::Step* step) const {
  const nn::StepLayout layout(batch.lengths, batch.visits);
  const auto context = [&](CodeEncoder& encoder, const CodeSets& sets, const at::Tensor& outside,
                           const RetainBlock& block, std::string_view field) {
    const at::Tensor visits = summed_visits(encoder, sets, outside, layout);
    return block->forward(tensor::dropout(visits, dropout_, generator_of(step, field)), layout);
  };
  return output_->forward(at::cat({context(*diagnoses_, batch.diagnoses, batch.diagnoses_outside,
                                           diagnoses_block_, "diagnoses"),
                                   context(*procedures_, batch.procedures, batch.procedures_outside,
                                           procedures_block_, "procedures")},
                                  1));
}

at::Tensor Retain::loss(const VisitBatch& batch, const train::Step& step) const {
  return bce_loss(forward(batch, &step), batch.targets);
}

std::shared_ptr<const FrozenScorer> Retain::freeze() const {
  const at::NoGradGuard no_grad;
  return make_frozen_retain({diagnoses_block_->parts(diagnoses_->frozen_table()),
                             procedures_block_->parts(procedures_->frozen_table()),
                             frozen_parts(output_)});
}

}  // namespace theriac::clinical
