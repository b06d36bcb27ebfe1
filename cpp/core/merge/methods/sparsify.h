// Sparsifiers: which elements of a model's difference from the base are kept, and what the kept
// ones are multiplied by.
//
//   magnitude   the int(d n) largest, at least one: Yadav et al., "TIES-merging", arXiv 2306.01708
//   random      each with probability d: Yu et al., "DARE", arXiv 2311.03099
//   outliers    drops the int(gamma n) largest, then keeps the int(d n) largest of the rest:
//               Davari & Belilovsky, "Model Breadcrumbs", arXiv 2312.06795
//   ranked      random, the probability rising from d - epsilon to d + epsilon with the rank of the
//               magnitude in its row: Deep et al., "DELLA-Merging", arXiv 2406.11617
//
// d >= 1 keeps everything as it is, d <= 0 nothing.
//
// A random element is kept where its 40-bit number is below d 2^40, i being its index in the tensor:
// the upper 8 bits are byte i % 16 of Philox block i / 16, the others word i % 4 of block i / 4, of
// which one in 256 is needed. The key is derived from (seed, tensor name); counter words 2 and 3 hold
// the model's key, with the topmost bit set for the bytes. A ranked one is kept where the word alone is
// below its own probability times 2^32.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "cpp/core/merge/method.h"
#include "cpp/core/merge/methods/loops.h"
#include "cpp/core/merge/methods/order_statistics.h"

namespace theriac::merge::methods {

enum class Sparsifier { kNone, kMagnitude, kRandom, kOutliers, kRanked };
// What the kept elements are scaled to: the norm of all, or their expectation.
enum class Rescale { kNone, kL1, kL2, kLinf, kInverseDensity };

// Words of the draws of elements first, first + 1, ... of a tensor.
void random_words(std::uint64_t key, std::uint64_t model, std::uint64_t first, std::size_t count,
                  std::uint32_t* words);

class GlobalTrim;

// One model's sparsifier for one tensor. Observing and masking are const and may run on several
// threads at once.
class SparseDifference {
 public:
  // Throws kInvalidArgument for parameters that make no probability. `global`: what knows which
  // elements are kept by magnitude, where that is decided for the whole model; it outlives this.
  SparseDifference(std::string_view method, const TensorContext& context, std::size_t model,
                   Sparsifier sparsifier, Rescale rescale, bool keep_ties,
                   const GlobalTrim* global = nullptr);

  // What a block contributes to one pass.
  struct Counts {
    std::uint64_t first = 0;          // index of the block's first element
    std::vector<KeyCounts> keys;      // one a cut
    std::vector<std::uint8_t> drawn;  // a bit an element, where it is kept for the output
    double before = 0, after = 0;     // sums of |d| or d^2
    float largest_before = 0, largest_after = 0;
  };

  Granularity granularity() const noexcept { return granularity_; }
  // Passes over keys come first; the pass over norms follows those of all models.
  bool is_ranked() const noexcept { return !cuts_.empty(); }
  bool needs_norms() const noexcept;

  Counts observe_keys(int pass, const Block& block) const;
  void end_keys(int pass, std::span<const std::uint64_t> firsts,
                std::span<const Counts* const> blocks);
  Counts observe_norms(const Block& block) const;
  // Takes what the blocks have drawn.
  void end_norms(std::span<Counts* const> blocks);

  // The mask of one block: made once, then asked chunk by chunk.
  class Mask {
   public:
    // Of elements first ... first + count of the block. Zeroes what is dropped among `values`, and
    // scales the rest where the scale differs between elements.
    void apply(std::size_t first, std::size_t count, float* values) const;

   private:
    friend class SparseDifference;
    template <class Body>
    void for_bits(std::size_t first, std::size_t count, const Body& body) const;
    const SparseDifference* owner_ = nullptr;
    std::uint64_t block_first_ = 0;
    std::vector<std::size_t> limits_;      // one a cut
    const std::uint8_t* drawn_ = nullptr;  // a bit an element, if it is known
    std::vector<float> factors_;           // one an element: of sparsifiers that look at whole rows
  };
  Mask mask(const Block& block) const;
  // `count` differences from element `first` of the block on, what is dropped zeroed and the rest scaled.
  void kept(const Block& block, const Mask& mask, std::size_t first, std::size_t count,
            float* out) const;
  // Bytes kept from the pass over norms for the output.
  std::uint64_t kept() const noexcept { return kept_; }
  bool drops_nothing() const noexcept { return kind_ == Kind::kAll; }

  // `count` differences of the model from the base, from element `first` of the block on.
  void differences(const Block& block, std::size_t first, std::size_t count, float* out) const;

 private:
  enum class Kind { kAll, kNothing, kCut, kGlobalCut, kRowCut, kRandom, kRanked };

  template <class Body>
  void for_keys(const Block& block, const Body& body) const;
  void start(std::string_view method, const TensorContext& context, Sparsifier sparsifier,
             bool keep_ties);
  void draw(std::uint64_t first, std::size_t count, std::uint8_t* bits) const;
  void start_ranked(std::string_view method, const TensorContext& context);
  void row_factors(const Block& block, std::vector<float>& factors) const;
  void cut_row(std::span<const std::uint64_t> order, float* factors) const;
  void draw_row(std::span<const std::uint64_t> order, std::span<const std::uint32_t> words,
                float* factors) const;
  bool is_dropping_largest() const noexcept { return cuts_.size() == 2; }

  Kind kind_ = Kind::kAll;
  Rescale rescale_;
  Granularity granularity_ = Granularity::kElements;
  Accumulate accumulate_;
  tensorfile::DType dtype_;
  loops::Rounding rounding_;
  std::size_t model_, tensor_, task_ = 0;
  const GlobalTrim* global_;
  std::uint64_t row_length_ = 1;
  double density_ = 1;
  double epsilon_ = 0;
  double gamma_ = 0;
  std::uint64_t key_ = 0, model_key_ = 0;
  // By rank in a row, from the largest: kept iff word < threshold, and then multiplied by.
  struct Chance {
    std::uint64_t threshold;
    float factor;
  };
  std::vector<Chance> chances_;
  bool keeps_drawn_ = false;
  std::uint64_t kept_ = 0;
  // Of each block: first element, and a bit an element. Drawn once for norms and output where it is small.
  std::vector<std::pair<std::uint64_t, std::vector<std::uint8_t>>> drawn_;
  std::vector<LargestElements> cuts_;  // what is kept; then, where there are two, what of it is not
  float scale_ = 1;
};

}  // namespace theriac::merge::methods
