#include "cpp/core/data/sequences.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

#include "cpp/core/base/error.h"
#include "cpp/core/base/hash.h"
#include "cpp/core/base/utf8.h"
#include "cpp/core/data/column_checks.h"

namespace theriac::data {
namespace {

constexpr const char* kKind = "sequences";

std::uint64_t hash_of(std::int64_t number) noexcept {
  return hash64({reinterpret_cast<const char*>(&number), sizeof number});
}
std::uint64_t hash_of(std::string_view text) noexcept { return hash64(text); }

// The number whose shortest decimal form the text is: neither "07" nor "+7", "7 " or "-0".
std::optional<std::int64_t> canonical_number(std::string_view text) noexcept {
  constexpr std::size_t kLongest = 20;  // digits and sign of the least int64
  if (text.empty() || text.size() > kLongest) return std::nullopt;
  std::int64_t number = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  if (read.ec != std::errc()) return std::nullopt;
  char again[kLongest];
  const auto written = std::to_chars(again, again + kLongest, number);
  if (std::string_view(again, static_cast<std::size_t>(written.ptr - again)) != text) {
    return std::nullopt;
  }
  return number;
}

[[noreturn]] void bad_name(std::size_t position, const std::string& what) {
  throw Error(Code::kDataError, "the name at position " + std::to_string(position) + " " + what)
      .at("position", position);
}

void check_texts(const std::vector<std::string>& texts) {
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::string fault = Names::fault_of(texts[i]);
    if (!fault.empty()) bad_name(i, fault);
  }
}

// Nothing unless every text is a canonical number.
std::optional<std::vector<std::int64_t>> all_numbers(const std::vector<std::string>& texts) {
  std::vector<std::int64_t> numbers;
  numbers.reserve(texts.size());
  for (const std::string& text : texts) {
    const auto number = canonical_number(text);
    if (!number) return std::nullopt;
    numbers.push_back(*number);
  }
  return numbers;
}

template <class Name>
NameIndex index_of(const std::vector<Name>& names) {
  if (names.size() > NameIndex::kMost) {
    throw Error(Code::kDataError, "a list of " + std::to_string(names.size()) +
                                      " names is too long; expected at most " +
                                      std::to_string(NameIndex::kMost));
  }
  NameIndex index;
  index.reserve(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::uint64_t hash = hash_of(names[i]);
    if (index.find(hash, [&](std::size_t j) { return names[j] == names[i]; }) >= 0) {
      bad_name(i, "repeats an earlier one");
    }
    index.add(hash, i);
  }
  return index;
}

void check_position(std::int64_t position, std::int64_t size) {
  if (position >= 0 && position < size) return;
  throw Error(Code::kInvalidArgument, "position " + std::to_string(position) +
                                          " is outside the list of " + std::to_string(size) +
                                          " names");
}

void check_ids(const SequenceColumns& columns) {
  // Models number two rows more than there are items.
  constexpr std::int64_t kMostItems = std::numeric_limits<std::int32_t>::max() - 2;
  const std::int64_t items = columns.items.size();
  if (items > kMostItems) bad_column(kKind, "items", "has more names than 32-bit ids can number");
  const auto outside = [&](std::int32_t id) { return id < 1 || id > items; };
  const auto bad = std::find_if(columns.ids.begin(), columns.ids.end(), outside);
  if (bad == columns.ids.end()) return;
  bad_column(kKind, "ids",
             "has an id outside 1 to " + std::to_string(items) + " at entry " +
                 std::to_string(bad - columns.ids.begin()));
}

void check_times(const SequenceColumns& columns) {
  const std::vector<std::int64_t>& times = columns.times;
  if (times.empty()) return;
  if (times.size() != columns.ids.size()) {
    bad_column(kKind, "times",
               "has " + std::to_string(times.size()) + " entries; expected none or " +
                   std::to_string(columns.ids.size()));
  }
  const auto outside = [](std::int64_t time) { return time < kFirstTime || time > kLastTime; };
  const auto bad = std::find_if(times.begin(), times.end(), outside);
  if (bad != times.end()) {
    bad_column(kKind, "times",
               "is unknown or outside the years 1 to 9999 at entry " +
                   std::to_string(bad - times.begin()));
  }
  for (std::size_t u = 0; u + 1 < columns.offsets.size(); ++u) {
    const auto first = times.begin() + columns.offsets[u];
    const auto last = times.begin() + columns.offsets[u + 1];
    const auto fall = std::is_sorted_until(first, last);
    if (fall == last) continue;
    bad_column(kKind, "times",
               "falls within user " + std::to_string(u) + " at entry " +
                   std::to_string(fall - times.begin()));
  }
}

void check(const SequenceColumns& columns) {
  check_offsets(kKind, "offsets", columns.offsets, static_cast<std::size_t>(columns.users.size()),
                columns.ids.size());
  check_ids(columns);
  check_times(columns);
}

std::string fingerprint_of(const SequenceColumns& columns) {
  Fingerprint print;
  print.add("theriac.sequences.1");
  print.add(columns.users.fingerprint()).add(columns.items.fingerprint());
  print.add_values(std::span<const std::int64_t>(columns.offsets));
  print.add_values(std::span<const std::int32_t>(columns.ids));
  print.add_values(std::span<const std::int64_t>(columns.times));
  return print.hex();
}

}  // namespace

