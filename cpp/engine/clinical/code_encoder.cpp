#include "cpp/engine/clinical/code_encoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "cpp/engine/clinical/position_encoding.h"
#include "cpp/engine/nn/summed_rows.h"

namespace theriac::clinical {
namespace {

constexpr std::size_t kSlots = PositionEncoding::kLength + 1;

// Parameters under "<part>.weight" and "<part>.bias". torch::nn::Linear and Embedding would draw
// their first values from the process-wide generator.
struct Weights : torch::nn::Module {
  at::Tensor add(const std::string& name, at::IntArrayRef shape) {
    return register_parameter(name, at::empty(shape, at::kFloat));
  }
};

// A parameter's values on the CPU: the same memory, without an allocation, when it is there
// already.
at::Tensor on_host(const at::Tensor& parameter) {
  if (!parameter.defined()) return {};
  if (parameter.is_cpu() && parameter.scalar_type() == at::kFloat && parameter.is_contiguous()) {
    return parameter;
  }
  return parameter.detach().to(at::kCPU, at::kFloat).contiguous();
}

void add_row(const float* row, std::span<float> sum) {
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += row[i];
}

// Trained parts as plain arrays, each undefined if its part is off.
struct HostWeights {
  at::Tensor position_weight, position_bias;  // [dim, width], [dim]
  at::Tensor id_weight;                       // [codes, dim]

  // sum += ReLU(b + W of the slots' features)
  void add_position(std::span<const std::int32_t> features, std::span<float> sum) const {
    const std::int64_t width = position_weight.size(1);
    const float* row = position_weight.const_data_ptr<float>();
    const float* bias = position_bias.const_data_ptr<float>();
    for (std::size_t i = 0; i < sum.size(); ++i, row += width) {
      float value = bias[i];
      for (const std::int32_t feature : features) {
        if (feature != PositionEncoding::kNoFeature) value += row[feature];
      }
      sum[i] += std::max(value, 0.0F);
    }
  }
  void add_id(std::int32_t id, std::span<float> sum) const {
    add_row(id_weight.const_data_ptr<float>() + id * id_weight.size(1), sum);
  }
};

// Where in the trees a code was found.
struct TreeNode {
  const RelationTable* table = nullptr;  // null: nowhere
  std::size_t node = 0;
  bool substituted = false;  // an ancestor stands in for the code
};

TreeNode find_node(const RelationTables& tables, const codes::MedicalCode& code, bool ancestors) {
  const RelationTable* table = find_table(tables, code.system);
  if (table == nullptr) return {};
  if (const auto node = table->tree.find(code.text)) return {table, *node, false};
  if (!ancestors) return {};
  const auto nearest = table->tree.nearest_listed(code.text);
  if (!nearest) return {};
  return {table, table->tree.find(*nearest).value(), true};
}

void check_options(const EncoderOptions& options, const RelationTables& tables) {
  if (!options.use_relation && !options.use_position && !options.use_id) {
    throw Error(Code::kInvalidArgument,
                "the code encoder has no part left: use_relation, use_position and use_id are all "
                "false; expected at least one true");
  }
  for (const auto& table : tables) {
    if (options.use_relation && table->dim() != options.dim) {
      throw Error(Code::kInvalidArgument,
                  "the relation table of " + std::string(codes::system_name(table->system)) +
                      " has vectors of width " + std::to_string(table->dim()) +
                      ", the encoder's dim is " + std::to_string(options.dim) +
                      "; expected the same width");
    }
  }
}

}  // namespace

const OptionTable<EncoderOptions>& EncoderOptions::table() {
  static const auto table =
      OptionTable<EncoderOptions>("encoder", "How codes become vectors")
          .integer("dim", &EncoderOptions::dim, {1, 4096}, "width of a code vector")
          .flag("use_relation", &EncoderOptions::use_relation,
                "frozen embedding of the code's place in its tree")
          .flag("use_position", &EncoderOptions::use_position,
                "trained encoding of the code's characters")
          .flag("use_id", &EncoderOptions::use_id, "ordinary trained embedding of each code")
          .choice(
              "layout", &EncoderOptions::layout, {"aligned", "h"},
              "codes whose first character stands apart: ICD-9 external causes, or all that begin "
              "with E")
          .choice("unknown", &EncoderOptions::unknown, {"nearest_ancestor", "zero"},
                  "relation embedding of codes outside the tree");
  return table;
}

struct CodeEncoder::Parts {
  EncoderOptions options;
  data::Vocabulary vocabulary;
  RelationTables tables;
  std::optional<PositionEncoding> position;
  std::array<bool, codes::kSystemCount> systems{};  // that the vocabulary has codes of
  at::Tensor relation;                              // [codes, dim] R; not a parameter
  at::Tensor features;         // [codes, slots] int64; `width` for a zero block
  at::Tensor position_weight;  // [dim, width]
  at::Tensor position_bias;    // [dim]
  at::Tensor id_weight;        // [codes, dim]

