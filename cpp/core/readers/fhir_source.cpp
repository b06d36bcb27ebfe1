#include "cpp/core/readers/fhir_source.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <utility>

#include <simdjson.h>

namespace theriac::readers {

namespace {

constexpr std::size_t kChunkBytes = std::size_t{1} << 18;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

using ByteSet = std::array<bool, 256>;
constexpr ByteSet bytes_of(std::string_view text) {
  ByteSet out{};
  for (const char c : text) out[static_cast<unsigned char>(c)] = true;
  return out;
}
constexpr ByteSet kStructure = bytes_of("\"{}[]");  // what the scanner looks at below depth 1
constexpr ByteSet kInString = bytes_of("\"\\");

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::string limit_text(const FhirLimits& limits) {
  return "is larger than " + std::to_string(limits.resource_bytes) +
         " bytes, the limit for one resource";
}

class LineTexts final : public JsonTexts {
 public:
  LineTexts(std::unique_ptr<ByteSource> source, FhirLimits limits)
      : source_(std::move(source)), limits_(limits) {}

  bool next(JsonText& out) override {
    std::string_view line;
    while (next_line(line)) {
      if (line_ == 1 && line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
      while (!line.empty() && is_blank(line.back())) line.remove_suffix(1);
      while (!line.empty() && is_blank(line.front())) line.remove_prefix(1);
      if (line.empty()) continue;
      out = {line, line_, -1};
      return true;
    }
    return false;
  }

 private:
  bool next_line(std::string_view& line);
  void fill();

  std::unique_ptr<ByteSource> source_;
  FhirLimits limits_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;  // of the bytes not yet handed out
  bool at_end_ = false;
  std::uint64_t line_ = 0;
};

bool LineTexts::next_line(std::string_view& line) {
  std::size_t searched = 0;
  for (;;) {
    const char* const start = buffer_.data() + begin_;
    const std::size_t held = end_ - begin_;
    const void* const stop =
        held == searched ? nullptr : std::memchr(start + searched, '\n', held - searched);
    const std::size_t size =
        stop ? static_cast<std::size_t>(static_cast<const char*>(stop) - start) : held;
    if (size > limits_.resource_bytes)
      throw fhir_error(source_->name(), {{}, line_ + 1, -1}, "", limit_text(limits_));
    if (stop || (at_end_ && held != 0)) {
      ++line_;
      line = {start, size};
      begin_ += size + (stop ? 1 : 0);
      return true;
    }
    if (at_end_) return false;
    searched = held;
    fill();
  }
}

// Reads one chunk behind the bytes held, which move to the front. The buffer grows to the longest
// line.
void LineTexts::fill() {
  if (begin_ != 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  const std::size_t needed = end_ + kChunkBytes + simdjson::SIMDJSON_PADDING;
  if (buffer_.size() < needed) buffer_.resize(std::max(needed, 2 * buffer_.size()));
  const std::size_t got = source_->read(std::span(buffer_).subspan(end_, kChunkBytes));
  end_ += got;
  at_end_ = got == 0;
}

// A pushdown scanner over bytes that knows strings and nesting depth, and nothing else of JSON.
class DocumentTexts final : public JsonTexts {
 public:
  DocumentTexts(std::unique_ptr<ByteSource> source, FhirLimits limits)
      : source_(std::move(source)), limits_(limits), input_(kChunkBytes) {}

  bool next(JsonText& out) override;

 private:
  // Where the scanner stands in the list of entries: the list's own commas are checked here, since
  // they are in no text that is handed out.
  enum class Place { kOutside, kFirstEntry, kNextEntry, kInEntry, kAfterEntry };

  bool peek(char& c);
  void skip();
  std::string& text() { return place_ == Place::kInEntry ? entry_ : rest_; }
  void copy();
  void copy_until(const ByteSet& stop);
  bool scan(JsonText& out);
  void scan_string();
  bool scan_between_entries(char c);
  void open(char c);
  bool close(JsonText& out);
  bool hand_out(std::string& text, std::uint64_t line, std::int64_t entry, JsonText& out);
  [[noreturn]] void fail(const std::string& what) const;

  std::unique_ptr<ByteSource> source_;
  FhirLimits limits_;
  std::vector<char> input_;
  std::size_t at_ = 0, size_ = 0;
  bool at_end_ = false, started_ = false;
  std::uint64_t line_ = 1;

  std::string rest_, entry_;   // the document without its entries, and the entry at hand
  bool entry_string_ = false;  // the last string at depth 1 was "entry"
  bool entry_value_ = false;   // and a colon followed: what comes is its value
  std::size_t depth_ = 0;
  Place place_ = Place::kOutside;
  std::uint64_t document_line_ = 1, entry_line_ = 1;
  std::int64_t entries_ = 0;
  bool in_document_ = false;
};

bool DocumentTexts::peek(char& c) {
  if (at_ == size_) {
    if (at_end_) return false;
    size_ = source_->read(input_);
    at_ = 0;
    at_end_ = size_ == 0;
    if (at_end_) return false;
  }
  c = input_[at_];
  return true;
}

// Passes over the byte that peek() showed.
void DocumentTexts::skip() {
  if (input_[at_] == '\n') ++line_;
  ++at_;
}

void DocumentTexts::fail(const std::string& what) const {
  throw fhir_error(source_->name(), {{}, line_, place_ == Place::kOutside ? -1 : entries_}, "",
                   what);
}

void DocumentTexts::copy() {
  if (text().size() >= limits_.resource_bytes) fail(limit_text(limits_));
  text().push_back(input_[at_]);
  skip();
}

// Copies what is held of the input up to the first byte of `stop`.
void DocumentTexts::copy_until(const ByteSet& stop) {
  const auto from = input_.begin() + static_cast<std::ptrdiff_t>(at_);
  const auto end = input_.begin() + static_cast<std::ptrdiff_t>(size_);
  const auto to =
      std::find_if(from, end, [&](char c) { return stop[static_cast<unsigned char>(c)]; });
  if (text().size() + static_cast<std::size_t>(to - from) > limits_.resource_bytes)
    fail(limit_text(limits_));
  text().append(from, to);
  line_ += static_cast<std::uint64_t>(std::count(from, to, '\n'));
  at_ += static_cast<std::size_t>(to - from);
}

bool DocumentTexts::hand_out(std::string& text, std::uint64_t line, std::int64_t entry,
                             JsonText& out) {
  text.reserve(text.size() + simdjson::SIMDJSON_PADDING);
  out = {text, line, entry};
  return true;
}

bool DocumentTexts::next(JsonText& out) {
  entry_.clear();
  if (!in_document_) {
    rest_.clear();
    char c = 0;
    for (std::size_t i = 0;
         !started_ && i < kByteOrderMark.size() && peek(c) && c == kByteOrderMark[i]; ++i)
      skip();
    started_ = true;
    while (peek(c) && is_blank(c)) skip();
    if (!peek(c)) return false;
    if (c != '{') fail("does not start with '{'; expected a FHIR resource or Bundle in JSON");
    document_line_ = line_;
    entries_ = 0;
    in_document_ = true;
  }
  return scan(out);
}

// Moves to the end of the next entry or of the document.
bool DocumentTexts::scan(JsonText& out) {
  char c = 0;
  while (peek(c)) {
    if (place_ != Place::kOutside && place_ != Place::kInEntry && scan_between_entries(c)) continue;
    if (c == '"') {
      scan_string();
      continue;
    }
    copy();
    if (c == '{' || c == '[') {
      open(c);
    } else if (c == '}' || c == ']') {
      if (close(out)) return true;
    } else if (depth_ == 1 && !is_blank(c)) {
      entry_value_ = c == ':' && entry_string_;
    }
    if (depth_ > 1 && (place_ == Place::kOutside || place_ == Place::kInEntry))
      copy_until(kStructure);
  }
  fail("ends inside an object; the file is cut short");
}

// Copies one string, quotes included. Escapes matter only so far that \" does not end it.
void DocumentTexts::scan_string() {
  const std::size_t start = text().size();
  char c = 0;
  copy();
  while (peek(c)) {
    copy_until(kInString);
    if (at_ == size_) continue;
    const char found = input_[at_];
    copy();
    if (found == '\\' && peek(c)) copy();
    if (found != '"') continue;
    if (depth_ == 1) entry_string_ = std::string_view(text()).substr(start) == "\"entry\"";
    if (depth_ == 1) entry_value_ = false;
    return;
  }
  fail("ends inside a string; the file is cut short");
}

// True when the byte was one between entries and is dealt with; false for the brace or bracket that
// the scan goes on with.
bool DocumentTexts::scan_between_entries(char c) {
  if (is_blank(c)) {
    skip();
    return true;
  }
  if (c == ',' && place_ == Place::kAfterEntry) {
    place_ = Place::kNextEntry;
    skip();
    return true;
  }
  if (c == '{' && place_ != Place::kAfterEntry) {
    place_ = Place::kInEntry;
    entry_line_ = line_;
    return false;
  }
  if (c == ']' && place_ != Place::kNextEntry) {
    place_ = Place::kOutside;
    return false;
  }
  fail(place_ == Place::kAfterEntry
           ? "has no ',' or ']' after an entry of the Bundle"
           : "has something else than an object as an entry of the Bundle");
}

void DocumentTexts::open(char c) {
  ++depth_;
  if (c == '[' && depth_ == 2 && entry_value_) place_ = Place::kFirstEntry;
}

// True when a text is complete. Brackets of different kinds are not told apart: the parse of the
// text does.
bool DocumentTexts::close(JsonText& out) {
  --depth_;
  if (depth_ == 1) entry_value_ = false;
  if (depth_ == 2 && place_ == Place::kInEntry) {
    place_ = Place::kAfterEntry;
    return hand_out(entry_, entry_line_, entries_++, out);
  }
  if (depth_ != 0) return false;
  in_document_ = false;
  return hand_out(rest_, document_line_, -1, out);
}

}  // namespace

Error fhir_error(const std::string& file, const JsonText& text, const std::string& path,
                 const std::string& what) {
  std::string place = text.entry < 0 ? "" : "Bundle.entry[" + std::to_string(text.entry) + "]";
  if (!path.empty()) place += (place.empty() ? "" : ".") + path;
  Error error = Error(Code::kDataError, file + ", line " + std::to_string(text.line) +
                                            (place.empty() ? "" : ", at " + place) + ": " + what)
                    .at("file", file)
                    .at("line", text.line);
  if (place.empty()) return error;
  return std::move(error).at("json_path", place);
}

std::unique_ptr<JsonTexts> json_lines(std::unique_ptr<ByteSource> source, FhirLimits limits) {
  return std::make_unique<LineTexts>(std::move(source), limits);
}

std::unique_ptr<JsonTexts> json_documents(std::unique_ptr<ByteSource> source, FhirLimits limits) {
  return std::make_unique<DocumentTexts>(std::move(source), limits);
}

}  // namespace theriac::readers
