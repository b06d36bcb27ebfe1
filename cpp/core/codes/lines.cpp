#include "cpp/core/codes/lines.h"

#include <algorithm>
#include <cstring>

namespace theriac::codes::internal {

Error data_error(const std::string& file, std::uint64_t line, std::string_view what) {
  std::string message = file + ", line " + std::to_string(line) + ": ";
  message.append(what);
  return Error(Code::kDataError, std::move(message)).at("file", file).at("line", line);
}

LineReader::LineReader(const std::filesystem::path& path)
    : source_(open_source(path)), buffer_(std::size_t{1} << 16) {}

Error LineReader::error(std::string_view what) const {
  return data_error(source_->name(), number_, what);
}

bool LineReader::refill() {
  begin_ = 0;
  end_ = source_->read(buffer_);
  return end_ > 0;
}

bool LineReader::next() {
  line_.clear();
  ++number_;
  bool any = false;
  while (begin_ < end_ || refill()) {
    any = true;
    const char* from = buffer_.data() + begin_;
    const void* found = std::memchr(from, '\n', end_ - begin_);
    const std::size_t count =
        found == nullptr ? end_ - begin_
                         : static_cast<std::size_t>(static_cast<const char*>(found) - from);
    if (line_.size() + count > kLongestLine) {
      throw error("longer than " + std::to_string(kLongestLine) +
                  " bytes; expected one record a line");
    }
    line_.append(from, count);
    begin_ += count + (found == nullptr ? 0 : 1);
    if (found != nullptr) break;
  }
  if (any) finish_line();
  return any;
}

void LineReader::finish_line() {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (number_ == 1 && line_.starts_with(kByteOrderMark)) line_.erase(0, kByteOrderMark.size());
  if (!line_.empty() && line_.back() == '\r') line_.pop_back();
  if (line_.find('\0') != std::string::npos) throw error("holds a NUL byte; expected text");
}

}  // namespace theriac::codes::internal
