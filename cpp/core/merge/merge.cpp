#include "cpp/core/merge/merge.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <system_error>
#include <utility>
#include <variant>

#include "cpp/core/base/file.h"
#include "cpp/core/base/hash.h"
#include "cpp/core/merge/journal.h"
#include "cpp/core/tensorfile/convert.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using tensorfile::ModelFiles;
using tensorfile::TensorRecord;

constexpr const char* kJournalFile = "merge.journal";
constexpr int kJournalFormat = 1;
constexpr std::uint64_t kConfigLimit = std::uint64_t{64} << 20;

// ---- inputs ------------------------------------------------------------------------------------

// One file of an input, as it was when it was opened.
struct InputFile {
  std::string path;
  std::uint64_t bytes = 0;
  std::int64_t modified = 0;  // nanoseconds
  std::string header;         // fingerprint of its tensors' names, types, shapes and places
};

std::vector<InputFile> files_of(const ModelFiles& model) {
  std::map<std::size_t, Fingerprint> headers;
  std::map<std::size_t, std::string> names;
  for (const TensorRecord& tensor : model.tensors()) {
    Fingerprint& header = headers[tensor.file];
    names.emplace(tensor.file, model.file_name(tensor));
    header.add(tensor.name).add(tensorfile::dtype_name(tensor.dtype));
    header.add_values(std::span(tensor.shape)).add_values(std::span(tensor.strides));
    header.add(static_cast<std::int64_t>(tensor.offset));
  }
  std::vector<InputFile> out;
  for (const auto& [file, name] : names) {
    struct stat status {};
    if (::stat(name.c_str(), &status) != 0) {
      throw Error(Code::kIoError,
                  "cannot inspect '" + name + "': " + std::generic_category().message(errno))
          .at("file", name);
    }
    constexpr std::int64_t kSecond = 1'000'000'000;
    out.push_back({name, static_cast<std::uint64_t>(status.st_size),
                   status.st_mtim.tv_sec * kSecond + status.st_mtim.tv_nsec,
                   headers.at(file).hex()});
  }
  return out;
}

ModelTensors tensors_of(const ModelFiles& model, const std::string& name) {
  ModelTensors out;
  out.name = name;
  for (const TensorRecord& tensor : model.tensors()) {
    out.tensors.push_back({tensor.name, tensor.shape, tensorfile::is_float(tensor.dtype)});
  }
  out.config = model.config();
  return out;
}

ModelFiles open_model(const ModelReference& reference, const fs::path& working_folder) {
  if (!reference.lora_path.empty()) {
    throw Error(Code::kUnsupported, "the model '" + reference.text() +
                                        "' has an adapter on top, which is not supported yet; "
                                        "merge the adapter into its model first")
        .at("model", reference.text());
  }
  const fs::path path = working_folder / reference.path;
  std::error_code ignored;
  if (fs::exists(path, ignored)) return ModelFiles::open(path);
  throw Error(Code::kNotFound, "there is no model at '" + path.string() +
                                   "'; models are local folders or files, nothing is downloaded")
      .at("model", reference.text())
      .at("file", path.string());
}

// Seconds by phase, in order.
class Phases {
 public:
  void end(const std::string& phase) {
    const auto now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    json_[phase] = seconds;
    total_ += seconds;
  }
  Json json() const {
    Json out = json_;
    out["total"] = total_;
    return out;
  }

 private:
  Clock::time_point last_ = Clock::now();
  Json json_ = Json::object();
  double total_ = 0;
};

// All that is known before the first tensor is read.
struct Prepared {
  RecipeFile file;
  std::vector<ModelReference> references;
  std::vector<ModelFiles> models;
  std::vector<std::vector<InputFile>> inputs;
  MergePlan plan;
  Execution execution;
  OutputLayout layout;
  std::vector<std::string> warnings;

  const MergeRecipe& recipe() const { return file.recipes.front(); }
  const ModelFiles& donor() const { return models[plan.donor]; }
};

