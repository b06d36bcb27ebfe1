// The tokens of some histories with those that have the same beginning made one: no model of this folder
// reads a later token, so that equal beginnings, in equal slots, have equal hidden states. The copies of
// one history have many such beginnings in common.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpp/engine/sequence/history_encoder.h"

namespace theriac::sequence {

// Reuses its memory. Not shared between threads.
class PrefixRows {
 public:
  struct Row {
    std::size_t sequence = 0, position = 0;  // where it first stands: a sequence of the batch
  };

  // Sequences first ... last - 1. Histories with marks or noise share nothing. slots: more than any
  // length.
  void build(const HistoryBatch& batch, std::size_t first, std::size_t last, std::size_t slots);

  // In the order of first use: what stands before a row precedes it, and the rows that are a sequence's
  // own stand beside each other.
  std::span<const Row> rows() const noexcept { return rows_; }
  // The rows of a sequence's tokens, oldest first.
  const std::uint32_t* of(std::size_t sequence) const noexcept {
    return row_of_.data() + offsets_[sequence - first_] - offsets_[0];
  }
  // The position from which on a sequence's rows are its own; its length where none is.
  std::size_t first_own(std::size_t sequence) const noexcept {
    return first_own_[sequence - first_];
  }

 private:
  std::uint32_t* bucket_of(std::uint64_t key);

  std::size_t first_ = 0;
  std::span<const std::size_t> offsets_;  // of the batch, from `first_` on
  std::vector<Row> rows_;
  std::vector<std::uint32_t> row_of_, buckets_;  // [tokens]; a hash table of rows + 1
  std::vector<std::uint64_t> keys_;              // of rows: what stands before them, and their id
  std::vector<std::size_t> first_own_;           // [sequences]
};

}  // namespace theriac::sequence
