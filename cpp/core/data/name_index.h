// Finds the position of a name in a list by a hash of the name.
//
// Open addressing over positions alone, 8 bytes a slot: the list stays where its owner keeps it, a
// copy of both stays right, and a look-up allocates nothing.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace theriac::data {

class NameIndex {
 public:
  static constexpr std::size_t kMost = std::numeric_limits<std::uint32_t>::max() - 1;  // positions

  void reserve(std::size_t positions) {
    const std::size_t slots = std::bit_ceil(positions + positions / 2 + 1);
    if (slots > slots_.size()) rebuild(slots);
  }

  // The position for which `same(position)` holds among those added under this hash; -1 when none.
  template <class Same>
  std::int64_t find(std::uint64_t hash, const Same& same) const noexcept {
    if (slots_.empty()) return -1;
    const auto tag = static_cast<std::uint32_t>(hash);
    for (std::size_t at = tag & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[at];
      if (slot.number == 0) return -1;
      if (slot.tag == tag && same(std::size_t{slot.number} - 1)) {
        return std::int64_t{slot.number} - 1;
      }
    }
  }

  // Adds a position below kMost that `find` does not know.
  void add(std::uint64_t hash, std::size_t position) {
    if (used_ + used_ / 2 + 2 > slots_.size()) {
      rebuild(std::max<std::size_t>(slots_.size() * 2, 16));
    }
    place({static_cast<std::uint32_t>(hash), static_cast<std::uint32_t>(position + 1)});
    ++used_;
  }

 private:
  struct Slot {
    std::uint32_t tag = 0, number = 0;  // low bits of the hash; position + 1, 0 when empty
  };

  void place(Slot slot) {
    std::size_t at = slot.tag & (slots_.size() - 1);
    while (slots_[at].number != 0) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = slot;
  }

  void rebuild(std::size_t slots) {
    const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(slots));
    for (const Slot& slot : old) {
      if (slot.number != 0) place(slot);
    }
  }

  std::vector<Slot> slots_;  // a power of two, a third of it empty
  std::size_t used_ = 0;
};

}  // namespace theriac::data
