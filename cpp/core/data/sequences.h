// Sequences: per user the items in time order, oldest first (sequential-tta.md section 1).
//
// Columnar and immutable; may be shared between threads. Items are 1 ... items() inside, in the order of
// the vocabulary; id 0 is nobody's and left to models for padding. Splits keep the parent's vocabulary,
// so that ids agree.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/json.h"
#include "cpp/core/data/cohort.h"  // kNoTime, format_time, parse_time
#include "cpp/core/data/name_index.h"

namespace theriac::data {

// Distinct names in a fixed order: integers where every name is the canonical decimal form of an int64,
// text otherwise. Immutable.
class Names {
 public:
  Names() = default;
  // In the order given. Throws kDataError on a duplicate, an empty text, one over kNameLimit bytes or one
  // that is not UTF-8, naming the position, never quoting the text.
  explicit Names(std::vector<std::string> texts);
  explicit Names(std::vector<std::int64_t> numbers);
  // The texts sorted: as numbers where all are canonical integers, by bytes otherwise. `texts` distinct.
  static Names sorted(std::vector<std::string> texts);

  static constexpr std::size_t kNameLimit = 4096;  // bytes
  // What makes the text no name ("is empty"), without quoting it; empty when nothing does.
  static std::string fault_of(std::string_view text);

  std::int64_t size() const noexcept;
  bool numeric() const noexcept { return numeric_; }
  std::int64_t number(std::int64_t position) const;         // of numeric names; checked
  std::string text(std::int64_t position) const;            // of either kind; checked
  std::int64_t find(std::int64_t number) const noexcept;    // -1 when absent or not numeric
  std::int64_t find(std::string_view text) const noexcept;  // -1 when absent; of either kind
  std::span<const std::int64_t> numbers() const noexcept { return numbers_; }
  std::span<const std::string> texts() const noexcept { return texts_; }
  std::string fingerprint() const;  // XXH3-128; order matters

 private:
  bool numeric_ = true;
  std::vector<std::int64_t> numbers_;  // of numeric names
  std::vector<std::string> texts_;     // of the others
  NameIndex index_;
};

struct SequenceColumns {
  Names users;                           // [U]
  Names items;                           // [V]; item id = position + 1
  std::vector<std::int64_t> offsets{0};  // [U + 1], from 0 to N; a user may have none
  std::vector<std::int32_t> ids;         // [N], 1 ... V
  // [N] seconds since 1970 within kFirstTime .. kLastTime, non-decreasing within a user; or empty:
  // order alone is known.
  std::vector<std::int64_t> times;
  Json accounting = Json::object(), provenance = Json::object();
};

class Sequences {
 public:
  Sequences() = default;
  // Throws kDataError, naming the column, when columns contradict each other or the shapes above.
  explicit Sequences(SequenceColumns columns);

  std::int64_t users() const noexcept { return columns_.users.size(); }
  std::int32_t items() const noexcept { return static_cast<std::int32_t>(columns_.items.size()); }
  std::int64_t interactions() const noexcept {
    return static_cast<std::int64_t>(columns_.ids.size());
  }
  bool timed() const noexcept { return !columns_.times.empty(); }
  const Names& user_names() const noexcept { return columns_.users; }
  const Names& item_names() const noexcept { return columns_.items; }
  // Items of a user, oldest first; `user` 0 ... users() - 1, not checked.
  std::span<const std::int32_t> of(std::int64_t user) const noexcept {
    const auto first = static_cast<std::size_t>(columns_.offsets[static_cast<std::size_t>(user)]);
    const auto last =
        static_cast<std::size_t>(columns_.offsets[static_cast<std::size_t>(user) + 1]);
    return std::span(columns_.ids).subspan(first, last - first);
  }
  const SequenceColumns& columns() const noexcept { return columns_; }
  const Json& accounting() const noexcept { return columns_.accounting; }
  const Json& provenance() const noexcept { return columns_.provenance; }
  // XXH3-128 over names, offsets, ids and times; independent of accounting and provenance.
  const std::string& fingerprint() const noexcept { return fingerprint_; }

 private:
  SequenceColumns columns_;
  std::string fingerprint_;
};

}  // namespace theriac::data
