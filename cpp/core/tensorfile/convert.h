// Element types to and from float and double, for arithmetic on weights: F16, BF16, F32, F64,
// F8_E4M3 and F8_E5M2.
//
// Widening is exact (F64 to float rounds). Narrowing rounds once, to nearest, ties to even, also
// from double. Beyond the greatest finite value F16, BF16, F32 and F8_E5M2 become infinite and
// F8_E4M3, which has no infinity, becomes NaN, as in PyTorch. NaN stays NaN: sign and upper payload
// bits are kept in F16 and BF16, 8-bit types have one NaN a sign. Results do not depend on the
// processor. The rounding mode must be the default one, to nearest.
//
// `bytes` need no alignment and must not overlap the floats. All functions are thread safe and
// throw kUnsupported for any other type.
#pragma once

#include <cstddef>

#include "cpp/core/tensorfile/safetensors.h"

namespace theriac::tensorfile {

// Whether the functions below take the type.
bool is_float(DType dtype) noexcept;

void to_float(DType dtype, const char* bytes, std::size_t count, float* out);
void from_float(DType dtype, const float* in, std::size_t count, char* bytes);
void to_double(DType dtype, const char* bytes, std::size_t count, double* out);
void from_double(DType dtype, const double* in, std::size_t count, char* bytes);

}  // namespace theriac::tensorfile
