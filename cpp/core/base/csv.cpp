#include "cpp/core/base/csv.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "cpp/core/base/options.h"
#include "cpp/core/base/utf8.h"

namespace theriac {
namespace {

constexpr std::size_t kSmallestBuffer = 16;  // holds any byte order mark
// A record may hold this many fields of the greatest size: bounds memory before a record's end is
// known.
constexpr std::size_t kFullFields = 64;
constexpr std::size_t kWholeRecord =
    static_cast<std::size_t>(-1);  // "column" of an error about no column

// What a line holds besides plain ASCII text.
enum : unsigned { kNonAscii = 0x80, kQuote = 1, kReturn = 2, kNul = 4 };

// Branch-free, so that the compiler makes SIMD code of it.
unsigned classify(std::string_view text) {
  unsigned char seen = 0;
  for (const char character : text) {
    const auto c = static_cast<unsigned char>(character);
    const auto special = static_cast<unsigned char>(
        (c == '"' ? kQuote : 0U) | (c == '\r' ? kReturn : 0U) | (c == 0 ? kNul : 0U));
    seen = static_cast<unsigned char>(seen | special | (c & kNonAscii));
  }
  return seen;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t";
  const std::size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

// A field of the record under way: offsets from the record's start, without the outer quotes.
struct Extent {
  std::size_t begin = 0, end = 0;
  bool doubled_quotes = false;
};

}  // namespace

struct CsvReader::State {
  State(std::unique_ptr<ByteSource> from, char by, CsvLimits within, CsvQuotes how)
      : source(std::move(from)),
        delimiter(by),
        limits(within),
        quotes(how),
        buffer(std::max(within.buffer_bytes, kSmallestBuffer)) {}

  void read_header();
  bool next();
  Error failure(std::size_t column, const std::string& what) const;
  [[noreturn]] void fail(std::size_t column, const std::string& what) const {
    throw failure(column, what);
  }

  bool fill();
  bool next_raw();
  bool split_plain_line(std::string_view rest);
  void split(std::string_view line);
  bool scan(std::string_view rest);
  std::size_t scan_quoted(std::string_view rest, std::size_t at, Extent* field);
  std::size_t scan_bare(std::string_view rest, std::size_t at, Extent* field);
  void finish_scanned(std::size_t length);
  void check_field(std::string_view field, std::size_t column) const;
  void check_text(std::string_view text, unsigned seen) const;
  std::size_t column_at(const char* position) const;

  std::unique_ptr<ByteSource> source;
  char delimiter;
  CsvLimits limits;
  CsvQuotes quotes;

  std::vector<char> buffer;
  std::size_t begin = 0;  // of the next record in `buffer`
  std::size_t end = 0;    // of the bytes read so far
  bool at_end = false;    // the source has no more

