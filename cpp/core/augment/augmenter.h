// Test-time augmentation: copies of a history whose predictions are averaged.
//
// Copies of a user depend on (seed, key, copy, history) alone, never on other users, on threads or on
// the order of calls; the same seed gives the same ids on every platform. An operator works on the whole
// history; who predicts cuts the copies to what the model takes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cpp/core/augment/operators.h"
#include "cpp/core/augment/similarity_table.h"
#include "cpp/core/base/options.h"

namespace theriac::augment {

struct AugmenterOptions {
  std::string op = "tmask_r";
  double ratio = 0.5;
  double ratio_high = 0;  // above `ratio`: each copy draws its own between the two
  std::int64_t copies = 10;
  std::int64_t window = 4;
  std::int64_t inserts = 1;
  std::int64_t mask_id = 0;
  std::int64_t min_changes = 0;
  double original_weight = 0;
  bool protect_last = false;
  std::int64_t exhaustive = 0;
  bool dedup = true;
  std::int64_t min_length = 1, max_length = 0;
  std::int64_t seed = 0;
  bool coserec_start = false;
  std::string mask_as = "id";    // tmask_b: id | zero | block
  std::string similar = "host";  // host | dot | cosine | item_cf | item_cf_iuf | hybrid
  std::int64_t input_copies = 7, output_copies = 5;  // tnoise
  double noise_low = 0.5, noise_high = 1;            // of embedded items
  double output_low = 0.5, output_high = 1;          // of user vectors
  bool expected_noise = false;
  double shift = 0;
  static const OptionTable<AugmenterOptions>& table();
};

// What a copy asks of a model for one of its ids. A blocked step is neither read nor what the user's
// vector is read from; a zero one is read as a vector of zeros and not attended to.
enum class Mark : std::uint8_t { kNone = 0, kBlocked = 1, kZero = 2 };

// Uniform noise on [low, high), reproducible: one stream for (seed, key, copy, token), or for the whole
// vector of a user. None where high == low.
struct Noise {
  double low = 0, high = 0;
  std::uint64_t seed = 0, key = 0, copy = 0;
  // x[c] += noise of token `token`.
  void add_to(std::span<float> x, std::size_t token) const;
};

// Ragged: copy c is ids[offsets[c]] ... ids[offsets[c + 1] - 1]. Weights sum to 1. What is below needs a
// model to carry it out; it is empty or 0 for operators on ids alone.
struct Copies {
  std::vector<std::size_t> offsets{0};
  Ids ids;
  std::vector<double> weights;

  std::vector<std::uint8_t> marks;  // [ids] values of Mark, or empty
  std::vector<Noise> noise;         // [copies] on embedded items, or empty
  // On the mean of the copies' user vectors: of each of these, once, this share ...
  std::vector<Noise> output_noise;
  double output_share = 0;
  double shift = 0;  // ... and this number, on every dimension

  std::size_t size() const noexcept { return weights.size(); }
  IdSpan copy(std::size_t c) const noexcept {
    return IdSpan(ids).subspan(offsets[c], offsets[c + 1] - offsets[c]);
  }
};

// Immutable; any number of threads may call it.
class Augmenter {
 public:
  // `items`: ids are 1 ... items; 0 if it is not known, and then nothing is checked against it.
  // `similar`: needed by substitute and insert. Throws kInvalidArgument naming the option.
  explicit Augmenter(AugmenterOptions options, std::int32_t items = 0,
                     std::shared_ptr<const SimilarityTable> similar = nullptr);

  const AugmenterOptions& options() const noexcept { return options_; }
  // Whether copies ask for more than other ids.
  bool marks_items() const noexcept;
  bool adds_noise() const noexcept;
  bool shifts() const noexcept { return options_.shift != 0 || adds_noise(); }
  // Whether the table of similar items must come from a model (option similar) and has not yet.
  bool wants_table() const noexcept;
  // The same with that table.
  Augmenter with_table(std::shared_ptr<const SimilarityTable> similar) const;
  // Throws kInvalidArgument for an empty history or ids outside, kInvalidState while it wants a table.
  // With the key of the history itself where the caller has no name for the user.
  Copies apply(IdSpan history, std::optional<std::uint64_t> key = std::nullopt) const;

 private:
  class Draws;
  enum class Op {
    kCrop,
    kReorder,
    kWindow,
    kMask,
    kSubstitute,
    kInsert,
    kRemove,
    kNoise,
    kOriginal
  };

  void check(IdSpan history) const;
  std::size_t changes(double ratio, std::size_t length) const;
  std::size_t changeable(std::size_t length) const;
  std::size_t start(std::size_t run, std::size_t length, Draws& draws) const;
  Ids one(IdSpan history, Draws& draws) const;
  Ids substituted(IdSpan history, const Positions& positions, Draws& draws) const;
  Ids with_insertions(IdSpan history, const Positions& positions, Draws& draws) const;
  bool enumerate(IdSpan history, std::vector<Ids>& out) const;
  void mark(Copies& copies) const;
  Copies with_noise(IdSpan history, std::uint64_t key) const;

  AugmenterOptions options_;
  Op op_;
  std::int32_t items_;
  std::shared_ptr<const SimilarityTable> similar_;
};

}  // namespace theriac::augment
