// Multi-label metrics on plain arrays, to the letter of medication.md section 4.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace theriac::metrics {

// One visit: probabilities [classes] and target class ids. Ids are sets: a repeated id counts once.
// An id outside [0, classes) is kInvalidArgument, a probability that is NaN kNumericError.
struct VisitScores {
  double jaccard = 0, precision = 0, recall = 0, f1 = 0, average_precision = 0;
  std::int64_t recommended = 0;  // |O|
  bool empty_union = false;      // Y and O both empty: Jaccard 0, counted
};
// Average precision over distinct scores: ties form one step (sklearn average_precision_score). 0
// without targets.
double average_precision(std::span<const float> scores, std::span<const std::int32_t> targets);
// Recommended are the classes with probability >= threshold, compared in single precision.
VisitScores score_visit(std::span<const float> probabilities, std::span<const std::int32_t> targets,
                        double threshold);
// The same for a given set (no probabilities, average precision from the 0/1 indicator).
VisitScores score_set(std::span<const std::int32_t> recommended,
                      std::span<const std::int32_t> targets, std::int64_t classes);

// Symmetric 0/1 interaction matrix with zero diagonal, as adjacency bits. Immutable after building.
class InteractionMatrix {
 public:
  InteractionMatrix() = default;
  // Order within a pair and repeated pairs do not matter. Throws kInvalidArgument for an id outside
  // the classes, for a class paired with itself, and above kMostClasses.
  static constexpr std::int64_t kMostClasses = 1 << 16;
  InteractionMatrix(std::int64_t classes,
                    const std::vector<std::pair<std::int32_t, std::int32_t>>& pairs);
  std::int64_t classes() const { return classes_; }
  bool interacts(std::int32_t a, std::int32_t b) const;
  std::int64_t edges() const { return edges_; }
  std::vector<std::pair<std::int32_t, std::int32_t>> pairs() const;  // a < b, sorted

 private:
  std::int64_t classes_ = 0, edges_ = 0;
  std::vector<std::uint64_t> bits_;
};

struct PairCount {
  std::int64_t interacting = 0, total = 0;
  double rate() const {
    return total == 0 ? 0.0 : static_cast<double>(interacting) / static_cast<double>(total);
  }
};
// Unordered pairs inside a set; a repeated id counts once. kInvalidArgument for an id outside the
// matrix.
PairCount count_pairs(std::span<const std::int32_t> set, const InteractionMatrix& matrix);

enum class Aggregation {
  kPerPatient,  // mean over a patient's visits, then over patients that have any (GAMENet,
                // SafeDrug, MICRON)
  kPerSample,   // mean over visits (PyHealth, HIER)
};

// mean_recommended is total |O| over total visits and ddi_rate is pooled over pairs, in both
// aggregations. All zero when there is no visit.
struct Summary {
  double jaccard = 0, precision = 0, recall = 0, f1 = 0, prauc = 0, mean_recommended = 0,
         ddi_rate = 0;
  std::int64_t visits = 0, patients = 0, empty_unions = 0;
  PairCount pairs;
};

// Collects visits patient by patient. Not synchronised; `merge` joins parts in a fixed order.
class Evaluator {
 public:
  // `matrix` may be null (no interaction is counted, nor any pair) and must outlive the evaluator.
  Evaluator(double threshold, Aggregation aggregation, const InteractionMatrix* matrix);
  void begin_patient();
  // Throw kInvalidState before the first begin_patient.
  void add(std::span<const float> probabilities, std::span<const std::int32_t> targets);
  void add_set(std::span<const std::int32_t> recommended, std::span<const std::int32_t> targets,
               std::int64_t classes);
  // Appends the patients of another evaluator with the same threshold, aggregation and matrix.
  void merge(const Evaluator& part);
  Summary summary() const;
  // Over the patients named by position (repeats allowed): for bootstrap rounds.
  Summary summary_of(std::span<const std::int64_t> patients) const;
  std::int64_t patients() const { return static_cast<std::int64_t>(offsets_.size()); }

 private:
  struct Row {
    VisitScores scores;
    PairCount pairs;
  };
  void append(VisitScores scores, std::span<const std::int32_t> recommended);
  std::span<const Row> rows_of(std::int64_t patient) const;

  double threshold_;
  Aggregation aggregation_;
  const InteractionMatrix* matrix_;
  std::vector<Row> rows_;
  std::vector<std::size_t> offsets_;
};

struct MeanStd {
  double mean = 0, std = 0;  // population std, ddof 0
};
struct BootstrapOptions {
  int rounds = 10;
  double share = 0.8;
  bool replacement = true;  // false: COGNet's protocol
  std::uint64_t seed = 2048;
};
struct BootstrapSummary {
  MeanStd jaccard, f1, prauc, ddi_rate, mean_recommended;
  double jaccard_low = 0, jaccard_high = 0, prauc_low = 0, prauc_high = 0, f1_low = 0,
         f1_high = 0;  // 2.5 % and 97.5 % over rounds
};
// Draws round(share * patients) patients a round (half to even) by Philox(seed, "bootstrap",
// round); the 2.5 % and 97.5 % points are interpolated linearly between rounds. kInvalidArgument
// for rounds < 1, a share outside (0, 1] or one that draws nobody.
BootstrapSummary bootstrap(const Evaluator& evaluator, const BootstrapOptions& options);

}  // namespace theriac::metrics
