#include "cpp/core/merge/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <sstream>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "cpp/core/base/utf8.h"

namespace theriac::merge {

struct YamlNode::Data {
  Kind kind = Kind::kNull;
  Mark mark;
  bool quoted = false;
  std::string text;
  std::vector<YamlNode> items;
  std::vector<YamlMember> members;
  std::size_t nodes = 1;   // with all below, aliases counted as copies
  std::size_t height = 0;  // 0 for a scalar, 1 for a list of scalars
};

namespace {

using Data = YamlNode::Data;
using Kind = YamlNode::Kind;

constexpr std::size_t kShownBytes = 64;
constexpr std::string_view kTagPrefix = "tag:yaml.org,2002:";
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// Turns byte offsets into lines and columns. Offsets come almost in order, so that each byte is
// looked at once; asking text_position for each of a million nodes would be quadratic.
class Positions {
 public:
  explicit Positions(std::string_view text) : text_(text) {}

  Mark at(std::size_t offset) {
    offset = std::min(offset, text_.size());
    if (offset < offset_) {
      offset_ = 0;
      mark_ = {1, 1};
    }
    for (; offset_ < offset; ++offset_) step(text_[offset_]);
    return mark_;
  }

 private:
  void step(char c) {
    if (c == '\n') {
      ++mark_.line;
      mark_.column = 1;
    } else if ((static_cast<unsigned char>(c) & 0xC0U) != 0x80U) {
      ++mark_.column;
    }
  }

  std::string_view text_;
  std::size_t offset_ = 0;
  Mark mark_{1, 1};
};

// Builds the tree from yaml-cpp's events with an explicit stack. Throwing from an event stops the
// parser before it recurses further, so that our limits bind before its stack is in danger.
class Builder : public YAML::EventHandler {
 public:
  Builder(std::string_view text, std::string_view what, const YamlLimits& limits)
      : what_(what), limits_(limits), positions_(text) {}

  std::size_t start() const { return start_; }
  YamlNode take() { return std::exchange(root_, YamlNode()); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    start_ = offset_of(mark);
    anchors_.clear();
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    place(finished(scalar_data(mark, Kind::kNull), anchor));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) fail(mark, "an alias inside the value that it stands for");
    const Data& data = found->second.data();
    count(mark, data.nodes);
    if (stack_.size() + data.height > limits_.depth) fail_depth(mark);
    place(found->second);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    auto data = scalar_data(mark, Kind::kScalar);
    data->quoted = is_text_tag(mark, tag);
    data->text = value;
    place(finished(std::move(data), anchor));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    expect_tag(mark, tag, "seq");
    open(mark, Kind::kSequence, anchor);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    expect_tag(mark, tag, "map");
    open(mark, Kind::kMap, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override {
    merge_maps(stack_.back());
    close();
  }

 private:
  struct Frame {
    std::shared_ptr<Data> data;
    YAML::anchor_t anchor = 0;
    bool has_key = false;  // of a map: a key waits for its value
    bool merges = false;   // the key that waits is a plain <<
    std::string key;
    Mark key_mark;
    std::unordered_set<std::string> names;
    std::vector<YamlNode> merged;  // values of <<
  };

  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& problem) {
    throw error_at(what_, positions_.at(offset_of(mark)), "", problem);
  }
  [[noreturn]] void fail_depth(const YAML::Mark& mark) {
    fail(mark, "nested deeper than " + std::to_string(limits_.depth) + " levels");
  }

  static std::size_t offset_of(const YAML::Mark& mark) {
    return mark.pos < 0 ? 0 : static_cast<std::size_t>(mark.pos);
  }

  void count(const YAML::Mark& mark, std::size_t nodes) {
    if (nodes > limits_.nodes - nodes_) {
      fail(mark,
           "more than " + std::to_string(limits_.nodes) + " values, aliases counted as copies");
    }
    nodes_ += nodes;
  }

  std::shared_ptr<Data> scalar_data(const YAML::Mark& mark, Kind kind) {
    count(mark, 1);
    auto data = std::make_shared<Data>();
    data->kind = kind;
    data->mark = positions_.at(offset_of(mark));
    return data;
  }

