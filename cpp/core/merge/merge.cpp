#include "cpp/core/merge/merge.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <system_error>
#include <utility>
#include <variant>

#include "cpp/core/base/file.h"
#include "cpp/core/base/file_operations.h"
#include "cpp/core/base/hash.h"
#include "cpp/core/merge/adapter_extraction.h"
#include "cpp/core/merge/journal.h"
#include "cpp/core/merge/prepared.h"
#include "cpp/core/merge/side_files.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using tensorfile::ModelFiles;

constexpr const char* kJournalFile = "merge.journal";
constexpr const char* kRequestFile = "merge.request";
// In the staging folder: what gets the target's name. Journal and request stay beside it, so that a process
// killed at any moment leaves either all of them or the complete model alone under its name.
constexpr const char* kModelFolder = "model";
// Its name while it changes places with an old model: what is found under it is either of the two.
constexpr const char* kExchangedFolder = "exchanged";
constexpr std::uint64_t kMostRequest = std::uint64_t{64} << 20;

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

void create_folder(const fs::path& folder) {
  std::error_code failed;
  if (fs::create_directory(folder, failed) || !failed) return;
  throw Error(Code::kIoError, "cannot create the folder '" + folder.string() +
                                  "' for the output: " + failed.message())
      .at("file", folder.string())
      .at("errno", failed.value());
}