void check_supported(const RecipeFile& file) {
  const auto unsupported = [&file](const std::string& what, const std::string& key) {
    return Error(Code::kUnsupported, "'" + file.recipes.front().file + "': " + what)
        .at("json_path", key);
  };
  if (file.recipes.size() != 1) {
    throw unsupported("recipes of several documents are not supported yet; run them one by one",
                      "name");
  }
  const MergeRecipe& recipe = file.recipes.front();
  if (recipe.tokenizer) {
    throw unsupported(
        "merging tokenizers is not supported yet; without 'tokenizer_source' and "
        "'tokenizer' the donor's tokenizer is kept",
        "tokenizer");
  }
}

void collect_warnings(Prepared& out) {
  for (const RecipeWarning& warning : out.file.warnings) out.warnings.push_back(warning.message);
  if (!out.recipe().chat_template.empty()) {
    out.warnings.emplace_back("chat_template is not applied; the donor's template is kept");
  }
  for (std::size_t i = 0; i < out.models.size(); ++i) {
    const auto& found = out.models[i].warnings();
    out.warnings.insert(out.warnings.end(), found.begin(), found.end());
    if (!out.references[i].revision.empty()) {
      out.warnings.push_back("the revision of '" + out.references[i].text() +
                             "' is not checked: the model is local");
    }
  }
  if (out.donor().config().is_null()) {
    out.warnings.push_back("the model '" + out.references[out.plan.donor].text() +
                           "' has no config.json, and so has the output");
  }
}

// `out` must not move afterwards: execution refers to plan and models.
void prepare_all(Prepared& out, std::string_view text, const std::string& file_name,
                 const MergeOptions& options, Phases& phases, Job& job) {
  RecipeOptions recipe_options;
  recipe_options.strict = options.strict;
  out.file = parse_recipe(text, file_name, recipe_options);
  check_supported(out.file);
  out.references = referenced_models(out.recipe());
  std::vector<ModelTensors> tensors;
  for (std::size_t i = 0; i < out.references.size(); ++i) {
    job.progress("open", i, out.references.size());
    out.models.push_back(open_model(out.references[i], options.working_folder));
    out.inputs.push_back(files_of(out.models.back()));
    tensors.push_back(tensors_of(out.models.back(), out.references[i].text()));
  }
  phases.end("open");
  out.plan = resolve(out.recipe(), tensors);
  std::vector<const ModelFiles*> models;
  for (const ModelFiles& model : out.models) models.push_back(&model);
  const KernelResolver kernels = options.kernels ? options.kernels : KernelResolver(find_kernel);
  out.execution = prepare(out.plan, std::move(models), kernels, options.execute, out.recipe().dtype,
                          out.recipe().out_dtype);
  out.layout = lay_out(output_tensors(out.execution), options.shard_bytes);
  collect_warnings(out);
  phases.end("plan");
}

const char* name_of(Accumulate accumulate) {
  return accumulate == Accumulate::kNative ? "native" : "float32";
}

// What must be equal for a merge to be resumed. Threads and limits may differ.
Json identity_of(const Prepared& prepared, const MergeOptions& options) {
  Fingerprint layout;
  for (const OutputShard& shard : prepared.layout.shards) layout.add(shard.file).add(shard.header);
  Json out{{"merge_journal", kJournalFormat},
           {"version", options.version},
           {"recipe", Fingerprint().add(prepared.file.source).hex()},
           {"accumulate", name_of(options.execute.accumulate)},
           {"seed", options.execute.seed},
           {"block_elements", options.execute.block_elements},
           {"shard_bytes", options.shard_bytes},
           {"layout", layout.hex()}};
  for (std::size_t i = 0; i < prepared.inputs.size(); ++i) {
    for (const InputFile& file : prepared.inputs[i]) {
      out["input " + file.path] =
          Json{{"bytes", file.bytes}, {"modified", file.modified}, {"header", file.header}};
    }
  }
  return out;
}

// ---- files beside the tensors ------------------------------------------------------------------

