// How synthetic users and items behave: the ground truth behind sequences.h.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cpp/core/base/random.h"
#include "cpp/core/generate/sequences.h"

namespace theriac::generate {

inline constexpr std::int64_t kSequencesStart = 1514764800;      // 2018-01-01, seconds since 1970
inline constexpr std::int64_t kSequencesSeconds = 1461 * 86400;  // four years, with one leap day
inline constexpr std::int64_t kShortestSequence = 5;

// Items with weights. Immutable.
class WeightedItems {
 public:
  void add(std::int32_t item, double weight);
  double weight() const { return cumulative_.empty() ? 0 : cumulative_.back(); }
  const std::vector<std::int32_t>& items() const { return items_; }  // as added
  // One that has not been taken, P ~ weight; nothing when all are. taken: [items + 1] by item.
  std::optional<std::int32_t> draw(const std::vector<bool>& taken, Random& random) const;

 private:
  std::optional<std::int32_t> draw_of_the_rest(const std::vector<bool>& taken,
                                               Random& random) const;
  double weight_at(std::size_t i) const {
    return i == 0 ? cumulative_[0] : cumulative_[i] - cumulative_[i - 1];
  }

  std::vector<std::int32_t> items_;
  std::vector<double> cumulative_;
};

// Items dealt to clusters of equal size and, as far as possible, equal weight, and the order in
// which users move between clusters. A function of the options; immutable, may be shared.
class ItemChain {
 public:
  explicit ItemChain(const SequenceOptions& options);

  std::int32_t cluster_of(std::int32_t item) const {
    return cluster_of_[static_cast<std::size_t>(item)];
  }
  // Where the chain leads from a cluster, for an item that is chosen at `time`.
  std::int32_t successor(std::int32_t cluster, std::int64_t time) const;
  const WeightedItems& all() const { return all_; }  // most popular first
  const WeightedItems& members(std::int32_t cluster) const {
    return members_[static_cast<std::size_t>(cluster)];
  }

 private:
  void deal(const SequenceOptions& options);
  void link(std::uint64_t seed);
  void drift(std::uint64_t seed, double share);

  WeightedItems all_;
  std::vector<WeightedItems> members_;             // [clusters]
  std::vector<std::int32_t> cluster_of_;           // [items + 1]; 0 is nobody's
  std::vector<std::int32_t> successor_, drifted_;  // [clusters], before and from half-way on
};

struct UserSequence {
  std::vector<std::int32_t> items;  // distinct, oldest first
  std::vector<std::int64_t> times;  // increasing
};

// User `index`, 0-based, is a function of (options, index), so that more users extend a data set.
// Throws kInvalidArgument for options out of range. Not shared between threads.
class SequenceSimulator {
 public:
  explicit SequenceSimulator(const SequenceOptions& options);
  const ItemChain& chain() const { return chain_; }
  UserSequence user(std::int64_t index);

 private:
  std::int64_t draw_length(Random& random) const;
  std::int32_t next_item(std::int32_t previous, std::int64_t time, Random& random) const;

  SequenceOptions options_;
  ItemChain chain_;
  std::vector<bool> taken_;  // [items + 1], all false between users
};

}  // namespace theriac::generate
