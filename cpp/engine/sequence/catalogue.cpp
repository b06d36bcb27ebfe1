#include "cpp/engine/sequence/catalogue.h"

#include <algorithm>

#include "cpp/engine/nn/transformer_kernels.h"

namespace theriac::sequence {

void BestItems::reset(std::size_t capacity) {
  capacity_ = capacity;
  ids_.clear();
  scores_.clear();
  ids_.reserve(capacity);
  scores_.reserve(capacity);
}

void BestItems::offer(std::int32_t id, float score) {
  if (!(score > threshold()) || capacity_ == 0) return;
  if (scores_.size() == capacity_) {
    scores_.pop_back();
    ids_.pop_back();
  }
  const auto place = std::upper_bound(scores_.begin(), scores_.end(), score,
                                      [](float a, float b) { return a > b; });
  ids_.insert(ids_.begin() + (place - scores_.begin()), id);
  scores_.insert(place, score);
}

void RowReader::begin(std::span<const std::int32_t> excluded, Excluded how, std::int32_t target,
                      float target_score, std::size_t capacity) {
  excluded_ = excluded;
  next_excluded_ = 0;
  how_ = how;
  target_ = target;
  target_score_ = target_score;
  capacity_ = capacity;
  rank_ = 0;
  best_.reset(capacity);
}

void RowReader::read(std::int32_t first, std::span<float> scores) {
  const auto end = first + static_cast<std::int32_t>(scores.size());
  const float instead = how_ == Excluded::kOut ? -std::numeric_limits<float>::infinity() : 0.0F;
  for (; next_excluded_ < excluded_.size() && excluded_[next_excluded_] < end; ++next_excluded_) {
    const std::int32_t id = excluded_[next_excluded_];
    if (id >= first) scores[static_cast<std::size_t>(id - first)] = instead;
  }
  if (target_ >= 0) {
    rank_ += static_cast<std::int64_t>(nn::count_above(scores, target_score_));
    const auto before = std::clamp<std::int32_t>(target_ - first, 0, end - first);
    rank_ += static_cast<std::int64_t>(
        nn::count_equal(scores.first(static_cast<std::size_t>(before)), target_score_));
  }
  if (capacity_ == 0) return;
  for (std::size_t i = nn::find_above(scores, 0, best_.threshold()); i < scores.size();
       i = nn::find_above(scores, i + 1, best_.threshold()))
    best_.offer(first + static_cast<std::int32_t>(i), scores[i]);
}

Catalogue::Catalogue(const float* table, std::size_t rows, std::size_t dim)
    : rows_(rows), dim_(dim), table_(table, table + rows * dim) {
  for (std::size_t first = 0; first < rows; first += kTile) {
    const nn::MatrixView part{table + first * dim, dim, 1};
    tiles_.emplace_back().pack(part.transposed(), dim, std::min(kTile, rows - first));
  }
}

void Catalogue::read(const float* vectors, std::span<RowReader> readers, Scratch& scratch) const {
  constexpr std::size_t kRows = 48;  // as many as the product keeps in the first-level cache
  for (std::size_t r = 0; r < readers.size(); r += kRows) {
    const std::size_t some = std::min(kRows, readers.size() - r);
    std::int32_t first = 0;
    for (const nn::PackedFactor& tile : tiles_) {
      const std::size_t columns = tile.columns();
      scratch.scores.resize(std::max(scratch.scores.size(), some * columns));
      nn::product({vectors + r * dim_, dim_, 1}, some, tile, scratch.scores.data(), columns);
      for (std::size_t i = 0; i < some; ++i)
        readers[r + i].read(first, {scratch.scores.data() + i * columns, columns});
      first += static_cast<std::int32_t>(columns);
    }
  }
}

float Catalogue::score(const float* vector, std::int32_t id, Scratch& scratch) const {
  const float* row = table_.data() + static_cast<std::size_t>(id) * dim_;
  scratch.column.pack(nn::MatrixView{row, dim_, 1}.transposed(), dim_, 1);
  float score = 0;
  nn::product({vector, dim_, 1}, 1, scratch.column, &score, 1);
  return score;
}

}  // namespace theriac::sequence
