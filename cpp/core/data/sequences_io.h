// Sequences on disk, and out of them (CSV, JSON lines, text lines, Arrow).
#pragma once

#include <filesystem>
#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

#include "cpp/core/base/job.h"
#include "cpp/core/base/options.h"
#include "cpp/core/data/arrow_abi.h"
#include "cpp/core/data/sequences.h"

namespace theriac::data {

// How a table of interactions becomes sequences.
struct SequencePolicy {
  // auto | lines | csv: lines has one user a line, csv one interaction a row; auto tells them apart
  // by a header line that has the two columns.
  std::string layout = "auto";
  // Names of the columns; time may be absent.
  std::string user = "user", item = "item", time = "time";
  std::string delimiter = ",";  // of csv; "tab" or one character
  // keep | first | last: which of a user's interactions with one item stay.
  std::string repeats = "keep";
  // Users and items with fewer interactions are dropped, users first, in turns until none is.
  std::int64_t user_core = 1, item_core = 1;
  static const OptionTable<SequencePolicy>& table();
};

// One interaction at a time, in any order of users; then sorted within users by time (stable: equal and
// unknown times keep their order; unknown ones are an error beside known ones), policy applied, items
// sorted (Names::sorted). Users keep the order of their first interaction. Throws kInvalidArgument for
// unknown `repeats` and for cores below 1.
class SequenceBuilder {
 public:
  explicit SequenceBuilder(const SequencePolicy& policy);
  // Throws kDataError for a name that is empty, too long or not UTF-8, without quoting it, and for a
  // time out of range or known where others are not. What is refused leaves no trace.
  void add(std::string_view user, std::string_view item, std::int64_t time);
  // Counts a row that was left out: accounting's tables[table].dropped[reason].
  void drop(const std::string& reason);
  // `provenance` is joined by "policy" (effective options).
  Sequences finish(const std::string& table, Json provenance) &&;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// Directory as of cohorts (FORMAT.md): dataset.json with "kind": "sequences", and columns.bin.
void save_sequences(const Sequences& sequences, const std::filesystem::path& directory,
                    bool overwrite = false);
Sequences load_sequences(const std::filesystem::path& directory);
// The "kind" of a stored data set: "cohort" or "sequences". Throws as the loaders do.
std::string stored_kind(const std::filesystem::path& directory);

// "interactions": user, item, time; "sequences": one user a row; "vocabulary": id, item.
std::vector<std::string> sequence_table_names();
// csv | jsonl | arrow; of sequences jsonl, {"user", "items": [...], "times": [...] (if timed)}, or lines,
// USER ITEM ITEM ... as read_sequences reads, which no name with a blank can be: kInvalidArgument.
void export_sequence_table(const Sequences& sequences, const std::string& table,
                           const std::string& format, std::ostream& out);
// Tables interactions and vocabulary as Arrow streams (arrow.h says how they live).
void export_sequences_stream(std::shared_ptr<const Sequences> sequences, const std::string& table,
                             ArrowArrayStream* out);
// Columns user and item (text, integers, dictionaries) and time (as in arrow.h), by the policy's names;
// time may be absent unless the policy gives it another name than the default.
Sequences import_sequences_stream(ArrowArrayStream* in, const SequencePolicy& policy,
                                  Job* job = nullptr);

// {"kind", "users", "items", "interactions", "length": {"mean", "median", "max"}, "timed", "density",
// "accounting", "provenance", "fingerprint"}.
Json describe(const Sequences& sequences);

struct SequenceSplitOptions {
  std::string how = "leave_one_out";  // leave_one_out | time
  double valid = 0.1, test = 0.1;     // time: shares of the interactions, the latest in test
  static const OptionTable<SequenceSplitOptions>& table();
};
struct SequenceParts {
  Sequences train, valid, test;
};
// The last item of each sequence of a part is the answer of the part, those before it are its history.
//
// leave_one_out: test = s, valid = s without its last item, train = s without its last two
//     (sequential-tta.md 1.2). Users with fewer than three items are in train alone, with all they have.
// time: two moments divide the interactions. train: what each user did before the first; valid: each
//     user's items up to their first one at or after the first moment and before the second; test: up to
//     their first one at or after the second. A user is in valid and test only with an item of that
//     period and one before it. Needs times: kInvalidArgument without.
SequenceParts split_sequences(const Sequences& sequences, const SequenceSplitOptions& options);

}  // namespace theriac::data