  YamlNode finished(std::shared_ptr<Data> data, YAML::anchor_t anchor) {
    YamlNode node(std::move(data));
    if (anchor != 0) anchors_[anchor] = node;
    return node;
  }

  // True for text; false for a scalar whose meaning its letters decide.
  bool is_text_tag(const YAML::Mark& mark, const std::string& tag) {
    if (tag == "?" || tag.empty()) return false;
    if (tag == "!" || tag == std::string(kTagPrefix) + "str") return true;
    for (const char* name : {"bool", "int", "float", "null"}) {
      if (tag == std::string(kTagPrefix) + name) return false;
    }
    fail_tag(mark, tag);
  }
  void expect_tag(const YAML::Mark& mark, const std::string& tag, const char* name) {
    if (tag == "?" || tag == "!" || tag.empty() || tag == std::string(kTagPrefix) + name) return;
    fail_tag(mark, tag);
  }
  [[noreturn]] void fail_tag(const YAML::Mark& mark, const std::string& tag) {
    fail(mark, "the tag " + quoted_for_message(tag) + " is not accepted; leave it out");
  }

  void open(const YAML::Mark& mark, Kind kind, YAML::anchor_t anchor) {
    if (stack_.size() >= limits_.depth) fail_depth(mark);
    Frame frame;
    frame.data = scalar_data(mark, kind);
    frame.anchor = anchor;
    stack_.push_back(std::move(frame));
  }

  void close() {
    Frame frame = std::move(stack_.back());
    stack_.pop_back();
    for (const YamlNode& item : frame.data->items) add_child(*frame.data, item);
    for (const YamlMember& member : frame.data->members) add_child(*frame.data, member.value);
    frame.data->nodes += frame.data->members.size();  // the keys
    place(finished(std::move(frame.data), frame.anchor));
  }

  static void add_child(Data& data, const YamlNode& child) {
    data.nodes += child.data().nodes;
    data.height = std::max(data.height, child.data().height + 1);
  }

  void place(YamlNode node) {
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& frame = stack_.back();
    if (frame.data->kind == Kind::kSequence) {
      frame.data->items.push_back(std::move(node));
    } else if (!frame.has_key) {
      take_key(frame, node);
    } else if (std::exchange(frame.has_key, false); frame.merges) {
      frame.merged.push_back(std::move(node));
    } else {
      frame.data->members.push_back({std::move(frame.key), frame.key_mark, std::move(node)});
    }
  }

  void take_key(Frame& frame, const YamlNode& node) {
    if (!node.is_scalar()) {
      throw error_at(what_, node.mark(), "", "a key must be text; this one is " + node.described());
    }
    if (!frame.names.insert(node.text()).second) {
      throw error_at(what_, node.mark(), "",
                     "the key " + quoted_for_message(node.text()) + " appears twice in one map");
    }
    frame.has_key = true;
    frame.merges = node.text() == "<<" && !node.quoted();
    frame.key = node.text();
    frame.key_mark = node.mark();
  }

  // Members of the maps under `<<` that the map does not have itself; of several, the first wins.
  void merge_maps(Frame& frame) {
    for (const YamlNode& value : frame.merged) {
      if (value.is_sequence()) {
        for (const YamlNode& map : value.items()) merge_map(frame, map);
      } else {
        merge_map(frame, value);
      }
    }
  }
  void merge_map(Frame& frame, const YamlNode& map) {
    if (!map.is_map()) {
      throw error_at(what_, map.mark(), "<<",
                     "expected a map or a list of maps, got " + map.described());
    }
    for (const YamlMember& member : map.members()) {
      if (frame.names.insert(member.key).second) frame.data->members.push_back(member);
    }
  }

