#include "cpp/engine/sequence/ranking_protocol.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <thread>

#include "cpp/engine/eval/parallel.h"

namespace theriac::sequence {
namespace {

constexpr std::int64_t kMiss = -1, kNone = -2;
constexpr std::size_t kBlock = 48;  // users scored together

// One thread's memory for a block of users.
struct Worker {
  explicit Worker(const NextItemScorer& scorer) : scratch(scorer.scratch()), room(kBlock) {}
  std::unique_ptr<ScorerScratch> scratch;
  std::vector<UserQuery> room;
  std::vector<NextItemQuery> queries;
  std::vector<std::int64_t> users;
  std::vector<RowReader> readers;
};

// Workers that are not in use.
class WorkerPool {
 public:
  explicit WorkerPool(const NextItemScorer& scorer) : scorer_(scorer) {}
  std::unique_ptr<Worker> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<Worker>(scorer_);
    auto worker = std::move(free_.back());
    free_.pop_back();
    return worker;
  }
  void give_back(std::unique_ptr<Worker> worker) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(worker));
  }

 private:
  const NextItemScorer& scorer_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> free_;
};

// What is known of a sequence before anything is scored; 0 where it must be.
std::int64_t settled(const MappedSequences& data, std::int64_t user, const RankingOptions& options,
                     RankingCounts& counts) {
  const std::int32_t answer = data.answer(user);
  const auto history = data.history(user);
  if (answer < 0 || history.empty()) {
    ++counts.without_history;
    return kNone;
  }
  ++counts.answers;
  if (answer == 0) {
    ++counts.unknown_answers;
    return kMiss;
  }
  if (options.exclude_seen && std::find(history.begin(), history.end(), answer) != history.end()) {
    ++counts.repeated_answers;
    return kMiss;
  }
  return 0;
}

}  // namespace

