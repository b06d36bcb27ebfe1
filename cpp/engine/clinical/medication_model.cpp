#include "cpp/engine/clinical/medication_model.h"

#include <ATen/Version.h>
#include <torch/version.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "cpp/core/base/hash.h"
#include "cpp/engine/clinical/augmented_scorer.h"
#include "cpp/engine/clinical/medication_files.h"
#include "cpp/engine/clinical/medication_state.h"
#include "cpp/engine/clinical/medication_trees.h"
#include "cpp/engine/clinical/session.h"
#include "cpp/engine/eval/multilabel_protocol.h"
#include "cpp/engine/train/model_support.h"

namespace theriac::clinical {
namespace {

using data::Field;

constexpr char kLimits[] =
    "Research model, not a medical device; verify every suggestion independently. Diagnoses and "
    "procedures of the "
    "predicted visit are inputs: in billing data they are assigned at discharge and are not known "
    "at admission. "
    "Classes are ATC level 3, mapped from drug codes; a class may stand for another use of the "
    "same ingredient. "
    "Interaction pairs are what the named table lists, not a complete interaction check.";

// Everything that exists once a model is fitted or loaded. Immutable after publishing.
struct Fitted {
  Vocabularies vocabularies;
  std::optional<codes::InteractionTable> interactions;
  RelationTables relations;
  SimilarCodeTables similar;
  std::unique_ptr<Recommender> recommender;
  Json training = Json::object();
  std::shared_ptr<const MedicationState> state;
};

const data::Cohort& require_cohort(const Dataset* dataset, std::string_view role) {
  if (dataset != nullptr && dataset->cohort != nullptr) return *dataset->cohort;
  throw Error(Code::kInvalidArgument,
              "the " + std::string(role) + " data must be a data set of kind cohort");
}

// ------------------------------------------------------------------------------------ what a fit
// starts from

// Codes of the field that occur in the cohort, in the cohort's order.
data::Vocabulary occurring(const data::Cohort& cohort, Field field) {
  std::vector<bool> seen(static_cast<std::size_t>(cohort.vocabulary(field).size()), false);
  for (std::int32_t id : cohort.ids(field)) seen[static_cast<std::size_t>(id)] = true;
  std::vector<codes::MedicalCode> codes;
  for (std::int32_t id = 0; id < cohort.vocabulary(field).size(); ++id) {
    if (seen[static_cast<std::size_t>(id)]) codes.push_back(cohort.vocabulary(field).code(id));
  }
  return data::Vocabulary(std::move(codes));
}

data::Vocabulary class_vocabulary(const data::Cohort& cohort,
                                  const std::vector<std::string>& classes) {
  if (classes.empty()) return cohort.vocabulary(Field::kMedications);
  std::vector<codes::MedicalCode> codes;
  for (const std::string& text : classes) {
    codes.push_back({codes::System::kAtc, codes::normalise(codes::System::kAtc, text)});
  }
  return data::Vocabulary(std::move(codes));
}

Vocabularies vocabularies_for(const data::Cohort& cohort, const MedicationOptions& options) {
  const bool all = options.vocabulary == "dataset";
  Vocabularies v;
  v.diagnoses = all ? cohort.vocabulary(Field::kDiagnoses) : occurring(cohort, Field::kDiagnoses);
  v.procedures =
      all ? cohort.vocabulary(Field::kProcedures) : occurring(cohort, Field::kProcedures);
  v.classes = class_vocabulary(cohort, options.classes);
  if (v.classes.size() == 0)
    throw Error(Code::kDataError, "the training data has no medication class to learn");
  return v;
}

std::vector<std::string> class_texts(const data::Vocabulary& classes) {
  std::vector<std::string> texts;
  for (const codes::MedicalCode& code : classes.codes()) texts.push_back(code.text);
  return texts;
}

metrics::InteractionMatrix matrix_of(const std::optional<codes::InteractionTable>& table,
                                     const data::Vocabulary& classes) {
  if (!table) return metrics::InteractionMatrix(classes.size(), {});
  return metrics::InteractionMatrix(classes.size(), table->among(class_texts(classes)));
}

// 0/1 float, symmetric; undefined without a table.
at::Tensor dense(const std::optional<codes::InteractionTable>& table,
                 const metrics::InteractionMatrix& matrix) {
  if (!table) return {};
  at::Tensor full = at::zeros({matrix.classes(), matrix.classes()}, at::kFloat);
  auto entries = full.accessor<float, 2>();
  for (const auto& [a, b] : matrix.pairs()) entries[a][b] = entries[b][a] = 1.0F;
  return full;
}

// 1 where two classes were given in one visit (medication.md section 3.2).
void add_co_occurrence(const MappedCohort& cohort, at::Tensor& graph) {
  auto entries = graph.accessor<float, 2>();
  for (std::int64_t v = 0; v < cohort.cohort().visits(); ++v) {
    const auto set = cohort.ids(Field::kMedications, v);
    for (std::int32_t a : set) {
      for (std::int32_t b : set) {
        if (a != b) entries[a][b] = 1.0F;
      }
    }
  }
}

at::Tensor no_graph(const Vocabularies& v) {
  return at::zeros({v.classes.size(), v.classes.size()}, at::kFloat);
}

// ------------------------------------------------------------------------------------ what a fit
// leaves behind

std::optional<std::int64_t> year_of(std::int64_t time) {
  if (time == data::kNoTime) return std::nullopt;
  return std::stoll(data::format_time(time).substr(0, 4));
}

// First and last year of admission, or null.
Json years_of(const data::Cohort& cohort) {
  std::int64_t first = INT64_MAX, last = data::kNoTime;
  for (std::int64_t t : cohort.times()) {
    if (t == data::kNoTime) continue;
    first = std::min(first, t);
    last = std::max(last, t);
  }
  if (last == data::kNoTime) return nullptr;
  return Json::array({*year_of(first), *year_of(last)});
}

Json data_record(const data::Cohort& cohort) {
  return {{"fingerprint", cohort.fingerprint()},
          {"patients", cohort.patients()},
          {"visits", cohort.visits()},
          {"years", years_of(cohort)}};
}

Json class_counts(const MappedCohort& cohort) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(cohort.classes()), 0);
  for (std::int64_t v = 0; v < cohort.cohort().visits(); ++v) {
    for (std::int32_t id : cohort.ids(Field::kMedications, v))
      ++counts[static_cast<std::size_t>(id)];
  }
  return counts;
}

