// Every part of a split holds the beginnings of some users' sequences.

#include <algorithm>
#include <limits>
#include <utility>

#include "cpp/core/base/error.h"
#include "cpp/core/data/sequences_io.h"
#include "cpp/core/data/split_parts.h"

namespace theriac::data {
namespace {

// How many items of each user a part takes; a user of whom it takes none is not in it.
using Lengths = std::vector<std::int64_t>;

struct Beginnings {
  Lengths train, valid, test;
};

std::size_t at(std::int64_t position) { return static_cast<std::size_t>(position); }

Beginnings no_beginnings(const Sequences& sequences) {
  const Lengths none(at(sequences.users()), 0);
  return {none, none, none};
}

Beginnings leave_one_out(const Sequences& sequences) {
  constexpr std::int64_t kShortest = 3;  // one item to learn from, and two answers
  Beginnings lengths = no_beginnings(sequences);
  for (std::int64_t u = 0; u < sequences.users(); ++u) {
    const auto all = static_cast<std::int64_t>(sequences.of(u).size());
    lengths.train[at(u)] = all < kShortest ? all : all - 2;
    if (all < kShortest) continue;
    lengths.valid[at(u)] = all - 1;
    lengths.test[at(u)] = all;
  }
  return lengths;
}

// The time of the earliest of the last interactions, so many of `times` that `before` are left; no
// moment at all when that is all of them.
std::int64_t moment_after(std::vector<std::int64_t>& times, std::size_t before) {
  if (before == times.size()) return std::numeric_limits<std::int64_t>::max();
  const auto nth = times.begin() + static_cast<std::ptrdiff_t>(before);
  std::nth_element(times.begin(), nth, times.end());
  return *nth;
}

std::pair<std::int64_t, std::int64_t> moments(const Sequences& sequences,
                                              const SequenceSplitOptions& options) {
  std::vector<std::int64_t> times = sequences.columns().times;
  const std::size_t train = share_of(1 - options.valid - options.test, times.size());
  const std::size_t valid = std::max(train, share_of(1 - options.test, times.size()));
  const std::int64_t first = moment_after(times, train);
  return {first, moment_after(times, valid)};
}

Beginnings by_time(const Sequences& sequences, const SequenceSplitOptions& options) {
  if (!sequences.timed() && sequences.interactions() > 0) {
    throw Error(Code::kInvalidArgument,
                "option 'how' is 'time', but these sequences have no times; expected leave_one_out")
        .at("option", "how");
  }
  const auto [first_moment, second_moment] = moments(sequences, options);
  const SequenceColumns& columns = sequences.columns();
  Beginnings lengths = no_beginnings(sequences);
  for (std::int64_t u = 0; u < sequences.users(); ++u) {
    const auto begin = columns.times.begin() + columns.offsets[at(u)];
    const auto end = columns.times.begin() + columns.offsets[at(u) + 1];
    const auto first = std::lower_bound(begin, end, first_moment);
    const auto second = std::lower_bound(begin, end, second_moment);
    lengths.train[at(u)] = first - begin;
    if (first != begin && first != second) lengths.valid[at(u)] = first - begin + 1;
    if (second != begin && second != end) lengths.test[at(u)] = second - begin + 1;
  }
  return lengths;
}

// User by user, so that only the part's own names are copied.
Names names_of(const Names& names, const Lengths& lengths) {
  std::vector<std::int64_t> numbers;
  std::vector<std::string> texts;
  for (std::size_t u = 0; u < lengths.size(); ++u) {
    if (lengths[u] == 0) continue;
    if (names.numeric()) {
      numbers.push_back(names.numbers()[u]);
    } else {
      texts.push_back(names.texts()[u]);
    }
  }
  return names.numeric() ? Names(std::move(numbers)) : Names(std::move(texts));
}

Sequences part(const Sequences& sequences, const Lengths& lengths, Json how) {
  const SequenceColumns& from = sequences.columns();
  SequenceColumns to;
  to.users = names_of(from.users, lengths);
  to.items = from.items;
  to.accounting = from.accounting;
  to.provenance = part_provenance(sequences.provenance(), sequences.fingerprint(), std::move(how));
  for (std::size_t u = 0; u < lengths.size(); ++u) {
    if (lengths[u] == 0) continue;
    const std::int64_t first = from.offsets[u], last = first + lengths[u];
    to.ids.insert(to.ids.end(), from.ids.begin() + first, from.ids.begin() + last);
    if (sequences.timed()) {
      to.times.insert(to.times.end(), from.times.begin() + first, from.times.begin() + last);
    }
    to.offsets.push_back(static_cast<std::int64_t>(to.ids.size()));
  }
  return Sequences(std::move(to));
}

Beginnings divide(const Sequences& sequences, const SequenceSplitOptions& options) {
  if (options.how == "leave_one_out") return leave_one_out(sequences);
  if (options.how == "time") return by_time(sequences, options);
  throw Error(Code::kInvalidArgument,
              "option 'how' is '" + options.how + "'; expected leave_one_out or time")
      .at("option", "how");
}

}  // namespace

const OptionTable<SequenceSplitOptions>& SequenceSplitOptions::table() {
  static const auto options =
      OptionTable<SequenceSplitOptions>("split",
                                        "How sequences are divided into train, valid and test")
          .choice("how", &SequenceSplitOptions::how, {"leave_one_out", "time"},
                  "each user's last item is the test's answer and the one before it the "
                  "validation's, or two moments divide the interactions")
          .real("valid", &SequenceSplitOptions::valid, {0.0, 1.0, false, true},
                "time: share of the interactions between the two moments")
          .real("test", &SequenceSplitOptions::test, {0.0, 1.0, false, true},
                "time: share of the interactions after the second moment");
  return options;
}

SequenceParts split_sequences(const Sequences& sequences, const SequenceSplitOptions& options) {
  check_shares(options.valid, options.test);
  const Beginnings lengths = divide(sequences, options);
  const auto named = [&](const Lengths& taken, const char* name) {
    Json how = SequenceSplitOptions::table().effective_json(options);
    how["part"] = name;
    return part(sequences, taken, std::move(how));
  };
  return {named(lengths.train, "train"), named(lengths.valid, "valid"),
          named(lengths.test, "test")};
}

}  // namespace theriac::data