// Hub names, which links of a model card are made of; a path is none.
bool is_hub_name(const std::string& path) {
  const auto slash = path.find('/');
  return slash != std::string::npos && slash > 0 && slash + 1 < path.size() &&
         path.find('/', slash + 1) == std::string::npos && path.front() != '.';
}

std::string fenced(const std::string& text) {
  std::size_t longest = 2, run = 0;
  for (const char c : text) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  const std::string fence(longest + 1, '`');
  return fence + "yaml\n" + text + (text.ends_with('\n') ? "" : "\n") + fence + "\n";
}

std::string card(const Prepared& prepared, const std::string& name, const Json& report) {
  std::string hub, list;
  for (std::size_t i = 0; i < prepared.references.size(); ++i) {
    const ModelReference& model = prepared.references[i];
    if (is_hub_name(model.path)) hub += "- " + dump_json(Json(model.path)) + "\n";
    Fingerprint headers;
    for (const InputFile& file : prepared.inputs[i]) {
      headers.add(static_cast<std::int64_t>(file.bytes)).add(file.header);
    }
    list += "* `" + model.text() + "` (headers " + headers.hex() + ")\n";
  }
  const MergeRecipe& recipe = prepared.recipe();
  const MethodDeclaration& method = *prepared.plan.method;
  std::string out = "---\n";
  if (!hub.empty()) out += "base_model:\n" + hub;
  out += "library_name: transformers\ntags:\n- mergekit\n- merge\n---\n# " + name + "\n\n";
  out += "A merge of language models or other networks, made with Theriac" +
         (report.at("version") == "" ? "" : " " + report.at("version").get<std::string>()) +
         ".\n\n## Method\n\n`" + method.name + "`: " + method.doc;
  if (!method.paper.empty()) {
    out += " ([arXiv:" + method.paper + "](https://arxiv.org/abs/" + method.paper + "))";
  }
  out += ".\n";
  if (recipe.base_model) out += "\nBase: `" + recipe.base_model->text() + "`\n";
  out += "\n## Models\n\n" + list + "\n## Recipe\n\n" + fenced(prepared.file.source);
  out += "\n## Result\n\n" + std::to_string(prepared.layout.tensors.size()) + " tensors, " +
         std::to_string(prepared.layout.tensor_bytes) + " bytes.";
  if (report.contains("fraction_lost") && report.at("fraction_lost").is_number()) {
    out += " Share of changes that rounding undid: " + dump_json(report.at("fraction_lost")) + ".";
  }
  out += "\n";
  for (const char* kind : {"notes", "warnings"}) {
    for (const Json& note : report.at(kind)) out += "\n* " + note.get<std::string>();
  }
  return out + (report.at("notes").empty() && report.at("warnings").empty() ? "" : "\n");
}

void write_config(const Prepared& prepared, const fs::path& folder) {
  const ModelFiles& donor = prepared.donor();
  if (donor.config().is_null()) return;
  const fs::path source = donor.folder() / "config.json";
  const MergeRecipe& recipe = prepared.recipe();
  const std::string& dtype = recipe.out_dtype.empty() ? recipe.dtype : recipe.out_dtype;
  replace_file(folder / "config.json",
               edited_config(read_file(source, kConfigLimit), source.string(),
                             prepared.plan.config_edits, dtype));
}

void copy_side_files(const Prepared& prepared, const fs::path& folder) {
  for (const std::string& name : prepared.donor().side_files()) {
    const fs::path source = prepared.donor().folder() / name;
    std::error_code failed;
    fs::copy_file(source, folder / name, fs::copy_options::overwrite_existing, failed);
    if (failed) {
      throw Error(Code::kIoError, "cannot copy '" + source.string() + "': " + failed.message())
          .at("file", source.string())
          .at("errno", failed.value());
    }
  }
}

// ---- one run -----------------------------------------------------------------------------------

class Run {
 public:
  Run(const Prepared& prepared, const fs::path& target, const MergeOptions& options, Phases& phases,
      Job& job)
      : prepared_(prepared),
        target_(target),
        options_(options),
        phases_(phases),
        job_(job),
        staging_(staging_folder(target)),
        outcomes_(prepared.execution.works.size()),
        done_(prepared.execution.works.size()) {}

