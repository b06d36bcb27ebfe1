#include "cpp/core/merge/methods/sparsify.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "cpp/core/base/random.h"
#include "cpp/core/merge/methods/methods.h"
#include "cpp/core/merge/methods/rounding.h"

namespace theriac::merge::methods {
namespace {

constexpr std::size_t kChunk = 512;
constexpr double kSmallestNorm = 1e-7;
constexpr double kWordRange = 0x1p32;

// n times a share, at least one; truncated as Python's int() does.
std::uint64_t share_of(double share, std::uint64_t n) {
  return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(share * static_cast<double>(n)));
}

// Ranks, from the largest down, between which elements are kept.
struct KeptRanks {
  std::uint64_t first = 0, last = 0;  // [first, last)
};
KeptRanks kept_ranks(double density, double gamma, std::uint64_t n) {
  if (n == 0) return {};
  const std::uint64_t keep = std::min(n, share_of(density, n));
  const auto largest = static_cast<std::uint64_t>(gamma * static_cast<double>(n));
  const std::uint64_t dropped = std::min(largest, n - keep);
  return {dropped, dropped + keep};
}

// Kept iff word < threshold.
std::uint64_t threshold_of(double probability) {
  return static_cast<std::uint64_t>(std::ceil(std::clamp(probability, 0.0, 1.0) * kWordRange));
}

}  // namespace

// Philox4x32-10 as in random.h, several blocks side by side.
void random_words(std::uint64_t key, std::uint64_t model, std::uint64_t first, std::size_t count,
                  std::uint32_t* words) {
  constexpr std::size_t kBlocks = 16, kBatch = 4 * kBlocks;
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  std::array<std::uint32_t, kBlocks> c0, c1, c2, c3;
  std::array<std::uint32_t, kBatch> batch;
  for (std::size_t done = 0; done < count;) {
    const std::uint64_t index = first + done;
    for (std::size_t l = 0; l < kBlocks; ++l) {
      const std::uint64_t block = index / 4 + l;
      c0[l] = static_cast<std::uint32_t>(block);
      c1[l] = static_cast<std::uint32_t>(block >> 32);
      c2[l] = static_cast<std::uint32_t>(model);
      c3[l] = static_cast<std::uint32_t>(model >> 32);
    }
    auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round, k0 += kWeyl0, k1 += kWeyl1) {
      for (std::size_t l = 0; l < kBlocks; ++l) {
        const std::uint64_t p0 = kMultiplier0 * c0[l], p1 = kMultiplier1 * c2[l];
        c0[l] = static_cast<std::uint32_t>(p1 >> 32) ^ c1[l] ^ k0;
        c1[l] = static_cast<std::uint32_t>(p1);
        c2[l] = static_cast<std::uint32_t>(p0 >> 32) ^ c3[l] ^ k1;
        c3[l] = static_cast<std::uint32_t>(p0);
      }
    }
    for (std::size_t l = 0; l < kBlocks; ++l) {
      batch[4 * l] = c0[l];
      batch[4 * l + 1] = c1[l];
      batch[4 * l + 2] = c2[l];
      batch[4 * l + 3] = c3[l];
    }
    const std::size_t skipped = index % 4, n = std::min(kBatch - skipped, count - done);
    std::copy_n(batch.data() + skipped, n, words + done);
    done += n;
  }
}

SparseDifference::SparseDifference(std::string_view method, const TensorContext& context,
                                   std::size_t model, Sparsifier sparsifier, Rescale rescale,
                                   bool keep_ties)
    : rescale_(rescale),
      accumulate_(context.accumulate),
      dtype_(context.dtype),
      model_(model),
      row_length_(context.row_length()) {
  const Parameters& own = *context.model_parameters[model];
  if (sparsifier == Sparsifier::kNone) return;
  density_ = own.number("density");
  epsilon_ = own.number_or("epsilon", 0);
  gamma_ = own.number_or("gamma", 0);
  if (density_ >= 1) return;
  kind_ = Kind::kNothing;
  if (!(density_ > 0) || context.elements() == 0) return;
  key_ = derive_seed(context.seed, context.name);
  model_key_ = model < context.model_keys.size() ? context.model_keys[model] : model;
  start(method, context, sparsifier, keep_ties);
  if (rescale_ == Rescale::kInverseDensity && kind_ != Kind::kRanked) {
    scale_ = static_cast<float>(1 / density_);
  }
}

void SparseDifference::start(std::string_view method, const TensorContext& context,
                             Sparsifier sparsifier, bool keep_ties) {
  if (sparsifier == Sparsifier::kRandom) {
    kind_ = Kind::kRandom;
  } else if (sparsifier == Sparsifier::kRanked) {
    start_ranked(method, context);
  } else if (sparsifier == Sparsifier::kMagnitude) {
    kind_ = Kind::kCut;
    cuts_.emplace_back(kept_ranks(density_, 0, context.elements()).last, keep_ties);
  } else if (context.parameters->flag("per_row")) {
    kind_ = Kind::kRowCut;
    granularity_ = Granularity::kRows;
  } else {
    kind_ = Kind::kCut;
    const KeptRanks ranks = kept_ranks(density_, gamma_, context.elements());
    cuts_.emplace_back(ranks.last);
    cuts_.emplace_back(ranks.first);
  }
}

