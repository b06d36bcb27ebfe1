#include "cpp/engine/eval/multilabel_protocol.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace theriac::eval {
namespace {

// The scorer's classes followed by the cohort's medications that are not among them.
class TargetClasses {
 public:
  TargetClasses(const data::Vocabulary& cohort, const data::Vocabulary& scorer)
      : scorer_(scorer.size()) {
    names_.reserve(static_cast<std::size_t>(scorer.size()));
    for (const codes::MedicalCode& code : scorer.codes()) names_.push_back(code.text);
    for (const codes::MedicalCode& code : cohort.codes()) {
      const std::int32_t known = scorer.find(code);
      ids_.push_back(known >= 0 ? known : static_cast<std::int32_t>(names_.size()));
      if (known < 0) names_.push_back(code.text);
    }
  }
  std::size_t size() const { return names_.size(); }
  std::size_t outside() const { return names_.size() - static_cast<std::size_t>(scorer_); }
  bool is_outside(std::int32_t id) const { return id >= scorer_; }
  const std::vector<std::string>& names() const { return names_; }
  std::vector<std::int32_t> map(std::span<const std::int32_t> medications) const {
    std::vector<std::int32_t> mapped;
    mapped.reserve(medications.size());
    for (std::int32_t m : medications) mapped.push_back(ids_.at(static_cast<std::size_t>(m)));
    std::sort(mapped.begin(), mapped.end());
    return mapped;
  }

 private:
  std::int32_t scorer_;
  std::vector<std::string> names_;
  std::vector<std::int32_t> ids_;  // cohort's medication id -> position in names_
};

metrics::InteractionMatrix matrix_of(const codes::InteractionTable* table,
                                     const TargetClasses& classes) {
  const auto size = static_cast<std::int64_t>(classes.size());
  if (table == nullptr) return metrics::InteractionMatrix(size, {});
  return metrics::InteractionMatrix(size, table->among(classes.names()));
}

struct Counts {
  std::int64_t skipped_first = 0, without_medications = 0, too_few_visits = 0;
  std::int64_t targets = 0, targets_outside = 0;
  metrics::PairCount truth;
};

// Takes scored patients in order and keeps the visits that the protocol asks for.
class Collector {
 public:
  Collector(const MultilabelTask& task, const MultilabelOptions& options)
      : cohort_(*task.cohort),
        options_(options),
        scorer_classes_(task.classes->size()),
        classes_(cohort_.vocabulary(data::Field::kMedications), *task.classes),
        matrix_(matrix_of(task.interactions, classes_)),
        evaluator_(options.threshold,
                   options.aggregation == "per_patient" ? metrics::Aggregation::kPerPatient
                                                        : metrics::Aggregation::kPerSample,
                   &matrix_),
        row_(classes_.size(), 0.0F) {}
  Collector(const Collector&) = delete;
  Collector& operator=(const Collector&) = delete;

  void take(std::int64_t patient, std::span<const float> probabilities) {
    const std::int64_t first = cohort_.first_visit(patient), last = cohort_.last_visit(patient);
    if (last - first < options_.min_visits) {
      ++counts_.too_few_visits;
      return;
    }
    bool begun = false;
    for (std::int64_t v = first; v < last; ++v) {
      if (!counts(v, first)) continue;
      if (!begun) evaluator_.begin_patient();
      begun = true;
      add(v, probabilities.subspan(static_cast<std::size_t>((v - first) * scorer_classes_),
                                   static_cast<std::size_t>(scorer_classes_)));
    }
  }

  const metrics::Evaluator& evaluator() const { return evaluator_; }
  const Counts& totals() const { return counts_; }
  const TargetClasses& classes() const { return classes_; }
  const metrics::InteractionMatrix& matrix() const { return matrix_; }

 private:
  bool counts(std::int64_t visit, std::int64_t first) {
    if (options_.skip_first && visit == first) {
      ++counts_.skipped_first;
      return false;
    }
    if (cohort_.visit(visit).medications.empty()) {
      ++counts_.without_medications;
      return false;
    }
    return true;
  }

  void add(std::int64_t visit, std::span<const float> probabilities) {
    const std::vector<std::int32_t> targets = classes_.map(cohort_.visit(visit).medications);
    const metrics::PairCount truth = metrics::count_pairs(targets, matrix_);
    counts_.truth.interacting += truth.interacting;
    counts_.truth.total += truth.total;
    counts_.targets += static_cast<std::int64_t>(targets.size());
    counts_.targets_outside += std::count_if(
        targets.begin(), targets.end(), [this](std::int32_t t) { return classes_.is_outside(t); });
    std::copy(probabilities.begin(), probabilities.end(), row_.begin());  // the tail stays 0
    evaluator_.add(row_, targets);
  }

