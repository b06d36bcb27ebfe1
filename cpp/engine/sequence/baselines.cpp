#include "cpp/engine/sequence/baselines.h"

#include <algorithm>

namespace theriac::sequence {
namespace {

class Popularity final : public DenseScores {
 public:
  explicit Popularity(std::vector<float> share) : share_(std::move(share)) {}
  std::size_t rows() const override { return share_.size(); }
  void fill(std::span<const std::int32_t>, std::span<float> scores) const override {
    std::copy(share_.begin(), share_.end(), scores.begin());
  }

 private:
  std::vector<float> share_;
};

class ItemKnn final : public DenseScores {
 public:
  ItemKnn(std::size_t items, std::size_t width, std::vector<std::int32_t> neighbours,
          std::vector<float> scores, double decay, std::size_t max_length)
      : items_(items),
        width_(width),
        neighbours_(std::move(neighbours)),
        scores_(std::move(scores)),
        decay_(static_cast<float>(decay)),
        max_length_(max_length) {}
  std::size_t rows() const override { return items_ + 2; }

  void fill(std::span<const std::int32_t> history, std::span<float> scores) const override {
    std::fill(scores.begin(), scores.end(), 0.0F);
    float weight = 1;
    const std::size_t read = std::min(history.size(), max_length_);
    for (std::size_t i = history.size(); i-- > history.size() - read; weight *= decay_) {
      const auto item = static_cast<std::size_t>(history[i]);
      if (item < 1 || item > items_) continue;  // a masked position
      const std::size_t row = (item - 1) * width_;
      for (std::size_t n = 0; n < width_ && neighbours_[row + n] != 0; ++n)
        scores[static_cast<std::size_t>(neighbours_[row + n])] += weight * scores_[row + n];
    }
  }

 private:
  std::size_t items_, width_;
  std::vector<std::int32_t> neighbours_;
  std::vector<float> scores_;
  float decay_;
  std::size_t max_length_;
};

}  // namespace

std::shared_ptr<const NextItemScorer> popularity_scorer(std::vector<float> share) {
  return dense_scorer(std::make_shared<Popularity>(std::move(share)));
}

std::shared_ptr<const NextItemScorer> item_knn_scorer(std::size_t items, std::size_t width,
                                                      std::vector<std::int32_t> neighbours,
                                                      std::vector<float> scores, double decay,
                                                      std::size_t max_length) {
  return dense_scorer(std::make_shared<ItemKnn>(items, width, std::move(neighbours),
                                                std::move(scores), decay, max_length));
}

}  // namespace theriac::sequence
