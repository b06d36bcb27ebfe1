// The inner loops of the most used methods, over short runs of elements (a few hundred: everything stays
// in the first-level cache). Compiled once for each instruction set and chosen at run time; plain code
// that compilers turn into vector instructions. Results do not depend on the instruction set: no sum
// over elements is reordered but in `add_magnitudes`, whose order is fixed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpp/core/merge/method.h"

namespace theriac::merge::methods::loops {

// After every operation: to nothing (float32), bfloat16, float16.
enum class Rounding { kNone, kBF16, kF16 };
Rounding rounding_of(Accumulate accumulate, tensorfile::DType dtype) noexcept;

// out = model - base
void subtract(Rounding rounding, const float* model, const float* base, std::size_t n, float* out);
// x = x * factor
void multiply(Rounding rounding, float factor, std::size_t n, float* x);

// keys = magnitude_key(model - base)
void difference_keys(Rounding rounding, const float* model, const float* base, std::size_t n,
                     std::uint32_t* keys);
// The lower halves of the keys whose upper half is `upper`, in their order; returns how many. `halves` has
// room for n.
std::size_t lower_halves(const std::uint32_t* keys, std::uint32_t upper, std::size_t n,
                         std::uint16_t* halves);

// Widens [smallest, largest] to the keys, those that are 0 left out.
struct KeyRange {
  std::uint32_t smallest = 0xffffffffU, largest = 0;
};
void widen(const std::uint32_t* keys, std::size_t n, KeyRange& range);
// The sums of two tables' entries that are not zero, into `indices` and `sums`; zeroes both tables. `n` is
// a multiple of 16. Returns how many.
std::size_t take_counts(std::uint32_t* a, std::uint32_t* b, std::size_t n, std::uint16_t* indices,
                        std::uint32_t* sums);

// What lies among the largest: above `key`, or equal to it at a position below `limit`.
struct Cut {
  std::uint32_t key, limit;
};
// Zeroes the elements outside `kept`, and those inside `dropped` if it is not nullptr.
void keep_largest(Cut kept, const Cut* dropped, std::size_t n, float* x);
// A bit an element, eight a byte from the lowest up: 1 where its byte is at most `last`. Returns how many
// bytes are equal to it, and their positions in `undecided`, which has room for n.
std::size_t draw(const std::uint8_t* bytes, std::uint8_t last, std::size_t n, std::uint8_t* bits,
                 std::uint32_t* undecided);
// out = x where the element's bit is 1, else 0. They may be the same.
void keep(const std::uint8_t* bits, std::size_t n, const float* x, float* out);

// Words i, i + 1, ... of the Philox4x32-10 stream of counters (block, model), four a block.
void philox(std::uint64_t key, std::uint64_t model, std::uint64_t first, std::size_t n,
            std::uint32_t* words);

// Adds up |model - base| in float64, of all elements and of those whose bit is 1: lane i % 8 of `all` and
// `kept`.
void add_magnitudes(Rounding rounding, const float* model, const float* base,
                    const std::uint8_t* bits, std::size_t n, double* all, double* kept);
// out = factor * (model - base) where the element's bit is 1, else 0.
void kept_differences(Rounding rounding, const float* model, const float* base,
                      const std::uint8_t* bits, float factor, std::size_t n, float* out);

// votes += w d
void add_product(Rounding rounding, float w, const float* d, std::size_t n, float* sums);
// mix = mix / divisor, the sum rounded before
void divide(Rounding rounding, float divisor, std::size_t n, float* mix);

// Of k differences d from the base: what the majority's sign is, and what of them has it.
struct Election {
  std::size_t models = 0;
  const float* weights = nullptr;  // w, one a model
  const float* votes = nullptr;    // v, one a model
  bool zero_is_minus = false;      // a sum of votes that is 0 elects minus
  bool largest = false;            // the largest of the w d instead of their sum
  bool divides = false;            // the sum by that of the agreeing models' v, 1 where it is 0
};
// mix = sum of w d over the models where v d has the sign of the sum of v d and is not 0. Differences of
// one model lie `stride` after those of the one before. NaN has either sign.
void mix_elected(Rounding rounding, const Election& election, const float* differences,
                 std::size_t stride, std::size_t n, float* mix);
// out = base + lambda mix; where that adds nothing the base's own bytes, also those of -0.
void add_to_base(Rounding rounding, float lambda, const float* base, const float* mix,
                 std::size_t n, float* out);

// out = factor * sum over the models of w x, in float64 and in their order; at least one model.
void weigh(const double* weights, const float* const* x, std::size_t models, double factor,
           std::size_t n, float* out);

// Of results and what they are rounded to, beside the base: what rounding undid.
struct Outcome {
  std::uint32_t changed = 0, lost = 0;
};
Outcome compare(const float* values, const float* rounded, const float* base, std::size_t n);
std::uint32_t count_non_finite(const float* values, std::size_t n);  // n < 2^32

}  // namespace theriac::merge::methods::loops