// Rows are all dimensions but the first, so that a filter of a convolution is one.
void SparseDifference::start_ranked(std::string_view method, const TensorContext& context) {
  kind_ = Kind::kRanked;
  if (!(density_ - epsilon_ > 0) || !(density_ + epsilon_ < 1)) {
    refuse(Code::kInvalidArgument, method, context, "epsilon",
           "density " + std::to_string(density_) + " and epsilon " + std::to_string(epsilon_) +
               " make probabilities outside 0 to 1; expected epsilon below density and below "
               "1 - density");
  }
  granularity_ = context.shape.size() > 2 ? Granularity::kTensor : Granularity::kRows;
  if (context.shape.size() > 1) row_length_ = context.elements() / context.shape[0];
}

bool SparseDifference::needs_norms() const noexcept {
  return kind_ != Kind::kAll && kind_ != Kind::kNothing && rescale_ != Rescale::kNone &&
         rescale_ != Rescale::kInverseDensity;
}

void SparseDifference::differences(const Block& block, std::size_t first, std::size_t count,
                                   float* out) const {
  const float* base = block.base + first;
  const float* model = block.models[model_] + first;
  with_rounding(accumulate_, dtype_, [&](auto r) {
    for (std::size_t i = 0; i < count; ++i) out[i] = r.round(model[i] - base[i]);
  });
}

// ---- passes ------------------------------------------------------------------------------------

SparseDifference::Counts SparseDifference::observe_keys(int pass, const Block& block) const {
  Counts out;
  with_rounding(accumulate_, dtype_, [&](auto r) {
    const float* base = block.base;
    const float* model = block.models[model_];
    const auto key = [&](std::size_t i) { return magnitude_key(r.round(model[i] - base[i])); };
    if (pass == 0) {
      out.keys.push_back(count_upper_halves(block.count, key));
    } else {
      for (const LargestElements& cut : cuts_) {
        out.keys.push_back(count_lower_halves(block.count, cut.upper(), key));
      }
    }
  });
  return out;
}

void SparseDifference::end_keys(int pass, std::span<const std::uint64_t> firsts,
                                std::span<const Counts* const> blocks) {
  for (std::size_t c = 0; c < cuts_.size(); ++c) {
    if (pass == 0) {
      std::vector<const KeyCounts*> counts;
      for (const Counts* block : blocks) counts.push_back(&block->keys[0]);
      cuts_[c].end_first_pass(counts);
    } else {
      std::vector<LargestElements::BlockCounts> counts;
      for (std::size_t b = 0; b < blocks.size(); ++b) {
        counts.push_back({firsts[b], &blocks[b]->keys[c]});
      }
      cuts_[c].end_second_pass(counts);
    }
  }
}

SparseDifference::Counts SparseDifference::observe_norms(const Block& block) const {
  Counts out;
  ExactSum before, after;
  const Mask kept = mask(block);
  std::array<float, kChunk> all, some;
  for (std::size_t first = 0; first < block.count; first += kChunk) {
    const std::size_t n = std::min(kChunk, block.count - first);
    differences(block, first, n, all.data());
    std::copy_n(all.data(), n, some.data());
    kept.apply(first, n, some.data());
    for (std::size_t i = 0; i < n; ++i) {
      if (rescale_ == Rescale::kL1) {
        before.add_magnitude(all[i]);
        after.add_magnitude(some[i]);
      } else if (rescale_ == Rescale::kL2) {
        before.add_product(all[i], all[i]);
        after.add_product(some[i], some[i]);
      } else {
        out.largest_before = std::max(out.largest_before, std::fabs(all[i]));
        out.largest_after = std::max(out.largest_after, std::fabs(some[i]));
      }
    }
  }
  out.before = before.terms();
  out.after = after.terms();
  return out;
}

void SparseDifference::end_norms(std::span<const Counts* const> blocks) {
  ExactSum before, after;
  double largest_before = 0, largest_after = 0;
  for (const Counts* block : blocks) {
    before.add(block->before);
    after.add(block->after);
    largest_before = std::max(largest_before, static_cast<double>(block->largest_before));
    largest_after = std::max(largest_after, static_cast<double>(block->largest_after));
  }
  double whole = before.value(), kept = after.value();
  if (rescale_ == Rescale::kL2) whole = std::sqrt(whole), kept = std::sqrt(kept);
  if (rescale_ == Rescale::kLinf) whole = largest_before, kept = largest_after;
  with_rounding(accumulate_, dtype_, [&](auto r) {
    if (accumulate_ == Accumulate::kNative) {
      whole = static_cast<double>(r.round(static_cast<float>(whole)));
      kept = static_cast<double>(r.round(static_cast<float>(kept)));
    }
    if (whole < kSmallestNorm || kept < kSmallestNorm) return;
    scale_ = r.round(static_cast<float>(whole / kept));
  });
}

