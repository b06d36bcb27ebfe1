#include "cpp/core/merge/prepared.h"

#include <algorithm>
#include <set>
#include <utility>

#include "cpp/core/base/file.h"
#include "cpp/core/base/hash.h"
#include "cpp/core/merge/chat_template.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;
using tensorfile::ModelFiles;

constexpr int kJournalFormat = 2;
constexpr std::uint64_t kConfigLimit = std::uint64_t{64} << 20;
constexpr std::uint64_t kTokenizerLimit = std::uint64_t{256} << 20;

// Positions of the models that are merged, not only named as sources of tokens.
std::vector<bool> merged_models(const MergeRecipe& recipe, const std::vector<InputModel>& models) {
  MergeRecipe without = recipe;
  without.tokenizer.reset();
  std::set<std::string> names;
  for (const ModelReference& model : referenced_models(without)) names.insert(model.text());
  std::vector<bool> out;
  for (const InputModel& model : models) out.push_back(names.contains(model.reference.text()));
  return out;
}

std::string architecture_of(const InputModel& model) {
  if (!model.reference.override_architecture.empty()) return model.reference.override_architecture;
  const Json& config = model.files.config();
  if (!config.is_object()) return "";
  const auto found = config.find("architectures");
  if (found != config.end() && found->is_array() && !found->empty() && (*found)[0].is_string()) {
    return (*found)[0].get<std::string>();
  }
  return "";
}

// Models of different kinds seldom mean the same by the same name.
void check_architectures(const MergeRecipe& recipe, const std::vector<InputModel>& models) {
  const InputModel* first = nullptr;
  const std::vector<bool> merged = merged_models(recipe, models);
  for (std::size_t i = 0; i < models.size(); ++i) {
    const InputModel& model = models[i];
    const std::string kind = architecture_of(model);
    if (!merged[i] || kind.empty()) continue;
    if (first == nullptr) first = &model;
    const std::string wanted = architecture_of(*first);
    if (kind == wanted) continue;
    throw Error(Code::kInvalidArgument,
                "'" + recipe.file + "': the models are of different architectures: '" +
                    first->reference.text() + "' is " + wanted + ", '" + model.reference.text() +
                    "' is " + kind +
                    "; 'override_architecture' of a model, or the option allow_crimes "
                    "(--allow-crimes), merges them by their tensors' names all the same")
        .at("model", model.reference.text());
  }
}

// ---- tokenizer ---------------------------------------------------------------------------------

class TokenizerPreparation {
 public:
  explicit TokenizerPreparation(Prepared& out) : out_(out) {}

  void make() {
    std::vector<TokenizerInput> inputs = read();
    const MergeRecipe& recipe = out_.recipe;
    std::optional<std::size_t> base;
    if (recipe.base_model) base = position(*recipe.base_model);
    const auto find = [this](const ModelReference& model) { return position(model); };
    PreparedTokenizer tokenizer;
    tokenizer.plan = plan_tokenizer(recipe, inputs, base, find);
    tokenizer.folder = out_.models[tokenizer.plan.source].files.folder();
    renumber(tokenizer, inputs, base.value_or(first_merged(inputs)));
    arrange(tokenizer.plan);
    out_.tokenizer = std::move(tokenizer);
  }

 private:
  std::size_t position(const ModelReference& model) const {
    const std::string text = model.text();
    for (std::size_t i = 0; i < out_.models.size(); ++i) {
      if (out_.models[i].reference.text() == text) return i;
    }
    throw Error(Code::kInternal, "a model that was not opened: " + text);
  }

  static std::size_t first_merged(const std::vector<TokenizerInput>& inputs) {
    const auto found = std::find_if(inputs.begin(), inputs.end(),
                                    [](const TokenizerInput& input) { return input.merged; });
    return static_cast<std::size_t>(found - inputs.begin());
  }

  // Adapters on one base share its vocabulary.
  std::vector<TokenizerInput> read() {
    const std::vector<bool> merged = merged_models(out_.recipe, out_.models);
    std::vector<TokenizerInput> inputs;
    for (std::size_t i = 0; i < out_.models.size(); ++i) {
      InputModel& model = out_.models[i];
      const fs::path& folder = model.files.folder();
      auto [at, fresh] = vocabularies_.try_emplace(folder);
      if (fresh) at->second = vocabulary_of(i);
      for (const std::string& name : at->second.files) {
        const std::string text = read_file(folder / name, kTokenizerLimit);
        model.inputs.push_back(input_file(folder / name, Fingerprint().add(text).hex()));
      }
      inputs.push_back({model.reference.text(), &at->second, embedding_rows(model.files),
                        static_cast<bool>(merged[i])});
    }
    return inputs;
  }

