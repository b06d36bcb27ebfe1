// The k largest of a tensor's elements without sorting, block by block: a first pass counts the
// upper halves of 32-bit keys, a second the lower halves inside the bin that the first one found.
// Among equal keys the element with the lowest index comes first.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

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
    std::uint64_t left = ties_left(first);
    if (left == 0) return 0;
    if (left >= count) return count;
    for (std::size_t i = 0; i < count; ++i) {
      if (key(i) == key_ && left-- == 0) return i;
    }
    return count;
  }
  bool contains(std::uint32_t key, std::size_t position, std::size_t limit) const noexcept {
    return (key > key_) | ((key == key_) & (position < limit));
  }
  // The same for elements from `first` on, all in 32 bits for vector code.
  struct Chunk {
    std::uint32_t key, limit;
    bool contains(std::uint32_t of_element, std::uint32_t position) const noexcept {
      return (of_element > key) | ((of_element == key) & (position < limit));
    }
  };
  Chunk chunk(std::size_t first, std::size_t count, std::size_t limit) const noexcept {
    const std::size_t left = limit > first ? limit - first : 0;
    return {key_, static_cast<std::uint32_t>(left < count ? left : count)};
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

// Positions of the keys in descending order, the lowest index first among equals.
// Keys are below 2^31. `order` receives key << 32 | position; `scratch` is overwritten.
void descending_order(std::span<const std::uint32_t> keys, std::vector<std::uint64_t>& order,
                      std::vector<std::uint64_t>& scratch);

}  // namespace theriac::merge::methods
