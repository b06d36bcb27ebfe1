#include "cpp/core/readers/sequences.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cpp/core/base/csv.h"
#include "cpp/core/base/input.h"
#include "cpp/core/base/utf8.h"
#include "cpp/core/readers/progress_source.h"
#include "cpp/core/readers/provenance.h"

namespace theriac::readers {

namespace {

namespace fs = std::filesystem;
using data::SequenceBuilder;
using data::SequencePolicy;

constexpr std::string_view kBlank = " \t";
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr const char* kTable = "interactions";  // in the accounting, of either layout

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

// Asks now and then whether to go on; sources ask only when they read a block.
class Pulse {
 public:
  explicit Pulse(const Job& job) : job_(job) {}
  void beat() {
    constexpr std::uint64_t kEvery = 4096;
    if (++beats_ % kEvery == 0) job_.check();
  }

 private:
  const Job& job_;
  std::uint64_t beats_ = 0;
};

// ---- telling the layout ----

// Hands out again what was read to look at the first line.
class PeekedSource final : public ByteSource {
 public:
  explicit PeekedSource(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {}

  // Without its end and a byte order mark. Of a long one, as much as any header line has.
  std::string_view first_line() {
    constexpr std::size_t kEnough = std::size_t{1} << 20;
    std::vector<char> block(std::size_t{1} << 16);
    while (ahead_.size() < kEnough && ahead_.find('\n') == std::string::npos) {
      const std::size_t got = source_->read(block);
      if (got == 0) break;
      ahead_.append(block.data(), got);
    }
    std::string_view line = ahead_;
    line = line.substr(0, line.find('\n'));
    if (line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
  }

  std::size_t read(std::span<char> into) override {
    if (taken_ == ahead_.size()) return source_->read(into);
    const std::size_t bytes = ahead_.copy(into.data(), into.size(), taken_);
    taken_ += bytes;
    return bytes;
  }
  const std::string& name() const override { return source_->name(); }

 private:
  std::unique_ptr<ByteSource> source_;
  std::string ahead_;
  std::size_t taken_ = 0;
};

char delimiter_of(const SequencePolicy& policy) {
  const std::string& text = policy.delimiter;
  if (text == "tab") return '\t';
  const bool usable = text.size() == 1 && static_cast<unsigned char>(text[0]) < 0x80 &&
                      std::string_view("\0\r\n\"", 4).find(text[0]) == std::string_view::npos;
  if (usable) return text[0];
  throw Error(Code::kInvalidArgument,
              "option 'delimiter' is no delimiter; expected one ASCII character or 'tab'")
      .at("option", "delimiter");
}

// Whether one of the fields of a header line is the column.
bool names_column(std::string_view line, char delimiter, const std::string& column) {
  for (;;) {
    const std::size_t end = line.find(delimiter);
    std::string_view field = line.substr(0, end);
    if (field.size() > 1 && field.front() == '"' && field.back() == '"')
      field = field.substr(1, field.size() - 2);
    if (!column.empty() && lower(trim(field)) == lower(column)) return true;
    if (end == std::string_view::npos) return false;
    line.remove_prefix(end + 1);
  }
}

bool is_table(PeekedSource& source, const SequencePolicy& policy) {
  if (policy.layout == "csv") return true;
  if (policy.layout == "lines") return false;
  if (policy.layout != "auto") {
    throw Error(Code::kInvalidArgument, "option 'layout' is unknown; expected auto, lines or csv")
        .at("option", "layout");
  }
  const char delimiter = delimiter_of(policy);
  const std::string_view line = source.first_line();
  return names_column(line, delimiter, policy.user) && names_column(line, delimiter, policy.item);
}

// ---- lines ----

// Lines of UTF-8 text, ended by LF or CRLF; the last may have no end.
class TextLines {
 public:
  explicit TextLines(std::unique_ptr<ByteSource> source)
      : source_(std::move(source)), buffer_(kBlock) {}

  bool next();                                     // false at the end
  std::string_view text() const { return text_; }  // without its end; valid until next()
  std::uint64_t line() const { return line_; }     // 1-based
  Error error(const std::string& what) const {
    return Error(Code::kDataError, name() + ", line " + std::to_string(line_) + ": " + what)
        .at("file", name())
        .at("line", line_);
  }
  const std::string& name() const { return source_->name(); }

 private:
  static constexpr std::size_t kBlock = std::size_t{1} << 18;
  static constexpr std::size_t kLongestLine = std::size_t{64} << 20;

  void fill();
  void check();

  std::unique_ptr<ByteSource> source_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;  // of the bytes not yet handed out
  bool at_end_ = false;
  std::string_view text_;
  std::uint64_t line_ = 0;
};

bool TextLines::next() {
  ++line_;
  for (std::size_t searched = 0;;) {
    const std::string_view held(buffer_.data() + begin_, end_ - begin_);
    const std::size_t stop = held.find('\n', searched);
    const bool ended = stop != std::string_view::npos;
    if (std::min(stop, held.size()) > kLongestLine)
      throw error("longer than " + std::to_string(kLongestLine) + " bytes; expected a user a line");
    if (ended || at_end_) {
      if (!ended && held.empty()) return false;
      text_ = held.substr(0, stop);
      begin_ += text_.size() + (ended ? 1 : 0);
      if (ended && text_.ends_with('\r')) text_.remove_suffix(1);
      check();
      return true;
    }
    searched = held.size();
    fill();
  }
}

// Reads behind the bytes held, which move to the front. The buffer grows to the longest line.
void TextLines::fill() {
  if (begin_ != 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == buffer_.size()) buffer_.resize(2 * buffer_.size());
  const std::size_t got = source_->read(std::span(buffer_).subspan(end_));
  end_ += got;
  at_end_ = got == 0;
}

void TextLines::check() {
  if (line_ == 1 && (text_.starts_with("\xFF\xFE") || text_.starts_with("\xFE\xFF")))
    throw error("the file is UTF-16; convert it to UTF-8");
  if (line_ == 1 && text_.starts_with(kByteOrderMark)) text_.remove_prefix(kByteOrderMark.size());
  if (text_.find('\0') != std::string_view::npos)
    throw error("a NUL byte; the file may be UTF-16 or damaged, UTF-8 is expected");
  if (text_.find('\r') != std::string_view::npos)
    throw error("a bare carriage return; lines must end with LF or CRLF");
  if (find_invalid_utf8(text_) != std::string_view::npos)
    throw error("the text is not valid UTF-8");
}

// Takes the next word off the front; empty when there is none.
std::string_view take_word(std::string_view& rest) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
  const auto first = std::find_if_not(rest.begin(), rest.end(), is_blank);
  const auto last = std::find_if(first, rest.end(), is_blank);
  rest = {last, rest.end()};
  return {first, last};
}

std::string too_long() {
  return " is longer than " + std::to_string(data::Names::kNameLimit) + " bytes";
}

// Returns how many interactions there are.
std::int64_t read_lines(TextLines lines, SequenceBuilder& builder, Pulse pulse) {
  std::unordered_map<std::string, std::uint64_t> line_of_user;
  std::int64_t added = 0;
  while (lines.next()) {
    pulse.beat();
    std::string_view rest = lines.text();
    const std::string_view user = take_word(rest);
    if (user.empty()) continue;
    if (user.size() > data::Names::kNameLimit) throw lines.error("the user's name" + too_long());
    const auto [earlier, fresh] = line_of_user.try_emplace(std::string(user), lines.line());
    if (!fresh) {
      throw lines.error("repeats the user of line " + std::to_string(earlier->second) +
                        "; all items of a user are expected on one line");
    }
    const std::int64_t before = added;
    for (std::string_view item = take_word(rest); !item.empty(); item = take_word(rest)) {
      if (item.size() > data::Names::kNameLimit) {
        throw lines.error("the name of item " + std::to_string(added - before + 1) + too_long());
      }
      builder.add(user, item, data::kNoTime);
      ++added;
      pulse.beat();
    }
    if (added == before) builder.drop("user without items");
  }
  return added;
}

// ---- tables ----

// The error names no more of the header line than is near: it may be somebody's row.
std::size_t required_column(const CsvReader& csv, const char* option, const std::string& name) {
  if (const int found = csv.find_column(name); found >= 0) return static_cast<std::size_t>(found);
  const std::string nearest = nearest_name(name, csv.header());
  throw Error(Code::kDataError, csv.name() + ", line 1: the header line has no column '" + name +
                                    "'" +
                                    (nearest.empty() ? "" : "; the nearest is '" + nearest + "'") +
                                    "; the options user, item and time name the columns")
      .at("file", csv.name())
      .at("line", 1)
      .at("column", name)
      .at("option", option);
}

// A column of the default name may be absent; one that was asked for may not.
std::optional<std::size_t> time_column(const CsvReader& csv, const SequencePolicy& policy) {
  const bool asked_for = !policy.time.empty() && policy.time != SequencePolicy{}.time;
  if (asked_for) return required_column(csv, "time", policy.time);
  const int found = csv.find_column(policy.time);
  return found < 0 ? std::nullopt : std::optional(static_cast<std::size_t>(found));
}

bool is_whole_number(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::int64_t seconds(const CsvReader& csv, std::size_t column, std::string_view digits) {
  constexpr std::int64_t kMost = 100'000'000'000;  // the year 5138; in milliseconds, March 1973
  std::int64_t value = 0;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (read.ec != std::errc() || value > kMost || value < -kMost) {
    throw csv.error(column,
                    "is too large for seconds since 1970; seconds are expected, not "
                    "milliseconds or less");
  }
  if (value < data::kFirstTime) throw csv.error(column, "is before the year 1");
  return value;
}

std::int64_t moment(const CsvReader& csv, std::size_t column) {
  const std::string_view text = trim(csv.field(column));
  if (text.empty()) return data::kNoTime;
  if (is_whole_number(text)) return seconds(csv, column, text);
  try {
    return data::parse_time(text);
  } catch (const Error&) {
    throw csv.error(column,
                    "is not a time; expected whole seconds since 1970, YYYY-MM-DD or "
                    "YYYY-MM-DD HH:MM:SS");
  }
}

class TableImport {
 public:
  TableImport(std::unique_ptr<ByteSource> source, const SequencePolicy& policy)
      : csv_(std::move(source), delimiter_of(policy)),
        user_(required_column(csv_, "user", policy.user)),
        item_(required_column(csv_, "item", policy.item)),
        time_(time_column(csv_, policy)) {}

  // Returns how many interactions there are.
  std::int64_t read(SequenceBuilder& builder, Pulse pulse) {
    std::int64_t added = 0;
    while (csv_.next()) {
      pulse.beat();
      const std::string_view user = name(user_), item = name(item_);
      if (user.empty() || item.empty()) {
        builder.drop(user.empty() ? "no user" : "no item");
        continue;
      }
      builder.add(user, item, time());
      ++added;
    }
    return added;
  }

 private:
  std::string_view name(std::size_t column) const {
    const std::string_view text = trim(csv_.field(column));
    if (text.size() > data::Names::kNameLimit) throw csv_.error(column, "the name" + too_long());
    return text;
  }

  // Times order a user's items, so they are known of all or of none.
  std::int64_t time() {
    if (!time_) return data::kNoTime;
    const std::int64_t value = moment(csv_, *time_);
    const bool known = value != data::kNoTime;
    if (first_line_ == 0) {
      first_line_ = csv_.line();
      timed_ = known;
    }
    if (known == timed_) return value;
    throw csv_.error(*time_, std::string(known ? "has a time, but line " : "is empty, but line ") +
                                 std::to_string(first_line_) +
                                 (known ? " has none" : " has a time") +
                                 "; times are expected in all rows or in none");
  }

  CsvReader csv_;
  std::size_t user_, item_;
  std::optional<std::size_t> time_;
  std::uint64_t first_line_ = 0;  // of an interaction
  bool timed_ = false;
};

// ---- either ----

[[noreturn]] void refuse_empty(const std::string& name, const SequencePolicy& policy, bool table) {
  std::string what = name + ": holds no interaction; expected ";
  what += table ? "rows with a user and an item" : "lines of a user and items, with blanks between";
  if (policy.layout == "auto" && !table) {
    what += ", or a header line that names the columns '" + policy.user + "' and '" + policy.item +
            "' (options user, item and delimiter)";
  }
  throw Error(Code::kDataError, what).at("file", name);
}

data::Sequences read_source(std::unique_ptr<ByteSource> source, const SequencePolicy& policy,
                            Job& job) {
  SequenceBuilder builder(policy);
  auto peeked = std::make_unique<PeekedSource>(std::move(source));
  const std::string name = peeked->name();
  const bool table = is_table(*peeked, policy);
  const std::int64_t interactions =
      table ? TableImport(std::move(peeked), policy).read(builder, Pulse(job))
            : read_lines(TextLines(std::move(peeked)), builder, Pulse(job));
  if (interactions == 0) refuse_empty(name, policy, table);
  Json provenance = describe_source(table ? "csv" : "lines", {fs::path(name)}, {});
  provenance.erase("maps");  // of codes; there are none
  job.check();
  return std::move(builder).finish(kTable, std::move(provenance));
}

}  // namespace

data::Sequences read_sequences(const fs::path& file, const SequencePolicy& policy, Job& job) {
  ReadProgress progress(job, {file});
  return read_source(progress.open(file), policy, job);
}

data::Sequences read_sequences_bytes(std::string_view bytes, const std::string& name,
                                     const SequencePolicy& policy, Job& job) {
  ReadProgress progress(job, bytes.size());
  return read_source(progress.watch(memory_source(bytes, name)), policy, job);
}

}  // namespace theriac::readers
