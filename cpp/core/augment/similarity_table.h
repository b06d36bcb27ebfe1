// The most similar items of each item, best first.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cpp/core/augment/operators.h"

namespace theriac::augment {

// Immutable; any number of threads may read it.
class SimilarityTable {
 public:
  // Of items 1 ... items, `width` neighbours each; neighbours: [items, width] ids, 0 where there are
  // fewer. Throws kInvalidArgument for another size, an id outside 0 ... items, an item beside itself
  // or one twice in a row, naming the item.
  // scores: of each neighbour, or empty where they are not known.
  SimilarityTable(std::int32_t items, std::size_t width, std::vector<std::int32_t> neighbours,
                  std::vector<float> scores = {});

  std::int32_t items() const noexcept { return items_; }
  std::size_t width() const noexcept { return width_; }
  // Of an item in 1 ... items; as many as there are.
  IdSpan of(std::int32_t item) const noexcept;
  std::span<const std::int32_t> neighbours() const noexcept { return neighbours_; }
  std::span<const float> scores() const noexcept { return scores_; }

 private:
  std::int32_t items_;
  std::size_t width_;
  std::vector<std::int32_t> neighbours_;
  std::vector<float> scores_;  // [items, width] or empty
};

// As bytes of a model directory's file: neighbours, then scores, little-endian. Of a table with scores.
std::string to_bytes(const SimilarityTable& table);
// The table of `items` items that a file of `files` holds, null where there is no such file. Throws
// kDataError naming the file for bytes that are no such table.
std::shared_ptr<const SimilarityTable> stored_table(const std::map<std::string, std::string>& files,
                                                    const std::string& name, std::int32_t items);

// Which sequences count how much. kCount: each user who has both items counts 1. kInverseUserFrequency:
// 1 / ln(1 + n), n the user's number of different items.
enum class CoOccurrence { kCount, kInverseUserFrequency };

// Items that the same users have: sum over those users of their share / sqrt(N_i N_j), N_i the number of
// users who have i (CoSeRec's offline similarity). Equals by lower id first. `sequences`: the items of
// each user that may be looked at, that is training parts only; repetitions count once. Time and memory
// grow with the sum of squared lengths. Throws kInvalidArgument for an id outside 1 ... items.
SimilarityTable similar_by_users(std::span<const Ids> sequences, std::int32_t items,
                                 std::size_t width, CoOccurrence weighting);

// Of each item the better one of the two tables' first neighbours, by scores that each table's least and
// largest first-neighbour score map to 0 and 1; equal ones by `a` (CoSeRec's hybrid). Both tables have
// scores and the same items.
SimilarityTable hybrid(const SimilarityTable& a, const SimilarityTable& b);

}  // namespace theriac::augment
