#include "cpp/core/merge/tokenizer_plan.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "cpp/core/merge/architecture.h"
#include "cpp/core/merge/json_text.h"
#include "cpp/core/tensorfile/convert.h"
#include "cpp/core/tensorfile/layout.h"

namespace theriac::merge {
namespace {

using tensorfile::ComputedTensor;
using tensorfile::ModelFiles;
using tensorfile::TensorRecord;
using tensorfile::internal::shown;
using Kind = TokenEmbedding::Kind;
using Source = TokenizerRecipe::Source;
using Origin = TokenizerPlan::Origin;

class Planner {
 public:
  Planner(const MergeRecipe& recipe, const std::vector<TokenizerInput>& models,
          std::optional<std::size_t> base,
          const std::function<std::size_t(const ModelReference&)>& find)
      : recipe_(recipe), tokenizer_(*recipe.tokenizer), models_(models), base_(base), find_(find) {}

  TokenizerPlan make() {
    choose_source();
    if (tokenizer_.source == Source::kUnion) add_others();
    add_listed();
    if (!out_.appended.empty() && !models_[out_.source].vocabulary->editable) {
      throw Error(Code::kUnsupported,
                  "'" + recipe_.file + "': " + std::to_string(out_.appended.size()) +
                      " tokens have to be added to the tokenizer of '" + models_[out_.source].name +
                      "', which has no tokenizer.json; save it as one first "
                      "(AutoTokenizer.from_pretrained(...).save_pretrained)")
          .at("json_path", "tokenizer")
          .at("model", models_[out_.source].name);
    }
    count_rows();
    arrange();
    return std::move(out_);
  }

 private:
  std::size_t first_merged() const {
    for (std::size_t i = 0; i < models_.size(); ++i) {
      if (models_[i].merged) return i;
    }
    throw Error(Code::kInternal, "a recipe without models");
  }

  void choose_source() {
    out_.source = tokenizer_.source == Source::kModel ? find_(tokenizer_.model)
                                                      : base_.value_or(first_merged());
    const Vocabulary& vocabulary = *models_[out_.source].vocabulary;
    for (const auto& [id, token] : vocabulary.by_id()) ids_.emplace(*token, id);
    next_ = vocabulary.next_id();
    for (const AddedToken& token : vocabulary.added) flags_.emplace(token.content, token);
  }

  // Every token of the other models, as an added one: its merges and its score stay behind. Ordinary
  // tokens of all models come before added ones, as in mergekit.
  void add_others() {
    std::vector<const AddedToken*> added;
    for (std::size_t i = 0; i < models_.size(); ++i) {
      if (i == out_.source || !models_[i].merged) continue;
      for (const AddedToken& token : models_[i].vocabulary->added) {
        if (token.id >= models_[i].rows) continue;
        compare_flags(token, models_[i].name);
        added.push_back(&token);
      }
    }
    for (std::size_t i = 0; i < models_.size(); ++i) {
      if (i == out_.source || !models_[i].merged) continue;
      for (const auto& [id, token] : models_[i].vocabulary->by_id()) {
        if (id >= models_[i].rows || flags_.contains(*token)) continue;
        AddedToken fresh;
        fresh.content = *token;
        append(std::move(fresh));
      }
    }
    if (!out_.appended.empty()) {
      out_.notes.push_back(std::to_string(out_.appended.size()) +
                           " ordinary tokens of other models are matched in the text as they are "
                           "written, before it is split: they have no merges and no score here");
    }
    for (const AddedToken* token : added) append(*token);
    if (conflicts_ > 0) {
      out_.notes.push_back("models disagree on the flags of " + std::to_string(conflicts_) +
                           " added tokens, such as " + shown(conflict_) +
                           "; the first definition counts");
    }
  }

  void compare_flags(const AddedToken& token, const std::string& model) {
    const auto [known, fresh] = flags_.emplace(token.content, token);
    if (fresh || known->second.same_as(token)) return;
    if (conflicts_++ == 0) conflict_ = token.content + " (of '" + model + "')";
  }

  void append(AddedToken token) {
    if (!ids_.emplace(token.content, next_).second) return;
    token.id = next_++;
    out_.appended.push_back(std::move(token));
  }

