// Scores of every item as a user's next one, read row by row and never kept: what evaluation and
// sessions share, over models of user vectors and over baselines.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cpp/core/augment/augmenter.h"
#include "cpp/engine/sequence/catalogue.h"
#include "cpp/engine/sequence/history_encoder.h"

namespace theriac::sequence {

// One user. Spans are borrowed for the call.
struct NextItemQuery {
  std::span<const std::int32_t> history;   // ids 1 ... items, oldest first, whole; not empty
  std::optional<std::uint64_t> key;        // of the augmenter's draws; none: the history decides
  std::span<const std::int32_t> excluded;  // sorted ids
  Excluded how = Excluded::kOut;
  std::int32_t target = -1;  // whose rank is wanted, or below 0
  std::size_t best = 0;      // how many best items are wanted
};

// Of one thread, kept between calls so that they allocate nothing. Made by the scorer.
class ScorerScratch {
 public:
  virtual ~ScorerScratch() = default;
};

// Immutable; may be shared between threads. A user's scores are the same bits whoever else is asked for.
class NextItemScorer {
 public:
  virtual ~NextItemScorer() = default;
  virtual std::size_t rows() const = 0;  // scored ids: 0 ... rows - 1
  virtual std::unique_ptr<ScorerScratch> scratch() const = 0;
  // Throws kUnsupported, naming the option, for what this model cannot carry out.
  virtual void check(const augment::Augmenter& augmenter) const = 0;
  // readers: [queries]; each is begun and has read its whole row. With an augmenter, scores are means
  // over its copies.
  virtual void score(std::span<const NextItemQuery> queries, const augment::Augmenter* augmenter,
                     ScorerScratch& scratch, std::span<RowReader> readers) const = 0;
};

// Scores are products of user vectors and item vectors [rows, dim] (sequential-tta.md section 6): the
// copies' vectors are averaged, and the catalogue is scored once.
std::shared_ptr<const NextItemScorer> vector_scorer(std::shared_ptr<const HistoryEncoder> encoder,
                                                    const float* item_vectors, std::size_t rows);

// A baseline: all scores of one history at a time.
class DenseScores {
 public:
  virtual ~DenseScores() = default;
  virtual std::size_t rows() const = 0;
  // scores: [rows], to be overwritten.
  virtual void fill(std::span<const std::int32_t> history, std::span<float> scores) const = 0;
};
std::shared_ptr<const NextItemScorer> dense_scorer(std::shared_ptr<const DenseScores> scores);

}  // namespace theriac::sequence
