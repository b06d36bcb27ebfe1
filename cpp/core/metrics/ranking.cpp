#include "cpp/core/metrics/ranking.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "cpp/core/base/error.h"

namespace theriac::metrics {
namespace {

constexpr std::int64_t kLargestCutoff = 10'000;

std::vector<std::int64_t> checked_cutoffs(std::vector<std::int64_t> cutoffs) {
  std::sort(cutoffs.begin(), cutoffs.end());
  cutoffs.erase(std::unique(cutoffs.begin(), cutoffs.end()), cutoffs.end());
  if (cutoffs.empty()) {
    throw Error(Code::kInvalidArgument, "no cut-off is given; expected at least one");
  }
  if (cutoffs.front() < 1 || cutoffs.back() > kLargestCutoff) {
    const std::int64_t bad = cutoffs.front() < 1 ? cutoffs.front() : cutoffs.back();
    throw Error(Code::kInvalidArgument, "a cut-off is " + std::to_string(bad) + "; expected 1 to " +
                                            std::to_string(kLargestCutoff));
  }
  return cutoffs;
}

double discounted_gain(std::size_t rank) { return 1 / std::log2(static_cast<double>(rank) + 2); }
double reciprocal_rank(std::size_t rank) { return 1 / (static_cast<double>(rank) + 1); }

// What the answers of each rank are worth together, always added up from the first rank on.
template <class Worth>
double sum_over_ranks(std::span<const std::int64_t> counts, Worth worth) {
  double sum = 0;
  for (std::size_t rank = 0; rank < counts.size(); ++rank)
    sum += static_cast<double>(counts[rank]) * worth(rank);
  return sum;
}

}  // namespace

RankingMetrics::RankingMetrics(std::vector<std::int64_t> cutoffs)
    : cutoffs_(checked_cutoffs(std::move(cutoffs))),
      counts_(static_cast<std::size_t>(cutoffs_.back())) {}

void RankingMetrics::add(std::int64_t rank) {
  ++answers_;
  if (rank >= 0 && rank < cutoffs_.back()) ++counts_[static_cast<std::size_t>(rank)];
}

void RankingMetrics::merge(const RankingMetrics& other) {
  if (other.cutoffs_ != cutoffs_) {
    throw Error(Code::kInvalidArgument, "ranking metrics of different cut-offs cannot be merged");
  }
  for (std::size_t rank = 0; rank < counts_.size(); ++rank) counts_[rank] += other.counts_[rank];
  answers_ += other.answers_;
}

std::int64_t RankingMetrics::hits(std::int64_t cutoff) const {
  if (cutoff < 1 || cutoff > cutoffs_.back()) {
    throw Error(Code::kInvalidArgument, "hits are known for cut-offs 1 to " +
                                            std::to_string(cutoffs_.back()) + ", not for " +
                                            std::to_string(cutoff));
  }
  return std::accumulate(counts_.begin(), counts_.begin() + static_cast<std::ptrdiff_t>(cutoff),
                         std::int64_t{0});
}

std::map<std::string, double> RankingMetrics::values() const {
  const auto mean = [&](double sum) {
    return answers_ == 0 ? 0.0 : sum / static_cast<double>(answers_);
  };
  std::map<std::string, double> out;
  for (const std::int64_t cutoff : cutoffs_) {
    const auto ranked = std::span(counts_).first(static_cast<std::size_t>(cutoff));
    const std::string at = "@" + std::to_string(cutoff);
    out["hr" + at] = mean(static_cast<double>(hits(cutoff)));
    out["ndcg" + at] = mean(sum_over_ranks(ranked, discounted_gain));
  }
  out["mrr@" + std::to_string(cutoffs_.back())] = mean(sum_over_ranks(counts_, reciprocal_rank));
  return out;
}

}  // namespace theriac::metrics
