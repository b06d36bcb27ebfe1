// Singular values and vectors of task vectors, for inspection. Dense, in double.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace theriac::merge {

struct SpectralAgreement {
  std::size_t rank = 0;           // singular vectors looked at: at most the smaller side
  double interference = 0;        // STI, inspect.h
  std::vector<double> alignment;  // SAR, one a matrix; NaN for a matrix of zeros
};

// `matrices`: row-major, rows times columns values each, finite; at least one matrix and one
// element. `rank`: 0 for smaller side / matrices, at least 1; more than the smaller side is the
// smaller side. Memory: about (2 * matrices + 3) * rows * columns doubles.
SpectralAgreement spectral_agreement(std::span<const std::vector<double>> matrices,
                                     std::size_t rows, std::size_t columns, std::size_t rank);

}  // namespace theriac::merge
