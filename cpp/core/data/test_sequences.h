// Sequences for the tests of this folder: a small one by hand, larger ones at random.
#pragma once

#include <gmock/gmock.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cpp/core/base/error.h"
#include "cpp/core/base/random.h"
#include "cpp/core/data/sequences.h"

namespace theriac::data {

using Text = std::vector<std::string>;
using Numbers = std::vector<std::int64_t>;
using Ids = std::vector<std::int32_t>;

// Three users with three, no and two items; text users, numeric items -5, 20, 100.
inline SequenceColumns small_columns() {
  SequenceColumns columns;
  columns.users = Names(Text{"b, \"quoted\"", "7", "Zoë"});
  columns.items = Names(Numbers{-5, 20, 100});
  columns.offsets = {0, 3, 3, 5};
  columns.ids = {2, 1, 2, 3, 1};
  columns.times = {-100, 0, 0, 5'699'194'800, 5'699'194'801};
  columns.accounting = Json{{"tables", Json::object()}};
  columns.provenance = Json{{"format", "test"}};
  return columns;
}

inline Sequences small_sequences() { return Sequences(small_columns()); }

inline Sequences random_sequences(std::uint64_t seed, int users, bool timed, bool text = false) {
  constexpr int kItems = 30;
  Random random(seed, "test sequences");
  SequenceColumns columns;
  Text names, items;
  for (int u = 0; u < users; ++u) names.push_back((text ? "user " : "") + std::to_string(u * 7));
  for (int i = 0; i < kItems; ++i) items.push_back((text ? "item-" : "") + std::to_string(i));
  columns.users = Names(std::move(names));
  columns.items = Names(std::move(items));
  for (int u = 0; u < users; ++u) {
    auto time = static_cast<std::int64_t>(random.below(1'000));
    const std::uint64_t length = random.below(7);
    for (std::uint64_t i = 0; i < length; ++i) {
      columns.ids.push_back(static_cast<std::int32_t>(1 + random.below(kItems)));
      if (timed) columns.times.push_back(time);
      time += static_cast<std::int64_t>(random.below(200));
    }
    columns.offsets.push_back(static_cast<std::int64_t>(columns.ids.size()));
  }
  return Sequences(std::move(columns));
}

// "user: item item@time ..." a line each.
inline Text written_out(const Sequences& sequences) {
  Text lines;
  for (std::int64_t u = 0; u < sequences.users(); ++u) {
    std::string line = sequences.user_names().text(u) + ":";
    auto i = static_cast<std::size_t>(sequences.columns().offsets[static_cast<std::size_t>(u)]);
    for (const std::int32_t id : sequences.of(u)) {
      line += " " + sequences.item_names().text(id - 1);
      if (sequences.timed()) line += "@" + std::to_string(sequences.columns().times[i]);
      ++i;
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

// Expects `call` to throw this code with these words in its message.
template <class Call>
void expect_error(Code code, const std::string& words, const Call& call) {
  try {
    call();
    ADD_FAILURE() << "no error; expected: " << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(error.what(), testing::HasSubstr(words));
  }
}

}  // namespace theriac::data
