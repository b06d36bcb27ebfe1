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

bool RowReader::settle(std::uint32_t above, std::uint32_t equal,
                       std::span<const float> of_excluded) {
  for (const float score : of_excluded) {
    above -= score > target_score_ ? 1 : 0;
    equal -= score == target_score_ ? 1 : 0;
  }
  if (how_ == Excluded::kZero) {
    if (target_score_ < 0) above += static_cast<std::uint32_t>(of_excluded.size());
    if (target_score_ == 0) equal += static_cast<std::uint32_t>(of_excluded.size());
  }
  if (equal != 1) return false;  // more than the target itself, or it is excluded
  rank_ = above;
  return true;
}

Catalogue::Catalogue(const float* table, std::size_t rows, std::size_t dim)
    : rows_(rows), dim_(dim) {
  for (std::size_t first = 0; first < rows; first += kTile) {
    const nn::MatrixView part{table + first * dim, dim, 1};
    tiles_.emplace_back().pack(part.transposed(), dim, std::min(kTile, rows - first));
  }
}

void Catalogue::read(const float* vectors, std::span<RowReader> readers, Scratch& scratch) const {
  constexpr std::size_t kRows = 48;  // as many as the product keeps in the first-level cache
  for (std::size_t r = 0; r < readers.size(); r += kRows) {
    const std::span<RowReader> some = readers.subspan(r, std::min(kRows, readers.size() - r));
    const bool ranks_only = std::all_of(some.begin(), some.end(),
                                        [](const RowReader& one) { return one.ranks_only(); });
    if (ranks_only) {
      count_rows(vectors + r * dim_, some, scratch);
    } else {
      read_rows(vectors + r * dim_, some, scratch);
    }
  }
}

void Catalogue::read_rows(const float* vectors, std::span<RowReader> readers,
                          Scratch& scratch) const {
  std::int32_t first = 0;
  for (const nn::PackedFactor& tile : tiles_) {
    const std::size_t columns = tile.columns();
    scratch.scores.resize(std::max(scratch.scores.size(), readers.size() * columns));
    nn::product({vectors, dim_, 1}, readers.size(), tile, scratch.scores.data(), columns);
    for (std::size_t i = 0; i < readers.size(); ++i)
      readers[i].read(first, {scratch.scores.data() + i * columns, columns});
    first += static_cast<std::int32_t>(columns);
  }
}

void Catalogue::count_rows(const float* vectors, std::span<RowReader> readers,
                           Scratch& scratch) const {
  scratch.limits.clear();
  for (const RowReader& reader : readers) scratch.limits.push_back(reader.target_score());
  scratch.above.assign(readers.size(), 0);
  scratch.equal.assign(readers.size(), 0);
  for (const nn::PackedFactor& tile : tiles_) {
    nn::count_products({vectors, dim_, 1}, readers.size(), tile, scratch.limits.data(),
                       scratch.above.data(), scratch.equal.data());
  }
  for (std::size_t i = 0; i < readers.size(); ++i) {
    const float* vector = vectors + i * dim_;
    scratch.columns.clear();
    for (const std::int32_t id : readers[i].excluded()) scratch.columns.push_back(column(id));
    const std::size_t count = scratch.columns.size();
    scratch.scores.resize(std::max(scratch.scores.size(), count));
    nn::products_at(vector, dim_, scratch.columns, scratch.scores.data());
    if (readers[i].settle(scratch.above[i], scratch.equal[i], {scratch.scores.data(), count}))
      continue;
    read_rows(vector, readers.subspan(i, 1), scratch);
  }
}

const float* Catalogue::column(std::int32_t id) const {
  const auto row = static_cast<std::size_t>(id);
  return tiles_[row / kTile].column(row % kTile);
}

float Catalogue::score(const float* vector, std::int32_t id) const {
  const float* const columns[1] = {column(id)};
  float score = 0;
  nn::products_at(vector, dim_, columns, &score);
  return score;
}

}  // namespace theriac::sequence
