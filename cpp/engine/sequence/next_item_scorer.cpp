#include "cpp/engine/sequence/next_item_scorer.h"

#include <algorithm>

#include "cpp/core/base/error.h"
#include "cpp/engine/nn/dense_kernels.h"

namespace theriac::sequence {
namespace {

[[noreturn]] void unsupported_option(const std::string& option, const std::string& what) {
  throw Error(Code::kUnsupported, "augmenter, " + option + ": " + what).at("option", option);
}

void begin(const NextItemQuery& query, float target_score, RowReader& reader) {
  reader.begin(query.excluded, query.how, query.target, target_score, query.best);
}

// What all copies of some users come to before they are encoded.
struct CopyBatch {
  std::vector<std::int32_t> ids;
  std::vector<std::size_t> offsets{0};
  std::vector<std::uint8_t> marks;
  std::vector<augment::Noise> noise;
  std::vector<float> weights;              // [copies]
  std::vector<std::size_t> first_copy{0};  // [users + 1]
  bool marked = false, noisy = false;

  void clear() {
    ids.clear();
    offsets.assign(1, 0);
    marks.clear();
    noise.clear();
    weights.clear();
    first_copy.assign(1, 0);
    marked = noisy = false;
  }

  // The last `most` of the ids.
  void add(std::span<const std::int32_t> copy, std::span<const std::uint8_t> own_marks,
           const augment::Noise& own_noise, float weight, std::size_t most) {
    const std::size_t dropped = copy.size() - std::min(copy.size(), most);
    ids.insert(ids.end(), copy.begin() + static_cast<std::ptrdiff_t>(dropped), copy.end());
    if (own_marks.empty()) {
      marks.resize(ids.size(), 0);
    } else {
      marks.insert(marks.end(), own_marks.begin() + static_cast<std::ptrdiff_t>(dropped),
                   own_marks.end());
      marked = true;
    }
    noisy = noisy || own_noise.high != own_noise.low;
    noise.push_back(own_noise);
    offsets.push_back(ids.size());
    weights.push_back(weight);
  }

  HistoryBatch batch() const {
    HistoryBatch all{ids, offsets, {}, {}};
    if (marked) all.marks = marks;
    if (noisy) all.noise = noise;
    return all;
  }
};

class VectorScratch final : public ScorerScratch {
 public:
  std::unique_ptr<EncoderScratch> encoder;
  Catalogue::Scratch catalogue;
  CopyBatch copies;
  std::vector<float> of_copies, of_users;
};

class VectorScorer final : public NextItemScorer {
 public:
  VectorScorer(std::shared_ptr<const HistoryEncoder> encoder, const float* items, std::size_t rows)
      : encoder_(std::move(encoder)), catalogue_(items, rows, encoder_->dim()) {}

  std::size_t rows() const override { return catalogue_.rows(); }
  std::unique_ptr<ScorerScratch> scratch() const override {
    auto made = std::make_unique<VectorScratch>();
    made->encoder = encoder_->scratch();
    return made;
  }

  void check(const augment::Augmenter& augmenter) const override {
    if (augmenter.adds_noise() && !encoder_->takes_noise()) {
      unsupported_option("op",
                         "tnoise needs a model that normalises its inputs (sasrec), since noise "
                         "of a size that suits it destroys this one; tmask_r suits every model");
    }
    const std::int64_t mask = augmenter.options().mask_id;
    if (mask >= static_cast<std::int64_t>(rows())) {
      throw Error(Code::kInvalidArgument, "augmenter, mask_id: " + std::to_string(mask) +
                                              "; the model has vectors of ids 0 to " +
                                              std::to_string(rows() - 1))
          .at("option", "mask_id");
    }
  }

  void score(std::span<const NextItemQuery> queries, const augment::Augmenter* augmenter,
             ScorerScratch& scratch, std::span<RowReader> readers) const override {
    auto& own = static_cast<VectorScratch&>(scratch);
    const std::size_t dim = encoder_->dim();
    float* vectors = room(own.of_users, queries.size() * dim);
    if (augmenter == nullptr) {
      plain(queries, own, vectors);
    } else {
      augmented(queries, *augmenter, own, vectors);
    }
    for (std::size_t i = 0; i < queries.size(); ++i) {
      const std::int32_t target = queries[i].target;
      const float score = target < 0 ? 0 : catalogue_.score(vectors + i * dim, target);
      begin(queries[i], score, readers[i]);
    }
    catalogue_.read(vectors, readers.first(queries.size()), own.catalogue);
  }

 private:
  void plain(std::span<const NextItemQuery> queries, VectorScratch& own, float* vectors) const {
    CopyBatch& all = own.copies;
    all.clear();
    for (const NextItemQuery& query : queries)
      all.add(query.history, {}, {}, 1, encoder_->max_length());
    encoder_->encode(all.batch(), *own.encoder, vectors);
  }

