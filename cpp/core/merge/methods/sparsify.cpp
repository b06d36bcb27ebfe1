#include "cpp/core/merge/methods/sparsify.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "cpp/core/base/random.h"
#include "cpp/core/merge/methods/global_trim.h"
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

std::uint32_t random_word(std::uint64_t key, std::uint64_t model, std::uint64_t index) {
  const std::uint64_t block = index / 4;
  return philox4x32(
      {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
       static_cast<std::uint32_t>(model), static_cast<std::uint32_t>(model >> 32)},
      {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)})[index % 4];
}

}  // namespace

void random_words(std::uint64_t key, std::uint64_t model, std::uint64_t first, std::size_t count,
                  std::uint32_t* words) {
  loops::philox(key, model, first, count, words);
}

SparseDifference::SparseDifference(std::string_view method, const TensorContext& context,
                                   std::size_t model, Sparsifier sparsifier, Rescale rescale,
                                   bool keep_ties, const GlobalTrim* global)
    : rescale_(rescale),
      accumulate_(context.accumulate),
      dtype_(context.dtype),
      rounding_(loops::rounding_of(context.accumulate, context.dtype)),
      model_(model),
      tensor_(context.index),
      global_(global),
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
  task_ = model < context.model_tasks.size() ? context.model_tasks[model] : model;
  start(method, context, sparsifier, keep_ties);
  if (rescale_ == Rescale::kInverseDensity && kind_ != Kind::kRanked) {
    scale_ = static_cast<float>(1 / density_);
  }
}

