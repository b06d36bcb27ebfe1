// Strings stored once and named by small integers, so that a reader's rows are a few bytes each.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace theriac::readers {

// Not synchronised. Texts stay where they are: a view from text() is valid as long as the pool.
class StringPool {
 public:
  static constexpr std::uint32_t kNone = UINT32_MAX;

  // Position of `text`, which is stored on first sight. Positions are given in order from 0. Throws
  // kDataError after 2^32 - 2 distinct texts.
  std::uint32_t intern(std::string_view text);
  // kNone when it was never interned.
  std::uint32_t find(std::string_view text) const noexcept;
  std::string_view text(std::uint32_t position) const { return texts_.at(position); }
  std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(texts_.size()); }

 private:
  // Open addressing with linear probing, at most half full. The hash's upper half is kept beside
  // the position: most probes for other texts end without touching the text.
  struct Slot {
    std::uint32_t position = kNone;
    std::uint32_t tag = 0;
  };

  std::size_t probe(std::string_view text, std::uint64_t hash) const noexcept;
  std::string_view store(std::string_view text);
  void grow();

  std::vector<Slot> slots_;
  std::vector<std::string_view> texts_;
  std::vector<std::unique_ptr<char[]>> chunks_;
  std::size_t chunk_used_ = 0, chunk_size_ = 0;
};

}  // namespace theriac::readers
