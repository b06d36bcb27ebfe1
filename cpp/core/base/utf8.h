// UTF-8 checking for untrusted bytes, to the table of Unicode 15, section 3.9 (no overlong forms,
// no surrogates, nothing above U+10FFFF).
#pragma once

#include <cstddef>
#include <string_view>

namespace theriac {

// Offset of the first byte that starts no well-formed sequence, or npos when the whole text is
// UTF-8.
std::size_t find_invalid_utf8(std::string_view text) noexcept;

// Line and column (both from 1; the column counts characters, not bytes) of a byte offset.
struct TextPosition {
  std::size_t line = 1;
  std::size_t column = 1;
};
TextPosition text_position(std::string_view text, std::size_t offset) noexcept;

}  // namespace theriac
