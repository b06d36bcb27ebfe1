#include "cpp/core/metrics/multilabel.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpp/core/base/error.h"
#include "cpp/core/base/random.h"

namespace theriac::metrics {
namespace {

using Ids = std::vector<std::int32_t>;

// Sorted and distinct, with every id checked.
Ids as_set(std::span<const std::int32_t> ids, std::int64_t classes) {
  Ids set(ids.begin(), ids.end());
  std::sort(set.begin(), set.end());
  set.erase(std::unique(set.begin(), set.end()), set.end());
  if (!set.empty() && (set.front() < 0 || set.back() >= classes)) {
    const std::int32_t bad = set.front() < 0 ? set.front() : set.back();
    throw Error(Code::kInvalidArgument, "class id " + std::to_string(bad) + " is outside [0, " +
                                            std::to_string(classes) + ")");
  }
  return set;
}

double ratio(std::int64_t part, std::int64_t whole) {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

// Sizes of two sorted sets and of their intersection.
struct Overlap {
  std::int64_t recommended, targets, common;
};

Overlap overlap(const Ids& recommended, const Ids& targets) {
  Overlap out{std::ssize(recommended), std::ssize(targets), 0};
  for (auto a = recommended.begin(), b = targets.begin();
       a != recommended.end() && b != targets.end();) {
    if (*a == *b) ++out.common;
    const bool step_a = *a <= *b, step_b = *b <= *a;
    if (step_a) ++a;
    if (step_b) ++b;
  }
  return out;
}

// Everything but average precision.
VisitScores set_scores(const Ids& recommended, const Ids& targets) {
  const Overlap sizes = overlap(recommended, targets);
  const std::int64_t all = sizes.recommended + sizes.targets - sizes.common;
  VisitScores scores;
  scores.recommended = sizes.recommended;
  scores.empty_union = all == 0;
  scores.jaccard = ratio(sizes.common, all);
  scores.precision = ratio(sizes.common, sizes.recommended);
  scores.recall = ratio(sizes.common, sizes.targets);
  const double sum = scores.precision + scores.recall;
  scores.f1 = sum == 0 ? 0.0 : 2 * scores.precision * scores.recall / sum;
  return scores;
}

// One label of a visit, as average precision sees it.
struct Ranked {
  float score;
  bool target;
};

// Sum of (R_k - R_{k-1}) P_k over the distinct scores, highest first.
double average_precision_of(std::vector<Ranked> labels, std::int64_t targets) {
  if (targets == 0) return 0;
  std::sort(labels.begin(), labels.end(),
            [](const Ranked& a, const Ranked& b) { return a.score > b.score; });
  double sum = 0;
  std::int64_t hits = 0, hits_before = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    hits += labels[i].target ? 1 : 0;
    const bool tied_with_next = i + 1 < labels.size() && labels[i + 1].score == labels[i].score;
    if (tied_with_next) continue;
    sum += ratio(hits - hits_before, targets) * ratio(hits, static_cast<std::int64_t>(i) + 1);
    hits_before = hits;
  }
  return sum;
}

std::vector<Ranked> rank_labels(std::span<const float> scores, const Ids& targets) {
  std::vector<Ranked> labels;
  labels.reserve(scores.size());
  for (float score : scores) {
    if (std::isnan(score)) throw Error(Code::kNumericError, "a class probability is NaN");
    labels.push_back({score, false});
  }
  for (std::int32_t id : targets) labels[static_cast<std::size_t>(id)].target = true;
  return labels;
}

// In single precision, as the reference implementations compare float32 arrays: 0.7 is in at 0.7.
Ids above(std::span<const float> probabilities, double threshold) {
  const auto limit = static_cast<float>(threshold);
  Ids ids;
  for (std::size_t i = 0; i < probabilities.size(); ++i) {
    if (probabilities[i] >= limit) ids.push_back(static_cast<std::int32_t>(i));
  }
  return ids;
}

VisitScores score_checked(std::span<const float> probabilities, const Ids& recommended,
                          const Ids& targets) {
  VisitScores scores = set_scores(recommended, targets);
  scores.average_precision =
      average_precision_of(rank_labels(probabilities, targets), std::ssize(targets));
  return scores;
}

}  // namespace

double average_precision(std::span<const float> scores, std::span<const std::int32_t> targets) {
  const Ids set = as_set(targets, std::ssize(scores));
  return average_precision_of(rank_labels(scores, set), std::ssize(set));
}

VisitScores score_visit(std::span<const float> probabilities, std::span<const std::int32_t> targets,
                        double threshold) {
  return score_checked(probabilities, above(probabilities, threshold),
                       as_set(targets, std::ssize(probabilities)));
}

VisitScores score_set(std::span<const std::int32_t> recommended,
                      std::span<const std::int32_t> targets, std::int64_t classes) {
  if (classes < 0) throw Error(Code::kInvalidArgument, "the number of classes is negative");
  const Ids chosen = as_set(recommended, classes);
  std::vector<float> indicator(static_cast<std::size_t>(classes), 0.0F);
  for (std::int32_t id : chosen) indicator[static_cast<std::size_t>(id)] = 1.0F;
  return score_checked(indicator, chosen, as_set(targets, classes));
}

// ---- drug-drug interactions ----

InteractionMatrix::InteractionMatrix(
    std::int64_t classes, const std::vector<std::pair<std::int32_t, std::int32_t>>& pairs)
    : classes_(classes) {
  if (classes < 0 || classes > kMostClasses) {
    throw Error(Code::kInvalidArgument, "an interaction matrix of " + std::to_string(classes) +
                                            " classes; expected 0 to " +
                                            std::to_string(kMostClasses));
  }
  const std::int64_t bits = classes * classes;
  bits_.assign(static_cast<std::size_t>((bits + 63) / 64), 0);
  for (const auto& [a, b] : pairs) {
    if (a == b || std::min(a, b) < 0 || std::max(a, b) >= classes) {
      throw Error(Code::kInvalidArgument,
                  "interaction pair (" + std::to_string(a) + ", " + std::to_string(b) +
                      "); expected two different ids in [0, " + std::to_string(classes) + ")");
    }
    if (interacts(a, b)) continue;
    for (const std::int64_t bit : {a * classes + b, b * classes + a}) {
      bits_[static_cast<std::size_t>(bit / 64)] |= std::uint64_t{1} << (bit % 64);
    }
    ++edges_;
  }
}

bool InteractionMatrix::interacts(std::int32_t a, std::int32_t b) const {
  if (std::min(a, b) < 0 || std::max(a, b) >= classes_) return false;
  const std::int64_t bit = a * classes_ + b;
  return ((bits_[static_cast<std::size_t>(bit / 64)] >> (bit % 64)) & 1) != 0;
}

std::vector<std::pair<std::int32_t, std::int32_t>> InteractionMatrix::pairs() const {
  std::vector<std::pair<std::int32_t, std::int32_t>> out;
  out.reserve(static_cast<std::size_t>(edges_));
  for (std::int32_t a = 0; a < classes_; ++a) {
    for (std::int32_t b = a + 1; b < classes_; ++b) {
      if (interacts(a, b)) out.emplace_back(a, b);
    }
  }
  return out;
}

PairCount count_pairs(std::span<const std::int32_t> set, const InteractionMatrix& matrix) {
  const Ids ids = as_set(set, matrix.classes());
  PairCount count;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    for (std::size_t j = i + 1; j < ids.size(); ++j) {
      count.interacting += matrix.interacts(ids[i], ids[j]) ? 1 : 0;
      ++count.total;
    }
  }
  return count;
}

