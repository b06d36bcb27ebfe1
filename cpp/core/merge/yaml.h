// YAML text as a small immutable tree, for untrusted input.
//
// The grammar is yaml-cpp's; the limits, the tree and the meaning of scalars are ours. Scalars keep
// their text, so that the reader decides by what it expects: `1e-3` and `"0.5"` are numbers where a
// number is due and text where text is due. Booleans and integers follow YAML 1.1, which is what
// recipes in circulation were written for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/error.h"

namespace theriac::merge {

// A place in the text, both from 1; the column counts characters. 0 means unknown.
struct Mark {
  std::size_t line = 0;
  std::size_t column = 0;
};

struct YamlLimits {
  std::size_t bytes = std::size_t{4} << 20;
  std::size_t depth = 64;         // of nested lists and maps, after aliases are followed
  std::size_t nodes = 1'000'000;  // of all documents, every alias counted as a copy
  std::size_t documents = 1024;
};

struct YamlMember;

// One value. A cheap handle on shared immutable data: copy freely, share between threads.
class YamlNode {
 public:
  enum class Kind { kNull, kScalar, kSequence, kMap };

  YamlNode();  // null, nowhere
  Kind kind() const noexcept;
  bool is_null() const noexcept { return kind() == Kind::kNull; }
  bool is_scalar() const noexcept { return kind() == Kind::kScalar; }
  bool is_sequence() const noexcept { return kind() == Kind::kSequence; }
  bool is_map() const noexcept { return kind() == Kind::kMap; }
  Mark mark() const noexcept;
  // "a list", "a map", "nothing", "text 'abc...'": for messages.
  std::string described() const;

  // Of a scalar; empty and false for other kinds.
  const std::string& text() const noexcept;
  bool quoted() const noexcept;  // written in quotes or as a block: text, never true or 1
  // Of a sequence; empty for other kinds.
  std::span<const YamlNode> items() const noexcept;
  // Of a map, in the order of the text; empty for other kinds.
  std::span<const YamlMember> members() const noexcept;
  const YamlNode* find(std::string_view key) const noexcept;

  struct Data;
  explicit YamlNode(std::shared_ptr<const Data> data) : data_(std::move(data)) {}
  const Data& data() const noexcept { return *data_; }

 private:
  std::shared_ptr<const Data> data_;
};

struct YamlMember {
  std::string key;
  Mark mark;  // of the key
  YamlNode value;
};

struct YamlDocument {
  YamlNode root;
  std::string_view text;  // of this document, its "---" and comments included; a view of the input
};

// The documents of a stream, separated by "---". `what` names the text in errors. `<<` merges maps
// as in YAML 1.1. Throws kInvalidArgument with file, line and column for malformed text, a limit
// exceeded, a key that is not text or appears twice, an alias of an unfinished value, a tag other
// than YAML's own scalar and collection tags, control characters, or text that is not UTF-8.
std::vector<YamlDocument> parse_yaml(std::string_view text, std::string_view what,
                                     const YamlLimits& limits = {});

// yes/no, on/off, true/false as YAML 1.1 knows them (lower, Title or UPPER case), unquoted only.
std::optional<bool> yaml_flag(std::string_view text, bool quoted) noexcept;
// Decimal with optional `_` between digits, exponent, .inf and .nan; unquoted also 0x1f, 0b101 and
// 017. Infinite for a number beyond double, as Python's float() reads it.
std::optional<double> yaml_number(std::string_view text, bool quoted);
// The same, whole numbers of up to 2^53 only.
std::optional<std::int64_t> yaml_integer(std::string_view text, bool quoted);

// "recipe.yml: line 3, column 5: models[0].weight: <problem>", with file, line, column and key_path
// as details. Leaves out what is unknown.
Error error_at(std::string_view file, Mark mark, std::string_view key_path,
               const std::string& problem, Code code = Code::kInvalidArgument);
// Text of untrusted input for a message: in quotes, cut to a line's length.
std::string quoted_for_message(std::string_view text);

}  // namespace theriac::merge
