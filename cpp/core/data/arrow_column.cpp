#include "cpp/core/data/arrow_column.h"

#include <charconv>
#include <cstring>
#include <limits>
#include <utility>

#include "cpp/core/base/error.h"
#include "cpp/core/base/utf8.h"
#include "cpp/core/data/cohort.h"

namespace theriac::data {
namespace {

using Kind = ArrowLayout::Kind;

constexpr std::int64_t kDaySeconds = 86'400;

std::optional<ArrowLayout> integer_layout(std::string_view format) {
  if (format.size() != 1) return std::nullopt;
  constexpr std::string_view kSigned = "csil", kUnsigned = "CSIL";  // 1, 2, 4, 8 bytes
  const std::size_t s = kSigned.find(format[0]), u = kUnsigned.find(format[0]);
  if (s == std::string_view::npos && u == std::string_view::npos) return std::nullopt;
  const bool is_signed = s != std::string_view::npos;
  // Integers read as times are seconds.
  return ArrowLayout{Kind::kInteger, 1 << (is_signed ? s : u), is_signed, 1, 1};
}

// "tss:ZONE", "tsm:", "tsu:", "tsn:" are 64-bit timestamps; "tdD" days in 32 bits, "tdm"
// milliseconds.
std::optional<ArrowLayout> time_layout(std::string_view format) {
  if (format == "tdD") return ArrowLayout{Kind::kInteger, 4, true, kDaySeconds, 1};
  if (format == "tdm") return ArrowLayout{Kind::kInteger, 8, true, 1, 1000};
  if (format.size() < 4 || !format.starts_with("ts") || format[3] != ':') return std::nullopt;
  switch (format[2]) {
    case 's':
      return ArrowLayout{Kind::kInteger, 8, true, 1, 1};
    case 'm':
      return ArrowLayout{Kind::kInteger, 8, true, 1, 1'000};
    case 'u':
      return ArrowLayout{Kind::kInteger, 8, true, 1, 1'000'000};
    case 'n':
      return ArrowLayout{Kind::kInteger, 8, true, 1, 1'000'000'000};
    default:
      return std::nullopt;
  }
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

template <class T>
T load(const unsigned char* values, std::int64_t i) {
  T value;
  std::memcpy(&value, values + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
  return value;
}

}  // namespace

void ArrowColumn::fail(const std::string& what) const {
  throw Error(Code::kDataError, "Arrow column '" + name_ + "' " + what).at("column", name_);
}

void ArrowColumn::fail(std::int64_t row, const std::string& what) const {
  throw Error(Code::kDataError,
              "Arrow column '" + name_ + "', row " + std::to_string(row_base_ + row) + ": " + what)
      .at("column", name_)
      .at("row", row_base_ + row);
}

ArrowLayout ArrowColumn::layout_of(const ArrowSchema& schema) const {
  const std::string_view format = schema.format == nullptr ? "" : schema.format;
  if (format == "u") return {Kind::kText, 4, true, 1, 0};
  if (format == "U") return {Kind::kText, 8, true, 1, 0};
  if (format == "vu") return {Kind::kTextView, 16, true, 1, 0};
  if (const auto layout = integer_layout(format)) return *layout;
  if (const auto layout = time_layout(format)) return *layout;
  fail("has the Arrow format '" + std::string(format.substr(0, 40)) +
       "', which is not read; expected utf8, large_utf8, utf8_view, an integer, a timestamp or a "
       "date");
}

ArrowColumn::ArrowColumn(const ArrowSchema& schema, std::string name, ColumnRole role)
    : name_(std::move(name)), layout_(layout_of(schema)) {
  if (schema.dictionary != nullptr) {
    if (schema.dictionary->dictionary != nullptr) fail("is a dictionary of a dictionary");
    if (layout_.kind != Kind::kInteger) fail("is a dictionary whose indices are not integers");
    dictionary_ = layout_of(*schema.dictionary);
  }
  const ArrowSchema& values = dictionary_ ? *schema.dictionary : schema;
  const ArrowLayout& layout = dictionary_ ? *dictionary_ : layout_;
  const bool plain_integer = integer_layout(values.format).has_value();
  if (role == ColumnRole::kText && layout.kind == Kind::kInteger)
    fail("is not text; expected utf8");
  if (role == ColumnRole::kIdentifier && layout.kind == Kind::kInteger && !plain_integer) {
    fail("is not an identifier; expected utf8 or an integer");
  }
}

ArrowColumn::View ArrowColumn::view_of(const ArrowArray& array, const ArrowLayout& layout,
                                       std::int64_t first, std::int64_t rows) const {
  const bool views = layout.kind == Kind::kTextView;  // these have any number of buffers from 3
  const std::int64_t buffers = layout.kind == Kind::kInteger ? 2 : 3;
  const bool enough = views ? array.n_buffers >= buffers : array.n_buffers == buffers;
  if (!enough || array.buffers == nullptr) {
    fail("has " + std::to_string(array.n_buffers) + " buffers; expected " +
         std::to_string(buffers));
  }
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max() / 32;
  if (array.length < 0 || array.offset < 0 || array.length > kMost || array.offset > kMost) {
    fail("has a length or offset out of range");
  }
  if (first > array.length || rows > array.length - first) {
    fail("has " + std::to_string(array.length) + " rows; expected " + std::to_string(first + rows));
  }
  View view;
  if (array.null_count != 0) view.validity = static_cast<const unsigned char*>(array.buffers[0]);
  view.values = static_cast<const unsigned char*>(array.buffers[1]);
  if (layout.kind == Kind::kText) view.bytes = static_cast<const char*>(array.buffers[2]);
  if (views) bind_text_blocks(array, view);
  view.first = array.offset + first;
  view.rows = rows;
  if (rows > 0 && view.values == nullptr) fail("has rows but no values buffer");
  if (rows > 0 && array.null_count > 0 && view.validity == nullptr) {
    fail("states nulls but has no validity bitmap");
  }
  return view;
}

// Buffers of a text view: validity, entries of 16 bytes, blocks of bytes, sizes of the blocks.
void ArrowColumn::bind_text_blocks(const ArrowArray& array, View& view) const {
  view.blocks = array.buffers + 2;
  view.block_count = array.n_buffers - 3;
  view.block_sizes = static_cast<const unsigned char*>(array.buffers[array.n_buffers - 1]);
  if (view.block_count > 0 && view.block_sizes == nullptr)
    fail("lacks the sizes of its text blocks");
}

void ArrowColumn::bind(const ArrowArray& array, std::int64_t first, std::int64_t rows,
                       std::int64_t row_base) {
  row_base_ = row_base;
  view_ = view_of(array, layout_, first, rows);
  if (!dictionary_) return;
  if (array.dictionary == nullptr) fail("lacks the dictionary that its schema states");
  dictionary_view_ = view_of(*array.dictionary, *dictionary_, 0, array.dictionary->length);
}

bool ArrowColumn::valid(const View& view, std::int64_t i) const {
  if (view.validity == nullptr) return true;
  const std::int64_t bit = view.first + i;
  return (view.validity[bit / 8] >> (bit % 8) & 1) != 0;
}

std::int64_t ArrowColumn::integer(const View& view, const ArrowLayout& layout,
                                  std::int64_t i) const {
  const std::int64_t at = view.first + i;
  switch (layout.width) {
    case 1:
      return layout.is_signed ? load<std::int8_t>(view.values, at)
                              : load<std::uint8_t>(view.values, at);
    case 2:
      return layout.is_signed ? load<std::int16_t>(view.values, at)
                              : load<std::uint16_t>(view.values, at);
    case 4:
      return layout.is_signed ? std::int64_t{load<std::int32_t>(view.values, at)}
                              : std::int64_t{load<std::uint32_t>(view.values, at)};
    default:
      return load<std::int64_t>(view.values,
                                at);  // a uint64 keeps its bits; callers look at is_signed
  }
}

std::string_view ArrowColumn::offset_text(const View& view, const ArrowLayout& layout,
                                          std::int64_t i, std::int64_t row) const {
  const std::int64_t at = view.first + i;
  const auto offset = [&](std::int64_t entry) {
    return layout.width == 4 ? std::int64_t{load<std::int32_t>(view.values, entry)}
                             : load<std::int64_t>(view.values, entry);
  };
  const std::int64_t begin = offset(at), end = offset(at + 1);
  if (begin < 0 || end < begin) fail(row, "the text offsets fall or are negative");
  if (begin == end) return {};
  if (view.bytes == nullptr) fail(row, "the text has no bytes buffer");
  return {view.bytes + begin, static_cast<std::size_t>(end - begin)};
}

// An entry is a length and up to 12 bytes, or a length, the first 4 bytes, a block and a position
// in it.
std::string_view ArrowColumn::view_text(const View& view, std::int64_t i, std::int64_t row) const {
  constexpr std::int32_t kInline = 12;
  const unsigned char* entry = view.values + (view.first + i) * 16;
  const auto length = load<std::int32_t>(entry, 0);
  if (length < 0) fail(row, "the text has a negative length");
  const auto size = static_cast<std::size_t>(length);
  if (length <= kInline) return {reinterpret_cast<const char*>(entry) + 4, size};
  const auto block = load<std::int32_t>(entry, 2), position = load<std::int32_t>(entry, 3);
  if (block < 0 || block >= view.block_count || position < 0 || view.blocks[block] == nullptr ||
      load<std::int64_t>(view.block_sizes, block) - position < length) {
    fail(row, "the text lies outside its blocks of bytes");
  }
  return {static_cast<const char*>(view.blocks[block]) + position, size};
}

std::string_view ArrowColumn::text(const View& view, const ArrowLayout& layout, std::int64_t i,
                                   std::int64_t row) const {
  const std::string_view value =
      layout.kind == Kind::kTextView ? view_text(view, i, row) : offset_text(view, layout, i, row);
  if (find_invalid_utf8(value) != std::string_view::npos) fail(row, "the text is not UTF-8");
  return value;
}

std::int64_t ArrowColumn::dictionary_index(std::int64_t row) const {
  const std::int64_t index = integer(view_, layout_, row);
  if (index < 0 || index >= dictionary_view_.rows) {
    fail(row, "the index is outside the dictionary of " + std::to_string(dictionary_view_.rows));
  }
  return index;
}

bool ArrowColumn::is_null(std::int64_t row) const {
  if (!valid(view_, row)) return true;
  return dictionary_ && !valid(dictionary_view_, dictionary_index(row));
}

std::string_view ArrowColumn::text(std::int64_t row, std::string& scratch) const {
  const View& view = dictionary_ ? dictionary_view_ : view_;
  const ArrowLayout& layout = dictionary_ ? *dictionary_ : layout_;
  const std::int64_t i = dictionary_ ? dictionary_index(row) : row;
  if (layout.kind != Kind::kInteger) return text(view, layout, i, row);
  const std::int64_t value = integer(view, layout, i);
  scratch = layout.is_signed || value >= 0 ? std::to_string(value)
                                           : std::to_string(static_cast<std::uint64_t>(value));
  return scratch;
}

std::int64_t ArrowColumn::time(std::int64_t row) const {
  const View& view = dictionary_ ? dictionary_view_ : view_;
  const ArrowLayout& layout = dictionary_ ? *dictionary_ : layout_;
  const std::int64_t i = dictionary_ ? dictionary_index(row) : row;
  if (layout.kind != Kind::kInteger) {
    const std::string_view written = text(view, layout, i, row);
    try {
      return parse_time(written);
    } catch (const Error& error) {
      fail(row, error.what());
    }
  }
  // Days have 32 bits, so that the product fits; every other layout has multiplier 1.
  const std::int64_t value = integer(view, layout, i);
  const std::int64_t seconds = floor_divide(value * layout.multiplier, layout.divisor);
  const bool wrapped = !layout.is_signed && value < 0;
  if (wrapped || seconds < kFirstTime || seconds > kLastTime) {
    fail(row, "the time is outside the years 1 to 9999");
  }
  return seconds;
}

}  // namespace theriac::data