  std::vector<std::string> header;
  std::unordered_map<std::string, std::size_t> columns;  // lower-case name -> index
  std::vector<std::string_view> fields;                  // of the current record, into `buffer`
  std::vector<Extent> extents;
  std::uint64_t line = 0;       // of the current record
  std::uint64_t next_line = 1;  // of the record after it
};

Error CsvReader::State::failure(std::size_t column, const std::string& what) const {
  const std::string where = source->name() + ", line " + std::to_string(line);
  if (column == kWholeRecord) {
    return Error(Code::kDataError, where + ": " + what).at("file", source->name()).at("line", line);
  }
  const std::string name = column < header.size() && !header[column].empty()
                               ? header[column]
                               : std::to_string(column + 1);
  return Error(Code::kDataError, where + ", column '" + name + "': " + what)
      .at("file", source->name())
      .at("line", line)
      .at("column", name);
}

// Makes room and reads until the buffer is full or the source ends, so that a record which has to
// be scanned anew is scanned a logarithmic number of times. False when there was nothing more.
bool CsvReader::State::fill() {
  if (at_end) return false;
  if (begin > 0) {
    std::memmove(buffer.data(), buffer.data() + begin, end - begin);
    end -= begin;
    begin = 0;
  }
  if (end == buffer.size()) {
    if (end / kFullFields > limits.field_bytes) {
      fail(kWholeRecord, "the record is longer than " +
                             std::to_string(kFullFields * limits.field_bytes) + " bytes");
    }
    buffer.resize(2 * buffer.size());
  }
  const std::size_t before = end;
  while (end < buffer.size() && !at_end) {
    const std::size_t got = source->read({buffer.data() + end, buffer.size() - end});
    if (got == 0) at_end = true;
    end += got;
  }
  return end > before;
}

// Moves to the next record, whatever its number of fields.
bool CsvReader::State::next_raw() {
  line = next_line;
  for (;;) {
    if (begin == end && !fill()) return false;
    const std::string_view rest(buffer.data() + begin, end - begin);
    if (split_plain_line(rest)) return true;
    if (scan(rest)) return true;
    fill();  // at the end this changes `at_end` only, which completes the scan
  }
}

// The usual record: one line, no quotes. False when it needs the full scanner.
bool CsvReader::State::split_plain_line(std::string_view rest) {
  const void* const newline = std::memchr(rest.data(), '\n', rest.size());
  if (newline == nullptr) return false;
  const auto length = static_cast<std::size_t>(static_cast<const char*>(newline) - rest.data());
  std::string_view text = rest.substr(0, length);
  if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
  const unsigned seen = classify(text);
  const bool quoted = (seen & kQuote) != 0 && quotes == CsvQuotes::kDouble;
  if (quoted || (seen & (kReturn | kNul)) != 0) return false;
  split(text);
  check_text(text, seen);
  begin += length + 1;
  ++next_line;
  return true;
}

void CsvReader::State::split(std::string_view text) {
  fields.clear();
  const bool may_be_long = text.size() > limits.field_bytes;
  for (;;) {
    const void* const found =
        text.empty() ? nullptr : std::memchr(text.data(), delimiter, text.size());
    const std::size_t length =
        found == nullptr ? text.size()
                         : static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
    if (fields.size() == limits.columns) {
      fail(kWholeRecord, "more than " + std::to_string(limits.columns) + " columns");
    }
    fields.push_back(text.substr(0, length));
    if (may_be_long) check_field(fields.back(), fields.size() - 1);
    if (found == nullptr) return;
    text.remove_prefix(length + 1);
  }
}

void CsvReader::State::check_field(std::string_view field, std::size_t column) const {
  if (field.size() <= limits.field_bytes) return;
  fail(column, "the field is longer than " + std::to_string(limits.field_bytes) +
                   " bytes; a quote that is never closed may be the cause");
}

// Column of a byte of the current record, for errors.
std::size_t CsvReader::State::column_at(const char* position) const {
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (position >= fields[i].data() && position < fields[i].data() + fields[i].size()) return i;
  }
  return kWholeRecord;
}

void CsvReader::State::check_text(std::string_view text, unsigned seen) const {
  if ((seen & kNul) != 0) {
    fail(column_at(text.data() + text.find('\0')),
         "a NUL byte; the file may be UTF-16 or damaged, UTF-8 is expected");
  }
  if ((seen & kNonAscii) == 0) return;
  const std::size_t bad = find_invalid_utf8(text);
  if (bad != std::string_view::npos)
    fail(column_at(text.data() + bad), "the text is not valid UTF-8");
}

// Finds the fields of a record with quotes or odd bytes. False when the record's end is not in
// `rest` and the source has more; nothing is changed then, so that it can be scanned again.
bool CsvReader::State::scan(std::string_view rest) {
  extents.clear();
  std::size_t at = 0;
  for (;;) {
    if (extents.size() == limits.columns) {
      fail(kWholeRecord, "more than " + std::to_string(limits.columns) + " columns");
    }
    Extent field;
    const bool quoted = quotes == CsvQuotes::kDouble && at < rest.size() && rest[at] == '"';
    at = quoted ? scan_quoted(rest, at + 1, &field) : scan_bare(rest, at, &field);
    if (at == std::string_view::npos) return false;
    extents.push_back(field);
    const bool more = at < rest.size() && rest[at] == delimiter;
    if (!more) break;
    ++at;
  }
  if (at < rest.size() && rest[at] == '\r') ++at;
  if (at < rest.size()) ++at;  // the newline; a last record may lack it
  finish_scanned(at);
  return true;
}

// `at`: after the opening quote. Returns where the delimiter, line end or end of text after the
// closing quote is, or npos when more bytes are needed.
std::size_t CsvReader::State::scan_quoted(std::string_view rest, std::size_t at, Extent* field) {
  field->begin = at;
  for (;;) {
    const std::size_t quote = rest.find('"', at);
    if (std::min(quote, rest.size()) - field->begin >
        2 * limits.field_bytes) {  // every byte may be doubled
      check_field(rest.substr(field->begin), extents.size());
    }
    if (quote == std::string_view::npos) {
      if (at_end) fail(extents.size(), "a quote is never closed");
      return quote;
    }
    if (quote + 1 == rest.size() && !at_end) return std::string_view::npos;
    if (quote + 1 < rest.size() && rest[quote + 1] == '"') {
      field->doubled_quotes = true;
      at = quote + 2;
      continue;
    }
    field->end = quote;
    at = quote + 1;
    break;
  }
  if (at == rest.size() || rest[at] == delimiter || rest[at] == '\n') return at;
  if (rest[at] == '\r') {
    if (at + 1 == rest.size() && !at_end) return std::string_view::npos;
    if (at + 1 < rest.size() && rest[at + 1] == '\n') return at;
    fail(extents.size(), "a bare carriage return; lines must end with LF or CRLF");
  }
  fail(extents.size(),
       "text follows a closing quote; a quote inside a quoted field is written twice");
}

// The same for a field without quotes around it.
std::size_t CsvReader::State::scan_bare(std::string_view rest, std::size_t at, Extent* field) {
  field->begin = at;
  while (at < rest.size() && rest[at] != delimiter && rest[at] != '\n' && rest[at] != '\r') ++at;
  field->end = at;
  check_field(rest.substr(field->begin, at - field->begin), extents.size());
  if (at == rest.size()) return at_end ? at : std::string_view::npos;
  if (rest[at] == '\r') {
    if (at + 1 == rest.size() && !at_end) return std::string_view::npos;
    const bool line_end = at + 1 < rest.size() && rest[at + 1] == '\n';
    if (!line_end) fail(extents.size(), "a bare carriage return; lines must end with LF or CRLF");
  }
  return at;
}

// `length`: bytes of the record with its line end. Undoubles quotes in place: the buffer is ours.
void CsvReader::State::finish_scanned(std::size_t length) {
  char* const record = buffer.data() + begin;
  const std::string_view raw(record, length);
  fields.clear();
  for (const Extent& extent : extents)
    fields.push_back(raw.substr(extent.begin, extent.end - extent.begin));
  check_text(raw, classify(raw));
  const std::size_t newline = raw.find('\n');
  const bool one_line = newline == std::string_view::npos || newline + 1 == length;
  next_line += one_line ? 1 : static_cast<std::uint64_t>(std::count(raw.begin(), raw.end(), '\n'));
  for (std::size_t i = 0; i < extents.size(); ++i) {
    if (extents[i].doubled_quotes) {
      char* to = record + extents[i].begin;
      const char* const stop = record + extents[i].end;
      for (const char* from = to; from < stop; ++from) {
        if (*from == '"') ++from;
        *to++ = *from;
      }
      fields[i] = std::string_view(record + extents[i].begin,
                                   static_cast<std::size_t>(to - record) - extents[i].begin);
    }
    check_field(fields[i], i);
  }
  begin += length;
}

void CsvReader::State::read_header() {
  line = 1;
  fill();
  const std::string_view start(buffer.data(), end);
  if (start.substr(0, 2) == "\xff\xfe" || start.substr(0, 2) == "\xfe\xff") {
    fail(kWholeRecord, "the file is UTF-16; convert it to UTF-8");
  }
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (start.substr(0, kByteOrderMark.size()) == kByteOrderMark) begin = kByteOrderMark.size();
  if (!next_raw())
    fail(kWholeRecord, "the file is empty; a header line with the column names is expected");
  header.reserve(fields.size());
  for (const std::string_view field : fields) header.emplace_back(trimmed(field));
  if (header.size() == 1 && header[0].empty()) {
    fail(kWholeRecord, "the header line is empty; it must name the columns");
  }
  for (std::size_t i = 0; i < header.size(); ++i) {
    if (header[i].empty()) continue;  // an index column without a name is harmless
    if (!columns.emplace(lower(header[i]), i).second) fail(i, "the header names this column twice");
  }
}

bool CsvReader::State::next() {
  do {
    if (!next_raw()) return false;
  } while (header.size() > 1 && fields.size() == 1 && fields[0].empty());
  if (fields.size() == header.size()) return true;
  fail(kWholeRecord, "the record has " + std::to_string(fields.size()) +
                         " fields; the header has " + std::to_string(header.size()));
}

CsvReader::CsvReader(std::unique_ptr<ByteSource> source, char delimiter, CsvLimits limits,
                     CsvQuotes quotes)
    : state_(std::make_unique<State>(std::move(source), delimiter, limits, quotes)) {
  state_->read_header();
}

CsvReader::~CsvReader() = default;

const std::vector<std::string>& CsvReader::header() const { return state_->header; }

int CsvReader::find_column(std::string_view name) const {
  const auto found = state_->columns.find(lower(name));
  return found == state_->columns.end() ? -1 : static_cast<int>(found->second);
}

std::size_t CsvReader::column(std::string_view name) const {
  if (const int found = find_column(name); found >= 0) return static_cast<std::size_t>(found);
  std::string present;
  for (const auto& column : state_->header)
    present += (present.empty() ? "'" : ", '") + column + "'";
  const std::string nearest = nearest_name(name, state_->header);
  throw Error(Code::kDataError, state_->source->name() + ": no column '" + std::string(name) +
                                    "'; the columns are " + present +
                                    (nearest.empty() ? "" : "; the nearest is '" + nearest + "'"))
      .at("file", state_->source->name())
      .at("column", std::string(name));
}

bool CsvReader::next() { return state_->next(); }

std::string_view CsvReader::field(std::size_t column) const {
  if (column < state_->fields.size()) return state_->fields[column];
  throw Error(Code::kInternal, "field " + std::to_string(column) + " of a record with " +
                                   std::to_string(state_->fields.size()) + " fields was asked for");
}

std::uint64_t CsvReader::line() const { return state_->line; }
const std::string& CsvReader::name() const { return state_->source->name(); }

Error CsvReader::error(std::size_t column, std::string what) const {
  return state_->failure(column, what);
}

std::string csv_field(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + "\"";
}

}  // namespace theriac
