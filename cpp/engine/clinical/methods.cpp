// The medication methods: what is particular to each, and their entries in the registry.
#include "cpp/engine/clinical/methods.h"

#include <utility>

#include "cpp/engine/clinical/baselines.h"
#include "cpp/engine/clinical/gamenet.h"
#include "cpp/engine/clinical/medication_model.h"
#include "cpp/engine/clinical/methods_options.h"
#include "cpp/engine/clinical/retain.h"
#include "cpp/engine/eval/multilabel_protocol.h"

namespace theriac::clinical {
namespace {

// Scores by batched forward on the module's device.
class BatchedScorer : public eval::VisitScorer {
 public:
  BatchedScorer(const Backbone& backbone, const ReadCohort& cohort, std::int64_t max_visits,
                at::Device device)
      : backbone_(backbone), cohort_(cohort), max_visits_(max_visits), device_(device) {}
  std::int64_t classes() const override { return cohort_.mapped->classes(); }
  std::int64_t preferred_visits() const override { return 1024; }
  void score(std::int64_t first, std::int64_t last, std::span<float> probabilities) const override {
    const c10::InferenceMode inference;
    std::vector<Sample> samples;
    const data::Cohort& cohort = cohort_.mapped->cohort();
    for (std::int64_t p = first; p < last; ++p) {
      for (std::int64_t v = cohort.first_visit(p); v < cohort.last_visit(p); ++v)
        samples.push_back({p, v});
    }
    if (samples.empty()) return;
    const VisitBatch batch = make_batch(cohort_, samples, max_visits_, device_);
    const at::Tensor p = backbone_.forward(batch, nullptr).sigmoid().to(at::kCPU).contiguous();
    std::copy_n(p.const_data_ptr<float>(), probabilities.size(), probabilities.begin());
  }

 private:
  const Backbone& backbone_;
  const ReadCohort& cohort_;
  std::int64_t max_visits_;
  at::Device device_;
};

// One fit of a backbone. Validation scores with the frozen weights, the way a session does.
class BackboneTraining : public train::Trainable {
 public:
  BackboneTraining(Backbone& backbone, Backbone& twin, const FitData& data,
                   const BackboneOptions& options, at::Device device, int threads, Job& job)
      : backbone_(backbone),
        twin_(twin),
        data_(data),
        options_(options),
        device_(device),
        threads_(threads),
        job_(job),
        train_{data.train, {}, {}} {}

  torch::nn::Module& module() override { return backbone_; }
  std::int64_t examples() const override { return static_cast<std::int64_t>(data_.samples.size()); }

  at::Tensor loss(std::span<const std::int64_t> batch, const train::Step& step) override {
    std::vector<Sample> samples;
    samples.reserve(batch.size());
    for (std::int64_t i : batch) samples.push_back(data_.samples[static_cast<std::size_t>(i)]);
    return backbone_.loss(make_batch(train_, samples, options_.max_visits, device_), step);
  }

  std::optional<train::Validation> validate() override {
    if (data_.valid == nullptr) return std::nullopt;
    if (&twin_ != &backbone_) tensor::load_state(twin_, tensor::state_of(backbone_));
    const std::shared_ptr<const FrozenScorer> frozen = twin_.freeze();
    const ReadCohort valid = read_cohort(*data_.valid, twin_.diagnoses_encoder().get(),
                                         twin_.procedures_encoder().get());
    const FrozenCohortScorer scorer(valid, *frozen, options_.max_visits);
    eval::MultilabelOptions protocol;
    protocol.threshold = options_.threshold;
    const auto result = eval::evaluate_multilabel(
        {&data_.valid->cohort(), &classes(), data_.interactions}, scorer, protocol, threads_, job_);
    return train::Validation{result.summary.prauc, "prauc", dump_json(result.report["metrics"])};
  }

 private:
  const data::Vocabulary& classes() const { return data_.vocabularies->classes; }

  Backbone& backbone_;
  Backbone& twin_;  // on the CPU; the backbone itself when that is its device
  const FitData& data_;
  const BackboneOptions& options_;
  at::Device device_;
  int threads_;
  Job& job_;
  ReadCohort train_;
};

// What a backbone method is beyond its options.
template <class Options>
using MakeBackbone = std::shared_ptr<Backbone> (*)(const Options& options,
                                                   const BackboneSetup& setup);

template <class Options>
class BackboneRecommender : public Recommender {
 public:
  BackboneRecommender(Options options, MakeBackbone<Options> make)
      : options_(std::move(options)), make_(make) {}

  const MedicationOptions& options() const override { return options_; }
  Json effective_options() const override { return Options::table().effective_json(options_); }
  const BackboneOptions* backbone_options() const override { return &options_; }
  bool graph_from_all() const override {
    if constexpr (requires { options_.ehr_graph; }) return options_.ehr_graph == "all";
    return false;
  }

