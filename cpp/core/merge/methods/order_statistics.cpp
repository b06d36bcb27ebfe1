#include "cpp/core/merge/methods/order_statistics.h"

#include <algorithm>
#include <array>
#include <utility>

#include "cpp/core/base/error.h"

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
