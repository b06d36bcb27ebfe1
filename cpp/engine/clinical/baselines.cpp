#include "cpp/engine/clinical/baselines.h"

#include <algorithm>
#include <cmath>

namespace theriac::clinical {
namespace {

class FrequencyScorer : public FrozenScorer {
 public:
  explicit FrequencyScorer(std::vector<float> probabilities)
      : probabilities_(std::move(probabilities)) {}
  std::int64_t classes() const noexcept override {
    return static_cast<std::int64_t>(probabilities_.size());
  }
  void score(std::span<const FrozenVisit>, FrozenWorkspace&, std::span<float> probabilities,
             FrozenAttention*) const override {
    std::copy(probabilities_.begin(), probabilities_.end(), probabilities.begin());
  }

 private:
  std::vector<float> probabilities_;
};

class NearestScorer : public FrozenScorer {
 public:
  explicit NearestScorer(std::vector<float> first_visit) : first_visit_(std::move(first_visit)) {}
  std::int64_t classes() const noexcept override {
    return static_cast<std::int64_t>(first_visit_.size());
  }
  void score(std::span<const FrozenVisit> visits, FrozenWorkspace&, std::span<float> probabilities,
             FrozenAttention*) const override {
    if (visits.size() < 2) {
      std::copy(first_visit_.begin(), first_visit_.end(), probabilities.begin());
      return;
    }
    std::fill(probabilities.begin(), probabilities.end(), 0.0F);
    for (std::int32_t id : visits[visits.size() - 2].medications) {
      probabilities[static_cast<std::size_t>(id)] = 1.0F;
    }
  }

 private:
  std::vector<float> first_visit_;
};

class LogisticScorer : public FrozenScorer {
 public:
  explicit LogisticScorer(const LogisticWeights& w)
      : classes_(static_cast<std::size_t>(w.classes)),
        diagnoses_(static_cast<std::size_t>(w.diagnoses)),
        columns_(w.weight.size()),
        bias_(w.bias) {
    const std::size_t features = diagnoses_ + static_cast<std::size_t>(w.procedures);
    for (std::size_t c = 0; c < classes_; ++c) {
      for (std::size_t f = 0; f < features; ++f)
        columns_[f * classes_ + c] = w.weight[c * features + f];
    }
  }
  std::int64_t classes() const noexcept override { return static_cast<std::int64_t>(classes_); }
  void score(std::span<const FrozenVisit> visits, FrozenWorkspace&, std::span<float> probabilities,
             FrozenAttention*) const override {
    std::copy(bias_.begin(), bias_.end(), probabilities.begin());
    for (std::int32_t id : visits.back().diagnoses)
      add(static_cast<std::size_t>(id), probabilities);
    for (std::int32_t id : visits.back().procedures)
      add(diagnoses_ + static_cast<std::size_t>(id), probabilities);
    for (float& p : probabilities) p = 1.0F / (1.0F + std::exp(-p));
  }

 private:
  void add(std::size_t feature, std::span<float> logits) const {
    const float* column = columns_.data() + feature * classes_;
    for (std::size_t c = 0; c < classes_; ++c) logits[c] += column[c];
  }
  std::size_t classes_, diagnoses_;
  std::vector<float> columns_;  // [features, classes]: a visit reads whole rows
  std::vector<float> bias_;
};

}  // namespace

std::vector<float> class_frequencies(const MappedCohort& cohort, std::span<const Sample> samples) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(cohort.classes()), 0);
  for (const Sample& s : samples) {
    for (std::int32_t id : cohort.ids(data::Field::kMedications, s.visit))
      ++counts[static_cast<std::size_t>(id)];
  }
  std::vector<float> shares;
  shares.reserve(counts.size());
  for (std::int64_t n : counts) {
    shares.push_back(
        static_cast<float>(static_cast<double>(n) / static_cast<double>(samples.size())));
  }
  return shares;
}

std::shared_ptr<const FrozenScorer> make_frequency_scorer(std::vector<float> probabilities) {
  return std::make_shared<FrequencyScorer>(std::move(probabilities));
}

std::shared_ptr<const FrozenScorer> make_nearest_scorer(std::vector<float> first_visit) {
  return std::make_shared<NearestScorer>(std::move(first_visit));
}

std::shared_ptr<const FrozenScorer> make_logistic_scorer(const LogisticWeights& weights) {
  return std::make_shared<LogisticScorer>(weights);
}

}  // namespace theriac::clinical