  void augmented(std::span<const NextItemQuery> queries, const augment::Augmenter& augmenter,
                 VectorScratch& own, float* vectors) const {
    const std::size_t dim = encoder_->dim();
    CopyBatch& all = own.copies;
    all.clear();
    std::vector<augment::Copies> made;
    for (const NextItemQuery& query : queries) {
      const augment::Copies& copies = made.emplace_back(augmenter.apply(query.history, query.key));
      for (std::size_t c = 0; c < copies.size(); ++c) {
        const std::size_t first = copies.offsets[c], n = copies.offsets[c + 1] - first;
        const std::span<const std::uint8_t> marks(copies.marks);
        all.add(copies.copy(c), marks.empty() ? marks : marks.subspan(first, n),
                copies.noise.empty() ? augment::Noise{} : copies.noise[c],
                static_cast<float>(copies.weights[c]), encoder_->max_length());
      }
      all.first_copy.push_back(all.weights.size());
    }
    float* of_copies = room(own.of_copies, all.weights.size() * dim);
    encoder_->encode(all.batch(), *own.encoder, of_copies);
    for (std::size_t u = 0; u < queries.size(); ++u) {
      const std::span<float> mean(vectors + u * dim, dim);
      std::fill(mean.begin(), mean.end(), 0.0F);
      for (std::size_t c = all.first_copy[u]; c < all.first_copy[u + 1]; ++c)
        nn::add_scaled(mean, all.weights[c], of_copies + c * dim);
      add_output(made[u], mean);
    }
  }

  static void add_output(const augment::Copies& copies, std::span<float> mean) {
    std::vector<float> drawn(copies.output_noise.empty() ? 0 : mean.size());
    for (const augment::Noise& noise : copies.output_noise) {
      std::fill(drawn.begin(), drawn.end(), 0.0F);
      noise.add_to(drawn, 0);
      nn::add_scaled(mean, static_cast<float>(copies.output_share), drawn.data());
    }
    if (copies.shift == 0) return;
    for (float& value : mean) value += static_cast<float>(copies.shift);
  }

  std::shared_ptr<const HistoryEncoder> encoder_;
  Catalogue catalogue_;
};

class DenseScratch final : public ScorerScratch {
 public:
  std::vector<float> scores, of_copy;
};

class DenseScorer final : public NextItemScorer {
 public:
  explicit DenseScorer(std::shared_ptr<const DenseScores> scores) : scores_(std::move(scores)) {}
  std::size_t rows() const override { return scores_->rows(); }
  std::unique_ptr<ScorerScratch> scratch() const override {
    return std::make_unique<DenseScratch>();
  }
  void check(const augment::Augmenter& augmenter) const override {
    if (augmenter.marks_items())
      unsupported_option("mask_as", "a baseline has no steps to block; use tmask_r");
    if (augmenter.shifts())
      unsupported_option(augmenter.adds_noise() ? "op" : "shift", "a baseline has no user vectors");
  }

  void score(std::span<const NextItemQuery> queries, const augment::Augmenter* augmenter,
             ScorerScratch& scratch, std::span<RowReader> readers) const override {
    auto& own = static_cast<DenseScratch&>(scratch);
    const std::span<float> scores(room(own.scores, rows()), rows());
    for (std::size_t i = 0; i < queries.size(); ++i) {
      if (augmenter == nullptr) {
        scores_->fill(queries[i].history, scores);
      } else {
        augmented(queries[i], *augmenter, own, scores);
      }
      const std::int32_t target = queries[i].target;
      begin(queries[i], target < 0 ? 0 : scores[static_cast<std::size_t>(target)], readers[i]);
      readers[i].read(0, scores);
    }
  }

 private:
  void augmented(const NextItemQuery& query, const augment::Augmenter& augmenter, DenseScratch& own,
                 std::span<float> scores) const {
    const std::span<float> of_copy(room(own.of_copy, rows()), rows());
    const augment::Copies copies = augmenter.apply(query.history, query.key);
    std::fill(scores.begin(), scores.end(), 0.0F);
    for (std::size_t c = 0; c < copies.size(); ++c) {
      scores_->fill(copies.copy(c), of_copy);
      nn::add_scaled(scores, static_cast<float>(copies.weights[c]), of_copy.data());
    }
  }

  std::shared_ptr<const DenseScores> scores_;
};

}  // namespace

std::shared_ptr<const NextItemScorer> vector_scorer(std::shared_ptr<const HistoryEncoder> encoder,
                                                    const float* item_vectors, std::size_t rows) {
  return std::make_shared<VectorScorer>(std::move(encoder), item_vectors, rows);
}

std::shared_ptr<const NextItemScorer> dense_scorer(std::shared_ptr<const DenseScores> scores) {
  return std::make_shared<DenseScorer>(std::move(scores));
}

}  // namespace theriac::sequence