// ---- evaluation over patients ----

namespace {

// Sums of the five scores over observations: visits, or patients' means.
struct Means {
  double jaccard = 0, precision = 0, recall = 0, f1 = 0, prauc = 0;
  double count = 0;

  void add(const VisitScores& visit) {
    jaccard += visit.jaccard;
    precision += visit.precision;
    recall += visit.recall;
    f1 += visit.f1;
    prauc += visit.average_precision;
    count += 1;
  }
  // Adds the mean of `part` as one observation; nothing if it has none.
  void add_mean(const Means& part) {
    if (part.count == 0) return;
    jaccard += part.jaccard / part.count;
    precision += part.precision / part.count;
    recall += part.recall / part.count;
    f1 += part.f1 / part.count;
    prauc += part.prauc / part.count;
    count += 1;
  }
  void store(Summary& out) const {
    if (count == 0) return;
    out.jaccard = jaccard / count;
    out.precision = precision / count;
    out.recall = recall / count;
    out.f1 = f1 / count;
    out.prauc = prauc / count;
  }
};

}  // namespace

Evaluator::Evaluator(double threshold, Aggregation aggregation, const InteractionMatrix* matrix)
    : threshold_(threshold), aggregation_(aggregation), matrix_(matrix) {
  if (std::isnan(threshold)) throw Error(Code::kInvalidArgument, "the threshold is NaN");
}