  void build(const Surroundings& surroundings) override {
    device_ = surroundings.device;
    backbone_ = twin_ = make_(options_, surroundings.setup);
    if (device_.is_cpu()) return;
    backbone_ = make_(options_, surroundings.setup);
    backbone_->to(device_);
  }

  Json fit(const FitData& data, const FitSettings& settings, Job& job, bool& usable) override {
    BackboneTraining training(*backbone_, *twin_, data, options_, device_, settings.threads, job);
    train::FitRecord record;
    usable = false;
    try {
      train::fit(training, options_.train, settings.seed, settings.checkpointing, job, &record);
    } catch (...) {
      usable = record.best_epoch >= 0;
      settle();
      throw;
    }
    usable = true;
    settle();
    return train::record_json(record);
  }

  tensor::NamedTensors state() const override { return tensor::state_of(*twin_); }
  std::int64_t parameters() const override {
    std::int64_t count = 0;
    for (const at::Tensor& p : twin_->parameters()) count += p.numel();
    return count;
  }
  void load(const tensor::NamedTensors& state) override {
    tensor::load_state(*backbone_, state);
    settle();
  }
  std::shared_ptr<const FrozenScorer> freeze() const override { return twin_->freeze(); }
  std::shared_ptr<const CodeEncoder> encoder(data::Field field) const override {
    if (field == data::Field::kDiagnoses) return twin_->diagnoses_encoder();
    if (field == data::Field::kProcedures) return twin_->procedures_encoder();
    return nullptr;
  }
  std::unique_ptr<eval::VisitScorer> device_scorer(const ReadCohort& cohort) const override {
    if (device_.is_cpu()) return nullptr;
    return std::make_unique<BatchedScorer>(*backbone_, cohort, options_.max_visits, device_);
  }

 private:
  // The twin gets the backbone's weights; both leave training mode.
  void settle() {
    if (twin_ != backbone_) tensor::load_state(*twin_, tensor::state_of(*backbone_));
    backbone_->eval();
    twin_->eval();
  }

  Options options_;
  MakeBackbone<Options> make_;
  at::Device device_ = at::kCPU;
  std::shared_ptr<Backbone> backbone_, twin_;
};

std::shared_ptr<Backbone> make_gamenet(const GamenetOptions& o, const BackboneSetup& setup) {
  GamenetShape shape;
  shape.original = o.form == "original";
  shape.dropout = o.dropout;
  shape.graph_dropout = o.graph_dropout;
  shape.loss = o.loss;
  return std::make_shared<Gamenet>(o.encoder, shape, setup);
}

std::shared_ptr<Backbone> make_retain(const RetainOptions& o, const BackboneSetup& setup) {
  return std::make_shared<Retain>(o.encoder, o.dropout, setup);
}

// Baselines that learn one probability a class: most_frequent and nearest_visit (for first visits).
using MakeScorer = std::shared_ptr<const FrozenScorer> (*)(std::vector<float> probabilities);

class FrequencyRecommender : public Recommender {
 public:
  FrequencyRecommender(FrequencyOptions options, MakeScorer make)
      : options_(std::move(options)), make_(make) {}
  const MedicationOptions& options() const override { return options_; }
  Json effective_options() const override {
    return FrequencyOptions::table().effective_json(options_);
  }

  void build(const Surroundings& s) override {
    probabilities_.assign(static_cast<std::size_t>(s.setup.vocabularies->classes.size()), 0.0F);
  }
  Json fit(const FitData& data, const FitSettings&, Job& job, bool& usable) override {
    job.check();
    probabilities_ = class_frequencies(*data.train, data.samples);
    usable = true;
    return Json::object();
  }
  tensor::NamedTensors state() const override {
    return {{"probability", at::tensor(probabilities_)}};
  }
  std::int64_t parameters() const override {
    return static_cast<std::int64_t>(probabilities_.size());
  }
  void load(const tensor::NamedTensors& state) override {
    take_tensor(state, "probability", probabilities_);
  }
  std::shared_ptr<const FrozenScorer> freeze() const override { return make_(probabilities_); }

 private:
  FrequencyOptions options_;
  MakeScorer make_;
  std::vector<float> probabilities_;  // [classes]
};

class LogisticRecommender : public Recommender {
 public:
  explicit LogisticRecommender(LogisticOptions options) : options_(std::move(options)) {}
  const MedicationOptions& options() const override { return options_; }
  Json effective_options() const override {
    return LogisticOptions::table().effective_json(options_);
  }