std::string version_of(const std::string& method, const Json& options, const Fitted& fitted) {
  Fingerprint print;
  print.add(method).add(dump_json(options)).add(dump_json(describe(fitted.vocabularies)));
  print.add(dump_json(describe(fitted.interactions)));
  std::vector<std::string> keys;  // sorted: a fit and a load hold the tables in different orders
  for (const auto& table : fitted.relations) keys.push_back(table->key);
  std::sort(keys.begin(), keys.end());
  for (const std::string& key : keys) print.add(key);
  train::add_tensors(fitted.recommender->state(), print);
  return print.hex();
}

std::shared_ptr<const MedicationState> state_of(const std::string& method, const Json& options,
                                                const Fitted& fitted) {
  const Recommender& recommender = *fitted.recommender;
  auto state = std::make_shared<MedicationState>();
  state->method = method;
  state->model_version = version_of(method, options, fitted);
  state->library_version = THERIAC_VERSION;
  state->diagnoses = fitted.vocabularies.diagnoses;
  state->procedures = fitted.vocabularies.procedures;
  state->classes = fitted.vocabularies.classes;
  state->diagnoses_encoder = recommender.encoder(Field::kDiagnoses);
  state->procedures_encoder = recommender.encoder(Field::kProcedures);
  state->scorer = recommender.freeze();
  state->max_visits = recommender.options().max_visits;
  state->threshold = recommender.options().threshold;
  state->similar = fitted.similar;
  if (fitted.interactions) state->interactions = *fitted.interactions;
  state->matrix = matrix_of(fitted.interactions, fitted.vocabularies.classes);
  state->training = fitted.training;
  state->limits = kLimits;
  return state;
}

// What a cohort had that the vocabularies lack: {"diagnoses": {"known", "outside", ...}, ...}.
Json input_counts(const ReadCohort& read) {
  const auto field = [&](Field f, const OutsideVectors& vectors, bool has_encoder) {
    std::int64_t outside = 0;
    for (std::int64_t v = 0; v < read.mapped->cohort().visits(); ++v) {
      outside += static_cast<std::int64_t>(read.mapped->outside(f, v).size());
    }
    return Json{{"known", read.mapped->known_entries(f)},
                {"outside_vocabulary", outside},
                {"substituted", vectors.substituted()},
                {"unusable", has_encoder ? vectors.unusable() : outside}};
  };
  return {{"diagnoses", field(Field::kDiagnoses, read.diagnoses, read.diagnoses.dim() > 0)},
          {"procedures", field(Field::kProcedures, read.procedures, read.procedures.dim() > 0)}};
}

