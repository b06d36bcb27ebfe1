// The k largest of a tensor's elements without sorting, block by block: a first pass counts the
// upper halves of 32-bit keys, a second the lower halves inside the bin that the first one found.
// Among equal keys the element with the lowest index comes first.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "cpp/core/merge/methods/loops.h"

namespace theriac::merge::methods {

// |value| as an integer of the same order.
inline std::uint32_t magnitude_key(float value) noexcept {
  return std::bit_cast<std::uint32_t>(value) & 0x7fffffffU;
}
// The same for numbers of either sign; -0 comes before 0.
inline std::uint32_t ordered_key(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
}
inline float from_ordered_key(std::uint32_t key) noexcept {
  return std::bit_cast<float>((key >> 31) != 0 ? key & 0x7fffffffU : ~key);
}

// Half keys that occur, ascending, and how often.
using KeyCounts = std::vector<std::pair<std::uint16_t, std::uint32_t>>;

constexpr std::size_t kHalfKeys = 65536;

// Blocks below this are sorted: cheaper than walking a table of all half keys.
constexpr std::size_t kSmallBlock = 4096;

KeyCounts nonzero_counts(const std::vector<std::uint32_t>& counts);
KeyCounts counts_of(std::vector<std::uint16_t> halves);

// Counts half keys of a block as they come: upper halves of all keys, or chosen halves, not both between
// two takes. The tables are the thread's, kept from block to block: one counter at a time on a thread.
class HalfCounter {
 public:
  void add_upper_halves(const std::uint32_t* keys, std::size_t n);
  void add(const std::uint16_t* halves, std::size_t n);
  KeyCounts take();

 private:
  static constexpr std::size_t kGroup = 16;  // half keys that are looked at together when taken

  static std::vector<std::uint32_t>& tables();
  void take(std::size_t first, std::size_t last, KeyCounts& out);

  std::vector<std::uint32_t>& tables_ = tables();
  // Most of the tables stays untouched.
  loops::KeyRange range_;                                         // of upper halves but 0
  std::array<std::uint64_t, kHalfKeys / kGroup / 64> touched_{};  // groups of chosen halves
};

// First pass. `key(i)` is the key of element i of the block.
template <class Key>
KeyCounts count_upper_halves(std::size_t count, const Key& key) {
  if (count < kSmallBlock) {
    std::vector<std::uint16_t> halves(count);
    for (std::size_t i = 0; i < count; ++i) halves[i] = static_cast<std::uint16_t>(key(i) >> 16);
    return counts_of(std::move(halves));
  }
  std::vector<std::uint32_t> counts(kHalfKeys);
  for (std::size_t i = 0; i < count; ++i) ++counts[key(i) >> 16];
  return nonzero_counts(counts);
}

// Second pass: of the keys with this upper half.
template <class Key>
KeyCounts count_lower_halves(std::size_t count, std::uint32_t upper, const Key& key) {
  if (count < kSmallBlock) {
    std::vector<std::uint16_t> halves;
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint32_t k = key(i);
      if (k >> 16 == upper) halves.push_back(static_cast<std::uint16_t>(k & 0xffffU));
    }
    return counts_of(std::move(halves));
  }
  std::vector<std::uint32_t> counts(kHalfKeys);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t k = key(i);
    if (k >> 16 == upper) ++counts[k & 0xffffU];
  }
  return nonzero_counts(counts);
}

// The position up to which, but not including, the first `left` elements with this key lie.
template <class Key>
std::size_t tie_limit_of(std::uint32_t equal_to, std::uint64_t left, std::size_t count,
                         const Key& key) {
  if (left == 0) return 0;
  if (left >= count) return count;
  for (std::size_t i = 0; i < count; ++i) {
    if (key(i) == equal_to && left-- == 0) return i;
  }
  return count;
}

// Tells the `rank` largest elements from the rest. Immutable, and shared between threads, once both
// passes have been ended.
class LargestElements {
 public:
  struct BlockCounts {
    std::uint64_t first = 0;  // index of the block's first element
    const KeyCounts* counts = nullptr;
  };

  // `keep_ties`: all elements equal to the smallest of them, too.
  explicit LargestElements(std::uint64_t rank, bool keep_ties = false)
      : rank_(rank), keep_ties_(keep_ties) {}

  void end_first_pass(std::span<const KeyCounts* const> blocks);
  std::uint32_t upper() const noexcept { return key_ >> 16; }
  void end_second_pass(std::span<const BlockCounts> blocks);

  std::uint32_t smallest_key() const noexcept { return key_; }

  // Elements of a block that are equal to the smallest key belong to the largest as long as their
  // position in the block is below this. Throws kInternal for a block that was not observed.
  template <class Key>
  std::size_t tie_limit(std::uint64_t first, std::size_t count, const Key& key) const {
    return tie_limit_of(key_, ties_left(first), count, key);
  }
  bool contains(std::uint32_t key, std::size_t position, std::size_t limit) const noexcept {
    return (key > key_) | ((key == key_) & (position < limit));
  }
  // The same for `count` elements from `first` on.
  static loops::Cut chunk_of(std::uint32_t key, std::size_t first, std::size_t count,
                             std::size_t limit) noexcept {
    const std::size_t left = limit > first ? limit - first : 0;
    return {key, static_cast<std::uint32_t>(left < count ? left : count)};
  }
  loops::Cut chunk(std::size_t first, std::size_t count, std::size_t limit) const noexcept {
    return chunk_of(key_, first, count, limit);
  }

 private:
  std::uint64_t ties_left(std::uint64_t first) const;

  std::uint64_t rank_;
  bool keep_ties_;
  bool all_ = false;
  std::uint32_t key_ = std::numeric_limits<std::uint32_t>::max();
  std::uint64_t above_ = 0;  // elements in higher bins
  // Of each block: first element, and how many ties are still to be taken from there on.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ties_;
};

// The r-th largest key of any number of blocks, whose counts are added and can be dropped: for
// statistics of a whole model. Same two passes; ties are not told apart.
class StreamedRank {
 public:
  // From 1, the largest, up. Beyond the number of elements it is that of the smallest.
  explicit StreamedRank(std::uint64_t rank) : rank_(rank), totals_(kHalfKeys) {}

  void set_rank(std::uint64_t rank) noexcept { rank_ = rank; }  // before the first pass ends
  void add(const KeyCounts& counts);
  void end_first_pass();
  std::uint32_t upper() const noexcept { return key_ >> 16; }
  void end_second_pass();

  std::uint32_t key() const noexcept { return key_; }
  // How many elements equal to the key are among the `rank` largest.
  std::uint64_t ties() const noexcept { return ties_; }

 private:
  std::uint64_t rank_;
  std::uint32_t key_ = 0;
  std::uint64_t above_ = 0, ties_ = 0;
  std::vector<std::uint64_t> totals_;
};

// Positions of the keys in descending order, the lowest index first among equals.
// Keys are below 2^31. `order` receives key << 32 | position; `scratch` is overwritten.
void descending_order(std::span<const std::uint32_t> keys, std::vector<std::uint64_t>& order,
                      std::vector<std::uint64_t>& scratch);

}  // namespace theriac::merge::methods
