// Evaluation of next-item models: the rank of each sequence's last item among all items, from the items
// before it (sequential-tta.md section 5).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/job.h"
#include "cpp/core/base/options.h"
#include "cpp/core/data/sequences.h"
#include "cpp/core/metrics/ranking.h"
#include "cpp/engine/sequence/next_item_scorer.h"

namespace theriac::sequence {

struct RankingOptions {
  std::vector<std::int64_t> cutoffs{5, 10, 20};
  bool exclude_seen = true;  // items of the history are not candidates
  bool seen_as_zero =
      false;  // the reference's rule: they score 0 instead, and ids 0 and V + 1 are candidates
  static const OptionTable<RankingOptions>& table();
};

enum class Answers { kLastItem, kNone };

// Sequences in a model's ids. Not shared between threads while it is made.
class MappedSequences {
 public:
  MappedSequences(const data::Sequences& sequences, const data::Names& items,
                  Answers answers = Answers::kLastItem);
  std::int64_t users() const { return static_cast<std::int64_t>(offsets_.size()) - 1; }
  // Known items before the answer, oldest first; may be empty.
  std::span<const std::int32_t> history(std::int64_t user) const;
  // The last item; 0 where the model does not know it, -1 where there is none.
  std::int32_t answer(std::int64_t user) const { return answers_[static_cast<std::size_t>(user)]; }
  std::int64_t unknown() const { return unknown_; }  // items of histories that were left out

 private:
  std::vector<std::size_t> offsets_{0};
  std::vector<std::int32_t> ids_, answers_;
  std::int64_t unknown_ = 0;
};

// Why sequences count for nothing, or as a miss.
struct RankingCounts {
  std::int64_t answers = 0;          // sequences that count
  std::int64_t without_history = 0;  // do not count: nothing is known before the answer
  std::int64_t unknown_answers =
      0;  // count as misses: the model cannot rank an item it does not know
  std::int64_t repeated_answers =
      0;  // count as misses: the answer is in its history, which is excluded
};

// One thread's memory for one of the users who are scored together.
struct UserQuery {
  NextItemQuery query;
  std::vector<std::int32_t> excluded;  // for `query` to point to
};

// Scores users 0 ... users - 1, some at a time, on up to `threads` threads. ask(user, room): fills the
// query; false leaves the user out. take(user, reader): for every user asked for, in any order, on any
// thread, each once. Tells the job of progress under `phase`.
void score_users(std::int64_t users, const NextItemScorer& scorer,
                 const augment::Augmenter* augmenter, int threads, Job& job, std::string_view phase,
                 const std::function<bool(std::int64_t, UserQuery&)>& ask,
                 const std::function<void(std::int64_t, const RowReader&)>& take);

// By user: the rank, -1 for a miss, -2 for a sequence that does not count.
std::vector<std::int64_t> ranks_of(const MappedSequences& data, const NextItemScorer& scorer,
                                   const augment::Augmenter* augmenter,
                                   const RankingOptions& options, int threads, Job& job,
                                   RankingCounts* counts = nullptr);

// {"hr@5": ..., ...} of all, and by the history's length.
metrics::RankingMetrics summary(const std::vector<std::int64_t>& ranks,
                                const RankingOptions& options);
Json by_length(const MappedSequences& data, const std::vector<std::int64_t>& ranks,
               const RankingOptions& options);

// What a user may not be given, sorted, for a history: see RankingOptions.
void excluded_items(std::span<const std::int32_t> history, std::size_t rows, bool exclude_seen,
                    bool seen_as_zero, std::vector<std::int32_t>& out);

}  // namespace theriac::sequence