void SparseDifference::start(std::string_view method, const TensorContext& context,
                             Sparsifier sparsifier, bool keep_ties) {
  if (sparsifier == Sparsifier::kRandom) {
    kind_ = Kind::kRandom;
    const std::uint64_t bytes = (context.elements() / 8 + 1) * context.models();
    keeps_drawn_ = bytes <= context.keepable && needs_norms();
    kept_ = keeps_drawn_ ? bytes / context.models() : 0;
  } else if (sparsifier == Sparsifier::kRanked) {
    start_ranked(method, context);
  } else if (sparsifier == Sparsifier::kMagnitude && global_ != nullptr) {
    kind_ = Kind::kGlobalCut;
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
  // Ascending rank r = 1..n has the probability d - e + 2 e (r - 1) / (n - 1); a single element, d.
  const std::uint64_t n = row_length_;
  chances_.reserve(n);
  for (std::uint64_t r = 0; r < n; ++r) {
    const double u = n == 1 ? 0.5 : static_cast<double>(n - 1 - r) / static_cast<double>(n - 1);
    const double p = density_ - epsilon_ + 2 * epsilon_ * u;
    const float factor = rescale_ == Rescale::kInverseDensity ? static_cast<float>(1 / p) : 1.0F;
    chances_.push_back({threshold_of(p), factor});
  }
}

bool SparseDifference::needs_norms() const noexcept {
  return kind_ != Kind::kAll && kind_ != Kind::kNothing && rescale_ != Rescale::kNone &&
         rescale_ != Rescale::kInverseDensity;
}

void SparseDifference::differences(const Block& block, std::size_t first, std::size_t count,
                                   float* out) const {
  loops::subtract(rounding_, block.models[model_] + first, block.base + first, count, out);
}

// ---- passes ------------------------------------------------------------------------------------

SparseDifference::Counts SparseDifference::observe_keys(int pass, const Block& block) const {
  Counts out;
  if (pass == 0) {
    HalfCounter counter;
    for_keys(block,
             [&](const std::uint32_t* keys, std::size_t n) { counter.add_upper_halves(keys, n); });
    out.keys.push_back(counter.take());
    return out;
  }
  std::array<std::uint16_t, kChunk> halves;
  for (const LargestElements& cut : cuts_) {
    HalfCounter counter;
    for_keys(block, [&](const std::uint32_t* keys, std::size_t n) {
      counter.add(halves.data(), loops::lower_halves(keys, cut.upper(), n, halves.data()));
    });
    out.keys.push_back(counter.take());
  }
  return out;
}

// Calls body(keys, n) chunk by chunk.
template <class Body>
void SparseDifference::for_keys(const Block& block, const Body& body) const {
  std::array<std::uint32_t, kChunk> keys;
  for (std::size_t first = 0; first < block.count; first += kChunk) {
    const std::size_t n = std::min(kChunk, block.count - first);
    loops::difference_keys(rounding_, block.models[model_] + first, block.base + first, n,
                           keys.data());
    body(keys.data(), n);
  }
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
  constexpr std::size_t kSums = 8;
  Counts out;
  out.first = block.first;
  std::array<double, kSums> before{}, after{};
  const Mask kept = mask(block);
  std::array<float, kChunk> all, some;
  const bool draws = kind_ == Kind::kRandom;
  out.drawn.resize(draws && keeps_drawn_ ? (block.count + 7) / 8 : 0);
  std::array<std::uint8_t, kChunk / 8> bits;
  for (std::size_t first = 0; first < block.count; first += kChunk) {
    const std::size_t n = std::min(kChunk, block.count - first);
    std::uint8_t* const drawn = out.drawn.empty() ? bits.data() : out.drawn.data() + first / 8;
    if (draws) draw(block.first + first, n, drawn);
    if (draws && rescale_ == Rescale::kL1) {
      loops::add_magnitudes(rounding_, block.models[model_] + first, block.base + first, drawn, n,
                            before.data(), after.data());
      continue;
    }
    differences(block, first, n, all.data());
    std::copy_n(all.data(), n, some.data());
    if (draws) {
      loops::keep(drawn, n, some.data(), some.data());
    } else {
      kept.apply(first, n, some.data());
    }
    for (std::size_t i = 0; i < n; ++i) {
      const auto x = static_cast<double>(std::fabs(all[i]));
      const auto y = static_cast<double>(std::fabs(some[i]));
      if (rescale_ == Rescale::kLinf) {
        out.largest_before = std::max(out.largest_before, std::fabs(all[i]));
        out.largest_after = std::max(out.largest_after, std::fabs(some[i]));
      } else {
        before[i % kSums] += rescale_ == Rescale::kL1 ? x : x * x;
        after[i % kSums] += rescale_ == Rescale::kL1 ? y : y * y;
      }
    }
  }
  out.before = std::accumulate(before.begin(), before.end(), 0.0);
  out.after = std::accumulate(after.begin(), after.end(), 0.0);
  return out;
}

void SparseDifference::end_norms(std::span<Counts* const> blocks) {
  double whole = 0, kept = 0, largest_before = 0, largest_after = 0;
  for (Counts* block : blocks) {
    if (!block->drawn.empty()) drawn_.emplace_back(block->first, std::move(block->drawn));
    whole += block->before;
    kept += block->after;
    largest_before = std::max(largest_before, static_cast<double>(block->largest_before));
    largest_after = std::max(largest_after, static_cast<double>(block->largest_after));
  }
  if (rescale_ == Rescale::kL2) whole = std::sqrt(whole), kept = std::sqrt(kept);
  if (rescale_ == Rescale::kLinf) whole = largest_before, kept = largest_after;
  // mergekit draws masks of float16 in float32, and rounds nothing until they are applied.
  const bool random = kind_ == Kind::kRandom || kind_ == Kind::kRanked;
  const bool wide = random && dtype_ == tensorfile::DType::kF16;
  with_rounding(accumulate_, wide ? tensorfile::DType::kF32 : dtype_, [&](auto r) {
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
  } else if (kind_ == Kind::kGlobalCut) {
    with_rounding(accumulate_, dtype_, [&](auto r) {
      const auto key = [&](std::size_t i) {
        return magnitude_key(r.round(block.models[model_][i] - block.base[i]));
      };
      out.limits_.push_back(tie_limit_of(
          global_->key(task_), global_->ties_left(task_, tensor_, block.first), block.count, key));
    });
  } else if (kind_ == Kind::kRowCut || kind_ == Kind::kRanked) {
    row_factors(block, out.factors_);
  } else if (kind_ == Kind::kRandom) {
    const auto found = std::lower_bound(
        drawn_.begin(), drawn_.end(), block.first,
        [](const auto& entry, std::uint64_t first) { return entry.first < first; });
    const bool known = found != drawn_.end() && found->first == block.first;
    if (known && 8 * found->second.size() >= block.count) out.drawn_ = found->second.data();
  }
  return out;
}

// Calls body(offset, n, bits) for runs of at most kChunk elements from element `first` of the block on.
template <class Body>
void SparseDifference::Mask::for_bits(std::size_t first, std::size_t count,
                                      const Body& body) const {
  std::array<std::uint8_t, kChunk / 8> bits;
  for (std::size_t done = 0; done < count; done += kChunk) {
    const std::size_t n = std::min(kChunk, count - done);
    if (drawn_ == nullptr) owner_->draw(block_first_ + first + done, n, bits.data());
    body(done, n, drawn_ == nullptr ? bits.data() : drawn_ + (first + done) / 8);
  }
}

void SparseDifference::kept(const Block& block, const Mask& mask, std::size_t first,
                            std::size_t count, float* out) const {
  if (kind_ == Kind::kRandom) {
    return mask.for_bits(first, count,
                         [&](std::size_t at, std::size_t n, const std::uint8_t* bits) {
                           const std::size_t from = first + at;
                           loops::kept_differences(rounding_, block.models[model_] + from,
                                                   block.base + from, bits, scale_, n, out + at);
                         });
  }
  differences(block, first, count, out);
  mask.apply(first, count, out);
  if (scale_ != 1) loops::multiply(rounding_, scale_, count, out);
}

void SparseDifference::Mask::apply(std::size_t first, std::size_t count, float* values) const {
  switch (owner_->kind_) {
    case Kind::kAll:
      return;
    case Kind::kNothing:
      std::fill(values, values + count, 0.0F);
      return;
    case Kind::kCut: {
      const loops::Cut kept = owner_->cuts_.front().chunk(first, count, limits_.front());
      const loops::Cut dropped = owner_->cuts_.back().chunk(first, count, limits_.back());
      return loops::keep_largest(kept, owner_->is_dropping_largest() ? &dropped : nullptr, count,
                                 values);
    }
    case Kind::kGlobalCut: {
      const std::uint32_t threshold = owner_->global_->key(owner_->task_);
      const auto kept = LargestElements::chunk_of(threshold, first, count, limits_.front());
      loops::keep_largest(kept, nullptr, count, values);
      return;
    }
    case Kind::kRandom:
      return for_bits(first, count, [&](std::size_t at, std::size_t n, const std::uint8_t* bits) {
        loops::keep(bits, n, values + at, values + at);
      });
    case Kind::kRowCut:
    case Kind::kRanked:
      for (std::size_t i = 0; i < count; ++i) {
        const float factor = factors_[first + i];
        values[i] = masked(values[i] * factor, mask_of(factor != 0));
      }
      return;
  }
}

// `bits`: kChunk of them at most.
void SparseDifference::draw(std::uint64_t first, std::size_t count, std::uint8_t* bits) const {
  constexpr std::uint64_t kOfBytes = std::uint64_t{1} << 63;
  const auto threshold = static_cast<std::uint64_t>(std::ceil(density_ * 0x1p40));
  if (threshold >> 40 != 0) return static_cast<void>(std::fill_n(bits, (count + 7) / 8, 0xff));
  std::array<std::uint32_t, kChunk / 4 + 1> drawn;
  std::array<std::uint32_t, kChunk> undecided;
  const std::size_t skipped = first % 4;
  random_words(key_, model_key_ | kOfBytes, first / 4, (skipped + count + 3) / 4, drawn.data());
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(drawn.data()) + skipped;
  const std::uint64_t rest = threshold & 0xffffffffU;
  if (rest == 0) {  // a density of so many 256ths: nothing depends on a second draw
    const auto last = static_cast<std::uint8_t>((threshold >> 32) - 1);
    loops::draw(bytes, last, count, bits, undecided.data());
    return;
  }
  const std::size_t found =
      loops::draw(bytes, static_cast<std::uint8_t>(threshold >> 32), count, bits, undecided.data());
  for (std::size_t u = 0; u < found; ++u) {
    const std::size_t i = undecided[u];
    if (random_word(key_, model_key_, first + i) < rest) continue;
    bits[i / 8] = static_cast<std::uint8_t>(bits[i / 8] & ~(1U << (i % 8)));
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

void SparseDifference::draw_row(std::span<const std::uint64_t> order,
                                std::span<const std::uint32_t> words, float* factors) const {
  for (std::size_t r = 0; r < order.size(); ++r) {
    const std::size_t i = order[r] & 0xffffffffU;
    factors[i] = masked(chances_[r].factor, mask_of(words[i] < chances_[r].threshold));
  }
}

}  // namespace theriac::merge::methods
