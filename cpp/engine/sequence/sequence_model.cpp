#include "cpp/engine/sequence/sequence_model.h"

#include <ATen/Version.h>
#include <torch/version.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "cpp/core/base/hash.h"
#include "cpp/engine/sequence/ranking_protocol.h"
#include "cpp/engine/sequence/sequence_state.h"
#include "cpp/engine/sequence/session.h"
#include "cpp/engine/sequence/tuner.h"
#include "cpp/engine/train/model_support.h"

namespace theriac::sequence {
namespace {

constexpr char kLimits[] =
    "Research model. Scores order items and are no probabilities. It knows the items of its "
    "training "
    "data alone, and what users did there; nothing says that a user would have wanted an item that "
    "nobody showed them.";
constexpr std::size_t kNeighbours = 10;  // in the tables of similar items
constexpr char kVocabulary[] = "vocab.items.json";

// Everything that exists once a model is fitted, loaded or imported. Immutable after publishing.
struct Fitted {
  data::Names items;
  SimilarTables similar;
  std::unique_ptr<SequenceRecommender> recommender;
  Json training = Json::object();
  std::shared_ptr<const SequenceState> state;
};

const data::Sequences& require_sequences(const Dataset* dataset, std::string_view role) {
  if (dataset != nullptr && dataset->sequences != nullptr) return *dataset->sequences;
  throw Error(Code::kInvalidArgument,
              "the " + std::string(role) + " data must be a data set of kind sequences");
}

Json data_record(const data::Sequences& sequences) {
  return {{"fingerprint", sequences.fingerprint()},
          {"users", sequences.users()},
          {"items", sequences.items()},
          {"interactions", sequences.interactions()}};
}

// ------------------------------------------------------------------------------- files of a model

std::string names_text(const data::Names& names) {
  Json list = Json::array();
  for (std::int64_t i = 0; i < names.size(); ++i) {
    if (names.numeric()) {
      list.push_back(names.number(i));
    } else {
      list.push_back(names.text(i));
    }
  }
  return dump_json(list) + "\n";
}

data::Names names_of(const std::string& text) {
  const JsonLimits limits{std::size_t{1} << 30, 2};
  const Json list = parse_json(text, kVocabulary, Code::kDataError, limits);
  const auto bad = [] {
    return Error(Code::kDataError,
                 std::string(kVocabulary) + ": expected a list of integers or of texts")
        .at("file", kVocabulary);
  };
  if (!list.is_array() || list.empty()) throw bad();
  std::vector<std::int64_t> numbers;
  std::vector<std::string> texts;
  for (const Json& name : list) {
    if (name.is_number_integer()) {
      numbers.push_back(name.get<std::int64_t>());
    } else if (name.is_string()) {
      texts.push_back(name.get<std::string>());
    } else {
      throw bad();
    }
  }
  if (!numbers.empty() && !texts.empty()) throw bad();
  return texts.empty() ? data::Names(std::move(numbers)) : data::Names(std::move(texts));
}

// Of the sequences as they are: training data only.
SimilarTables similar_items(const data::Sequences& sequences) {
  std::vector<augment::Ids> users;
  users.reserve(static_cast<std::size_t>(sequences.users()));
  for (std::int64_t user = 0; user < sequences.users(); ++user) {
    const auto own = sequences.of(user);
    users.emplace_back(own.begin(), own.end());
  }
  const auto table = [&](augment::CoOccurrence weighting) {
    return std::make_shared<const augment::SimilarityTable>(
        augment::similar_by_users(users, sequences.items(), kNeighbours, weighting));
  };
  return {table(augment::CoOccurrence::kCount),
          table(augment::CoOccurrence::kInverseUserFrequency)};
}

// ------------------------------------------------------------------------------- the model

class SequenceModel final : public train::LearnedModel {
 public:
  SequenceModel(const SequenceMethod& method, const Json& options, const ContextSettings& context)
      : LearnedModel(context),
        method_(method),
        device_(tensor::parse_device(context.device)),
        options_(method.make(options)->effective_options()) {}

  void restore(const train::ModelDirectory& directory);
  void import(const std::string& file, const data::Sequences& sequences);