const OptionTable<RankingOptions>& RankingOptions::table() {
  static const auto table =
      OptionTable<RankingOptions>("ranking", "Ranks of the last items")
          .integers("cutoffs", &RankingOptions::cutoffs, {1, 10'000}, "K of HR@K and NDCG@K")
          .flag("exclude_seen", &RankingOptions::exclude_seen,
                "items of the history are not candidates")
          .flag("seen_as_zero", &RankingOptions::seen_as_zero,
                "as the TTA4SR authors' code: items of the history score 0 instead, and the ids 0 "
                "and "
                "V + 1 are candidates");
  return table;
}

MappedSequences::MappedSequences(const data::Sequences& sequences, const data::Names& items,
                                 Answers answers) {
  std::vector<std::int32_t> id_of(static_cast<std::size_t>(sequences.items()) + 1, 0);
  const data::Names& theirs = sequences.item_names();
  for (std::int64_t position = 0; position < theirs.size(); ++position) {
    const std::int64_t found = theirs.numeric() && items.numeric()
                                   ? items.find(theirs.number(position))
                                   : items.find(theirs.text(position));
    id_of[static_cast<std::size_t>(position) + 1] = static_cast<std::int32_t>(found + 1);
  }
  for (std::int64_t user = 0; user < sequences.users(); ++user) {
    const auto own = sequences.of(user);
    const bool answered = answers == Answers::kLastItem && !own.empty();
    for (const std::int32_t item : own.first(own.size() - (answered ? 1 : 0))) {
      const std::int32_t id = id_of[static_cast<std::size_t>(item)];
      if (id > 0) ids_.push_back(id);
      unknown_ += id > 0 ? 0 : 1;
    }
    offsets_.push_back(ids_.size());
    answers_.push_back(answered ? id_of[static_cast<std::size_t>(own.back())] : -1);
  }
}

std::span<const std::int32_t> MappedSequences::history(std::int64_t user) const {
  const std::size_t first = offsets_[static_cast<std::size_t>(user)];
  return std::span(ids_).subspan(first, offsets_[static_cast<std::size_t>(user) + 1] - first);
}

void excluded_items(std::span<const std::int32_t> history, std::size_t rows, bool exclude_seen,
                    bool seen_as_zero, std::vector<std::int32_t>& out) {
  out.clear();
  if (exclude_seen) out.assign(history.begin(), history.end());
  if (!seen_as_zero) {
    out.push_back(0);
    out.push_back(static_cast<std::int32_t>(rows) - 1);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
}

void score_users(std::int64_t users, const NextItemScorer& scorer,
                 const augment::Augmenter* augmenter, int threads, Job& job, std::string_view phase,
                 const std::function<bool(std::int64_t, UserQuery&)>& ask,
                 const std::function<void(std::int64_t, const RowReader&)>& take) {
  WorkerPool pool(scorer);
  const auto count = static_cast<std::size_t>(users);
  const std::size_t blocks = (count + kBlock - 1) / kBlock;
  // A job belongs to one thread, which works like the others: it tells progress and obeys a stop
  // before each block of its own.
  const auto job_thread = std::this_thread::get_id();
  std::atomic<std::size_t> done = 0;
  eval::parallel_for(blocks, threads, [&](std::size_t block) {
    if (std::this_thread::get_id() == job_thread) job.progress(phase, done.load() * kBlock, count);
    auto worker = pool.take();
    worker->queries.clear();
    worker->users.clear();
    for (std::size_t user = block * kBlock; user < std::min(count, (block + 1) * kBlock); ++user) {
      UserQuery& room = worker->room[worker->queries.size()];
      if (!ask(static_cast<std::int64_t>(user), room)) continue;
      worker->queries.push_back(room.query);
      worker->users.push_back(static_cast<std::int64_t>(user));
    }
    worker->readers.resize(std::max(worker->readers.size(), worker->queries.size()));
    if (!worker->queries.empty())
      scorer.score(worker->queries, augmenter, *worker->scratch, worker->readers);
    for (std::size_t i = 0; i < worker->users.size(); ++i)
      take(worker->users[i], worker->readers[i]);
    pool.give_back(std::move(worker));
    ++done;
  });
}

std::vector<std::int64_t> ranks_of(const MappedSequences& data, const NextItemScorer& scorer,
                                   const augment::Augmenter* augmenter,
                                   const RankingOptions& options, int threads, Job& job,
                                   RankingCounts* counts) {
  RankingCounts own;
  std::vector<std::int64_t> ranks(static_cast<std::size_t>(data.users()));
  for (std::int64_t user = 0; user < data.users(); ++user)
    ranks[static_cast<std::size_t>(user)] = settled(data, user, options, own);
  if (counts != nullptr) *counts = own;

  score_users(
      data.users(), scorer, augmenter, threads, job, "evaluate",
      [&](std::int64_t user, UserQuery& room) {
        if (ranks[static_cast<std::size_t>(user)] != 0) return false;  // settled
        room.query = NextItemQuery{};
        room.query.history = data.history(user);
        room.query.target = data.answer(user);
        room.query.how = options.seen_as_zero ? Excluded::kZero : Excluded::kOut;
        excluded_items(room.query.history, scorer.rows(), options.exclude_seen,
                       options.seen_as_zero, room.excluded);
        room.query.excluded = room.excluded;
        return true;
      },
      [&](std::int64_t user, const RowReader& reader) {
        ranks[static_cast<std::size_t>(user)] = reader.rank();
      });
  return ranks;
}

metrics::RankingMetrics summary(const std::vector<std::int64_t>& ranks,
                                const RankingOptions& options) {
  metrics::RankingMetrics all(options.cutoffs);
  for (const std::int64_t rank : ranks) {
    if (rank != kNone) all.add(rank);
  }
  return all;
}

Json by_length(const MappedSequences& data, const std::vector<std::int64_t>& ranks,
               const RankingOptions& options) {
  struct Range {
    std::size_t first, last;
    const char* name;
  };
  static constexpr std::array<Range, 7> kRanges{{{1, 3, "1-3"},
                                                 {4, 4, "4"},
                                                 {5, 5, "5"},
                                                 {6, 9, "6-9"},
                                                 {10, 19, "10-19"},
                                                 {20, 50, "20-50"},
                                                 {51, SIZE_MAX, "51-"}}};
  Json list = Json::array();
  for (const Range& range : kRanges) {
    metrics::RankingMetrics some(options.cutoffs);
    for (std::int64_t user = 0; user < data.users(); ++user) {
      const std::int64_t rank = ranks[static_cast<std::size_t>(user)];
      const std::size_t n = data.history(user).size();
      if (rank != kNone && n >= range.first && n <= range.last) some.add(rank);
    }
    if (some.answers() == 0) continue;
    Json entry{{"length", range.name}, {"answers", some.answers()}};
    for (const auto& [name, value] : some.values()) entry[name] = value;
    list.push_back(std::move(entry));
  }
  return list;
}

}  // namespace theriac::sequence