void Evaluator::begin_patient() { offsets_.push_back(rows_.size()); }

void Evaluator::append(VisitScores scores, std::span<const std::int32_t> recommended) {
  if (offsets_.empty())
    throw Error(Code::kInvalidState, "a visit was added before the first patient began");
  rows_.push_back({scores, matrix_ == nullptr ? PairCount{} : count_pairs(recommended, *matrix_)});
}

void Evaluator::add(std::span<const float> probabilities, std::span<const std::int32_t> targets) {
  const Ids recommended = above(probabilities, threshold_);
  append(score_checked(probabilities, recommended, as_set(targets, std::ssize(probabilities))),
         recommended);
}

void Evaluator::add_set(std::span<const std::int32_t> recommended,
                        std::span<const std::int32_t> targets, std::int64_t classes) {
  append(score_set(recommended, targets, classes), recommended);
}

void Evaluator::merge(const Evaluator& part) {
  if (part.threshold_ != threshold_ || part.aggregation_ != aggregation_ ||
      part.matrix_ != matrix_) {
    throw Error(Code::kInvalidArgument,
                "evaluators of different threshold, aggregation or interactions");
  }
  const std::size_t base = rows_.size();
  // By position, so that an evaluator may be merged with itself.
  for (std::size_t i = 0, n = part.offsets_.size(); i < n; ++i)
    offsets_.push_back(base + part.offsets_[i]);
  for (std::size_t i = 0, n = part.rows_.size(); i < n; ++i) rows_.push_back(Row(part.rows_[i]));
}

std::span<const Evaluator::Row> Evaluator::rows_of(std::int64_t patient) const {
  if (patient < 0 || patient >= patients()) {
    throw Error(Code::kInvalidArgument, "patient position " + std::to_string(patient) +
                                            " is outside [0, " + std::to_string(patients()) + ")");
  }
  const auto at = static_cast<std::size_t>(patient);
  const std::size_t first = offsets_[at],
                    last = at + 1 < offsets_.size() ? offsets_[at + 1] : rows_.size();
  return std::span<const Row>(rows_).subspan(first, last - first);
}

Summary Evaluator::summary_of(std::span<const std::int64_t> patients) const {
  Summary out;
  Means means;
  std::int64_t recommended = 0;
  for (const std::int64_t patient : patients) {
    const std::span<const Row> rows = rows_of(patient);
    Means of_patient;
    for (const Row& row : rows) {
      (aggregation_ == Aggregation::kPerPatient ? of_patient : means).add(row.scores);
      recommended += row.scores.recommended;
      out.empty_unions += row.scores.empty_union ? 1 : 0;
      out.pairs.interacting += row.pairs.interacting;
      out.pairs.total += row.pairs.total;
    }
    means.add_mean(of_patient);
    out.visits += std::ssize(rows);
    out.patients += rows.empty() ? 0 : 1;
  }
  means.store(out);
  out.mean_recommended = ratio(recommended, out.visits);
  out.ddi_rate = out.pairs.rate();
  return out;
}

