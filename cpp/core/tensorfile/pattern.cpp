#include "cpp/core/tensorfile/pattern.h"

#include <algorithm>
#include <cctype>
#include <regex>
#include <utility>

#include "cpp/core/tensorfile/layout.h"

namespace theriac::tensorfile::internal {
namespace {

constexpr std::size_t kMostPatterns = 100'000;
constexpr std::size_t kMostExpressions = 256;
constexpr std::size_t kMostPatternBytes = 256;
constexpr std::size_t kMostStates = 1000;  // the library's matcher recurses from state to state
constexpr std::size_t kMostPathBytes = 512;

Error pattern_error(std::string_view key, const std::string& problem) {
  return Error(Code::kDataError, "adapter configuration: '" + std::string(key) + "' " + problem)
      .at("json_path", std::string(key));
}

// Nearly all patterns are paths. In them only the dot is special, and it fits any character.
bool is_plain(std::string_view pattern) {
  return std::all_of(pattern.begin(), pattern.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
  });
}

bool plain_match(std::string_view pattern, std::string_view path) {
  if (pattern.size() > path.size()) return false;
  const std::string_view end = path.substr(path.size() - pattern.size());
  if (end.size() < path.size() && path[path.size() - end.size() - 1] != '.') return false;
  return std::equal(pattern.begin(), pattern.end(), end.begin(),
                    [](char p, char c) { return p == c || p == '.'; });
}

// An upper bound for the states of the compiled pattern: its length times all counts in braces.
std::size_t states_of(std::string_view pattern) {
  std::size_t states = pattern.size();
  std::size_t count = 0;
  bool braces = false;
  for (const char c : pattern) {
    if (c == '{') braces = true, count = 0;
    if (braces && c >= '0' && c <= '9') {
      count = std::min(kMostStates + 1, 10 * count + static_cast<std::size_t>(c - '0'));
    }
    if (braces && (c == ',' || c == '}')) {
      states = std::min(kMostStates + 1, states * std::max<std::size_t>(count, 1));
      count = 0;
    }
    if (c == '}') braces = false;
  }
  return states;
}

// Lookaheads inside each other multiply the time.
bool looks_ahead_often(std::string_view pattern) {
  std::size_t found = 0;
  for (const std::string_view start : {"(?=", "(?!"}) {
    for (std::size_t at = pattern.find(start); at != std::string_view::npos;
         at = pattern.find(start, at + 1)) {
      ++found;
    }
  }
  return found > 1;
}

// The library reads counts and numbers of groups as a long and does not look whether they fit.
bool has_long_number(std::string_view pattern) {
  constexpr std::size_t kMostDigits = 9;
  std::size_t digits = 0;
  for (const char c : pattern) {
    digits = c >= '0' && c <= '9' ? digits + 1 : 0;
    if (digits > kMostDigits) return true;
  }
  return false;
}

std::regex compile(std::string_view key, const std::string& pattern) {
  if (pattern.size() > kMostPatternBytes) {
    throw pattern_error(key, "has the pattern " + shown(pattern) + " of " +
                                 std::to_string(pattern.size()) + " bytes; at most " +
                                 std::to_string(kMostPatternBytes) + " are accepted");
  }
  if (has_long_number(pattern)) {
    throw pattern_error(key, "has the pattern " + shown(pattern) +
                                 ", in which a number is longer than any count or group");
  }
  if (states_of(pattern) > kMostStates || looks_ahead_often(pattern)) {
    throw pattern_error(key, "has the pattern " + shown(pattern) +
                                 ", which repeats or looks ahead too much to be matched safely");
  }
  auto flags = std::regex::ECMAScript | std::regex::nosubs;
#if defined(__GLIBCXX__)
  // Matching by breadth-first search: backtracking can take exponential time.
  flags |= std::regex_constants::__polynomial;
#endif
  try {
    return std::regex("(?:.*\\.)?(?:" + pattern + ")", flags);
  } catch (const std::regex_error& error) {
    throw pattern_error(
        key, "has the pattern " + shown(pattern) + ", which is no regular expression that is read")
        .caused_by(error.what());
  }
}

}  // namespace

struct SuffixPatterns::Entry {
  std::string pattern;
  std::optional<std::regex> expression;
};

SuffixPatterns::SuffixPatterns(std::string_view key, const std::vector<std::string>& patterns) {
  if (patterns.size() > kMostPatterns) {
    throw pattern_error(key, "has more than " + std::to_string(kMostPatterns) + " entries");
  }
  std::size_t expressions = 0;
  for (const std::string& pattern : patterns) {
    Entry entry{pattern, std::nullopt};
    if (!is_plain(pattern)) {
      if (++expressions > kMostExpressions) {
        throw pattern_error(key, "has more than " + std::to_string(kMostExpressions) +
                                     " entries that are no plain names");
      }
      entry.expression = compile(key, pattern);
    }
    entries_.push_back(std::move(entry));
  }
}

SuffixPatterns::~SuffixPatterns() = default;
SuffixPatterns::SuffixPatterns(SuffixPatterns&&) noexcept = default;

std::optional<std::size_t> SuffixPatterns::find(const std::string& path) const {
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    const bool found = entry.expression ? path.size() <= kMostPathBytes &&
                                              std::regex_match(path, *entry.expression)
                                        : plain_match(entry.pattern, path);
    if (found) return i;
  }
  return std::nullopt;
}

}  // namespace theriac::tensorfile::internal