  void add_listed() {
    for (const auto& [token, embedding] : tokenizer_.tokens) {
      AddedToken fresh;
      fresh.content = token;
      append(std::move(fresh));
      const auto [at, added] = listed_.emplace(token, &embedding);
      if (!added) at->second = &embedding;
    }
  }

  void count_rows() {
    std::int64_t greatest = -1;
    for (const auto& [token, id] : ids_) greatest = std::max(greatest, id);
    out_.tokens = out_.rows = greatest + 1;
    const std::int64_t multiple = tokenizer_.pad_to_multiple_of;
    if (multiple > 0) out_.rows = (out_.tokens + multiple - 1) / multiple * multiple;
  }

  // The row of a token in a model, or -1.
  std::int32_t row(std::size_t model, const std::string& token) const {
    const std::int64_t id = models_[model].vocabulary->find(token);
    return id < models_[model].rows ? static_cast<std::int32_t>(id) : -1;
  }

  void arrange() {
    std::vector<const std::string*> by_row(static_cast<std::size_t>(out_.tokens));
    for (const auto& [token, id] : ids_) by_row[static_cast<std::size_t>(id)] = &token;
    out_.own.resize(models_.size());
    for (std::size_t i = 0; i < models_.size(); ++i) {
      if (models_[i].merged) out_.own[i].assign(by_row.size(), -1);
    }
    std::size_t without = 0;
    std::vector<Origin> present;
    for (std::size_t r = 0; r < by_row.size(); ++r) {
      out_.first_origin.push_back(static_cast<std::uint32_t>(out_.origins.size()));
      if (by_row[r] == nullptr) continue;  // a number that no token has
      const std::string& token = *by_row[r];
      const auto listed = listed_.find(token);
      const TokenEmbedding* wish = listed == listed_.end() ? nullptr : listed->second;
      present.clear();
      bool lacking = false;
      for (std::size_t i = 0; i < models_.size(); ++i) {
        if (!models_[i].merged) continue;
        const std::int32_t own = row(i, token);
        if (own >= 0) present.push_back({static_cast<std::uint32_t>(i), own});
        if (wish == nullptr || !wish->force) out_.own[i][r] = own;
        lacking = lacking || out_.own[i][r] < 0;
      }
      if (lacking) add_default(token, wish, present);
      if (present.empty() && (wish == nullptr || wish->kind == Kind::kDefault)) {
        if (without++ == 0) example_ = token;
      }
    }
    out_.first_origin.push_back(static_cast<std::uint32_t>(out_.origins.size()));
    if (without > 0) {
      out_.notes.push_back("no model has an embedding for " + std::to_string(without) +
                           " tokens, such as " + shown(example_) + "; theirs are zeros");
    }
  }

  void add_default(const std::string& token, const TokenEmbedding* wish,
                   const std::vector<Origin>& present) {
    if (wish != nullptr && wish->kind != Kind::kDefault) {
      if (wish->kind == Kind::kZero) return;
      out_.origins.push_back(wished(token, *wish));
      return;
    }
    for (const Origin& origin : present) {
      if (present.size() > 1 && base_ && origin.model == *base_) {
        out_.origins.push_back(origin);
        return;
      }
    }
    out_.origins.insert(out_.origins.end(), present.begin(), present.end());
  }

  Origin wished(const std::string& token, const TokenEmbedding& wish) const {
    const std::size_t model = find_(wish.model);
    const std::string& name = wish.kind == Kind::kModelToken && !wish.token_id ? wish.token : token;
    const std::int64_t id =
        wish.kind == Kind::kModelToken && wish.token_id ? *wish.token_id : row(model, name);
    if (id >= 0 && id < models_[model].rows) {
      return {static_cast<std::uint32_t>(model), static_cast<std::int32_t>(id)};
    }
    const std::string what = wish.token_id && wish.kind == Kind::kModelToken
                                 ? "the number " + std::to_string(*wish.token_id)
                                 : "the token " + shown(name);
    throw error_at(recipe_.file, wish.model.mark, "tokenizer.tokens." + token,
                   "takes its embedding from '" + models_[model].name + "', which has none for " +
                       what + " (its embedding has " + std::to_string(models_[model].rows) +
                       " rows)");
  }

