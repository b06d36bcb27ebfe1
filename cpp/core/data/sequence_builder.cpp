// Interactions in any order gathered into sequences.
//
// Up to hundreds of millions of them: a name is looked up without an allocation and kept once, and
// the columns are grouped by user with a counting sort.

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "cpp/core/base/error.h"
#include "cpp/core/base/hash.h"
#include "cpp/core/data/cohort_policy_apply.h"
#include "cpp/core/data/sequences_io.h"

namespace theriac::data {
namespace {

// Names in the order of their first appearance.
class Interner {
 public:
  std::int64_t find(std::string_view text) const noexcept {
    return index_.find(hash64(text), [&](std::size_t i) { return texts_[i] == text; });
  }
  std::int32_t add(std::string_view text) {
    index_.add(hash64(text), texts_.size());
    texts_.emplace_back(text);
    return static_cast<std::int32_t>(texts_.size() - 1);
  }
  std::size_t size() const noexcept { return texts_.size(); }
  std::vector<std::string>& texts() noexcept { return texts_; }

 private:
  std::vector<std::string> texts_;
  NameIndex index_;
};

// Items and times of user u are at [offsets[u], offsets[u + 1]). Times are empty when none is known.
struct Grouped {
  std::vector<std::int64_t> offsets;
  std::vector<std::int32_t> items;
  std::vector<std::int64_t> times;
  std::size_t users() const noexcept { return offsets.size() - 1; }
};

// CSR offsets of `rows` rows, each as long as it occurs in `row_of`.
std::vector<std::int64_t> offsets_of(const std::vector<std::int32_t>& row_of, std::size_t rows) {
  std::vector<std::int64_t> offsets(rows + 1, 0);
  for (const std::int32_t row : row_of) ++offsets[static_cast<std::size_t>(row) + 1];
  for (std::size_t row = 0; row < rows; ++row) offsets[row + 1] += offsets[row];
  return offsets;
}

// `values` ordered by their row; within a row as they were. Gives the memory of `values` back.
template <class T>
std::vector<T> scatter(std::vector<T> values, const std::vector<std::int32_t>& row_of,
                       const std::vector<std::int64_t>& offsets) {
  std::vector<std::int64_t> next(offsets.begin(), offsets.end() - 1);
  std::vector<T> out(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    out[static_cast<std::size_t>(next[static_cast<std::size_t>(row_of[i])]++)] = values[i];
  }
  return out;
}

// Keeps the interactions for which `keep(user, position)` holds.
template <class Keep>
void compact(Grouped& grouped, const Keep& keep) {
  std::size_t kept = 0, begin = 0;
  for (std::size_t u = 0; u < grouped.users(); ++u) {
    const auto end = static_cast<std::size_t>(grouped.offsets[u + 1]);
    for (std::size_t i = begin; i < end; ++i) {
      if (!keep(u, i)) continue;
      grouped.items[kept] = grouped.items[i];
      if (!grouped.times.empty()) grouped.times[kept] = grouped.times[i];
      ++kept;
    }
    grouped.offsets[u + 1] = static_cast<std::int64_t>(kept);
    begin = end;
  }
  grouped.items.resize(kept);
  if (!grouped.times.empty()) grouped.times.resize(kept);
}

// Stable: what has the same time stays in the order given.
void sort_by_time(Grouped& grouped) {
  if (grouped.times.empty()) return;
  std::vector<std::pair<std::int64_t, std::int32_t>> rows;
  for (std::size_t u = 0; u < grouped.users(); ++u) {
    const auto first = static_cast<std::size_t>(grouped.offsets[u]);
    const auto last = static_cast<std::size_t>(grouped.offsets[u + 1]);
    const auto time = grouped.times.begin();
    if (std::is_sorted(time + grouped.offsets[u], time + grouped.offsets[u + 1])) continue;
    rows.clear();
    for (std::size_t i = first; i < last; ++i) {
      rows.emplace_back(grouped.times[i], grouped.items[i]);
    }
    std::stable_sort(rows.begin(), rows.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (std::size_t i = first; i < last; ++i) {
      grouped.times[i] = rows[i - first].first;
      grouped.items[i] = rows[i - first].second;
    }
  }
}

// Of a user's interactions with one item, keeps the first or the last. Returns how many went.
std::int64_t drop_repeats(Grouped& grouped, std::size_t items, bool keep_last) {
  constexpr std::int64_t kNobody = -1;
  std::vector<std::int64_t> taken_by(items, kNobody);  // the user who had the item last
  std::vector<bool> keep(grouped.items.size(), false);
  for (std::size_t u = 0; u < grouped.users(); ++u) {
    const auto first = static_cast<std::size_t>(grouped.offsets[u]);
    const auto last = static_cast<std::size_t>(grouped.offsets[u + 1]);
    for (std::size_t step = 0; step < last - first; ++step) {
      const std::size_t i = keep_last ? last - 1 - step : first + step;
      std::int64_t& user = taken_by[static_cast<std::size_t>(grouped.items[i])];
      keep[i] = user != static_cast<std::int64_t>(u);
      user = static_cast<std::int64_t>(u);
    }
  }
  const std::size_t before = grouped.items.size();
  compact(grouped, [&](std::size_t, std::size_t i) { return keep[i]; });
  return static_cast<std::int64_t>(before - grouped.items.size());
}

// One side of the bipartite graph of users and items.
struct Side {
  const std::vector<std::int64_t>* offsets;   // of each member's partners on the other side
  const std::vector<std::int32_t>* partners;  // one an interaction
  std::int64_t core;
  std::vector<std::int64_t> counts;  // interactions that are left
  std::vector<bool> stays;
  std::vector<std::size_t> to_go;
  std::int64_t gone = 0;  // interactions that went with a member of this side
};

Side side_of(const std::vector<std::int64_t>& offsets, const std::vector<std::int32_t>& partners,
             std::int64_t core) {
  const std::size_t members = offsets.size() - 1;
  Side side{&offsets, &partners, core, {}, std::vector<bool>(members, true), {}};
  side.counts.reserve(members);
  for (std::size_t i = 0; i < members; ++i) {
    side.counts.push_back(offsets[i + 1] - offsets[i]);
    if (side.counts[i] < core) side.to_go.push_back(i);
  }
  return side;
}

// Takes out what is to go of one side. A partner is listed when it falls below its core, so once.
void take_out(Side& side, Side& other) {
  for (const std::size_t member : std::exchange(side.to_go, {})) {
    side.stays[member] = false;
    for (auto i = (*side.offsets)[member]; i < (*side.offsets)[member + 1]; ++i) {
      const auto partner = static_cast<std::size_t>((*side.partners)[static_cast<std::size_t>(i)]);
      if (!other.stays[partner]) continue;
      ++side.gone;
      if (--other.counts[partner] == other.core - 1) other.to_go.push_back(partner);
    }
  }
}

std::vector<std::int32_t> users_of_rows(const Grouped& grouped) {
  std::vector<std::int32_t> users(grouped.items.size());
  for (std::size_t u = 0; u < grouped.users(); ++u) {
    std::fill(users.begin() + grouped.offsets[u], users.begin() + grouped.offsets[u + 1],
              static_cast<std::int32_t>(u));
  }
  return users;
}

// Takes out users and items with too few interactions, users first, then items, in turns until
// neither has any. An interaction goes with whichever of its two goes first, and is looked at once
// from either side, however many turns it takes. Returns how many went with users and with items.
std::pair<std::int64_t, std::int64_t> drop_sparse(Grouped& grouped, std::size_t item_count,
                                                  const SequencePolicy& policy) {
  const std::vector<std::int64_t> item_offsets = offsets_of(grouped.items, item_count);
  const std::vector<std::int32_t> users_of_items =
      scatter(users_of_rows(grouped), grouped.items, item_offsets);
  Side users = side_of(grouped.offsets, grouped.items, policy.user_core);
  Side items = side_of(item_offsets, users_of_items, policy.item_core);
  while (!users.to_go.empty() || !items.to_go.empty()) {
    take_out(users, items);
    take_out(items, users);
  }
  compact(grouped, [&](std::size_t user, std::size_t i) {
    return users.stays[user] && items.stays[static_cast<std::size_t>(grouped.items[i])];
  });
  return {users.gone, items.gone};
}

// Users that have interactions left; their offsets close up.
Names take_users(Interner& users, Grouped& grouped) {
  std::vector<std::string> texts;
  std::vector<std::int64_t> offsets{0};
  for (std::size_t u = 0; u < grouped.users(); ++u) {
    if (grouped.offsets[u] == grouped.offsets[u + 1]) continue;
    texts.push_back(std::move(users.texts()[u]));
    offsets.push_back(grouped.offsets[u + 1]);
  }
  grouped.offsets = std::move(offsets);
  return Names(std::move(texts));
}

// Items that have interactions left, sorted; their numbers become ids.
Names take_items(Interner& items, Grouped& grouped) {
  std::vector<std::int32_t> id_of(items.size(), 0);
  for (const std::int32_t item : grouped.items) id_of[static_cast<std::size_t>(item)] = 1;
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < id_of.size(); ++i) {
    if (id_of[i] != 0) texts.push_back(items.texts()[i]);
  }
  Names names = Names::sorted(std::move(texts));
  for (std::size_t i = 0; i < id_of.size(); ++i) {
    if (id_of[i] != 0) id_of[i] = static_cast<std::int32_t>(names.find(items.texts()[i]) + 1);
  }
  for (std::int32_t& item : grouped.items) item = id_of[static_cast<std::size_t>(item)];
  return names;
}

void check_policy(const SequencePolicy& policy) {
  const auto refuse = [](const char* option, const std::string& what) {
    throw Error(Code::kInvalidArgument, std::string("option '") + option + "' is " + what)
        .at("option", option);
  };
  if (policy.repeats != "keep" && policy.repeats != "first" && policy.repeats != "last") {
    refuse("repeats", "'" + policy.repeats + "'; expected keep, first or last");
  }
  const auto below = [](std::int64_t core) {
    return std::to_string(core) + "; expected 1 or more";
  };
  if (policy.user_core < 1) refuse("user_core", below(policy.user_core));
  if (policy.item_core < 1) refuse("item_core", below(policy.item_core));
}

}  // namespace

const OptionTable<SequencePolicy>& SequencePolicy::table() {
  static const auto options =
      OptionTable<SequencePolicy>("sequences", "How interactions become sequences")
          .choice("layout", &SequencePolicy::layout, {"auto", "lines", "csv"},
                  "lines: a user and all items on each line; csv: one interaction a row under a "
                  "header line; auto: by whether the first line names the columns")
          .text("user", &SequencePolicy::user, "name of the column of users")
          .text("item", &SequencePolicy::item, "name of the column of items")
          .text("time", &SequencePolicy::time, "name of the column of times, which may be absent")
          .text("delimiter", &SequencePolicy::delimiter, "of csv: one character, or tab")
          .choice("repeats", &SequencePolicy::repeats, {"keep", "first", "last"},
                  "which of a user's interactions with one item stay: all, the first or the last")
          .integer("user_core", &SequencePolicy::user_core, {1, 1'000'000'000},
                   "interactions that a user must have; users and items with fewer are dropped "
                   "until none is left")
          .integer("item_core", &SequencePolicy::item_core, {1, 1'000'000'000},
                   "interactions that an item must have");
  return options;
}

struct SequenceBuilder::State {
  SequencePolicy policy;
  Interner users, items;
  std::vector<std::int32_t> user_of, item_of;  // [interactions added]
  std::vector<std::int64_t> times;             // the same, or empty while none is known
  std::map<std::string, std::int64_t> dropped;
  std::int64_t read = 0;

  [[noreturn]] void fail(const char* part, const std::string& what) const;
  void check_name(const Interner& names, const char* part, std::string_view text) const;
  void check_time(std::int64_t time) const;
  Grouped group();
  void apply_policy(Grouped& grouped);
  Json accounting(const std::string& table, std::int64_t kept) const;
};

void SequenceBuilder::State::fail(const char* part, const std::string& what) const {
  throw Error(Code::kDataError,
              std::string("the ") + part + " of interaction " + std::to_string(read) + " " + what)
      .at("interaction", read);
}

// Of a name that was not met before.
void SequenceBuilder::State::check_name(const Interner& names, const char* part,
                                        std::string_view text) const {
  const std::string fault = Names::fault_of(text);
  if (!fault.empty()) fail(part, fault);
  if (names.size() == static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    fail(part, "is one more than 32-bit ids can number");
  }
}

void SequenceBuilder::State::check_time(std::int64_t time) const {
  const bool known = time != kNoTime;
  if (known && (time < kFirstTime || time > kLastTime)) {
    fail("time", "is outside the years 1 to 9999");
  }
  if (user_of.empty() || known != times.empty()) return;
  fail("time", known ? "is known, but those before have none; expected all or none"
                     : "is unknown, but those before have one; expected all or none");
}

Grouped SequenceBuilder::State::group() {
  Grouped grouped;
  grouped.offsets = offsets_of(user_of, users.size());
  grouped.items = scatter(std::exchange(item_of, {}), user_of, grouped.offsets);
  if (!times.empty()) grouped.times = scatter(std::exchange(times, {}), user_of, grouped.offsets);
  user_of = std::vector<std::int32_t>();  // which gives its memory back
  return grouped;
}

void SequenceBuilder::State::apply_policy(Grouped& grouped) {
  sort_by_time(grouped);
  if (policy.repeats != "keep") {
    const std::int64_t gone = drop_repeats(grouped, items.size(), policy.repeats == "last");
    if (gone > 0) dropped["repeated item"] += gone;
  }
  if (policy.user_core <= 1 && policy.item_core <= 1) return;
  const auto [with_user, with_item] = drop_sparse(grouped, items.size(), policy);
  if (with_user > 0) dropped["user below user_core"] += with_user;
  if (with_item > 0) dropped["item below item_core"] += with_item;
}

Json SequenceBuilder::State::accounting(const std::string& table, std::int64_t kept) const {
  Accounting accounting;
  accounting.read(table, read);
  accounting.kept(table, kept);
  for (const auto& [reason, rows] : dropped) accounting.dropped(table, reason, rows);
  return Json{{"tables", accounting.to_json().at("tables")}};
}

SequenceBuilder::SequenceBuilder(const SequencePolicy& policy) : state_(std::make_shared<State>()) {
  check_policy(policy);
  state_->policy = policy;
}

// Everything is checked before anything is kept, so that a refused interaction leaves no trace.
void SequenceBuilder::add(std::string_view user, std::string_view item, std::int64_t time) {
  State& state = *state_;
  std::int64_t user_number = state.users.find(user), item_number = state.items.find(item);
  if (user_number < 0) state.check_name(state.users, "user", user);
  if (item_number < 0) state.check_name(state.items, "item", item);
  state.check_time(time);
  if (user_number < 0) user_number = state.users.add(user);
  if (item_number < 0) item_number = state.items.add(item);
  state.user_of.push_back(static_cast<std::int32_t>(user_number));
  state.item_of.push_back(static_cast<std::int32_t>(item_number));
  if (time != kNoTime) state.times.push_back(time);
  ++state.read;
}

void SequenceBuilder::drop(const std::string& reason) {
  ++state_->read;
  ++state_->dropped[reason];
}

Sequences SequenceBuilder::finish(const std::string& table, Json provenance) && {
  const std::shared_ptr<State> state = std::exchange(state_, nullptr);
  Grouped grouped = state->group();
  state->apply_policy(grouped);
  SequenceColumns columns;
  columns.accounting = state->accounting(table, static_cast<std::int64_t>(grouped.items.size()));
  columns.provenance = std::move(provenance);
  columns.provenance["policy"] = SequencePolicy::table().effective_json(state->policy);
  columns.users = take_users(state->users, grouped);
  columns.items = take_items(state->items, grouped);
  columns.offsets = std::move(grouped.offsets);
  columns.ids = std::move(grouped.items);
  columns.times = std::move(grouped.times);
  return Sequences(std::move(columns));
}

}  // namespace theriac::data
