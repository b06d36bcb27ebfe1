// Metrics of a ranking with one right answer (sequential-tta.md section 5), from the answer's rank.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace theriac::metrics {

// Hit ratio HR@K (recall with one answer), NDCG@K = 1 / log2(rank + 2) and reciprocal rank, averaged
// over answers. Ranks are 0-based: how many candidates are ranked above the answer. Not synchronised;
// sums are exact in any order of `add` and `merge`: ranks are counted, not added up.
class RankingMetrics {
 public:
  // Cut-offs 1 ... 10,000, at least one; kept sorted, each once. Throws kInvalidArgument.
  explicit RankingMetrics(std::vector<std::int64_t> cutoffs);
  void add(std::int64_t rank);  // a negative rank is an answer that cannot be ranked: a miss
  void merge(const RankingMetrics& other);  // of the same cut-offs

  std::int64_t answers() const noexcept { return answers_; }
  std::int64_t hits(std::int64_t cutoff) const;
  // {"hr@5", "ndcg@5", ..., "mrr@K" of the largest cut-off}; 0 without answers.
  std::map<std::string, double> values() const;

 private:
  std::vector<std::int64_t> cutoffs_;
  std::vector<std::int64_t> counts_;  // [largest cut-off] answers by rank
  std::int64_t answers_ = 0;
};

}  // namespace theriac::metrics