  Parts(const EncoderOptions& encoder_options, const data::Vocabulary& codes,
        const RelationTables& relations)
      : options(encoder_options), vocabulary(codes), tables(relations) {
    for (const auto& code : vocabulary.codes())
      systems[static_cast<std::size_t>(code.system)] = true;
    if (options.use_relation) relation = relation_rows();
    if (options.use_position) {
      position.emplace(PositionEncoding::kLength, slot_layout_from_name(options.layout),
                       vocabulary.codes());
      features = feature_rows();
    }
  }

  std::int64_t size() const { return vocabulary.size(); }

  TreeNode locate(const codes::MedicalCode& code) const {
    if (!options.use_relation) return {};
    return find_node(tables, code, options.unknown == "nearest_ancestor");
  }

  at::Tensor relation_rows() const {
    at::Tensor rows = at::zeros({size(), options.dim}, at::kFloat);
    for (std::int32_t id = 0; id < vocabulary.size(); ++id) {
      const TreeNode found = locate(vocabulary.code(id));
      if (found.table == nullptr) continue;
      std::copy_n(found.table->row(found.node), options.dim,
                  rows.data_ptr<float>() + id * options.dim);
    }
    return rows;
  }

  at::Tensor feature_rows() const {
    at::Tensor rows = at::empty({size(), static_cast<std::int64_t>(kSlots)}, at::kLong);
    auto* out = rows.data_ptr<std::int64_t>();
    std::array<std::int32_t, kSlots> slots{};
    for (const auto& code : vocabulary.codes()) {
      position->features(code, slots);
      for (const std::int32_t feature : slots) {
        *out++ = feature == PositionEncoding::kNoFeature ? position->width() : feature;
      }
    }
    return rows;
  }

  // ReLU(W onehot + b) of vocabulary codes; undefined ids: all of them. [n, dim]
  at::Tensor encode_position(const at::Tensor& ids) const {
    const at::Tensor rows = ids.defined() ? features.index_select(0, ids) : features;
    const std::int64_t width = position->width();
    // One more column takes the zero blocks and is cut off again.
    at::Tensor onehot =
        at::zeros({rows.size(0), width + 1}, position_weight.options().requires_grad(false));
    onehot.scatter_(1, rows, 1.0);
    return at::linear(onehot.narrow(1, 0, width), position_weight, position_bias).relu();
  }

  // Sum of the parts that are on, for ids [n] or, undefined, the whole vocabulary. [n, dim]
  at::Tensor encode(const at::Tensor& ids) const {
    const auto pick = [&](const at::Tensor& rows) {
      return ids.defined() ? rows.index_select(0, ids) : rows;
    };
    at::Tensor sum;
    const auto add = [&](const at::Tensor& part) { sum = sum.defined() ? sum + part : part; };
    if (options.use_relation) add(pick(relation));
    if (options.use_position) add(encode_position(ids));
    if (options.use_id) add(pick(id_weight));
    return sum;
  }

  HostWeights host_weights() const {
    return {on_host(position_weight), on_host(position_bias), on_host(id_weight)};
  }

  // Whether the characters of a code outside the vocabulary mean what they meant in it.
  bool position_applies(const codes::MedicalCode& code) const {
    return position && systems[static_cast<std::size_t>(code.system)] &&
           codes::has_code_shape(code.system, code.text);
  }

  CodeReading add_code(const codes::MedicalCode& code, const HostWeights& weights,
                       std::span<float> sum) const {
    const std::int32_t id = vocabulary.find(code);
    const TreeNode found = locate(code);
    const bool has_position = position && (id >= 0 || position_applies(code));
    if (id < 0 && found.table == nullptr && !has_position) return {};
    CodeReading reading;
    reading.how = id >= 0             ? CodeReading::How::kKnown
                  : found.substituted ? CodeReading::How::kSubstituted
                                      : CodeReading::How::kUnseen;
    if (found.table != nullptr) {
      reading.relation_node = found.table->tree.node(found.node);
      add_row(found.table->row(found.node), sum);
    }
    if (has_position) {
      std::array<std::int32_t, kSlots> slots{};
      position->features(code, slots);
      weights.add_position(slots, sum);
    }
    if (id >= 0 && options.use_id) weights.add_id(id, sum);
    return reading;
  }

