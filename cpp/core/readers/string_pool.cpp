#include "cpp/core/readers/string_pool.h"

#include <algorithm>
#include <cstring>

#include "cpp/core/base/error.h"
#include "cpp/core/base/hash.h"

namespace theriac::readers {

namespace {

constexpr std::size_t kFirstSlots = 64;
constexpr std::size_t kChunkBytes = std::size_t{256} << 10;

std::uint32_t tag_of(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 32); }

}  // namespace

// Slot of `text`, or the empty slot where it would go. `slots_` is never full.
std::size_t StringPool::probe(std::string_view text, std::uint64_t hash) const noexcept {
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = hash & mask;; i = (i + 1) & mask) {
    const Slot& slot = slots_[i];
    if (slot.position == kNone) return i;
    if (slot.tag == tag_of(hash) && texts_[slot.position] == text) return i;
  }
}

std::uint32_t StringPool::find(std::string_view text) const noexcept {
  if (slots_.empty()) return kNone;
  return slots_[probe(text, hash64(text))].position;
}

std::uint32_t StringPool::intern(std::string_view text) {
  if (2 * (texts_.size() + 1) > slots_.size()) grow();
  const std::uint64_t hash = hash64(text);
  Slot& slot = slots_[probe(text, hash)];
  if (slot.position != kNone) return slot.position;
  if (texts_.size() >= kNone - 1) {
    throw Error(Code::kDataError,
                "more than 4294967294 distinct identifiers and codes in one import");
  }
  const auto position = static_cast<std::uint32_t>(texts_.size());
  texts_.push_back(store(text));
  slot = {position, tag_of(hash)};
  return position;
}

std::string_view StringPool::store(std::string_view text) {
  if (text.empty()) return {};
  if (chunk_size_ - chunk_used_ < text.size()) {
    chunk_size_ = std::max(kChunkBytes, text.size());
    chunks_.push_back(std::make_unique_for_overwrite<char[]>(chunk_size_));
    chunk_used_ = 0;
  }
  char* place = chunks_.back().get() + chunk_used_;
  std::memcpy(place, text.data(), text.size());
  chunk_used_ += text.size();
  return {place, text.size()};
}

void StringPool::grow() {
  slots_.assign(std::max(kFirstSlots, 2 * slots_.size()), Slot{});
  for (std::uint32_t i = 0; i < texts_.size(); ++i) {
    const std::uint64_t hash = hash64(texts_[i]);
    slots_[probe(texts_[i], hash)] = {i, tag_of(hash)};
  }
}

}  // namespace theriac::readers