  Json go() {
    check_target(target_, options_.overwrite);
    make_staging_folder();
    const fs::path file = staging_ / kJournalFile;
    const Json identity = identity_of(prepared_, options_);
    Journal journal =
        options_.resume ? Journal::resume(file, identity) : Journal::create(file, identity);
    OutputFiles output = open_output(journal);
    phases_.end("allocate");
    try {
      take_over(journal, identity, output);
      phases_.end("verify");
      make_tensors(journal, output);
      phases_.end("merge");
      return finish(output);
    } catch (const Error& error) {
      throw kept(error.failure());
    }
  }

 private:
  void make_staging_folder() {
    std::error_code failed;
    if (fs::create_directory(staging_, failed) || !failed) return;
    throw Error(Code::kIoError, "cannot create the folder '" + staging_.string() +
                                    "' for the output: " + failed.message())
        .at("file", staging_.string())
        .at("errno", failed.value());
  }

  // All but the journal, which is ours already.
  void empty_staging_folder() {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(staging_, ignored)) {
      if (entry.path().filename() != kJournalFile) fs::remove_all(entry.path(), ignored);
    }
  }

  OutputFiles open_output(const Journal& journal) {
    if (!journal.entries().empty()) return OutputFiles::reopen(staging_, prepared_.layout);
    empty_staging_folder();
    try {
      return OutputFiles::create(staging_, prepared_.layout);
    } catch (...) {
      std::error_code ignored;
      fs::remove_all(staging_, ignored);  // nothing was done in it
      throw;
    }
  }

  // Believes the journal, or what of it proves true.
  void take_over(Journal& journal, const Json& identity, const OutputFiles& output) {
    std::map<std::size_t, JournalEntry> good;
    std::size_t bad = 0, seen = 0;
    for (const JournalEntry& entry : journal.entries()) {
      job_.progress("verify", seen++, journal.entries().size());
      const bool known =
          entry.tensor < done_.size() && entry.name == prepared_.layout.tensors[entry.tensor].name;
      if (known && (!options_.verify_on_resume ||
                    checksum_of(prepared_.execution, entry.tensor, output) == entry.checksum)) {
        good[entry.tensor] = entry;
      } else {
        ++bad;
      }
    }
    if (bad > 0) {
      warnings_.push_back(std::to_string(bad) +
                          " tensors of the stopped run did not match their checksums and are made "
                          "again");
      journal.start_over(identity);
    }
    for (const auto& [tensor, entry] : good) {
      done_[tensor] = 1;
      outcomes_[tensor] = {entry.checksum, entry.changed, entry.lost, entry.non_finite_in,
                           entry.non_finite_out};
      if (bad > 0) journal.add(entry);
    }
    journal.sync();
    resumed_ = good.size();
  }

  void make_tensors(Journal& journal, OutputFiles& output) {
    auto synced = Clock::now();
    const auto finished = [&](std::size_t tensor, const TensorOutcome& outcome) {
      outcomes_[tensor] = outcome;
      journal.add({tensor, prepared_.layout.tensors[tensor].name, outcome.checksum, outcome.changed,
                   outcome.lost, outcome.non_finite_in, outcome.non_finite_out});
      if (Clock::now() - synced < options_.journal_interval) return;
      journal.sync();
      synced = Clock::now();
    };
    try {
      totals_ = execute(prepared_.execution, output, done_, finished, job_);
    } catch (...) {
      try {
        journal.sync();
      } catch (const Error&) {  // the first failure is the one to tell
      }
      throw;
    }
    journal.sync();
  }

  Json finish(OutputFiles& output) {
    job_.milestone("finish", 0, 1);
    Json report = make_report();
    if (prepared_.layout.shards.size() > 1) {
      replace_file(staging_ / "model.safetensors.index.json", index_json(prepared_.layout));
    }
    write_config(prepared_, staging_);
    if (options_.copy_side_files) copy_side_files(prepared_, staging_);
    replace_file(staging_ / "mergekit_config.yml", prepared_.file.source);
    if (options_.write_card) {
      const fs::path name = target_.has_filename() ? target_ : target_.parent_path();
      replace_file(staging_ / "README.md", card(prepared_, name.filename().string(), report));
    }
    output.finish();
    publish(staging_, target_, options_.overwrite);
    std::error_code ignored;
    fs::remove(target_ / kJournalFile, ignored);
    phases_.end("finish");
    report["seconds"] = phases_.json();
    published_ = true;
    job_.milestone("finish", 1, 1);
    return report;
  }

  Error kept(Failure failure) const {
    if (published_) return Error(std::move(failure));
    failure.message += "; what is done is kept in '" + staging_.string() +
                       "', and the same merge with 'resume' goes on from there";
    failure.details.emplace_back("staging", staging_.string());
    return Error(std::move(failure));
  }

  Json make_report();

  const Prepared& prepared_;
  const fs::path& target_;
  const MergeOptions& options_;
  Phases& phases_;
  Job& job_;
  const fs::path staging_;
  std::vector<TensorOutcome> outcomes_;
  std::vector<char> done_;
  std::vector<std::string> warnings_;
  std::size_t resumed_ = 0;
  ExecuteTotals totals_;
  bool published_ = false;
};

