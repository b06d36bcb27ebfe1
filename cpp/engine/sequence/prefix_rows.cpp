#include "cpp/engine/sequence/prefix_rows.h"

namespace theriac::sequence {

// The bucket of a key: 0 in it where there is no such row yet.
std::uint32_t* PrefixRows::bucket_of(std::uint64_t key) {
  const std::size_t mask = buckets_.size() - 1;
  std::size_t b = (key * 0x9e3779b97f4a7c15U) >> 32U & mask;
  while (buckets_[b] != 0 && keys_[buckets_[b] - 1] != key) b = (b + 1) & mask;
  return &buckets_[b];
}

void PrefixRows::build(const HistoryBatch& batch, std::size_t first, std::size_t last,
                       std::size_t slots) {
  const bool shared = batch.marks.empty() && batch.noise.empty();
  first_ = first;
  offsets_ = batch.offsets.subspan(first);
  const std::size_t begin = batch.offsets[first], tokens = batch.offsets[last] - begin;
  row_of_.resize(tokens);
  rows_.clear();
  keys_.clear();
  first_own_.clear();
  std::size_t buckets = 64;
  while (buckets < 2 * tokens) buckets *= 2;
  buckets_.assign(shared ? buckets : 0, 0);
  for (std::size_t s = first, t = 0; s < last; ++s) {
    const std::size_t n = batch.length(s);
    std::uint64_t before = n;  // a row before it, or the length of a sequence that begins
    bool old = shared;
    std::size_t own = n;
    for (std::size_t i = 0; i < n; ++i, ++t) {
      const std::uint64_t key = before << 32U | static_cast<std::uint32_t>(batch.ids[begin + t]);
      std::uint32_t* bucket = shared ? bucket_of(key) : nullptr;
      if (old && *bucket != 0) {
        row_of_[t] = *bucket - 1;
      } else {
        if (own == n) own = i;
        old = false;
        row_of_[t] = static_cast<std::uint32_t>(rows_.size());
        rows_.push_back({s, i});
        keys_.push_back(key);
        if (shared) *bucket = static_cast<std::uint32_t>(rows_.size());
      }
      before = slots + 1 + row_of_[t];
    }
    first_own_.push_back(own);
  }
}

}  // namespace theriac::sequence