  // A model without a tokenizer is taken to have the first one's, as in mergekit.
  Vocabulary vocabulary_of(std::size_t model) {
    const auto& files = out_.models[model].files;
    try {
      return read_vocabulary(files.folder());
    } catch (const Error& error) {
      const std::size_t first = out_.recipe.base_model ? position(*out_.recipe.base_model) : 0;
      if (error.code() != Code::kNotFound || model == first) throw;
      out_.warnings.push_back(std::string(error.what()) + "; the tokenizer of '" +
                              out_.models[first].reference.text() + "' is taken to be its own");
      Vocabulary same = read_vocabulary(out_.models[first].files.folder());
      same.files.clear();
      return same;
    }
  }

  // Special tokens that the donor's configuration knows by their numbers in its own vocabulary.
  void renumber(PreparedTokenizer& tokenizer, const std::vector<TokenizerInput>& inputs,
                std::size_t donor) const {
    if (donor == tokenizer.plan.source) return;
    const Vocabulary& old = *inputs[donor].vocabulary;
    const Vocabulary& source = *inputs[tokenizer.plan.source].vocabulary;
    std::map<std::int64_t, std::int64_t> numbers;
    std::unordered_map<std::string, std::int64_t> appended;
    for (const AddedToken& token : tokenizer.plan.appended) appended[token.content] = token.id;
    for (const auto& [token, id] : old.ids) {
      const auto extra = appended.find(token);
      const std::int64_t now = extra == appended.end() ? source.find(token) : extra->second;
      if (now >= 0) numbers.emplace(id, now);
    }
    tokenizer.config_edits = edits(out_.models[donor].files.config(), numbers);
    const fs::path generation = out_.models[donor].files.folder() / "generation_config.json";
    std::error_code ignored;
    if (!fs::exists(generation, ignored)) return;
    const JsonLimits limits{.bytes = static_cast<std::size_t>(kConfigLimit)};
    tokenizer.generation_edits = edits(parse_json(read_file(generation, kConfigLimit),
                                                  generation.string(), Code::kDataError, limits),
                                       numbers);
  }

  static std::vector<ConfigEdit> edits(const Json& config,
                                       const std::map<std::int64_t, std::int64_t>& numbers) {
    std::vector<ConfigEdit> out;
    if (!config.is_object()) return out;
    const auto renumbered = [&numbers](const Json& value) {
      if (!value.is_number_integer()) return value;
      const auto found = numbers.find(value.get<std::int64_t>());
      return found == numbers.end() ? value : Json(found->second);
    };
    for (const char* key :
         {"bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id",
          "cls_token_id", "mask_token_id", "decoder_start_token_id", "forced_bos_token_id",
          "forced_eos_token_id"}) {
      const auto found = config.find(key);
      if (found == config.end()) continue;
      Json value = *found;
      if (value.is_array()) {
        for (Json& item : value) item = renumbered(item);
      } else {
        value = renumbered(value);
      }
      if (value != *found) out.push_back({key, value});
    }
    return out;
  }

  void arrange(const TokenizerPlan& plan) {
    std::vector<std::shared_ptr<const ModelFiles>> models;
    for (InputModel& model : out_.models) {
      models.push_back(std::make_shared<const ModelFiles>(std::move(model.files)));
    }
    std::vector<ModelFiles> arranged = arrange_embeddings(models, plan);
    for (std::size_t i = 0; i < arranged.size(); ++i) out_.models[i].files = std::move(arranged[i]);
  }

  Prepared& out_;
  std::map<fs::path, Vocabulary> vocabularies_;
};

// ---- the whole ---------------------------------------------------------------------------------

void collect_warnings(Prepared& out) {
  for (const InputModel& model : out.models) {
    for (const std::string& warning : model.files.warnings()) {
      const auto& known = out.warnings;  // adapters on one base repeat its warnings
      if (std::find(known.begin(), known.end(), warning) == known.end()) {
        out.warnings.push_back(warning);
      }
    }
  }
  if (out.donor().files.config().is_null() && !out.makes_adapter()) {
    out.warnings.push_back("the model '" + out.donor().reference.text() +
                           "' has no config.json, so the output has none");
  }
}

