#include "cpp/core/merge/methods/order_statistics.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "cpp/core/base/error.h"
#include "cpp/core/merge/methods/loops.h"

namespace theriac::merge::methods {
namespace {

// Walks half keys from the largest down until `rank` is reached; leaves in `above` what was passed.
std::uint32_t find_half(const std::vector<std::uint64_t>& totals, std::uint64_t rank,
                        std::uint64_t& above) {
  for (std::size_t half = totals.size(); half-- > 0;) {
    if (above + totals[half] >= rank) return static_cast<std::uint32_t>(half);
    above += totals[half];
  }
  return 0;
}

}  // namespace

KeyCounts nonzero_counts(const std::vector<std::uint32_t>& counts) {
  KeyCounts out;
  for (std::size_t half = 0; half < counts.size(); ++half) {
    if (counts[half] != 0) out.emplace_back(static_cast<std::uint16_t>(half), counts[half]);
  }
  return out;
}

KeyCounts counts_of(std::vector<std::uint16_t> halves) {
  std::sort(halves.begin(), halves.end());
  KeyCounts out;
  for (const std::uint16_t half : halves) {
    if (out.empty() || out.back().first != half) out.emplace_back(half, 0U);
    ++out.back().second;
  }
  return out;
}

// Two tables by turns: differences of 16-bit numbers fall into few bins, and an increment would wait for
// the one before it.
std::vector<std::uint32_t>& HalfCounter::tables() {
  static thread_local std::vector<std::uint32_t> tables(2 * kHalfKeys);
  return tables;
}

void HalfCounter::add_upper_halves(const std::uint32_t* keys, std::size_t n) {
  std::uint32_t* const even = tables_.data();
  std::uint32_t* const odd = even + kHalfKeys;
  loops::KeyRange keys_range;
  loops::widen(keys, n, keys_range);
  if (keys_range.largest > 0) {
    range_.smallest = std::min(range_.smallest, keys_range.smallest >> 16);
    range_.largest = std::max(range_.largest, keys_range.largest >> 16);
  }
  std::size_t i = 0;
  for (; i + 2 <= n; i += 2) {
    ++even[keys[i] >> 16];
    ++odd[keys[i + 1] >> 16];
  }
  if (i < n) ++even[keys[i] >> 16];
}

void HalfCounter::add(const std::uint16_t* halves, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    ++tables_[(i % 2) * kHalfKeys + halves[i]];
    touched_[halves[i] / (64 * kGroup)] |= std::uint64_t{1} << (halves[i] / kGroup % 64);
  }
}

KeyCounts HalfCounter::take() {
  KeyCounts out;
  for (std::size_t word = 0; word < touched_.size(); ++word) {
    for (std::uint64_t bits = touched_[word]; bits != 0; bits &= bits - 1) {
      const std::size_t group = 64 * word + static_cast<std::size_t>(std::countr_zero(bits));
      take(kGroup * group, kGroup * (group + 1), out);
    }
  }
  touched_ = {};
  if (!out.empty()) return out;
  take(0, kGroup, out);
  const std::size_t first = std::max<std::size_t>(kGroup, range_.smallest / kGroup * kGroup);
  if (first <= range_.largest) take(first, range_.largest / kGroup * kGroup + kGroup, out);
  range_ = {};
  return out;
}

void HalfCounter::take(std::size_t first, std::size_t last, KeyCounts& out) {
  constexpr std::size_t kMost = 1024;
  std::array<std::uint16_t, kMost> halves;
  std::array<std::uint32_t, kMost> counts;
  for (; first < last; first += kMost) {
    const std::size_t found =
        loops::take_counts(tables_.data() + first, tables_.data() + kHalfKeys + first,
                           std::min(kMost, last - first), halves.data(), counts.data());
    for (std::size_t i = 0; i < found; ++i) {
      out.emplace_back(static_cast<std::uint16_t>(first + halves[i]), counts[i]);
    }
  }
}

void LargestElements::end_first_pass(std::span<const KeyCounts* const> blocks) {
  if (rank_ == 0) return;
  std::vector<std::uint64_t> totals(kHalfKeys);
  std::uint64_t elements = 0;
  for (const KeyCounts* block : blocks) {
    for (const auto& [half, count] : *block) {
      totals[half] += count;
      elements += count;
    }
  }
  all_ = rank_ >= elements;
  rank_ = std::min(rank_, elements);
  key_ = find_half(totals, rank_, above_) << 16;
}

void LargestElements::end_second_pass(std::span<const BlockCounts> blocks) {
  if (rank_ == 0) return;
  std::vector<std::uint64_t> totals(kHalfKeys);
  for (const BlockCounts& block : blocks) {
    for (const auto& [half, count] : *block.counts) totals[half] += count;
  }
  std::uint64_t above = above_;
  const std::uint32_t lower = find_half(totals, rank_, above);
  key_ |= lower;
  std::uint64_t left = rank_ - above;
  for (const BlockCounts& block : blocks) {
    ties_.emplace_back(block.first, left);
    const auto found =
        std::lower_bound(block.counts->begin(), block.counts->end(), lower,
                         [](const auto& entry, std::uint32_t half) { return entry.first < half; });
    if (found == block.counts->end() || found->first != lower) continue;
    left -= std::min<std::uint64_t>(left, found->second);
  }
}

std::uint64_t LargestElements::ties_left(std::uint64_t first) const {
  if (rank_ == 0) return 0;
  if (all_ || keep_ties_) return std::numeric_limits<std::uint64_t>::max();
  const auto found =
      std::lower_bound(ties_.begin(), ties_.end(), first,
                       [](const auto& entry, std::uint64_t index) { return entry.first < index; });
  if (found == ties_.end() || found->first != first) {
    throw Error(Code::kInternal, "a block was not observed before it is merged")
        .at("first_element", first);
  }
  return found->second;
}

void StreamedRank::add(const KeyCounts& counts) {
  for (const auto& [half, count] : counts) totals_[half] += count;
}

void StreamedRank::end_first_pass() {
  const std::uint64_t elements = std::accumulate(totals_.begin(), totals_.end(), std::uint64_t{0});
  rank_ = std::min(rank_, elements);
  key_ = find_half(totals_, rank_, above_) << 16;
  totals_.assign(kHalfKeys, 0);
}

void StreamedRank::end_second_pass() {
  std::uint64_t above = above_;
  key_ |= find_half(totals_, rank_, above);
  ties_ = rank_ - above;
  totals_ = {};
}

// Radix sort by the inverted key, three digits of 11 bits; stable, hence in order of the positions.
void descending_order(std::span<const std::uint32_t> keys, std::vector<std::uint64_t>& order,
                      std::vector<std::uint64_t>& scratch) {
  constexpr std::uint32_t kDigit = 11, kDigits = 1U << kDigit;
  order.resize(keys.size());
  scratch.resize(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    order[i] = (static_cast<std::uint64_t>(~keys[i]) << 32) | i;
  }
  for (std::uint32_t shift = 32; shift < 64; shift += kDigit) {
    std::array<std::uint32_t, kDigits> starts{};
    for (const std::uint64_t entry : order) ++starts[(entry >> shift) & (kDigits - 1)];
    std::uint32_t sum = 0;
    for (std::uint32_t& start : starts) sum += std::exchange(start, sum);
    for (const std::uint64_t entry : order) {
      scratch[starts[(entry >> shift) & (kDigits - 1)]++] = entry;
    }
    order.swap(scratch);
  }
  for (std::uint64_t& entry : order) entry ^= 0xffffffff00000000ULL;
}

}  // namespace theriac::merge::methods