  std::string_view what_;
  YamlLimits limits_;
  Positions positions_;
  std::size_t start_ = 0;
  std::size_t nodes_ = 0;
  YamlNode root_;
  std::vector<Frame> stack_;
  std::unordered_map<YAML::anchor_t, YamlNode> anchors_;
};

[[noreturn]] void fail_at(std::string_view text, std::size_t offset, std::string_view what,
                          const std::string& problem) {
  const TextPosition at = text_position(text, offset);
  throw error_at(what, {at.line, at.column}, "", problem);
}

// YAML forbids control characters; yaml-cpp takes one of them for the end of the text and would
// silently drop what follows.
std::size_t find_control_character(std::string_view text) {
  const auto found = std::find_if(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\t' && c != '\n' && c != '\r') || byte == 0x7F;
  });
  return found == text.end() ? std::string_view::npos
                             : static_cast<std::size_t>(found - text.begin());
}

void check_bytes(std::string_view text, std::string_view what, const YamlLimits& limits) {
  if (text.size() > limits.bytes) {
    throw error_at(what, {}, "",
                   "the YAML text has " + std::to_string(text.size()) + " bytes; at most " +
                       std::to_string(limits.bytes) + " are accepted");
  }
  if (const auto bad = find_invalid_utf8(text); bad != std::string_view::npos) {
    fail_at(text, bad, what, "the text is not valid UTF-8");
  }
  if (const auto bad = find_control_character(text); bad != std::string_view::npos) {
    fail_at(text, bad, what, "a control character, which YAML does not allow");
  }
}

// A document after the first starts with "---" or follows "...". yaml-cpp lets both pass: text that
// it cannot place ("[a] b") it reads as one more document, some of it again and again.
void check_document_start(std::string_view text, std::size_t before, std::size_t start,
                          std::string_view what) {
  const bool marked = text.substr(start, 3) == "---";
  const bool ended = text.substr(before, start - before).find("\n...") != std::string_view::npos;
  if (start <= before || (!marked && !ended)) {
    fail_at(text, start, what,
            "text that belongs to no value; is the indentation right, or a '---' missing?");
  }
}

bool digits_only(std::string_view text, int base) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [base](char c) {
    const int value = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : 99;
    return value < base;
  });
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Without the `_` between digits; nothing if one stands elsewhere.
std::optional<std::string> without_separators(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
    } else if (i == 0 || i + 1 == text.size() || !is_digit(text[i - 1]) || !is_digit(text[i + 1])) {
      return std::nullopt;
    }
  }
  return out;
}

// 0x1f, 0b101, 017 without sign.
std::optional<double> prefixed_integer(std::string_view text) {
  const auto read = [](std::string_view digits, int base) -> std::optional<double> {
    std::uint64_t value = 0;
    if (!digits_only(digits, base)) return std::nullopt;
    const auto done = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (done.ec != std::errc()) return std::nullopt;
    return static_cast<double>(value);
  };
  if (text.size() < 2 || text[0] != '0') return std::nullopt;
  if (text[1] == 'x') return read(text.substr(2), 16);
  if (text[1] == 'b') return read(text.substr(2), 2);
  return read(text.substr(1), 8);
}

std::optional<double> decimal(const std::string& text) {
  // from_chars also knows "inf", "nan(...)": letters other than the exponent's are not ours.
  const bool plausible = std::all_of(text.begin(), text.end(), [](char c) {
    return is_digit(c) || c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-';
  });
  if (!plausible || text.empty() || text[0] == '-' || text[0] == '+') return std::nullopt;
  double value = 0;
  const auto done = std::from_chars(text.data(), text.data() + text.size(), value);
  if (done.ptr != text.data() + text.size()) return std::nullopt;
  if (done.ec == std::errc::result_out_of_range) {
    const bool tiny = lower(text).find("e-") != std::string::npos;
    return tiny ? 0.0 : std::numeric_limits<double>::infinity();
  }
  if (done.ec != std::errc()) return std::nullopt;
  return value;
}

std::optional<double> unsigned_number(std::string_view text, bool quoted) {
  const std::string word = lower(text);
  if (word == ".inf" || word == "inf" || word == "infinity") {
    return std::numeric_limits<double>::infinity();
  }
  if (word == ".nan" || word == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (!quoted) {
    if (const auto integer = prefixed_integer(word)) return integer;
  }
  const auto digits = without_separators(text);
  return digits ? decimal(*digits) : std::nullopt;
}

}  // namespace

YamlNode::YamlNode() {
  static const auto nothing = std::make_shared<const Data>();
  data_ = nothing;
}

Kind YamlNode::kind() const noexcept { return data_->kind; }
Mark YamlNode::mark() const noexcept { return data_->mark; }
const std::string& YamlNode::text() const noexcept { return data_->text; }
bool YamlNode::quoted() const noexcept { return data_->quoted; }
std::span<const YamlNode> YamlNode::items() const noexcept { return data_->items; }
std::span<const YamlMember> YamlNode::members() const noexcept { return data_->members; }