const char* name_of(WorkKind kind) {
  switch (kind) {
    case WorkKind::kMerge:
      return "merge";
    case WorkKind::kConvert:
      return "convert";
    case WorkKind::kCopy:
      return "copy";
  }
  return "";
}

const char* name_of(Granularity granularity) {
  switch (granularity) {
    case Granularity::kElements:
      return "elements";
    case Granularity::kRows:
      return "rows";
    case Granularity::kTensor:
      return "tensor";
  }
  return "";
}

Json ratio(std::uint64_t part, std::uint64_t all) {
  return all == 0 ? Json() : Json(static_cast<double>(part) / static_cast<double>(all));
}

Json tensor_json(const Prepared& prepared, std::size_t i) {
  const OutputTensor& tensor = prepared.layout.tensors[i];
  return Json{{"name", tensor.name},
              {"dtype", tensorfile::dtype_name(tensor.dtype)},
              {"shape", tensor.shape},
              {"bytes", tensor.bytes},
              {"file", prepared.layout.shards[tensor.shard].file},
              {"action", name_of(prepared.execution.works[i].kind)}};
}

Json shards_json(const OutputLayout& layout) {
  Json out = Json::array();
  for (const OutputShard& shard : layout.shards) {
    out.push_back(Json{{"file", shard.file}, {"bytes", shard.bytes}});
  }
  return out;
}

Json head_json(const Prepared& prepared, const MergeOptions& options) {
  Json models = Json::array();
  for (std::size_t i = 0; i < prepared.references.size(); ++i) {
    Json files = Json::array();
    for (const InputFile& file : prepared.inputs[i]) {
      files.push_back(Json{{"file", file.path}, {"bytes", file.bytes}, {"header", file.header}});
    }
    models.push_back(Json{{"model", prepared.references[i].text()}, {"files", std::move(files)}});
  }
  return Json{{"version", options.version},
              {"merge_method", prepared.plan.method->name},
              {"accumulate", name_of(options.execute.accumulate)},
              {"seed", options.execute.seed},
              {"threads", prepared.execution.threads()},
              {"donor", prepared.references[prepared.plan.donor].text()},
              {"models", std::move(models)},
              {"shards", shards_json(prepared.layout)}};
}

