#include "cpp/core/base/json.h"

#include <iterator>
#include <unordered_set>
#include <utility>
#include <vector>

#include "cpp/core/base/utf8.h"

namespace theriac {
namespace {

// Feeds the parser and tells the builder how far it has read: nlohmann-json's SAX events carry no
// position.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, std::size_t* consumed) : at_(at), consumed_(consumed) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    ++*consumed_;
    return *this;
  }
  CountingIterator operator++(int) {
    const CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  std::size_t* consumed_;
};

// Builds the tree from SAX events with an explicit stack, so that hostile nesting cannot exhaust
// ours.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(std::string_view text, std::string_view what, Code code, int depth,
          const std::size_t* consumed)
      : text_(text), what_(what), code_(code), depth_(depth), consumed_(consumed) {}

  Json take() { return std::move(root_); }

  bool null() override { return scalar(nullptr); }
  bool boolean(bool value) override { return scalar(value); }
  bool number_integer(number_integer_t value) override { return scalar(value); }
  bool number_unsigned(number_unsigned_t value) override { return scalar(value); }
  bool number_float(number_float_t value, const string_t&) override { return scalar(value); }
  bool string(string_t& value) override { return scalar(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // not produced by text
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    Frame& frame = stack_.back();
    if (!is_new(frame, name)) {
      fail(start_of_string(*consumed_),
           "the key '" + shortened(name) + "' appears twice in one object");
    }
    key_ = std::move(name);
    return true;
  }

  // The library's own text quotes the token it met, which may be a patient's data: that part is cut
  // out.
  bool parse_error(std::size_t position, const std::string& token,
                   const nlohmann::detail::exception& error) override {
    constexpr int kNumberOverflow = 406;
    const std::size_t at = position == 0 ? 0 : position - 1;
    if (error.id == kNumberOverflow) fail(at, "a number is too large for a double");
    std::string reason = error.what();
    if (const auto start = reason.find("syntax error "); start != std::string::npos) {
      reason = reason.substr(start);
    }
    const std::string quoted = "; last read: '" + token + "'";
    if (const auto start = reason.find(quoted); start != std::string::npos)
      reason.erase(start, quoted.size());
    fail(at, reason);
  }

 private:
  struct Frame {
    Json* value;
    std::unordered_set<std::string> names;  // filled once an object is large
  };

  [[noreturn]] void fail(std::size_t offset, const std::string& reason) const {
    const TextPosition at = text_position(text_, offset);
    throw Error(code_, std::string(what_) + ": line " + std::to_string(at.line) + ", column " +
                           std::to_string(at.column) + ": " + reason)
        .at("file", std::string(what_))
        .at("line", at.line)
        .at("column", at.column);
  }

  static std::string shortened(const std::string& name) {
    constexpr std::size_t kShown = 80;
    return name.size() <= kShown ? name : name.substr(0, kShown) + "...";
  }

  // Offset of the opening quote of the string whose closing quote is the last byte read.
  std::size_t start_of_string(std::size_t end) const {
    for (std::size_t quote = end - 1; quote > 0;) {
      quote = text_.rfind('"', quote - 1);
      if (quote == std::string_view::npos) return 0;
      std::size_t backslashes = 0;
      while (backslashes < quote && text_[quote - 1 - backslashes] == '\\') ++backslashes;
      if (backslashes % 2 == 0) return quote;
    }
    return 0;
  }

  // A scan is fastest for the few keys of most objects; a set keeps objects with millions of keys
  // linear.
  static bool is_new(Frame& frame, const std::string& name) {
    constexpr std::size_t kScanUpTo = 16;
    const auto& members = frame.value->get_ref<const Json::object_t&>();
    if (members.size() < kScanUpTo) return members.find(name) == members.end();
    if (frame.names.empty()) {
      for (const auto& member : members) frame.names.insert(member.first);
    }
    return frame.names.insert(name).second;
  }

  template <class Value>
  bool scalar(Value&& value) {
    place(Json(std::forward<Value>(value)));
    return true;
  }

  // Appends to the vector under the ordered map directly: its own emplace would search all keys
  // again.
  Json* place(Json&& value) {
    if (stack_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *stack_.back().value;
    if (parent.is_array()) {
      auto& items = parent.get_ref<Json::array_t&>();
      items.push_back(std::move(value));
      return &items.back();
    }
    auto& members = parent.get_ref<Json::object_t&>();
    members.Json::object_t::Container::emplace_back(std::move(key_), std::move(value));
    return &members.back().second;
  }

  bool open(Json&& container) {
    if (stack_.size() >= static_cast<std::size_t>(depth_)) {
      fail(*consumed_ - 1, "nested deeper than " + std::to_string(depth_) + " levels");
    }
    stack_.push_back({place(std::move(container)), {}});
    return true;
  }

  bool close() {
    stack_.pop_back();
    return true;
  }

  std::string_view text_;
  std::string_view what_;
  Code code_;
  int depth_;
  const std::size_t* consumed_;
  Json root_;
  std::vector<Frame> stack_;
  std::string key_;
};

[[noreturn]] void fail_at(std::string_view text, std::size_t offset, std::string_view what,
                          Code code, std::string_view reason) {
  const TextPosition at = text_position(text, offset);
  throw Error(code, std::string(what) + ": line " + std::to_string(at.line) + ", column " +
                        std::to_string(at.column) + ": " + std::string(reason))
      .at("file", std::string(what))
      .at("line", at.line)
      .at("column", at.column);
}

}  // namespace

Json parse_json(std::string_view text, std::string_view what, Code code, JsonLimits limits) {
  if (text.size() > limits.bytes) {
    throw Error(code, std::string(what) + ": the JSON text has " + std::to_string(text.size()) +
                          " bytes; at most " + std::to_string(limits.bytes) + " are accepted")
        .at("file", std::string(what));
  }
  if (const auto bad = find_invalid_utf8(text); bad != std::string_view::npos) {
    fail_at(text, bad, what, code, "the text is not valid UTF-8");
  }
  // The parser below takes a NUL for the end of the text and would accept anything after it.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    fail_at(text, nul, what, code, "a NUL byte in the JSON text");
  }
  std::size_t consumed = 0;
  Builder builder(text, what, code, limits.depth, &consumed);
  Json::sax_parse(CountingIterator(text.data(), &consumed),
                  CountingIterator(text.data() + text.size(), &consumed), &builder);
  return builder.take();
}

std::string dump_json(const Json& value, int indent) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace theriac