const YamlNode* YamlNode::find(std::string_view key) const noexcept {
  for (const YamlMember& member : data_->members) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}

std::string YamlNode::described() const {
  switch (kind()) {
    case Kind::kNull:
      return "nothing";
    case Kind::kScalar:
      return quoted_for_message(text());
    case Kind::kSequence:
      return "a list";
    case Kind::kMap:
      return "a map";
  }
  return "";
}

std::vector<YamlDocument> parse_yaml(std::string_view text, std::string_view what,
                                     const YamlLimits& limits) {
  check_bytes(text, what, limits);
  // Offsets in events are those of the text without its mark.
  if (text.substr(0, kByteOrderMark.size()) == kByteOrderMark) {
    text.remove_prefix(kByteOrderMark.size());
  }
  std::istringstream stream{std::string(text)};
  Builder builder(text, what, limits);
  std::vector<YamlDocument> documents;
  std::vector<std::size_t> starts;
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
      if (!starts.empty()) check_document_start(text, starts.back(), builder.start(), what);
      if (documents.size() >= limits.documents) {
        fail_at(text, builder.start(), what,
                "more than " + std::to_string(limits.documents) + " documents");
      }
      starts.push_back(builder.start());
      documents.push_back({builder.take(), {}});
    }
  } catch (const YAML::Exception& error) {
    const std::size_t at = error.mark.pos < 0 ? 0 : static_cast<std::size_t>(error.mark.pos);
    fail_at(text, std::min(at, text.size()), what, "not valid YAML: " + error.msg);
  }
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const std::size_t first = i == 0 ? 0 : starts[i];
    const std::size_t last = i + 1 < documents.size() ? starts[i + 1] : text.size();
    documents[i].text = text.substr(first, last - first);
  }
  return documents;
}

std::optional<bool> yaml_flag(std::string_view text, bool quoted) noexcept {
  if (quoted) return std::nullopt;
  for (const std::string_view word :
       {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"}) {
    if (text == word) return true;
  }
  for (const std::string_view word :
       {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"}) {
    if (text == word) return false;
  }
  return std::nullopt;
}

std::optional<double> yaml_number(std::string_view text, bool quoted) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return std::nullopt;
  text = text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
  const bool negative = text[0] == '-';
  if (negative || text[0] == '+') text.remove_prefix(1);
  const auto value = unsigned_number(text, quoted);
  return value && negative ? -*value : value;
}

std::optional<std::int64_t> yaml_integer(std::string_view text, bool quoted) {
  constexpr double kExactIntegers = 9007199254740992.0;  // 2^53
  const auto value = yaml_number(text, quoted);
  if (!value || !(std::fabs(*value) <= kExactIntegers) || std::trunc(*value) != *value) {
    return std::nullopt;
  }
  return static_cast<std::int64_t>(*value);
}

Error error_at(std::string_view file, Mark mark, std::string_view key_path,
               const std::string& problem, Code code) {
  std::string message(file);
  if (mark.line != 0) {
    message += (message.empty() ? "line " : ": line ") + std::to_string(mark.line) + ", column " +
               std::to_string(mark.column);
  }
  if (!key_path.empty()) message += (message.empty() ? "" : ": ") + std::string(key_path);
  message += (message.empty() ? "" : ": ") + problem;
  Failure failure{code, std::move(message), {}, ""};
  if (!file.empty()) failure.details.emplace_back("file", std::string(file));
  if (mark.line != 0) {
    failure.details.emplace_back("line", std::to_string(mark.line));
    failure.details.emplace_back("column", std::to_string(mark.column));
  }
  if (!key_path.empty()) failure.details.emplace_back("key_path", std::string(key_path));
  return Error(std::move(failure));
}

std::string quoted_for_message(std::string_view text) {
  if (text.size() <= kShownBytes) return "'" + std::string(text) + "'";
  std::size_t end = kShownBytes;  // not in the middle of a character
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  return "'" + std::string(text.substr(0, end)) + "...'";
}

}  // namespace theriac::merge