  at::TensorOptions value_options() const {
    const at::Tensor& any = options.use_relation   ? relation
                            : options.use_position ? position_bias
                                                   : id_weight;
    return any.options().requires_grad(false);
  }

  void move(const std::optional<torch::Device>& device, const std::optional<torch::Dtype>& dtype) {
    if (relation.defined() && dtype) relation = relation.to(*dtype);
    if (relation.defined() && device) relation = relation.to(*device);
    if (features.defined() && device) features = features.to(*device);
  }
};

CodeEncoder::CodeEncoder(const EncoderOptions& options, const data::Vocabulary& vocabulary,
                         const RelationTables& tables, std::uint64_t seed, const std::string& name)
    : torch::nn::Module(name) {
  check_options(options, tables);
  const torch::NoGradGuard no_grad;
  parts_ = std::make_shared<Parts>(options, vocabulary, tables);
  if (options.use_position) {
    const auto weights = register_module("position", std::make_shared<Weights>());
    const std::int64_t width = parts_->position->width();
    parts_->position_weight = weights->add("weight", {options.dim, width});
    parts_->position_bias = weights->add("bias", {options.dim});
    // As PyTorch starts a Linear layer.
    const double bound = 1 / std::sqrt(static_cast<double>(std::max<std::int64_t>(width, 1)));
    tensor::fill_uniform(parts_->position_weight, -bound, bound, seed, name + ".position.weight");
    tensor::fill_uniform(parts_->position_bias, -bound, bound, seed, name + ".position.bias");
  }
  if (options.use_id) {
    const auto weights = register_module("id", std::make_shared<Weights>());
    parts_->id_weight = weights->add("weight", {parts_->size(), options.dim});
    // As GAMENet, SafeDrug and MICRON start theirs.
    tensor::fill_uniform(parts_->id_weight, -0.1, 0.1, seed, name + ".id.weight");
  }
}

std::int64_t CodeEncoder::dim() const { return parts_->options.dim; }

at::Tensor CodeEncoder::encode(const at::Tensor& ids) { return parts_->encode(ids); }

at::Tensor CodeEncoder::pool(const at::Tensor& ids, const at::Tensor& offsets) {
  if (ids.numel() == 0) return at::zeros({offsets.numel() - 1, dim()}, parts_->value_options());
  at::Tensor sum;
  const auto add = [&](const at::Tensor& table, const at::Tensor& rows) {
    const at::Tensor part = nn::summed_rows(table, rows, offsets);
    sum = sum.defined() ? sum + part : part;
  };
  if (parts_->options.use_relation) add(parts_->relation, ids);
  if (parts_->options.use_position) {
    // Each distinct code once: of the batch, or of the vocabulary where that is smaller.
    if (ids.numel() >= parts_->size()) {
      add(parts_->encode_position({}), ids);
    } else {
      const auto [distinct, places, counts] =
          at::_unique2(ids, /*sorted=*/true, /*return_inverse=*/true);
      add(parts_->encode_position(distinct), places);
    }
  }
  if (parts_->options.use_id) add(parts_->id_weight, ids);
  return sum;
}

at::Tensor CodeEncoder::frozen_table() const {
  at::Tensor table = at::zeros({parts_->size(), dim()}, at::kFloat);
  const HostWeights weights = parts_->host_weights();
  float* row = table.data_ptr<float>();
  for (const codes::MedicalCode& code : parts_->vocabulary.codes()) {
    parts_->add_code(code, weights, {row, static_cast<std::size_t>(dim())});
    row += dim();
  }
  return table;
}

CodeReading CodeEncoder::add_code(const codes::MedicalCode& code, std::span<float> sum) const {
  return parts_->add_code(code, parts_->host_weights(), sum);
}

void CodeEncoder::to(torch::Device device, torch::Dtype dtype, bool non_blocking) {
  torch::nn::Module::to(device, dtype, non_blocking);
  parts_->move(device, dtype);
}
void CodeEncoder::to(torch::Dtype dtype, bool non_blocking) {
  torch::nn::Module::to(dtype, non_blocking);
  parts_->move(std::nullopt, dtype);
}
void CodeEncoder::to(torch::Device device, bool non_blocking) {
  torch::nn::Module::to(device, non_blocking);
  parts_->move(device, std::nullopt);
}

}  // namespace theriac::clinical