std::int64_t bytes_of(const Fitted& fitted) {
  std::int64_t bytes = 0;
  for (const auto& [name, tensor] : fitted.recommender->state()) {
    bytes += tensor.numel() * static_cast<std::int64_t>(tensor.element_size());
  }
  for (const auto& table : fitted.relations) bytes += table->vectors.numel() * 4;
  if (const BackboneOptions* o = fitted.recommender->backbone_options()) {  // frozen code tables
    bytes += (fitted.vocabularies.diagnoses.size() + fitted.vocabularies.procedures.size()) *
             o->encoder.dim * 4;
  }
  return bytes;
}

// -------------------------------------------------------------------------------------------------
// the model

class MedicationModel final : public train::LearnedModel {
 public:
  MedicationModel(const MedicationMethod& method, const Json& options,
                  const ContextSettings& context)
      : LearnedModel(context),
        method_(method),
        device_(tensor::parse_device(context.device)),
        options_(method.make(options)->effective_options()) {}

  void restore(const train::ModelDirectory& directory);

 private:
  void fit_to(const Dataset* train, const Dataset* valid, const train::FitOptions& options,
              Job& job) override {
    fit_cohorts(require_cohort(train, "training"),
                valid == nullptr ? nullptr : &require_cohort(valid, "validation"), options, job);
  }
  Json report(const Dataset& dataset, const Json& options, Job& job) const override {
    return report(require_cohort(&dataset, "evaluation"), options, job);
  }
  Json description() const override;
  train::ModelDirectory contents() const override;
  tensor::NamedTensors state() const override { return fitted().recommender->state(); }
  std::unique_ptr<Session> session(std::string_view options_json) const override {
    return make_session(fitted().state, options_json, context_.runtime.threads);
  }

  const Fitted& fitted() const {
    if (fitted_) return *fitted_;
    throw Error(Code::kInvalidState,
                "this " + method_.name + " model has no weights yet; fit it or load one");
  }

  void fit_cohorts(const data::Cohort& train, const data::Cohort* valid,
                   const train::FitOptions& options, Job& job);
  void build(Fitted& fitted, const at::Tensor& co_occurrence) const;
  void publish(std::shared_ptr<Fitted> fitted, Json training);
  Json training_record(const Fitted& fitted, const FitData& data, Json fit) const;
  std::string fit_identity(const FitData& data) const;
  Json validation_metrics(const Fitted& fitted, const FitData& data, Job& job) const;
  Json report(const data::Cohort& cohort, const Json& json, Job& job) const;

  const MedicationMethod& method_;
  const at::Device device_;
  Json options_;  // effective
  std::shared_ptr<const Fitted> fitted_;
};

void MedicationModel::build(Fitted& fitted, const at::Tensor& co_occurrence) const {
  Surroundings surroundings;
  surroundings.device = device_;
  surroundings.setup.vocabularies = &fitted.vocabularies;
  surroundings.setup.relations = fitted.relations;
  surroundings.setup.co_occurrence = co_occurrence;
  surroundings.setup.interactions =
      dense(fitted.interactions, matrix_of(fitted.interactions, fitted.vocabularies.classes));
  surroundings.setup.seed = context_.seed;
  fitted.recommender->build(surroundings);
}

void MedicationModel::fit_cohorts(const data::Cohort& train, const data::Cohort* valid,
                                  const train::FitOptions& options, Job& job) {
  auto fitted = std::make_shared<Fitted>();
  fitted->recommender = method_.make(options_);
  const MedicationOptions& own = fitted->recommender->options();
  fitted->vocabularies = vocabularies_for(train, own);
  if (!own.interactions.empty())
    fitted->interactions = codes::InteractionTable::from_csv(own.interactions);
  if (const BackboneOptions* o = fitted->recommender->backbone_options();
      o && o->encoder.use_relation) {
    fitted->relations =
        tables_for(fitted->vocabularies, o->lists, o->tree, context_.seed, o->table_cache, job);
  }

  const MappedCohort mapped_train(train, fitted->vocabularies);
  fitted->similar = similar_codes(mapped_train, fitted->vocabularies);
  std::optional<MappedCohort> mapped_valid;
  if (valid != nullptr) mapped_valid.emplace(*valid, fitted->vocabularies);
  at::Tensor graph = no_graph(fitted->vocabularies);
  add_co_occurrence(mapped_train, graph);
  if (mapped_valid && fitted->recommender->graph_from_all())
    add_co_occurrence(*mapped_valid, graph);
  build(*fitted, graph);

  FitData data;
  data.vocabularies = &fitted->vocabularies;
  data.train = &mapped_train;
  data.valid = mapped_valid ? &*mapped_valid : nullptr;
  data.samples = training_samples(train);
  data.interactions = fitted->interactions ? &*fitted->interactions : nullptr;
  if (data.samples.empty())
    throw Error(Code::kDataError, "the training data has no visit with a medication");

  FitSettings settings;
  settings.seed = context_.seed;
  settings.threads = context_.runtime.threads;
  settings.checkpointing = {options.checkpoint, options.resume, fit_identity(data)};
  Json fit;
  bool usable = false;
  try {
    fit = fitted->recommender->fit(data, settings, job, usable);
  } catch (...) {
    // Whoever stops a fit wants what it reached; there may be no time left to measure it.
    if (usable) publish(fitted, training_record(*fitted, data, {{"stopped", "early"}}));
    throw;
  }
  Json record = training_record(*fitted, data, std::move(fit));
  record["metrics"] = validation_metrics(*fitted, data, job);
  publish(std::move(fitted), std::move(record));
}