  const data::Cohort& cohort_;
  const MultilabelOptions& options_;
  std::int64_t scorer_classes_;
  TargetClasses classes_;
  metrics::InteractionMatrix matrix_;
  metrics::Evaluator evaluator_;
  std::vector<float> row_;  // [all classes]
  Counts counts_;
};

Json metrics_json(const metrics::Summary& s) {
  return {{"prauc", s.prauc},
          {"jaccard", s.jaccard},
          {"f1", s.f1},
          {"precision", s.precision},
          {"recall", s.recall},
          {"ddi_rate", s.ddi_rate},
          {"mean_recommended", s.mean_recommended}};
}

Json counts_json(const metrics::Summary& s, const Collector& collected) {
  const Counts& c = collected.totals();
  return {{"patients", s.patients},
          {"visits", s.visits},
          {"patients_with_too_few_visits", c.too_few_visits},
          {"first_visits_skipped", c.skipped_first},
          {"visits_without_medications", c.without_medications},
          {"targets", c.targets},
          {"targets_outside_classes", c.targets_outside},
          {"classes_outside", collected.classes().outside()},
          {"empty_unions", s.empty_unions},
          {"recommended_pairs", s.pairs.total},
          {"recommended_pairs_interacting", s.pairs.interacting}};
}

Json bootstrap_json(const metrics::Evaluator& evaluator, const BootstrapSettings& settings) {
  metrics::BootstrapOptions options;
  options.rounds = static_cast<int>(settings.rounds);
  options.share = settings.share;
  options.replacement = settings.replacement;
  options.seed = static_cast<std::uint64_t>(settings.seed);
  const metrics::BootstrapSummary b = metrics::bootstrap(evaluator, options);
  const auto spread = [](const metrics::MeanStd& m) {
    return Json{{"mean", m.mean}, {"std", m.std}};
  };
  const auto interval = [&](const metrics::MeanStd& m, double low, double high) {
    Json json = spread(m);
    json["low"] = low;
    json["high"] = high;
    return json;
  };
  return {{"prauc", interval(b.prauc, b.prauc_low, b.prauc_high)},
          {"jaccard", interval(b.jaccard, b.jaccard_low, b.jaccard_high)},
          {"f1", interval(b.f1, b.f1_low, b.f1_high)},
          {"ddi_rate", spread(b.ddi_rate)},
          {"mean_recommended", spread(b.mean_recommended)}};
}

Json interactions_json(const codes::InteractionTable* table,
                       const metrics::InteractionMatrix& matrix) {
  if (table == nullptr) return nullptr;
  return {{"source", table->source},
          {"version", table->version},
          {"pairs_among_classes", matrix.edges()}};
}

void require_samples(const metrics::Evaluator& evaluator) {
  if (evaluator.patients() > 0) return;
  throw Error(Code::kDataError,
              "no visit to evaluate: the protocol needs visits with at least one medication (and a "
              "previous "
              "visit with skip_first)");
}

}  // namespace

const OptionTable<BootstrapSettings>& BootstrapSettings::table() {
  static const auto table =
      OptionTable<BootstrapSettings>("bootstrap", "Spread of the metrics over redrawn patients")
          .integer("rounds", &BootstrapSettings::rounds, {0, 100'000},
                   "how often to draw; 0: no bootstrap")
          .real("share", &BootstrapSettings::share, {0.0, 1.0, true, false},
                "share of the patients a round draws")
          .flag("replacement", &BootstrapSettings::replacement, "draw with replacement")
          .integer("seed", &BootstrapSettings::seed, {0, INT64_MAX}, "seed of the draws");
  return table;
}

const OptionTable<MultilabelOptions>& MultilabelOptions::table() {
  static const auto table =
      OptionTable<MultilabelOptions>("evaluate", "How recommended medication sets are measured")
          .real("threshold", &MultilabelOptions::threshold, {0.0, 1.0},
                "a class is recommended at this probability or more")
          .choice("aggregation", &MultilabelOptions::aggregation, {"per_sample", "per_patient"},
                  "mean over visits, or over a patient's visits and then over patients")
          .flag("skip_first", &MultilabelOptions::skip_first,
                "leave out each patient's first visit")
          .integer("min_visits", &MultilabelOptions::min_visits, {1, 1'000'000},
                   "leave out patients with fewer visits")
          .text("interactions", &MultilabelOptions::interactions,
                "CSV file of interacting classes for the interaction rate; empty: the model's own "
                "table")
          .group("bootstrap", &MultilabelOptions::bootstrap, BootstrapSettings::table(),
                 "spread of the metrics over redrawn patients");
  return table;
}

MultilabelResult evaluate_multilabel(const MultilabelTask& task, const VisitScorer& scorer,
                                     const MultilabelOptions& options, int threads, Job& job) {
  Collector collected(task, options);
  score_cohort(*task.cohort, scorer, threads, job,
               [&](std::int64_t patient, std::span<const float> p) { collected.take(patient, p); });
  require_samples(collected.evaluator());

  MultilabelResult result;
  result.summary = collected.evaluator().summary();
  const metrics::PairCount& truth = collected.totals().truth;
  result.report = {{"metrics", metrics_json(result.summary)},
                   {"counts", counts_json(result.summary, collected)},
                   {"config", MultilabelOptions::table().effective_json(options)},
                   {"ground_truth",
                    {{"ddi_rate", truth.rate()},
                     {"pairs", truth.total},
                     {"pairs_interacting", truth.interacting},
                     {"mean_medications", static_cast<double>(collected.totals().targets) /
                                              static_cast<double>(result.summary.visits)}}}};
  result.report["config"]["interactions"] =
      interactions_json(task.interactions, collected.matrix());
  if (options.bootstrap.rounds > 0)
    result.report["bootstrap"] = bootstrap_json(collected.evaluator(), options.bootstrap);
  return result;
}

}  // namespace theriac::eval