std::string Names::fault_of(std::string_view text) {
  if (text.empty()) return "is empty";
  if (text.size() > kNameLimit) {
    return "has " + std::to_string(text.size()) + " bytes; expected at most " +
           std::to_string(kNameLimit);
  }
  return find_invalid_utf8(text) == std::string_view::npos ? "" : "is not UTF-8";
}

Names::Names(std::vector<std::string> texts) {
  check_texts(texts);
  if (auto numbers = all_numbers(texts)) {
    *this = Names(std::move(*numbers));
    return;
  }
  numeric_ = false;
  texts_ = std::move(texts);
  index_ = index_of(texts_);
}

Names::Names(std::vector<std::int64_t> numbers)
    : numbers_(std::move(numbers)), index_(index_of(numbers_)) {}

Names Names::sorted(std::vector<std::string> texts) {
  check_texts(texts);
  if (auto numbers = all_numbers(texts)) {
    std::sort(numbers->begin(), numbers->end());
    return Names(std::move(*numbers));
  }
  std::sort(texts.begin(), texts.end());  // char_traits compare as unsigned bytes
  return Names(std::move(texts));
}

std::int64_t Names::size() const noexcept {
  return static_cast<std::int64_t>(numeric_ ? numbers_.size() : texts_.size());
}

std::int64_t Names::number(std::int64_t position) const {
  if (!numeric_) throw Error(Code::kInvalidArgument, "these names are text, not integers");
  check_position(position, size());
  return numbers_[static_cast<std::size_t>(position)];
}

std::string Names::text(std::int64_t position) const {
  check_position(position, size());
  const auto at = static_cast<std::size_t>(position);
  return numeric_ ? std::to_string(numbers_[at]) : texts_[at];
}

std::int64_t Names::find(std::int64_t number) const noexcept {
  if (!numeric_) return -1;
  return index_.find(hash_of(number), [&](std::size_t i) { return numbers_[i] == number; });
}

std::int64_t Names::find(std::string_view text) const noexcept {
  if (!numeric_) {
    return index_.find(hash_of(text), [&](std::size_t i) { return texts_[i] == text; });
  }
  const auto number = canonical_number(text);
  return number ? find(*number) : -1;
}

std::string Names::fingerprint() const {
  Fingerprint print;
  print.add("theriac.names.1").add(numeric_ ? "integers" : "text");
  print.add_values(std::span<const std::int64_t>(numbers_));
  for (const std::string& text : texts_) print.add(text);
  return print.hex();
}

Sequences::Sequences(SequenceColumns columns) : columns_(std::move(columns)) {
  check(columns_);
  fingerprint_ = fingerprint_of(columns_);
}

}  // namespace theriac::data