void MedicationModel::publish(std::shared_ptr<Fitted> fitted, Json training) {
  fitted->training = std::move(training);
  fitted->state = state_of(method_.name, options_, *fitted);
  fitted_ = std::move(fitted);
}

// A checkpoint continues only the same training of the same data.
std::string MedicationModel::fit_identity(const FitData& data) const {
  return Fingerprint()
      .add(method_.name)
      .add(dump_json(options_))
      .add(data.train->cohort().fingerprint())
      .add(data.valid ? data.valid->cohort().fingerprint() : "")
      .add(static_cast<std::int64_t>(context_.seed))
      .add(THERIAC_VERSION)
      .hex();
}

Json MedicationModel::training_record(const Fitted& fitted, const FitData& data, Json fit) const {
  train::drop_times(fit);
  Json record{{"data", data_record(data.train->cohort())},
              {"validation", data.valid ? data_record(data.valid->cohort()) : Json(nullptr)},
              {"samples", data.samples.size()},
              {"class_counts", class_counts(*data.train)},
              {"seed", context_.seed},
              {"versions", {{"theriac", THERIAC_VERSION}, {"libtorch", TORCH_VERSION}}},
              {"fit", std::move(fit)}};
  Json trees = Json::object();
  for (const auto& table : fitted.relations) {
    trees[std::string(codes::system_name(table->system))] = {{"key", table->key},
                                                             {"nodes", table->tree.size()}};
  }
  record["relation_tables"] = std::move(trees);
  return record;
}

Json MedicationModel::validation_metrics(const Fitted& fitted, const FitData& data,
                                         Job& job) const {
  if (data.valid == nullptr) return nullptr;
  const Recommender& recommender = *fitted.recommender;
  const ReadCohort read = read_cohort(*data.valid, recommender.encoder(Field::kDiagnoses).get(),
                                      recommender.encoder(Field::kProcedures).get());
  const auto scorer = recommender.freeze();
  eval::MultilabelOptions protocol;
  protocol.threshold = recommender.options().threshold;
  const FrozenCohortScorer frozen(read, *scorer, recommender.options().max_visits);
  const eval::MultilabelTask task{&data.valid->cohort(), &fitted.vocabularies.classes,
                                  data.interactions};
  const auto result =
      eval::evaluate_multilabel(task, frozen, protocol, context_.runtime.threads, job);
  return {{"values", result.report["metrics"]}, {"config", result.report["config"]}};
}

train::ModelDirectory MedicationModel::contents() const {
  const Fitted& f = fitted();
  train::ModelDirectory directory;
  directory.config = {{"method", method_.name},
                      {"options", options_},
                      {"model_version", f.state->model_version},
                      {"vocabularies", describe(f.vocabularies)},
                      {"classes", class_texts(f.vocabularies.classes)},
                      {"training", f.training},
                      {"limits", kLimits}};
  directory.tensors = f.recommender->state();
  directory.files = relation_files(f.relations);
  write_vocabularies(f.vocabularies, directory);
  write_interactions(f.interactions, directory);
  write_similar(f.similar, directory);
  return directory;
}

void MedicationModel::restore(const train::ModelDirectory& directory) {
  auto fitted = std::make_shared<Fitted>();
  fitted->recommender = method_.make(options_);
  fitted->vocabularies = read_vocabularies(directory);
  fitted->interactions = read_interactions(directory);
  fitted->relations = relation_tables(directory.files);
  fitted->similar = read_similar(fitted->vocabularies, directory);
  build(*fitted, no_graph(fitted->vocabularies));  // graphs are buffers of the saved module
  fitted->recommender->load(directory.tensors);
  publish(std::move(fitted), directory.config.value("training", Json::object()));
}