// The model in a staging folder becomes the target, and the folder goes.
void publish_model(const fs::path& staging, const fs::path& target, bool overwrite) {
  const fs::path model = staging / kModelFolder, exchanged = staging / kExchangedFolder;
  std::error_code ignored;
  const bool exchanges = overwrite && fs::exists(target, ignored);
  if (exchanges) fs::rename(model, exchanged, ignored);
  try {
    publish(exchanges ? exchanged : model, target, overwrite);
  } catch (...) {
    if (exchanges) fs::rename(exchanged, model, ignored);
    throw;
  }
  fs::remove_all(staging, ignored);
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
        model_(staging_ / kModelFolder),
        outcomes_(prepared.execution.works.size()),
        done_(prepared.execution.works.size()) {}

  Json go() {
    check_target(target_, options_.overwrite);
    create_folder(staging_);
    if (!options_.request.empty()) replace_file(staging_ / kRequestFile, options_.request);
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
      if (options_.keep_unfinished || published_) throw kept(error.failure());
      std::error_code ignored;
      fs::remove_all(staging_, ignored);
      throw;
    }
  }

 private:
  OutputFiles open_output(Journal& journal) {
    std::error_code ignored;
    fs::remove_all(staging_ / kExchangedFolder, ignored);
    // Where there is none it got its name, and lost it since.
    const bool goes_on = !journal.entries().empty() && fs::is_directory(model_, ignored);
    if (goes_on) {
      remove_temporaries(model_);
      return OutputFiles::reopen(model_, prepared_.layout);
    }
    if (!journal.entries().empty()) journal.start_over(identity_of(prepared_, options_));
    fs::remove_all(model_, ignored);
    try {
      create_folder(model_);
      return OutputFiles::create(model_, prepared_.layout);
    } catch (...) {
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
    journal.write();
    resumed_ = good.size();
  }

  void make_tensors(Journal& journal, OutputFiles& output) {
    auto written = Clock::now();
    const auto finished = [&](std::size_t tensor, const TensorOutcome& outcome) {
      outcomes_[tensor] = outcome;
      journal.add({tensor, prepared_.layout.tensors[tensor].name, outcome.checksum, outcome.changed,
                   outcome.lost, outcome.non_finite_in, outcome.non_finite_out});
      if (Clock::now() - written < options_.journal_interval) return;
      journal.write();
      written = Clock::now();
    };
    try {
      totals_ = execute(prepared_.execution, output, done_, finished, job_);
    } catch (...) {
      try {
        journal.write();
      } catch (const Error&) {  // the first failure is the one to tell
      }
      throw;
    }
    journal.write();
  }

  Json finish(OutputFiles& output) {
    job_.milestone("finish", 0, 1);
    Json report = make_report();
    output.sync();
    if (prepared_.layout.shards.size() > 1) {
      replace_file(model_ / "model.safetensors.index.json", index_json(prepared_.layout));
    }
    const fs::path name = target_.has_filename() ? target_ : target_.parent_path();
    const auto notes =
        write_side_files(prepared_, model_, name.filename().string(), options_, report);
    for (const std::string& note : notes) report["warnings"].push_back(note);
    if (!totals_.statistics.is_null()) {
      replace_file(model_ / "merge_statistics.json", totals_.statistics.dump(2) + "\n");
    }
    output.finish();
    phases_.end("finish");
    if (options_.verify) {
      verify();
      report["verified"] = true;
      phases_.end("verify");
    }
    publish_model(staging_, target_, options_.overwrite);
    phases_.end("publish");
    report["seconds"] = phases_.json();
    published_ = true;
    job_.milestone("finish", 1, 1);
    return report;
  }

  // Reads the finished files as any reader of the model would, from the disk as far as the system
  // allows, and compares checksums.
  void verify() {
    for (const OutputShard& shard : prepared_.layout.shards) forget_cached(model_ / shard.file);
    const ModelFiles made = ModelFiles::open(model_);
    for (std::size_t i = 0; i < outcomes_.size(); ++i) {
      job_.progress("verify", i, outcomes_.size());
      const OutputTensor& tensor = prepared_.layout.tensors[i];
      const auto& record = made.at(tensor.name);
      const auto read = [&](std::uint64_t first, std::span<char> into) {
        made.read(record, first, into);
      };
      const bool same =
          record.dtype == tensor.dtype && record.shape == tensor.shape &&
          checksum_of(prepared_.execution, i, tensor.bytes, read) == outcomes_[i].checksum;
      if (same) continue;
      throw Error(Code::kDataError, "tensor '" + tensor.name + "' in '" +
                                        prepared_.layout.shards[tensor.shard].file +
                                        "' is not what was written: its checksum differs; the "
                                        "disk or the memory of this machine is at fault")
          .at("tensor", tensor.name);
    }
  }

  static void forget_cached(const fs::path& file) {
    const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;  // opening it as a model will tell
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
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
  const fs::path staging_, model_;
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
  for (const InputModel& model : prepared.models) {
    Json files = Json::array();
    for (const InputFile& file : model.inputs) {
      files.push_back(Json{{"file", file.path}, {"bytes", file.bytes}, {"header", file.header}});
    }
    models.push_back(Json{{"model", model.reference.text()}, {"files", std::move(files)}});
  }
  return Json{{"version", options.version},
              {"merge_method", prepared.plan.method->name},
              {"accumulate", name_of(options.execute.accumulate)},
              {"seed", options.execute.seed},
              {"threads", prepared.execution.threads()},
              {"donor", prepared.donor().reference.text()},
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
  out["statistics"] = totals_.statistics;
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
  out["statistics_passes"] = work.statistics_passes;
  Json sources = Json::array();
  for (std::size_t s = 0; s < planned.sources.size(); ++s) {
    const PlannedSource& source = planned.sources[s];
    sources.push_back(
        Json{{"model", prepared.models[source.model].reference.text()},
             {"tensor", source.tensor},
             {"dtype", tensorfile::dtype_name(work.sources[s]->dtype)},
             {"base", static_cast<int>(s) == planned.base},
             {"crop", source.crop},
             {"parameters", parameters_json(*prepared.plan.method, source.parameters)}});
  }
  out["sources"] = std::move(sources);
  return out;
}

ExtractionOptions extraction_options(const Prepared& prepared, const MergeOptions& options) {
  ExtractionOptions out;
  for (const PlannedTensor& tensor : prepared.plan.tensors) {
    if (tensor.parameters.size() == 0) continue;  // a copy
    out = ExtractionOptions::of(tensor.parameters);
    break;
  }
  const MergeRecipe& recipe = prepared.recipe;
  const std::string& dtype = recipe.out_dtype.empty() ? recipe.dtype : recipe.out_dtype;
  if (dtype == "bfloat16") out.dtype = tensorfile::DType::kBF16;
  if (dtype == "float16") out.dtype = tensorfile::DType::kF16;
  if (recipe.base_model) out.base_name = recipe.base_model->text();
  out.seed = options.execute.seed;
  out.memory_limit = options.execute.memory_limit;
  return out;
}

// An adapter is made whole or not at all: there is nothing to resume.
Json make_adapter(const Prepared& prepared, const fs::path& target, const MergeOptions& options,
                  Phases& phases, Job& job) {
  const fs::path staging = staging_folder(target);
  const fs::path model = staging / kModelFolder;
  std::error_code ignored;
  create_folder(staging);
  Json report = head_json(prepared, options);
  try {
    const Journal lock = Journal::create(staging / kJournalFile, identity_of(prepared, options));
    fs::remove_all(model, ignored);
    create_folder(model);
    std::vector<const ModelFiles*> models;
    for (const InputModel& input : prepared.models) models.push_back(&input.files);
    report["adapter"] =
        extract_adapter(prepared.plan, models, model, extraction_options(prepared, options), job);
    phases.end("extract");
    replace_file(model / "mergekit_config.yml", prepared.source);
    publish_model(staging, target, options.overwrite);
  } catch (const Error& error) {
    if (error.failure().code != Code::kBusy) fs::remove_all(staging, ignored);
    throw;
  }
  phases.end("finish");
  report["notes"] = prepared.plan.notes;
  report["warnings"] = prepared.warnings;
  report["seconds"] = phases.json();
  return report;
}

Json plan_json(const Prepared& prepared, const MergeOptions& options) {
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
  return out;
}

// ---- recipes -----------------------------------------------------------------------------------

using NamedModels = std::map<std::string, ModelFiles, std::less<>>;

RecipeFile parse(std::string_view text, const std::string& file_name, const MergeOptions& options) {
  RecipeOptions recipe_options;
  recipe_options.strict = options.strict;
  return parse_recipe(text, file_name, recipe_options);
}

// The recipe's come first: they are what a user can mend.
void add_warnings(Json& report, const RecipeFile& file) {
  Json all = Json::array();
  for (const RecipeWarning& warning : file.warnings) all.push_back(warning.message);
  for (const Json& warning : report.at("warnings")) all.push_back(warning);
  report["warnings"] = std::move(all);
}

Json merge_one(const RecipeFile& file, const fs::path& output, const MergeOptions& options,
               Job& job) {
  Phases phases;
  check_target(output, options.overwrite);  // before anything that takes time
  Prepared prepared;
  prepare_merge(prepared, file.recipes[0], file.source, {}, options, job);
  phases.end("plan");
  if (prepared.makes_adapter()) return make_adapter(prepared, output, options, phases, job);
  return Run(prepared, output, options, phases, job).go();
}

Json plan_one(const MergeRecipe& recipe, const std::string& source, const NamedModels& named,
              const MergeOptions& options, Job& job) {
  Prepared prepared;
  prepare_merge(prepared, recipe, source, named, options, job);
  return plan_json(prepared, options);
}

// ".NAME.parts" beside the target: what the earlier documents of a recipe make.
fs::path parts_folder(const fs::path& target) {
  const fs::path staging = staging_folder(target);
  fs::path name = staging.filename();
  return staging.parent_path() / (name.stem().string() + ".parts");
}

// What the next document sees of a model that is not made yet.
ModelFiles described(const Prepared& prepared, const fs::path& folder) {
  std::vector<tensorfile::TensorRecord> tensors;
  for (const OutputTensor& tensor : prepared.layout.tensors) {
    tensorfile::TensorRecord record;
    record.name = tensor.name;
    record.dtype = tensor.dtype;
    record.shape = tensor.shape;
    record.bytes = tensor.bytes;
    record.offset = tensor.offset;
    tensors.push_back(std::move(record));
  }
  const std::string config = prepared.config_text();
  return ModelFiles::described(folder, std::move(tensors),
                               config.empty() ? Json() : parse_json(config, "config.json"));
}

// A recipe of several documents: each is merged into a folder of its own, in the order in which they
// need each other, and the one without a name at last. A document that an earlier run finished from
// the same inputs is not made again when that run is resumed.
class Documents {
 public:
  Documents(const RecipeFile& file, const fs::path& output, const MergeOptions& options, Job& job)
      : file_(file), output_(output), options_(options), job_(job) {
    for (const MergeRecipe& recipe : file.recipes) check_name(recipe);
  }

  Json merge() {
    for (const MergeRecipe& recipe : file_.recipes)
      check_target(place(recipe), may_replace(recipe));
    const fs::path parts = parts_folder(output_);
    std::error_code failed;
    if (!options_.resume) fs::remove_all(parts, failed);
    for (const fs::path& folder : {parts, intermediate_folder()}) {
      fs::create_directories(folder, failed);
      if (failed) {
        throw Error(Code::kIoError,
                    "cannot create the folder '" + folder.string() + "': " + failed.message())
            .at("file", folder.string());
      }
    }
    if (!options_.request.empty()) replace_file(parts / kRequestFile, options_.request);
    Json report;
    try {
      report = merge_all();
    } catch (...) {
      if (!anything_done()) fs::remove_all(parts, failed);
      throw;
    }
    fs::remove_all(parts, failed);
    return report;
  }

  Json plan() {
    NamedModels named;
    Json last, documents = Json::object();
    for (const MergeRecipe& recipe : file_.recipes) {
      Prepared prepared;
      prepare_merge(prepared, recipe, recipe.source, named, options_, job_);
      check_model(prepared, recipe);
      last = plan_json(prepared, options_);
      if (recipe.name.empty()) continue;
      named.emplace(recipe.name, described(prepared, recipe.name));
      documents[recipe.name] = last;
    }
    last["documents"] = std::move(documents);
    return last;
  }

 private:
  // Names become folders.
  void check_name(const MergeRecipe& recipe) const {
    const std::string& name = recipe.name;
    const bool plain =
        name.empty() || (name.size() <= 200 && name.front() != '.' &&
                         name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos);
    if (plain) return;
    throw error_at(file_.recipes.front().file, {}, "name",
                   quoted_for_message(name) +
                       " cannot be the name of a folder; names of documents "
                       "have no '/' and do not start with '.'");
  }

  // A document with a name is a model of the others.
  void check_model(const Prepared& prepared, const MergeRecipe& recipe) const {
    if (recipe.name.empty() || !prepared.makes_adapter()) return;
    throw error_at(file_.recipes.front().file, {}, "merge_method",
                   "the document " + quoted_for_message(recipe.name) +
                       " makes an adapter, which is no model to others; put the extraction into "
                       "the last document, without a name");
  }

  fs::path intermediate_folder() const {
    if (!options_.intermediate_folder.empty()) return options_.intermediate_folder;
    return file_.final_recipe ? parts_folder(output_) : output_;
  }
  fs::path place(const MergeRecipe& recipe) const {
    return recipe.name.empty() ? output_ : intermediate_folder() / recipe.name;
  }
  // What lies in the hidden folder is ours, and what a stopped run has made is its own.
  bool may_replace(const MergeRecipe& recipe) const {
    const bool hidden = file_.final_recipe && options_.intermediate_folder.empty();
    return options_.overwrite || (!recipe.name.empty() && (hidden || options_.resume));
  }

  // Whether there is anything to go on with.
  bool anything_done() const {
    std::error_code ignored;
    for (const fs::path& folder : {parts_folder(output_), intermediate_folder()}) {
      for (const auto& entry : fs::directory_iterator(folder, ignored)) {
        const fs::path kind = entry.path().extension();
        if (kind == ".finished" || kind == ".merging") return true;
      }
    }
    return fs::exists(staging_folder(output_), ignored);
  }

  Json merge_all() {
    NamedModels named;
    Json last, documents = Json::object();
    for (const MergeRecipe& recipe : file_.recipes) {
      last = merge(recipe, named);
      if (recipe.name.empty()) continue;
      named.emplace(recipe.name, ModelFiles::open(place(recipe)));
      documents[recipe.name] = last;
    }
    last["documents"] = std::move(documents);
    return last;
  }

  Json merge(const MergeRecipe& recipe, const NamedModels& named) {
    Phases phases;
    const fs::path target = place(recipe);
    MergeOptions options = options_;
    options.request.clear();  // it stands in the folder of the parts
    options.overwrite = may_replace(recipe);
    options.write_card = options.write_card && recipe.name.empty();
    Prepared prepared;
    prepare_merge(prepared, recipe, recipe.source, named, options, job_);
    check_model(prepared, recipe);
    phases.end("plan");
    if (prepared.makes_adapter()) return make_adapter(prepared, target, options, phases, job_);
    const std::string identity = dump_json(identity_of(prepared, options));
    const fs::path finished = parts_folder(output_) / ("." + recipe.name + ".finished");
    std::error_code ignored;
    if (options.resume && !recipe.name.empty() && fs::exists(target, ignored) &&
        fs::exists(finished, ignored) && read_file(finished, kMostRequest) == identity) {
      Json report = head_json(prepared, options);
      report["taken_over"] = true;
      report["notes"] = prepared.plan.notes;
      report["warnings"] = prepared.warnings;
      return report;
    }
    const bool started = fs::exists(staging_folder(target) / kJournalFile, ignored);
    options.resume = options.resume && started;
    Json report = Run(prepared, target, options, phases, job_).go();
    if (!recipe.name.empty()) replace_file(finished, identity);
    return report;
  }

  const RecipeFile& file_;
  const fs::path output_;
  const MergeOptions& options_;
  Job& job_;
};

}  // namespace

MergeReport merge_recipe(std::string_view text, const std::string& file_name,
                         const fs::path& output, const MergeOptions& options, Job& job) {
  RecipeFile file = parse(text, file_name, options);
  MergeReport report{file.recipes.size() == 1 ? merge_one(file, output, options, job)
                                              : Documents(file, output, options, job).merge()};
  add_warnings(report.json, file);
  return report;
}

MergeReport plan_recipe(std::string_view text, const std::string& file_name,
                        const MergeOptions& options, Job& job) {
  RecipeFile file = parse(text, file_name, options);
  MergeReport report{file.recipes.size() == 1
                         ? plan_one(file.recipes[0], file.source, {}, options, job)
                         : Documents(file, "", options, job).plan()};
  add_warnings(report.json, file);
  return report;
}

std::optional<std::string> stored_request(const fs::path& output) {
  for (const fs::path& folder : {parts_folder(output), staging_folder(output)}) {
    std::error_code ignored;
    const fs::path file = folder / kRequestFile;
    if (fs::exists(file, ignored)) return read_file(file, kMostRequest);
  }
  return std::nullopt;
}

}  // namespace theriac::merge
