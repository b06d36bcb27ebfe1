// What turns histories of item ids into user vectors at inference: frozen weights, on the CPU, over real
// tokens only (sequential-tta.md section 12).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cpp/core/augment/augmenter.h"

namespace theriac::sequence {

// Sequences one after the other, oldest item first, none empty, each at most max_length() items.
struct HistoryBatch {
  std::span<const std::int32_t> ids;           // rows of the item table
  std::span<const std::size_t> offsets;        // [sequences + 1]
  std::span<const std::uint8_t> marks = {};    // [ids] values of augment::Mark, or empty: none
  std::span<const augment::Noise> noise = {};  // [sequences] on embedded items, or empty: none

  std::size_t size() const { return offsets.size() - 1; }
  std::size_t length(std::size_t s) const { return offsets[s + 1] - offsets[s]; }
};

// Scratch of one thread, kept between calls so that they allocate nothing. Made by the encoder.
class EncoderScratch {
 public:
  virtual ~EncoderScratch() = default;
};

// Immutable; may be shared between threads. A sequence's vector depends on that sequence alone, bit for
// bit, not on the batch.
class HistoryEncoder {
 public:
  virtual ~HistoryEncoder() = default;
  virtual std::size_t dim() const = 0;
  virtual std::size_t max_length() const = 0;
  // Whether noise on embedded items makes sense: where normalisation follows.
  virtual bool takes_noise() const = 0;
  virtual std::unique_ptr<EncoderScratch> scratch() const = 0;
  // vectors: [sequences, dim].
  virtual void encode(const HistoryBatch& batch, EncoderScratch& scratch, float* vectors) const = 0;
};

// Room for `size` elements; grows, never shrinks.
inline float* room(std::vector<float>& buffer, std::size_t size) {
  if (buffer.size() < size) buffer.resize(size);
  return buffer.data();
}

}  // namespace theriac::sequence