  const MergeRecipe& recipe_;
  const TokenizerRecipe& tokenizer_;
  const std::vector<TokenizerInput>& models_;
  const std::optional<std::size_t> base_;
  const std::function<std::size_t(const ModelReference&)>& find_;
  TokenizerPlan out_;
  std::unordered_map<std::string, std::int64_t> ids_;  // of the new vocabulary
  std::unordered_map<std::string, AddedToken> flags_;
  std::unordered_map<std::string, const TokenEmbedding*> listed_;
  std::int64_t next_ = 0;
  std::size_t conflicts_ = 0;
  std::string conflict_, example_;
};

// ---- rows --------------------------------------------------------------------------------------

// The tensor of that name as each model has it; nothing where a model does not. An output head that
// is not in the files is the embedding.
struct Tensors {
  struct Place {
    std::shared_ptr<const ModelFiles> files;
    const TensorRecord* record = nullptr;
  };
  std::vector<Place> models;
};

bool has_vocabulary_rows(const TensorRecord& record, std::int64_t rows) {
  if (parse_layer_name(record.name) || !is_embedding_name(record.name)) return false;
  if (!tensorfile::is_float(record.dtype) || record.shape.empty()) return false;
  // A matrix, or the bias of an output head.
  return record.shape.size() == 2 ||
         (record.shape.size() == 1 && record.shape[0] == static_cast<std::uint64_t>(rows));
}

// One model's tensor with the rows of the new vocabulary.
class ArrangedRows final : public ComputedTensor {
 public:
  ArrangedRows(std::shared_ptr<const TokenizerPlan> plan, std::shared_ptr<const Tensors> tensors,
               std::size_t model, std::uint64_t width)
      : plan_(std::move(plan)), tensors_(std::move(tensors)), model_(model), width_(width) {}

  void read(std::uint64_t first, std::size_t count, float* into) const override {
    while (count > 0) {
      const std::uint64_t row = first / width_, column = first % width_;
      std::size_t done = 0;
      if (column == 0 && count >= width_) {
        const std::size_t rows = run(row, count / static_cast<std::size_t>(width_));
        read_rows(row, rows, into);
        done = rows * static_cast<std::size_t>(width_);
      } else {
        std::vector<float> whole(static_cast<std::size_t>(width_));
        read_rows(row, 1, whole.data());
        done = std::min(count, static_cast<std::size_t>(width_ - column));
        std::copy_n(whole.begin() + static_cast<std::ptrdiff_t>(column), done, into);
      }
      first += done;
      into += done;
      count -= done;
    }
  }

  std::uint64_t memory(std::uint64_t count) const override {
    constexpr std::uint64_t kWidest = 8;
    return (count + width_) * kWidest + 3 * 8 * width_;
  }

 private:
  // Rows from `row` on, at most `most`, that are one run of the model's own; at least one.
  std::size_t run(std::uint64_t row, std::size_t most) const {
    const auto& own = plan_->own[model_];
    std::size_t rows = 1;
    if (row >= own.size() || own[row] < 0) return rows;
    while (rows < most && row + rows < own.size() &&
           own[row + rows] == own[row] + static_cast<std::int32_t>(rows)) {
      ++rows;
    }
    return rows;
  }

  void read_rows(std::uint64_t row, std::size_t rows, float* into) const {
    const auto& own = plan_->own[model_];
    if (row >= own.size()) {
      const std::vector<float>& mean = mean_row();
      std::copy(mean.begin(), mean.end(), into);
    } else if (own[row] >= 0) {
      read_from(model_, own[row], rows, into);
    } else {
      read_default(row, into);
    }
  }

  void read_from(std::size_t model, std::int32_t row, std::size_t rows, float* into) const {
    const Tensors::Place& place = tensors_->models[model];
    const auto count = rows * static_cast<std::size_t>(width_);
    std::vector<char> raw(
        count * static_cast<std::size_t>(tensorfile::dtype_bits(place.record->dtype) / 8));
    place.files->read_floats(*place.record, static_cast<std::uint64_t>(row) * width_, count, into,
                             raw.data());
  }