Json MedicationModel::report(const data::Cohort& cohort, const Json& json, Job& job) const {
  const Fitted& f = fitted();
  eval::MultilabelOptions protocol;
  protocol.threshold = f.state->threshold;
  Json rest = json;
  const Json augment = rest.is_object() ? rest.value("augment", Json()) : Json();
  if (rest.is_object()) rest.erase("augment");
  eval::MultilabelOptions::table().update(protocol, rest);
  std::optional<codes::InteractionTable> interactions = f.interactions;
  if (!protocol.interactions.empty())
    interactions = codes::InteractionTable::from_csv(protocol.interactions);

  const MappedCohort mapped(cohort, f.vocabularies);
  const ReadCohort read =
      read_cohort(mapped, f.state->diagnoses_encoder.get(), f.state->procedures_encoder.get());
  std::shared_ptr<const augment::Augmenter> augmenter;
  if (!augment.is_null()) {
    augment::AugmenterOptions chosen;
    chosen.seed = static_cast<std::int64_t>(context_.seed);
    augment::AugmenterOptions::table().update(chosen, augment, "augment");
    augmenter = std::make_shared<const augment::Augmenter>(std::move(chosen));
  }
  const auto frozen_scorer =
      augmenter ? augmented_scorer(f.state->scorer, augmenter, f.state->similar) : f.state->scorer;
  const FrozenCohortScorer frozen(read, *frozen_scorer, f.state->max_visits);
  const auto on_device = augmenter ? nullptr : f.recommender->device_scorer(read);
  const eval::VisitScorer& scorer =
      on_device ? *on_device : static_cast<const eval::VisitScorer&>(frozen);
  const eval::MultilabelTask task{&cohort, &f.vocabularies.classes,
                                  interactions ? &*interactions : nullptr};
  const int threads = on_device ? 1 : context_.runtime.threads;
  Json report = eval::evaluate_multilabel(task, scorer, protocol, threads, job).report;
  report["config"]["method"] = method_.name;
  report["config"]["max_visits"] = f.state->max_visits;
  if (augmenter)
    report["config"]["augment"] =
        augment::AugmenterOptions::table().effective_json(augmenter->options());
  report["inputs"] = input_counts(read);
  report["model"] = {{"method", method_.name}, {"version", f.state->model_version}};
  report["data"] = data_record(cohort);
  report["limits"] = kLimits;
  return report;
}

Json MedicationModel::description() const {
  Json json{{"method", method_.name}, {"family", method_.family},  {"doc", method_.doc},
            {"paper", method_.paper}, {"device", context_.device}, {"fitted", fitted_ != nullptr},
            {"options", options_}};
  if (!fitted_) return json;
  const Fitted& f = *fitted_;
  json["model_version"] = f.state->model_version;
  json["threshold"] = f.state->threshold;
  json["max_visits"] = f.state->max_visits;
  json["classes"] = class_texts(f.vocabularies.classes);
  json["vocabularies"] = describe(f.vocabularies);
  json["interactions"] = describe(f.interactions);
  json["parameters"] = f.recommender->parameters();
  json["memory_bytes"] = bytes_of(f);
  Json tensors = Json::array();
  for (const auto& [name, tensor] : f.recommender->state()) {
    tensors.push_back({{"name", name}, {"shape", tensor.sizes().vec()}});
  }
  json["tensors"] = std::move(tensors);
  json["augmenters"] = operators_of(f.similar);
  json["training"] = f.training;
  json["limits"] = kLimits;
  return json;
}

}  // namespace

std::unique_ptr<Model> make_medication_model(const MedicationMethod& method, const Json& options,
                                             const ContextSettings& context) {
  return std::make_unique<MedicationModel>(method, options, context);
}

std::unique_ptr<Model> load_medication_model(const MedicationMethod& method,
                                             const train::ModelDirectory& directory,
                                             const Json& options, const ContextSettings& context) {
  if (!options.empty()) {
    throw Error(Code::kInvalidArgument, "loading a medication model takes no options, but '" +
                                            options.items().begin().key() + "' was given")
        .at("option", options.items().begin().key());
  }
  const Json trained = directory.config.value("options", Json::object());
  auto model = std::make_unique<MedicationModel>(method, trained, context);
  model->restore(directory);
  return model;
}

}  // namespace theriac::clinical