Json Run::make_report() {
  Json out = head_json(prepared_, options_);
  Json tensors = Json::array();
  TensorOutcome all;
  std::vector<std::string> warnings = prepared_.warnings;
  warnings.insert(warnings.end(), warnings_.begin(), warnings_.end());
  for (std::size_t i = 0; i < outcomes_.size(); ++i) {
    const TensorOutcome& outcome = outcomes_[i];
    Json tensor = tensor_json(prepared_, i);
    tensor["xxh3"] = outcome.checksum;
    tensor["fraction_lost"] = ratio(outcome.lost, outcome.changed);
    tensor["non_finite_in"] = outcome.non_finite_in;
    tensor["non_finite_out"] = outcome.non_finite_out;
    tensors.push_back(std::move(tensor));
    all.changed += outcome.changed;
    all.lost += outcome.lost;
    if (outcome.non_finite_in + outcome.non_finite_out > 0) {
      warnings.push_back("tensor '" + prepared_.layout.tensors[i].name +
                         "': " + std::to_string(outcome.non_finite_in) +
                         " elements of the inputs and " + std::to_string(outcome.non_finite_out) +
                         " of the result are NaN or infinite");
    }
  }
  out["fraction_lost"] = ratio(all.lost, all.changed);
  out["bytes_read"] = totals_.bytes_read;
  out["bytes_written"] = totals_.bytes_written;
  out["bytes_copied_in_kernel"] = totals_.kernel_copies;
  out["tensors_resumed"] = resumed_;
  out["notes"] = prepared_.plan.notes;
  out["warnings"] = warnings;
  out["seconds"] = Json::object();
  out["tensors"] = std::move(tensors);
  return out;
}

Json parameters_json(const MethodDeclaration& method, const Parameters& parameters) {
  Json out = Json::object();
  for (const ParameterDeclaration& declaration : method.parameters) {
    const ParameterValue* value = parameters.find(declaration.name);
    if (value == nullptr) continue;
    out[declaration.name] = std::visit([](const auto& typed) { return Json(typed); }, *value);
  }
  return out;
}

Json planned_json(const Prepared& prepared, std::size_t i) {
  const Work& work = prepared.execution.works[i];
  const PlannedTensor& planned = *work.planned;
  Json out = tensor_json(prepared, i);
  out["layer"] = planned.layer < 0 ? Json() : Json(planned.layer);
  out["t"] = planned.t;
  out["parameters"] = parameters_json(*prepared.plan.method, planned.parameters);
  out["granularity"] = name_of(work.granularity);
  out["passes"] = work.passes;
  Json sources = Json::array();
  for (std::size_t s = 0; s < planned.sources.size(); ++s) {
    const PlannedSource& source = planned.sources[s];
    sources.push_back(
        Json{{"model", prepared.references[source.model].text()},
             {"tensor", source.tensor},
             {"dtype", tensorfile::dtype_name(work.sources[s]->dtype)},
             {"base", static_cast<int>(s) == planned.base},
             {"crop", source.crop},
             {"parameters", parameters_json(*prepared.plan.method, source.parameters)}});
  }
  out["sources"] = std::move(sources);
  return out;
}

}  // namespace

MergeReport merge_recipe(std::string_view text, const std::string& file_name,
                         const fs::path& output, const MergeOptions& options, Job& job) {
  Phases phases;
  check_target(output, options.overwrite);  // before anything that takes time
  Prepared prepared;
  prepare_all(prepared, text, file_name, options, phases, job);
  return {Run(prepared, output, options, phases, job).go()};
}

MergeReport plan_recipe(std::string_view text, const std::string& file_name,
                        const MergeOptions& options, Job& job) {
  Phases phases;
  Prepared prepared;
  prepare_all(prepared, text, file_name, options, phases, job);
  Json out = head_json(prepared, options);
  out["bytes_in"] = prepared.execution.bytes_in();
  out["bytes_out"] = prepared.layout.file_bytes();
  out["peak_memory"] = prepared.execution.peak_memory();
  Json edits = Json::object();
  for (const ConfigEdit& edit : prepared.plan.config_edits) edits[edit.key] = edit.value;
  out["config_edits"] = std::move(edits);
  out["notes"] = prepared.plan.notes;
  out["warnings"] = prepared.warnings;
  Json tensors = Json::array();
  for (std::size_t i = 0; i < prepared.execution.works.size(); ++i) {
    tensors.push_back(planned_json(prepared, i));
  }
  out["tensors"] = std::move(tensors);
  return {std::move(out)};
}

}  // namespace theriac::merge