  void read_default(std::uint64_t row, float* into) const {
    const std::uint32_t first = plan_->first_origin[row], last = plan_->first_origin[row + 1];
    const auto width = static_cast<std::size_t>(width_);
    if (last - first == 1) {
      return read_from(plan_->origins[first].model, plan_->origins[first].row, 1, into);
    }
    std::vector<float> other(width);
    std::vector<double> sum(width);
    for (std::uint32_t i = first; i < last; ++i) {
      read_from(plan_->origins[i].model, plan_->origins[i].row, 1, other.data());
      for (std::size_t j = 0; j < width; ++j) sum[j] += other[j];
    }
    for (std::size_t j = 0; j < width; ++j) {
      into[j] = last == first ? 0 : static_cast<float>(sum[j] / (last - first));
    }
  }

  // Of all rows but the padding; made when first asked for.
  const std::vector<float>& mean_row() const {
    std::call_once(once_, [this] {
      const auto width = static_cast<std::size_t>(width_);
      std::vector<double> sum(width);
      const std::uint64_t rows = plan_->own[model_].size();
      const std::size_t most =
          std::max<std::size_t>(1, (std::size_t{1} << 17) / std::max<std::size_t>(1, width));
      std::vector<float> values(most * width);
      for (std::uint64_t row = 0; row < rows;) {
        const std::size_t count =
            run(row, static_cast<std::size_t>(std::min<std::uint64_t>(most, rows - row)));
        read_rows(row, count, values.data());
        for (std::size_t i = 0; i < count; ++i) {
          for (std::size_t j = 0; j < width; ++j) sum[j] += values[i * width + j];
        }
        row += count;
      }
      mean_.resize(width);
      for (std::size_t j = 0; j < width; ++j) {
        mean_[j] = rows == 0 ? 0 : static_cast<float>(sum[j] / static_cast<double>(rows));
      }
    });
    return mean_;
  }

  const std::shared_ptr<const TokenizerPlan> plan_;
  const std::shared_ptr<const Tensors> tensors_;
  const std::size_t model_;
  const std::uint64_t width_;
  mutable std::once_flag once_;
  mutable std::vector<float> mean_;
};

class Arrangement {
 public:
  Arrangement(const std::vector<std::shared_ptr<const ModelFiles>>& models,
              const TokenizerPlan& plan)
      : models_(models), plan_(std::make_shared<const TokenizerPlan>(plan)) {}

  std::vector<ModelFiles> make() {
    std::vector<ModelFiles> out;
    out.reserve(models_.size());
    for (std::size_t i = 0; i < models_.size(); ++i) {
      out.push_back(*models_[i]);
      if (plan_->own[i].empty()) continue;
      const std::int64_t rows = embedding_rows(*models_[i]);
      for (const TensorRecord& record : models_[i]->tensors()) {
        if (has_vocabulary_rows(record, rows)) arrange(out.back(), i, record);
      }
    }
    return out;
  }

 private:
  void arrange(ModelFiles& model, std::size_t i, const TensorRecord& old) {
    const std::shared_ptr<const Tensors>& tensors = tensors_of(old);
    TensorRecord record = old;
    const std::uint64_t width = old.shape.size() == 2 ? old.shape[1] : 1;
    record.shape[0] = static_cast<std::uint64_t>(plan_->rows);
    record.bytes = record.shape[0] * width *
                   static_cast<std::uint64_t>(tensorfile::dtype_bits(record.dtype)) / 8;
    model.set_computed(std::move(record), std::make_shared<ArrangedRows>(plan_, tensors, i, width));
  }

  const std::shared_ptr<const Tensors>& tensors_of(const TensorRecord& wanted) {
    auto& at = by_name_[wanted.name];
    if (at != nullptr) return at;
    auto tensors = std::make_shared<Tensors>();
    for (std::size_t i = 0; i < models_.size(); ++i) {
      const TensorRecord* record = find(*models_[i], wanted);
      if (record != nullptr &&
          (record->shape.size() != wanted.shape.size() ||
           !std::equal(record->shape.begin() + 1, record->shape.end(), wanted.shape.begin() + 1))) {
        throw Error(Code::kDataError, "tensor " + shown(wanted.name) +
                                          ": the models' embeddings are of different widths, so "
                                          "that no row can stand for a row of another model")
            .at("tensor", wanted.name);
      }
      tensors->models.push_back({models_[i], record});
    }
    check_origins(*tensors, wanted.name);
    at = std::move(tensors);
    return at;
  }

