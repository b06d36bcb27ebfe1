// Lines of a text file that is no CSV (fixed width, no header). Internal to this folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/error.h"
#include "cpp/core/base/input.h"

namespace theriac::codes::internal {

// Streams lines; LF and CRLF end one, a byte order mark is skipped, gzip is read. A line longer
// than `kLongestLine` or with a NUL byte is a kDataError.
class LineReader {
 public:
  static constexpr std::size_t kLongestLine = 1 << 16;

  explicit LineReader(const std::filesystem::path& path);
  bool next();                                     // false at the end
  std::string_view text() const { return line_; }  // without its end; valid until next()
  std::uint64_t line() const { return number_; }   // 1-based
  Error error(std::string_view what) const;        // kDataError with file and line

 private:
  bool refill();
  void finish_line();

  std::unique_ptr<ByteSource> source_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;
  std::string line_;
  std::uint64_t number_ = 0;
};

// A kDataError "file, line 7: what"; the one form of such messages in this folder.
Error data_error(const std::string& file, std::uint64_t line, std::string_view what);

}  // namespace theriac::codes::internal
