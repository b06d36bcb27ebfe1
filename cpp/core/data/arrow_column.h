// One column of a host's Arrow batches, read as text, identifier or time.
//
// The C interface states neither buffer sizes nor alignment. What can be checked is checked
// (lengths, counts of buffers, null pointers, order of text offsets, dictionary indices, UTF-8);
// the rest is the producer's promise, as everywhere with this interface.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cpp/core/data/arrow_abi.h"

namespace theriac::data {

// How the bytes of an array are laid out, from its format string.
struct ArrowLayout {
  enum class Kind { kText, kTextView, kInteger } kind = Kind::kText;
  int width = 0;  // bytes of an integer, or of a text offset
  bool is_signed = true;
  // Times: seconds = value * multiplier / divisor. Not a time when the divisor is 0.
  std::int64_t multiplier = 1, divisor = 0;
};

enum class ColumnRole {
  kText,        // utf8, large_utf8, utf8_view
  kIdentifier,  // text or any integer
  kTime,        // timestamp, date, integer seconds, or text
};

class ArrowColumn {
 public:
  // Throws kDataError when the type does not suit the role.
  ArrowColumn(const ArrowSchema& schema, std::string name, ColumnRole role);

  // Points at rows [first, first + rows) of a batch's array, beyond its own offset. `row_base` is
  // the batch's first row in the stream, for errors. The array must stay until the next bind.
  void bind(const ArrowArray& array, std::int64_t first, std::int64_t rows, std::int64_t row_base);

  // `row` counts from 0 within the bound rows.
  bool is_null(std::int64_t row) const;
  // Text of a value that is not null; may use `scratch` as its storage.
  std::string_view text(std::int64_t row, std::string& scratch) const;
  // Seconds since 1970 of a value that is not null.
  std::int64_t time(std::int64_t row) const;
  // kDataError naming column and row.
  [[noreturn]] void fail(std::int64_t row, const std::string& what) const;

 private:
  struct View {
    const unsigned char* validity = nullptr;  // null when every value is valid
    const unsigned char* values = nullptr;    // integers, or text offsets
    const char* bytes = nullptr;
    const void* const* blocks = nullptr;         // of a text view: its blocks of bytes,
    const unsigned char* block_sizes = nullptr;  // and their sizes, int64 each
    std::int64_t block_count = 0;
    std::int64_t first = 0, rows = 0;  // first is absolute: the array's offset is in it
  };
  ArrowLayout layout_of(const ArrowSchema& schema) const;
  View view_of(const ArrowArray& array, const ArrowLayout& layout, std::int64_t first,
               std::int64_t rows) const;
  bool valid(const View& view, std::int64_t i) const;
  void bind_text_blocks(const ArrowArray& array, View& view) const;
  std::int64_t integer(const View& view, const ArrowLayout& layout, std::int64_t i) const;
  std::string_view text(const View& view, const ArrowLayout& layout, std::int64_t i,
                        std::int64_t row) const;
  std::string_view offset_text(const View& view, const ArrowLayout& layout, std::int64_t i,
                               std::int64_t row) const;
  std::string_view view_text(const View& view, std::int64_t i, std::int64_t row) const;
  std::int64_t dictionary_index(std::int64_t row) const;
  [[noreturn]] void fail(const std::string& what) const;

  std::string name_;
  ArrowLayout layout_;                     // of the values, or of the indices of a dictionary
  std::optional<ArrowLayout> dictionary_;  // of a dictionary's values
  View view_, dictionary_view_;
  std::int64_t row_base_ = 0;
};

}  // namespace theriac::data
