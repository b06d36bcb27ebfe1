// The element types of Accumulate::kNative: arithmetic stays in float, and each elementary
// operation is followed by one rounding to the type (to nearest even), as torch has it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "cpp/core/merge/method.h"

namespace theriac::merge::methods {

struct Float32Rounding {
  static float round(float value) noexcept { return value; }
};

struct BFloat16Rounding {
  static float round(float value) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) & 0xffff0000U;
    const bool nan = (bits & 0x7fffffffU) > 0x7f800000U;
    return std::bit_cast<float>(nan ? bits : rounded);
  }
};

struct Float16Rounding {
  static float round(float value) noexcept {
    constexpr float kSmallestNormal = 0x1p-14F, kOverflow = 65520.0F;
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = bits & 0x80000000U, magnitude = bits & 0x7fffffffU;
    const std::uint32_t normal = (magnitude + 0xfffU + ((magnitude >> 13) & 1U)) & 0xffffe000U;
    // Floats in [0.5, 1) are 2^-24 apart, as are the subnormal numbers of the type.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    const auto subnormal = std::bit_cast<std::uint32_t>(shifted - 0.5F);
    std::uint32_t out =
        magnitude < std::bit_cast<std::uint32_t>(kSmallestNormal) ? subnormal : normal;
    out = magnitude >= std::bit_cast<std::uint32_t>(kOverflow) ? 0x7f800000U : out;
    out = magnitude > 0x7f800000U ? magnitude : out;
    return std::bit_cast<float>(sign | out);
  }
};

// Calls body(rounding) with the rounding that `accumulate` and `dtype` ask for.
template <class Body>
void with_rounding(Accumulate accumulate, tensorfile::DType dtype, Body&& body) {
  if (accumulate == Accumulate::kNative && dtype == tensorfile::DType::kBF16) {
    body(BFloat16Rounding{});
  } else if (accumulate == Accumulate::kNative && dtype == tensorfile::DType::kF16) {
    body(Float16Rounding{});
  } else {
    body(Float32Rounding{});
  }
}

// The one rounding at the end, for methods whose arithmetic is in float64 throughout.
inline void round_all(const TensorContext& context, float* values, std::size_t count) {
  with_rounding(context.accumulate, context.dtype, [&](auto rounding) {
    for (std::size_t i = 0; i < count; ++i) values[i] = rounding.round(values[i]);
  });
}

// Selection without branches, which compilers turn into vector code also where floating-point
// exceptions are assumed to trap.
inline std::uint32_t mask_of(bool condition) noexcept {
  return 0U - static_cast<std::uint32_t>(condition);
}
inline float masked(float value, std::uint32_t mask) noexcept {
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) & mask);
}
inline float selected(float yes, float no, std::uint32_t mask) noexcept {
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(yes) & mask) |
                              (std::bit_cast<std::uint32_t>(no) & ~mask));
}

}  // namespace theriac::merge::methods