template <class T>
void put_before(std::vector<T>& all, const std::vector<T>& first) {
  all.insert(all.begin(), first.begin(), first.end());
}

}  // namespace

std::string_view name_of(Accumulate accumulate) noexcept {
  return accumulate == Accumulate::kNative ? "native" : "float32";
}

std::string Prepared::config_text() const {
  const ModelFiles& model = donor().files;
  if (model.config().is_null()) return "";
  const fs::path file = model.folder() / "config.json";
  std::error_code ignored;
  // A model that is yet to be made has a configuration, but no file of it.
  const std::string text =
      fs::exists(file, ignored) ? read_file(file, kConfigLimit) : dump_json(model.config(), 2);
  const std::string& dtype = recipe.out_dtype.empty() ? recipe.dtype : recipe.out_dtype;
  return edited_config(text, file.string(), plan.config_edits, dtype);
}

void prepare_merge(Prepared& out, const MergeRecipe& recipe, const std::string& source,
                   const std::map<std::string, ModelFiles, std::less<>>& named,
                   const MergeOptions& options, Job& job) {
  out.recipe = recipe;
  out.source = source;
  InputOptions inputs;
  inputs.working_folder = options.working_folder;
  inputs.hub_cache = options.hub_cache;
  inputs.adapter_dtype = options.adapter_dtype;
  inputs.named = named;
  out.models = open_inputs(referenced_models(out.recipe), inputs, job);
  if (!options.allow_crimes) check_architectures(out.recipe, out.models);
  if (out.recipe.tokenizer) TokenizerPreparation(out).make();
  std::vector<ModelTensors> tensors;
  std::vector<const ModelFiles*> models;
  for (const InputModel& model : out.models) {
    tensors.push_back(tensors_of(model.files, model.reference.text()));
    models.push_back(&model.files);
  }
  out.plan = resolve(out.recipe, tensors);
  // What the adapter and the tokenizer change; what the plan decides comes later and counts more.
  if (out.tokenizer) {
    put_before(out.plan.config_edits, out.tokenizer->config_edits);
    put_before(out.plan.notes, out.tokenizer->plan.notes);
  }
  put_before(out.plan.config_edits, out.donor().config_edits);
  if (out.makes_adapter()) return collect_warnings(out);
  const KernelResolver kernels = options.kernels ? options.kernels : KernelResolver(find_kernel);
  ExecuteOptions execute = options.execute;
  execute.folder = options.working_folder.string();
  out.execution = prepare(out.plan, std::move(models), kernels, execute, out.recipe.dtype,
                          out.recipe.out_dtype);
  out.layout = lay_out(output_tensors(out.execution), options.shard_bytes);
  collect_warnings(out);
}

Json identity_of(const Prepared& prepared, const MergeOptions& options) {
  Fingerprint layout;
  for (const OutputShard& shard : prepared.layout.shards) layout.add(shard.file).add(shard.header);
  Json out{{"merge_journal", kJournalFormat},
           {"version", options.version},
           {"recipe", Fingerprint().add(prepared.source).hex()},
           {"accumulate", name_of(options.execute.accumulate)},
           {"seed", options.execute.seed},
           {"block_elements", options.execute.block_elements},
           {"piece_elements", options.execute.piece_elements},
           {"shard_bytes", options.shard_bytes},
           {"layout", layout.hex()}};
  if (options.adapter_dtype) out["adapter_dtype"] = tensorfile::dtype_name(*options.adapter_dtype);
  for (const InputModel& model : prepared.models) {
    for (const InputFile& file : model.inputs) {
      // By its whole path: resuming may start in another folder.
      out["input " + fs::absolute(file.path).lexically_normal().string()] =
          Json{{"bytes", file.bytes}, {"modified", file.modified}, {"header", file.header}};
    }
  }
  for (const std::string& name : prepared.execution.files) {
    const InputFile file = input_file(name, "");
    out["statistics " + fs::absolute(name).lexically_normal().string()] =
        Json{{"bytes", file.bytes}, {"modified", file.modified}};
  }
  return out;
}

}  // namespace theriac::merge
