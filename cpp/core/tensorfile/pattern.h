// Patterns over the ends of module paths, as PEFT matches them: (.*\.)?(pattern)$.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/error.h"

namespace theriac::tensorfile::internal {

// Immutable; may be shared between threads.
class SuffixPatterns {
 public:
  // `key`: the option they come from, for errors. Throws kDataError for a pattern that is no regular
  // expression (ECMAScript's, as far as it agrees with Python's) or asks for too much
  // (length, repeats, lookaheads), and for too many.
  SuffixPatterns(std::string_view key, const std::vector<std::string>& patterns);
  ~SuffixPatterns();
  SuffixPatterns(SuffixPatterns&&) noexcept;

  // Index of the first pattern that the path's last components match. Time is polynomial in the
  // lengths of pattern and path; paths beyond 512 bytes match no regular expression but plain names.
  std::optional<std::size_t> find(const std::string& path) const;

 private:
  struct Entry;
  std::vector<Entry> entries_;
};

}  // namespace theriac::tensorfile::internal