 private:
  void fit_to(const Dataset* train, const Dataset* valid, const train::FitOptions& options,
              Job& job) override {
    fit_sequences(require_sequences(train, "training"),
                  valid == nullptr ? nullptr : &require_sequences(valid, "validation"), options,
                  job);
  }
  Json report(const Dataset& dataset, const Json& options, Job& job) const override {
    return report(require_sequences(&dataset, "evaluation"), options, job);
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
  std::shared_ptr<Fitted> begin(const data::Names& items) const;
  void fit_sequences(const data::Sequences& train, const data::Sequences* valid,
                     const train::FitOptions& options, Job& job);
  void publish(std::shared_ptr<Fitted> fitted, Json training);
  std::string fit_identity(const FitData& data) const;
  Json training_record(const FitData& data, Json fit) const;
  Json report(const data::Sequences& sequences, const Json& json, Job& job) const;

  const SequenceMethod& method_;
  const at::Device device_;
  Json options_;  // effective
  std::shared_ptr<const Fitted> fitted_;
};

std::shared_ptr<Fitted> SequenceModel::begin(const data::Names& items) const {
  auto fitted = std::make_shared<Fitted>();
  fitted->items = items;
  fitted->recommender = method_.make(options_);
  fitted->recommender->build(items.size(), device_, context_.seed);
  return fitted;
}

void SequenceModel::fit_sequences(const data::Sequences& train, const data::Sequences* valid,
                                  const train::FitOptions& options, Job& job) {
  if (train.items() == 0) throw Error(Code::kDataError, "the training data has no items");
  auto fitted = begin(train.item_names());
  fitted->similar = similar_items(train);
  const FitData data{&train, valid, &fitted->items};
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
    if (usable) publish(fitted, training_record(data, {{"stopped", "early"}}));
    throw;
  }
  Json record = training_record(data, std::move(fit));
  if (valid != nullptr) {
    const RankingOptions protocol;
    const MappedSequences mapped(*valid, fitted->items);
    const auto scorer = fitted->recommender->freeze();
    const auto ranks = ranks_of(mapped, *scorer, nullptr, protocol, context_.runtime.threads, job);
    record["metrics"] = {{"values", summary(ranks, protocol).values()},
                         {"config", RankingOptions::table().effective_json(protocol)}};
  }
  publish(std::move(fitted), std::move(record));
}

std::string version_of(const std::string& method, const Json& options, const Fitted& fitted) {
  Fingerprint print;
  print.add(method).add(dump_json(options)).add(fitted.items.fingerprint());
  train::add_tensors(fitted.recommender->state(), print);
  return print.hex();
}

void SequenceModel::publish(std::shared_ptr<Fitted> fitted, Json training) {
  fitted->training = std::move(training);
  auto state = std::make_shared<SequenceState>();
  state->method = method_.name;
  state->model_version = version_of(method_.name, options_, *fitted);
  state->library_version = THERIAC_VERSION;
  state->limits = kLimits;
  state->items = fitted->items;
  state->scorer = fitted->recommender->freeze();
  state->similar = fitted->similar;
  state->item_vectors = fitted->recommender->item_vectors();
  state->seed = context_.seed;
  fitted->state = std::move(state);
  fitted_ = std::move(fitted);
}

// A checkpoint continues only the same training of the same data.
std::string SequenceModel::fit_identity(const FitData& data) const {
  return Fingerprint()
      .add(method_.name)
      .add(dump_json(options_))
      .add(data.train->fingerprint())
      .add(data.valid ? data.valid->fingerprint() : "")
      .add(static_cast<std::int64_t>(context_.seed))
      .add(THERIAC_VERSION)
      .hex();
}

Json SequenceModel::training_record(const FitData& data, Json fit) const {
  train::drop_times(fit);
  return {{"data", data_record(*data.train)},
          {"validation", data.valid ? data_record(*data.valid) : Json(nullptr)},
          {"seed", context_.seed},
          {"versions", {{"theriac", THERIAC_VERSION}, {"libtorch", TORCH_VERSION}}},
          {"fit", std::move(fit)}};
}

train::ModelDirectory SequenceModel::contents() const {
  const Fitted& f = fitted();
  train::ModelDirectory directory;
  directory.config = {{"method", method_.name},
                      {"options", options_},
                      {"model_version", f.state->model_version},
                      {"items", f.items.size()},
                      {"training", f.training},
                      {"limits", kLimits}};
  directory.tensors = f.recommender->state();
  directory.files[kVocabulary] = names_text(f.items);
  if (f.similar.item_cf)
    directory.files["tables/item_cf.bin"] = augment::to_bytes(*f.similar.item_cf);
  if (f.similar.item_cf_iuf)
    directory.files["tables/item_cf_iuf.bin"] = augment::to_bytes(*f.similar.item_cf_iuf);
  return directory;
}

void SequenceModel::restore(const train::ModelDirectory& directory) {
  auto fitted = begin(names_of(directory.file(kVocabulary)));
  const auto table = [&](const char* name) {
    return augment::stored_table(directory.files, name,
                                 static_cast<std::int32_t>(fitted->items.size()));
  };
  fitted->similar = {table("tables/item_cf.bin"), table("tables/item_cf_iuf.bin")};
  fitted->recommender->load(directory.tensors);
  publish(std::move(fitted), directory.config.value("training", Json::object()));
}

void SequenceModel::import(const std::string& file, const data::Sequences& sequences) {
  if (sequences.items() == 0) throw Error(Code::kDataError, "the data set has no items");
  auto fitted = begin(sequences.item_names());
  fitted->similar = similar_items(sequences);
  fitted->recommender->load(tensor::read_tensors(file));
  publish(std::move(fitted), {{"imported", true},
                              {"data", data_record(sequences)},
                              {"versions", {{"theriac", THERIAC_VERSION}}}});
}

Json SequenceModel::report(const data::Sequences& sequences, const Json& json, Job& job) const {
  const Fitted& f = fitted();
  Evaluation evaluation =
      sequence::evaluate(*f.state, sequences, json, context_.runtime.threads, job);
  Json& report = evaluation.report;
  report["config"]["method"] = method_.name;
  report["model"] = {{"method", method_.name}, {"version", f.state->model_version}};
  report["data"] = data_record(sequences);
  report["limits"] = kLimits;
  return report;
}

Json SequenceModel::description() const {
  Json json{{"method", method_.name}, {"family", method_.family},  {"doc", method_.doc},
            {"paper", method_.paper}, {"device", context_.device}, {"fitted", fitted_ != nullptr},
            {"options", options_}};
  if (!fitted_) return json;
  const Fitted& f = *fitted_;
  json["model_version"] = f.state->model_version;
  json["items"] = f.items.size();
  json["parameters"] = f.recommender->parameters();
  Json tensors = Json::array();
  for (const auto& [name, tensor] : f.recommender->state())
    tensors.push_back({{"name", name}, {"shape", tensor.sizes().vec()}});
  json["tensors"] = std::move(tensors);
  json["augmenters"] = operators_of(*f.state);
  json["training"] = f.training;
  json["limits"] = kLimits;
  return json;
}

}  // namespace

std::unique_ptr<Model> make_sequence_model(const SequenceMethod& method, const Json& options,
                                           const ContextSettings& context) {
  return std::make_unique<SequenceModel>(method, options, context);
}

std::unique_ptr<Model> load_sequence_model(const SequenceMethod& method,
                                           const train::ModelDirectory& directory,
                                           const Json& options, const ContextSettings& context) {
  if (!options.empty()) {
    throw Error(Code::kInvalidArgument,
                "loading a model of item sequences takes no options, but '" +
                    options.items().begin().key() + "' was given")
        .at("option", options.items().begin().key());
  }
  auto model = std::make_unique<SequenceModel>(
      method, directory.config.value("options", Json::object()), context);
  model->restore(directory);
  return model;
}

std::unique_ptr<Model> import_sequence_model(const SequenceMethod& method, const std::string& file,
                                             const Dataset& dataset, const Json& options,
                                             const ContextSettings& context) {
  auto model = std::make_unique<SequenceModel>(method, options, context);
  model->import(file, require_sequences(&dataset, "vocabulary's"));
  return model;
}

}  // namespace theriac::sequence