  void build(const Surroundings& s) override {
    const Vocabularies& v = *s.setup.vocabularies;
    weights_ = {v.classes.size(), v.diagnoses.size(), v.procedures.size(), {}, {}};
    weights_.weight.assign(static_cast<std::size_t>(weights_.classes * features()), 0.0F);
    weights_.bias.assign(static_cast<std::size_t>(weights_.classes), 0.0F);
  }
  Json fit(const FitData& data, const FitSettings& settings, Job& job, bool& usable) override {
    weights_ =
        fit_logistic(*data.train, data.samples, weights_.diagnoses, weights_.procedures,
                     {options_.c, options_.iterations, options_.tolerance}, settings.threads, job);
    usable = true;
    return Json::object();
  }
  tensor::NamedTensors state() const override {
    return {{"weight", at::tensor(weights_.weight).view({weights_.classes, features()})},
            {"bias", at::tensor(weights_.bias)}};
  }
  std::int64_t parameters() const override { return weights_.classes * (features() + 1); }
  void load(const tensor::NamedTensors& state) override {
    take_tensor(state, "weight", weights_.weight);
    take_tensor(state, "bias", weights_.bias);
  }
  std::shared_ptr<const FrozenScorer> freeze() const override {
    return make_logistic_scorer(weights_);
  }

 private:
  std::int64_t features() const { return weights_.diagnoses + weights_.procedures; }
  LogisticOptions options_;
  LogisticWeights weights_;
};

std::unique_ptr<Recommender> new_gamenet(const Json& json) {
  return std::make_unique<BackboneRecommender<GamenetOptions>>(GamenetOptions::parse(json),
                                                               make_gamenet);
}
std::unique_ptr<Recommender> new_retain(const Json& json) {
  return std::make_unique<BackboneRecommender<RetainOptions>>(RetainOptions::parse(json),
                                                              make_retain);
}
std::unique_ptr<Recommender> new_most_frequent(const Json& json) {
  return std::make_unique<FrequencyRecommender>(FrequencyOptions::table().parse(json),
                                                make_frequency_scorer);
}
std::unique_ptr<Recommender> new_nearest_visit(const Json& json) {
  return std::make_unique<FrequencyRecommender>(FrequencyOptions::table().parse(json),
                                                make_nearest_scorer);
}
std::unique_ptr<Recommender> new_logistic(const Json& json) {
  return std::make_unique<LogisticRecommender>(LogisticOptions::table().parse(json));
}

template <class Options>
Json schema_of() {
  return Options::table().schema();
}

}  // namespace

void take_tensor(const tensor::NamedTensors& state, const std::string& name,
                 std::vector<float>& values) {
  for (const auto& [key, tensor] : state) {
    if (key != name) continue;
    const at::Tensor flat = tensor.to(at::kCPU, at::kFloat).contiguous().view(-1);
    if (flat.numel() != static_cast<std::int64_t>(values.size())) {
      throw Error(Code::kDataError, "tensor '" + name + "' has " + std::to_string(flat.numel()) +
                                        " elements; expected " + std::to_string(values.size()))
          .at("tensor", name);
    }
    std::copy_n(flat.const_data_ptr<float>(), values.size(), values.begin());
    return;
  }
  throw Error(Code::kDataError, "the model lacks tensor '" + name + "'").at("tensor", name);
}

const std::vector<MedicationMethod>& medication_method_table() {
  static const std::vector<MedicationMethod> methods = {
      {"gamenet", "medication", "Graph-augmented memory network over visits",
       "Shang et al., GAMENet: Graph Augmented MEmory Networks for Recommending Medication "
       "Combination, AAAI 2019",
       schema_of<GamenetOptions>, new_gamenet},
      {"retain", "medication", "Two attentions over a patient's visits, read backwards in time",
       "Choi et al., RETAIN: An Interpretable Predictive Model for Healthcare using Reverse Time "
       "Attention Mechanism, "
       "NeurIPS 2016",
       schema_of<RetainOptions>, new_retain},
      {"most_frequent", "baseline",
       "Each class with its share of the training visits, the same for everybody", "",
       schema_of<FrequencyOptions>, new_most_frequent},
      {"nearest_visit", "baseline",
       "The classes of the visit before; a first visit gets the shares of the training visits", "",
       schema_of<FrequencyOptions>, new_nearest_visit},
      {"logistic_regression", "baseline",
       "One-vs-rest logistic regression on the codes of the current visit", "",
       schema_of<LogisticOptions>, new_logistic},
  };
  return methods;
}

std::vector<MethodEntry> clinical_methods() {
  std::vector<MethodEntry> entries;
  for (const MedicationMethod& method : medication_method_table()) {
    MethodEntry entry;
    entry.name = method.name;
    entry.family = method.family;
    entry.dataset = "cohort";
    entry.doc = method.doc;
    entry.paper = method.paper;
    entry.schema = method.schema;
    entry.create = [&method](const Json& options, const ContextSettings& context) {
      return make_medication_model(method, options, context);
    };
    entry.load = [&method](const train::ModelDirectory& directory, const Json& options,
                           const ContextSettings& context) {
      return load_medication_model(method, directory, options, context);
    };
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace theriac::clinical
