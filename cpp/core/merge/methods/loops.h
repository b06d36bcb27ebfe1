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
// Positions of the keys whose upper half is `upper`; returns how many.
std::size_t find_upper_half(const std::uint32_t* keys, std::uint32_t upper, std::size_t n,
                            std::uint32_t* positions);

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
// Zeroes the elements whose byte is above `last`. Returns how many bytes are equal to it, and their
// positions in `undecided`, which has room for n.
std::size_t keep_random(const std::uint8_t* bytes, std::uint8_t last, std::size_t n, float* x,
                        std::uint32_t* undecided);

// Words i, i + 1, ... of the Philox4x32-10 stream of counters (block, model), four a block.
void philox(std::uint64_t key, std::uint64_t model, std::uint64_t first, std::size_t n,
            std::uint32_t* words);

// Adds up |x| in float64: lane i % 8 of `sums`.
void add_magnitudes(const float* x, std::size_t n, double* sums);

// votes += w d
void add_product(Rounding rounding, float w, const float* d, std::size_t n, float* sums);
// mix = mix / divisor, the sum rounded before
void divide(Rounding rounding, float divisor, std::size_t n, float* mix);

// Signs as a mask of their bit: minus where the votes, rounded, are below 0, or equal to it and
// `zero_is_minus`.
void elect(Rounding rounding, const float* votes, bool zero_is_minus, std::size_t n,
           std::uint32_t* elected);
// Adds w d where vote d has the elected sign and is not 0, and there `vote` to the divisors. `largest`:
// keeps the largest of the w d instead of their sum.
void add_agreeing(Rounding rounding, float w, float vote, bool largest, const float* d,
                  const std::uint32_t* elected, std::size_t n, float* mix, float* divisors);
// mix = mix / divisor, each rounded before; 1 in place of divisors that are 0, or of all (`!divides`).
void divide_by(Rounding rounding, bool divides, const float* divisors, std::size_t n, float* mix);
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