Summary Evaluator::summary() const {
  std::vector<std::int64_t> all(offsets_.size());
  std::iota(all.begin(), all.end(), 0);
  return summary_of(all);
}

// ---- bootstrap ----

namespace {

// Half to even, as Python's round() does in the published protocols.
std::int64_t round_half_even(double value) {
  const double below = std::floor(value);
  const double rest = value - below;
  const auto whole = static_cast<std::int64_t>(below);
  if (rest != 0.5) return rest > 0.5 ? whole + 1 : whole;
  return whole % 2 == 0 ? whole : whole + 1;
}

std::int64_t sample_size(const BootstrapOptions& options, std::int64_t patients) {
  if (options.rounds < 1)
    throw Error(Code::kInvalidArgument, "bootstrap rounds must be at least 1");
  if (!(options.share > 0 && options.share <= 1)) {
    throw Error(Code::kInvalidArgument, "bootstrap share must be above 0 and at most 1");
  }
  const std::int64_t drawn = round_half_even(options.share * static_cast<double>(patients));
  if (drawn < 1) {
    throw Error(Code::kInvalidArgument,
                "a bootstrap round would draw none of " + std::to_string(patients) + " patients");
  }
  return drawn;
}

std::vector<std::int64_t> draw_patients(const BootstrapOptions& options, int round,
                                        std::int64_t patients, std::int64_t drawn) {
  Random random(options.seed, "bootstrap", static_cast<std::uint64_t>(round));
  std::vector<std::int64_t> chosen(
      static_cast<std::size_t>(options.replacement ? drawn : patients));
  if (options.replacement) {
    for (auto& patient : chosen) {
      patient = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(patients)));
    }
  } else {
    std::iota(chosen.begin(), chosen.end(), 0);
    random.shuffle(chosen);
    chosen.resize(static_cast<std::size_t>(drawn));
  }
  return chosen;
}

MeanStd mean_std(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (double value : values) squares += (value - mean) * (value - mean);
  return {mean, std::sqrt(squares / n)};
}

// Linear between order statistics; `values` sorted.
double quantile(const std::vector<double>& values, double q) {
  const double at = q * static_cast<double>(values.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const std::size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (at - static_cast<double>(low)) * (values[high] - values[low]);
}

void mean_and_range(std::vector<double> values, MeanStd& mean, double& low, double& high) {
  mean = mean_std(values);
  std::sort(values.begin(), values.end());
  low = quantile(values, 0.025);
  high = quantile(values, 0.975);
}

}  // namespace

BootstrapSummary bootstrap(const Evaluator& evaluator, const BootstrapOptions& options) {
  const std::int64_t patients = evaluator.patients(), drawn = sample_size(options, patients);
  std::vector<double> jaccard, f1, prauc, ddi_rate, recommended;
  for (int round = 0; round < options.rounds; ++round) {
    const Summary summary = evaluator.summary_of(draw_patients(options, round, patients, drawn));
    jaccard.push_back(summary.jaccard);
    f1.push_back(summary.f1);
    prauc.push_back(summary.prauc);
    ddi_rate.push_back(summary.ddi_rate);
    recommended.push_back(summary.mean_recommended);
  }
  BootstrapSummary out;
  mean_and_range(std::move(jaccard), out.jaccard, out.jaccard_low, out.jaccard_high);
  mean_and_range(std::move(f1), out.f1, out.f1_low, out.f1_high);
  mean_and_range(std::move(prauc), out.prauc, out.prauc_low, out.prauc_high);
  out.ddi_rate = mean_std(ddi_rate);
  out.mean_recommended = mean_std(recommended);
  return out;
}

}  // namespace theriac::metrics