// ---- masks -------------------------------------------------------------------------------------

SparseDifference::Mask SparseDifference::mask(const Block& block) const {
  Mask out;
  out.owner_ = this;
  out.block_first_ = block.first;
  if (kind_ == Kind::kCut) {
    with_rounding(accumulate_, dtype_, [&](auto r) {
      const float* base = block.base;
      const float* model = block.models[model_];
      const auto key = [&](std::size_t i) { return magnitude_key(r.round(model[i] - base[i])); };
      for (const LargestElements& cut : cuts_) {
        out.limits_.push_back(cut.tie_limit(block.first, block.count, key));
      }
    });
  } else if (kind_ == Kind::kRowCut || kind_ == Kind::kRanked) {
    row_factors(block, out.factors_);
  }
  return out;
}

void SparseDifference::Mask::apply(std::size_t first, std::size_t count, float* values) const {
  switch (owner_->kind_) {
    case Kind::kAll:
      return;
    case Kind::kNothing:
      std::fill(values, values + count, 0.0F);
      return;
    case Kind::kCut: {
      const LargestElements::Chunk kept =
          owner_->cuts_.front().chunk(first, count, limits_.front());
      const LargestElements::Chunk dropped =
          owner_->cuts_.back().chunk(first, count, limits_.back());
      const std::uint32_t drops = mask_of(owner_->is_dropping_largest());
      const auto n = static_cast<std::uint32_t>(count);
      for (std::uint32_t i = 0; i < n; ++i) {
        const std::uint32_t key = magnitude_key(values[i]);
        const std::uint32_t out = mask_of(dropped.contains(key, i)) & drops;
        values[i] = masked(values[i], mask_of(kept.contains(key, i)) & ~out);
      }
      return;
    }
    case Kind::kRandom: {
      const auto last = static_cast<std::uint32_t>(threshold_of(owner_->density_) - 1);
      std::array<std::uint32_t, kChunk> words;
      for (std::size_t done = 0; done < count; done += kChunk) {
        const std::size_t n = std::min(kChunk, count - done);
        random_words(owner_->key_, owner_->model_key_, block_first_ + first + done, n,
                     words.data());
        for (std::size_t i = 0; i < n; ++i) {
          values[done + i] = masked(values[done + i], mask_of(words[i] <= last));
        }
      }
      return;
    }
    case Kind::kRowCut:
    case Kind::kRanked:
      for (std::size_t i = 0; i < count; ++i) {
        const float factor = factors_[first + i];
        values[i] = masked(values[i] * factor, mask_of(factor != 0));
      }
      return;
  }
}

void SparseDifference::row_factors(const Block& block, std::vector<float>& factors) const {
  factors.assign(block.count, 0.0F);
  const std::size_t length = std::min<std::size_t>(row_length_, block.count);
  std::vector<float> row(length);
  std::vector<std::uint32_t> keys(length), words(length);
  std::vector<std::uint64_t> order, scratch;
  for (std::size_t first = 0; first < block.count; first += length) {
    differences(block, first, length, row.data());
    std::transform(row.begin(), row.end(), keys.begin(), magnitude_key);
    descending_order(keys, order, scratch);
    if (kind_ == Kind::kRowCut) {
      cut_row(order, factors.data() + first);
    } else {
      random_words(key_, model_key_, block.first + first, length, words.data());
      draw_row(order, words, factors.data() + first);
    }
  }
}

void SparseDifference::cut_row(std::span<const std::uint64_t> order, float* factors) const {
  const KeptRanks ranks = kept_ranks(density_, gamma_, order.size());
  for (std::uint64_t r = ranks.first; r < ranks.last; ++r) factors[order[r] & 0xffffffffU] = 1;
}

// Ascending rank r = 1..n has the probability d - e + 2 e (r - 1) / (n - 1); a single element, d.
void SparseDifference::draw_row(std::span<const std::uint64_t> order,
                                std::span<const std::uint32_t> words, float* factors) const {
  const std::size_t n = order.size();
  for (std::size_t r = 0; r < n; ++r) {
    const std::size_t i = order[r] & 0xffffffffU;
    const double u = n == 1 ? 0.5 : static_cast<double>(n - 1 - r) / static_cast<double>(n - 1);
    const double p = density_ - epsilon_ + 2 * epsilon_ * u;
    const float factor = rescale_ == Rescale::kInverseDensity ? static_cast<float>(1 / p) : 1.0F;
    factors[i] = words[i] < threshold_of(p) ? factor : 0.0F;
  }
}

}  // namespace theriac::merge::methods