  static const TensorRecord* find(const ModelFiles& model, const TensorRecord& wanted) {
    const TensorRecord* record = model.find(wanted.name);
    const bool head = is_output_head_name(wanted.name) && wanted.shape.size() == 2;
    if (record != nullptr || !head) return record;
    for (const TensorRecord& other : model.tensors()) {
      const bool input = is_embedding_name(other.name) && !is_output_head_name(other.name);
      if (input && !parse_layer_name(other.name) && other.shape.size() == 2) return &other;
    }
    return nullptr;
  }

  void check_origins(const Tensors& tensors, const std::string& name) const {
    for (const Origin& origin : plan_->origins) {
      const TensorRecord* record = tensors.models[origin.model].record;
      if (record != nullptr && static_cast<std::uint64_t>(origin.row) < record->shape[0]) continue;
      throw Error(Code::kDataError, "tensor " + shown(name) + ": the model '" +
                                        tensors.models[origin.model].files->folder().string() +
                                        "' has no such row " + std::to_string(origin.row) +
                                        ", from which a token's embedding is taken")
          .at("tensor", name);
    }
  }

  const std::vector<std::shared_ptr<const ModelFiles>>& models_;
  const std::shared_ptr<const TokenizerPlan> plan_;
  std::map<std::string, std::shared_ptr<const Tensors>> by_name_;
};

}  // namespace

TokenizerPlan plan_tokenizer(const MergeRecipe& recipe, const std::vector<TokenizerInput>& models,
                             std::optional<std::size_t> base,
                             const std::function<std::size_t(const ModelReference&)>& find) {
  return Planner(recipe, models, base, find).make();
}

std::int64_t embedding_rows(const ModelFiles& model) {
  std::uint64_t rows = 0;
  for (const TensorRecord& record : model.tensors()) {
    if (record.shape.size() != 2 || !has_vocabulary_rows(record, 0)) continue;
    rows = record.shape[0];
    if (!is_output_head_name(record.name)) break;  // the embedding decides, where there is one
  }
  return static_cast<std::int64_t>(rows);
}

std::vector<ModelFiles> arrange_embeddings(
    const std::vector<std::shared_ptr<const ModelFiles>>& models, const TokenizerPlan& plan) {
  return Arrangement(models, plan).make();
}

std::string with_tokens(const std::string& tokenizer_json, const std::vector<AddedToken>& tokens) {
  if (tokens.empty()) return tokenizer_json;
  std::string items;
  for (const AddedToken& token : tokens) {
    items += (items.empty() ? "" : ",\n    ") + dump_json(token.json());
  }
  JsonText out(tokenizer_json);
  if (!out.append({"added_tokens"}, items)) out.set({"added_tokens"}, "[" + items + "]");
  return out.text();
}

std::string config_with_tokens(const std::string& tokenizer_config,
                               const std::vector<AddedToken>& tokens) {
  std::string members;
  for (const AddedToken& token : tokens) {
    Json value = token.json();
    value.erase("id");
    members += (members.empty() ? "" : ",\n    ") + dump_json(Json(std::to_string(token.id))) +
               ": " + dump_json(value);
  }
  JsonText out(tokenizer_config);
  if (!members.empty()) out.append({"added_tokens_decoder"}, members);
  return out.text();
}

std::string list_with_tokens(const std::string& added_tokens,
                             const std::vector<AddedToken>& tokens) {
  std::string members;
  for (const AddedToken& token : tokens) {
    members += (members.empty() ? "" : ",\n  ") + dump_json(Json(token.content)) + ": " +
               std::to_string(token.id);
  }
  JsonText out(added_tokens);
  if (!members.empty()) out.append({}, members);
  return out.text();
}

}  // namespace theriac::merge
