// Scores of user vectors against every item (dot products) and what is read off them: the best items
// and the rank of a given one, in tiles, never a users x items matrix (sequential-tta.md section 5).
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "cpp/engine/nn/matrix_product.h"

namespace theriac::sequence {

// What happens to the score of a user's excluded items. kZero is the reference's rule: they score 0 and
// may be ranked.
enum class Excluded { kOut, kZero };

// Room for the `capacity` best (item, score), best first; equal scores by lower id.
class BestItems {
 public:
  void reset(std::size_t capacity);
  // The score an item must exceed to be taken; ids come in ascending order, so that an equal one comes
  // too late.
  float threshold() const noexcept {
    return scores_.size() < capacity_ ? -std::numeric_limits<float>::infinity() : scores_.back();
  }
  void offer(std::int32_t id, float score);
  std::span<const std::int32_t> ids() const noexcept { return ids_; }
  std::span<const float> scores() const noexcept { return scores_; }

 private:
  std::size_t capacity_ = 0;
  std::vector<std::int32_t> ids_;
  std::vector<float> scores_;
};

// Reads one user's row of scores a tile at a time, in ascending order of ids.
class RowReader {
 public:
  // excluded: sorted ids. target: whose rank is wanted (score `target_score`); below 0: none. capacity
  // 0: no list.
  void begin(std::span<const std::int32_t> excluded, Excluded how, std::int32_t target,
             float target_score, std::size_t capacity);
  // Scores of ids [first, first + scores.size()); changes those of excluded ones.
  void read(std::int32_t first, std::span<float> scores);
  // Nothing but the rank of a target is wanted.
  bool ranks_only() const noexcept { return capacity_ == 0 && target_ >= 0; }
  std::int32_t target() const noexcept { return target_; }
  float target_score() const noexcept { return target_score_; }
  std::span<const std::int32_t> excluded() const noexcept { return excluded_; }
  // Instead of `read`: how many of all ids score above the target and how many equal, and the scores of
  // the excluded ones. False where that does not settle the rank, since equal scores go by id; `read`
  // the row then.
  bool settle(std::uint32_t above, std::uint32_t equal, std::span<const float> of_excluded);
  // How many are ranked above the target: higher, or equal with a lower id.
  std::int64_t rank() const noexcept { return rank_; }
  const BestItems& best() const noexcept { return best_; }

 private:
  std::span<const std::int32_t> excluded_;
  std::size_t next_excluded_ = 0;
  Excluded how_ = Excluded::kOut;
  std::int32_t target_ = -1;
  float target_score_ = 0;
  std::size_t capacity_ = 0;
  std::int64_t rank_ = 0;
  BestItems best_;
};

// Immutable; may be shared between threads.
class Catalogue {
 public:
  // table: [rows, dim] row-major, contiguous; it is copied in packed form.
  Catalogue(const float* table, std::size_t rows, std::size_t dim);

  std::size_t rows() const noexcept { return rows_; }
  std::size_t dim() const noexcept { return dim_; }

  struct Scratch {
    std::vector<float> scores, limits;
    std::vector<std::uint32_t> above, equal;
    std::vector<const float*> columns;
  };
  // vectors: [readers, dim]; each reader has begun. The scores of one row are the same bits whoever
  // else is asked for. Where all readers want ranks only, scores are counted and never stored.
  void read(const float* vectors, std::span<RowReader> readers, Scratch& scratch) const;
  // The score of one id, the same bits as `read` gives.
  float score(const float* vector, std::int32_t id) const;

 private:
  const float* column(std::int32_t id) const;
  void read_rows(const float* vectors, std::span<RowReader> readers, Scratch& scratch) const;
  void count_rows(const float* vectors, std::span<RowReader> readers, Scratch& scratch) const;

  static constexpr std::size_t kTile =
      2048;  // ids; a tile of packed vectors stays in a second-level cache
  std::size_t rows_, dim_;
  std::vector<nn::PackedFactor> tiles_;
};

}  // namespace theriac::sequence
