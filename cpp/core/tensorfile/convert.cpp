#include "cpp/core/tensorfile/convert.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpp/core/tensorfile/convert.cpp"
#include <hwy/foreach_target.h>  // re-includes this file once a target
//
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace theriac::tensorfile::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t kMostLanes = 16;
using Floats = hn::CappedTag<float, kMostLanes>;
using Bits = hn::Rebind<std::uint32_t, Floats>;
using Signed = hn::Rebind<std::int32_t, Floats>;
using Halves = hn::Rebind<std::uint16_t, Floats>;

#if HWY_TARGET == HWY_SCALAR

HWY_INLINE hn::VFromD<Halves> load_halves(const char* from) {
  std::uint16_t half;
  std::memcpy(&half, from, sizeof half);
  return hn::Set(Halves(), half);
}

HWY_INLINE void store_halves(hn::VFromD<Halves> halves, char* to) {
  const std::uint16_t half = hn::GetLane(halves);
  std::memcpy(to, &half, sizeof half);
}

#else

// Through bytes, because the address may be odd.
using HalfBytes = hn::Repartition<std::uint8_t, Halves>;

HWY_INLINE hn::VFromD<Halves> load_halves(const char* from) {
  return hn::BitCast(Halves(), hn::LoadU(HalfBytes(), reinterpret_cast<const std::uint8_t*>(from)));
}

HWY_INLINE void store_halves(hn::VFromD<Halves> halves, char* to) {
  hn::StoreU(hn::BitCast(HalfBytes(), halves), HalfBytes(), reinterpret_cast<std::uint8_t*>(to));
}

#endif

// out = step(halves), whole vectors first, the tail through a buffer.
template <class Step>
HWY_INLINE void widen(const char* in, std::size_t count, float* out, Step step) {
  const std::size_t lanes = hn::Lanes(Floats());
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(step(load_halves(in + 2 * i)), Floats(), out + i);
  }
  if (i == count) return;
  HWY_ALIGN char tail_in[2 * kMostLanes] = {};
  HWY_ALIGN float tail_out[kMostLanes] = {};
  std::memcpy(tail_in, in + 2 * i, 2 * (count - i));
  hn::StoreU(step(load_halves(tail_in)), Floats(), tail_out);
  std::memcpy(out + i, tail_out, sizeof(float) * (count - i));
}

template <class Step>
HWY_INLINE void narrow(const float* in, std::size_t count, char* out, Step step) {
  const std::size_t lanes = hn::Lanes(Floats());
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    store_halves(step(hn::LoadU(Floats(), in + i)), out + 2 * i);
  }
  if (i == count) return;
  HWY_ALIGN float tail_in[kMostLanes] = {};
  HWY_ALIGN char tail_out[2 * kMostLanes] = {};
  std::memcpy(tail_in, in + i, sizeof(float) * (count - i));
  store_halves(step(hn::LoadU(Floats(), tail_in)), tail_out);
  std::memcpy(out + 2 * i, tail_out, 2 * (count - i));
}

// a > b for numbers below 2^31, where signed comparison, which every target has, is right.
HWY_INLINE auto above(hn::VFromD<Bits> a, hn::VFromD<Bits> b) {
  return hn::RebindMask(Bits(), hn::Gt(hn::BitCast(Signed(), a), hn::BitCast(Signed(), b)));
}

HWY_INLINE hn::VFromD<Halves> lower_halves(hn::VFromD<Bits> bits) {
  return hn::DemoteTo(Halves(), hn::BitCast(Signed(), bits));
}

HWY_INLINE hn::VFromD<Floats> bf16_step(hn::VFromD<Halves> halves) {
  return hn::BitCast(Floats(), hn::ShiftLeft<16>(hn::PromoteTo(Bits(), halves)));
}

HWY_INLINE hn::VFromD<Halves> to_bf16_step(hn::VFromD<Floats> value) {
  const Bits d;
  const auto bits = hn::BitCast(d, value);
  const auto upper = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(upper, hn::Set(d, 1));
  const auto rounded =
      hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(d, std::uint32_t{0x7FFF}))));
  const auto quiet = hn::Or(upper, hn::Set(d, std::uint32_t{0x40}));
  const auto is_nan = above(hn::And(bits, hn::Set(d, std::uint32_t{0x7FFFFFFF})),
                            hn::Set(d, std::uint32_t{0x7F800000}));
  return lower_halves(hn::IfThenElse(is_nan, quiet, rounded));
}

#if (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL) && \
    !defined(HWY_DISABLE_F16C)

// These targets convert in one instruction that rounds to nearest even and quiets NaN. Highway's
// own conversion for the others truncates, hence the long form below.
using NativeHalves = hn::Rebind<hwy::float16_t, Floats>;

HWY_INLINE hn::VFromD<Floats> f16_step(hn::VFromD<Halves> halves) {
  return hn::PromoteTo(Floats(), hn::BitCast(NativeHalves(), halves));
}

HWY_INLINE hn::VFromD<Halves> to_f16_step(hn::VFromD<Floats> value) {
  return hn::BitCast(Halves(), hn::DemoteTo(NativeHalves(), value));
}

#else

HWY_INLINE hn::VFromD<Floats> f16_step(hn::VFromD<Halves> halves) {
  const Bits d;
  const Floats f;
  const auto half = hn::PromoteTo(d, halves);
  const auto sign = hn::ShiftLeft<16>(hn::And(half, hn::Set(d, std::uint32_t{0x8000})));
  // Exponent and mantissa where a float has them; only the exponent's bias is still a half's.
  const auto magnitude = hn::ShiftLeft<13>(hn::And(half, hn::Set(d, std::uint32_t{0x7FFF})));
  const auto normal = hn::Add(magnitude, hn::Set(d, std::uint32_t{112} << 23));
  // 2^-14 * 1.m - 2^-14: the subtraction normalises.
  const auto shifted = hn::Add(magnitude, hn::Set(d, std::uint32_t{113} << 23));
  const auto subnormal =
      hn::BitCast(d, hn::Sub(hn::BitCast(f, shifted), hn::Set(f, 6.103515625e-05F)));
  const auto infinity = hn::Set(d, std::uint32_t{0x0F800000});
  const auto is_nan = above(magnitude, infinity);
  const auto special = hn::Or(hn::Add(magnitude, hn::Set(d, std::uint32_t{224} << 23)),
                              hn::IfThenElseZero(is_nan, hn::Set(d, std::uint32_t{0x00400000})));
  auto bits =
      hn::IfThenElse(above(hn::Set(d, std::uint32_t{1} << 23), magnitude), subnormal, normal);
  bits = hn::IfThenElse(above(infinity, magnitude), bits, special);
  return hn::BitCast(f, hn::Or(bits, sign));
}

HWY_INLINE hn::VFromD<Halves> to_f16_step(hn::VFromD<Floats> value) {
  const Bits d;
  const Floats f;
  const auto bits = hn::BitCast(d, value);
  const auto magnitude = hn::And(bits, hn::Set(d, std::uint32_t{0x7FFFFFFF}));
  const auto sign = hn::ShiftRight<16>(hn::And(bits, hn::Set(d, std::uint32_t{0x80000000})));
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(d, std::uint32_t{1}));
  // The bias changes by -112 and half a unit is added; a carry may end in the infinity's bits.
  const auto normal =
      hn::ShiftRight<13>(hn::Add(magnitude, hn::Add(odd, hn::Set(d, std::uint32_t{0xC8000FFF}))));
  // In the sum with 1/2 a subnormal half's unit, 2^-24, is the last bit: the addition rounds.
  const auto half = hn::Set(f, 0.5F);
  const auto subnormal =
      hn::Sub(hn::BitCast(d, hn::Add(hn::BitCast(f, magnitude), half)), hn::BitCast(d, half));
  const auto quiet =
      hn::Or(hn::Set(d, std::uint32_t{0x7E00}),
             hn::And(hn::ShiftRight<13>(magnitude), hn::Set(d, std::uint32_t{0x3FF})));
  const auto is_nan = above(magnitude, hn::Set(d, std::uint32_t{0x7F800000}));
  const auto special = hn::IfThenElse(is_nan, quiet, hn::Set(d, std::uint32_t{0x7C00}));
  auto result =
      hn::IfThenElse(above(hn::Set(d, std::uint32_t{113} << 23), magnitude), subnormal, normal);
  result = hn::IfThenElse(above(hn::Set(d, std::uint32_t{143} << 23), magnitude), result, special);
  return lower_halves(hn::Or(result, sign));
}

#endif

void bf16_to_float(const char* in, std::size_t count, float* out) {
  widen(in, count, out, [](auto v) { return bf16_step(v); });
}
void float_to_bf16(const float* in, std::size_t count, char* out) {
  narrow(in, count, out, [](auto v) { return to_bf16_step(v); });
}
void f16_to_float(const char* in, std::size_t count, float* out) {
  widen(in, count, out, [](auto v) { return f16_step(v); });
}
void float_to_f16(const float* in, std::size_t count, char* out) {
  narrow(in, count, out, [](auto v) { return to_f16_step(v); });
}

}  // namespace theriac::tensorfile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace theriac::tensorfile {

HWY_EXPORT(bf16_to_float);
HWY_EXPORT(float_to_bf16);
HWY_EXPORT(f16_to_float);
HWY_EXPORT(float_to_f16);

namespace {

static_assert(std::endian::native == std::endian::little, "tensor files are little-endian");

constexpr std::size_t kBlock = 512;  // of a conversion in two steps; stays in the first-level cache

// The layout of an 8-bit float: sign, exponent, kMantissa bits.
struct E4M3 {
  static constexpr int kMantissa = 3, kBias = 7;
  static constexpr std::uint32_t kNan = 0x7F, kLeastNan = 0x7F;
  // From here on nothing rounds to a finite value: 464 does (to 448), the next float does not.
  static constexpr float kOverflow = 480.0F;
  static constexpr std::uint32_t kBeyond = kNan;
};
struct E5M2 {
  static constexpr int kMantissa = 2, kBias = 15;
  static constexpr std::uint32_t kNan = 0x7F, kLeastNan = 0x7D;
  static constexpr float kOverflow = 65536.0F;
  static constexpr std::uint32_t kBeyond = 0x7C;
};

template <class Layout>
char narrow_one(float value) {
  constexpr int kShift = 23 - Layout::kMantissa;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  const std::uint32_t sign = (bits >> 24) & 0x80U;
  constexpr float kLeastNormal = std::bit_cast<float>(std::uint32_t{128 - Layout::kBias} << 23);
  const float size = std::fabs(value);
  std::uint32_t result = 0;
  if (std::isnan(value)) {
    result = Layout::kNan;
  } else if (size >= Layout::kOverflow) {
    result = Layout::kBeyond;
  } else if (size < kLeastNormal) {
    // In units of the least subnormal the rounded value is the bit pattern.
    constexpr float kUnits =
        std::bit_cast<float>(std::uint32_t{126 + Layout::kBias + Layout::kMantissa} << 23);
    result = static_cast<std::uint32_t>(std::nearbyint(size * kUnits));
  } else {
    const std::uint32_t odd = (magnitude >> kShift) & 1U;
    const std::uint32_t rounded =
        (magnitude + (std::uint32_t{1} << (kShift - 1)) - 1U + odd) >> kShift;
    result = rounded - (std::uint32_t{127 - Layout::kBias} << Layout::kMantissa);
  }
  return static_cast<char>(result | sign);
}

template <class Layout>
constexpr float widen_one(std::uint32_t byte) {
  const std::uint32_t sign = (byte & 0x80U) << 24;
  const std::uint32_t magnitude = byte & 0x7FU;
  const std::uint32_t mantissa = magnitude & ((1U << Layout::kMantissa) - 1U);
  const std::uint32_t exponent = magnitude >> Layout::kMantissa;
  std::uint32_t bits = 0;
  if (magnitude >= Layout::kLeastNan) {
    bits = 0x7FC00000U;
  } else if (magnitude == Layout::kBeyond) {
    bits = 0x7F800000U;
  } else if (exponent == 0) {
    constexpr float kUnit =
        std::bit_cast<float>(std::uint32_t{128 - Layout::kBias - Layout::kMantissa} << 23);
    bits = std::bit_cast<std::uint32_t>(static_cast<float>(mantissa) * kUnit);
  } else {
    bits = ((exponent + std::uint32_t{127 - Layout::kBias}) << 23) |
           (mantissa << (23 - Layout::kMantissa));
  }
  return std::bit_cast<float>(bits | sign);
}

template <class Layout>
constexpr std::array<float, 256> widening_table() {
  std::array<float, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) table[byte] = widen_one<Layout>(byte);
  return table;
}
template <class Layout>
constexpr std::array<float, 256> kWidened = widening_table<Layout>();

template <class Layout>
void widen_bytes(const char* bytes, std::size_t count, float* out) {
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = kWidened<Layout>[static_cast<unsigned char>(bytes[i])];
  }
}

template <class Layout>
void narrow_bytes(const float* in, std::size_t count, char* bytes) {
  for (std::size_t i = 0; i < count; ++i) bytes[i] = narrow_one<Layout>(in[i]);
}

// Elements of type From at any address, to elements of type To at any address.
template <class From, class To>
void cast_elements(const void* in, std::size_t count, void* out) {
  const auto* from = static_cast<const char*>(in);
  auto* to = static_cast<char*>(out);
  for (std::size_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + i * sizeof(From), sizeof value);
    const To cast = static_cast<To>(value);
    std::memcpy(to + i * sizeof(To), &cast, sizeof cast);
  }
}

// Empty ranges may come with null pointers, which memcpy does not take.
void copy(const void* in, std::size_t size, void* out) {
  if (size > 0) std::memcpy(out, in, size);
}

[[noreturn]] void fail_type(DType dtype) {
  throw Error(Code::kUnsupported,
              "elements of type " + std::string(dtype_name(dtype)) +
                  " cannot be converted to real numbers; expected F16, BF16, F32, F64, F8_E4M3 or "
                  "F8_E5M2")
      .at("dtype", std::string(dtype_name(dtype)));
}

// Toward zero, then with the last bit set if anything was lost. A float rounded like this still
// tells on which side of every narrower type's ties the double lay, so that rounding it further
// gives what one rounding would have given.
float round_to_odd(double value) {
  const auto nearest = static_cast<float>(value);
  if (std::isnan(value) || static_cast<double>(nearest) == value) return nearest;
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (std::fabs(static_cast<double>(nearest)) > std::fabs(value)) --bits;
  return std::bit_cast<float>(bits | 1U);
}

}  // namespace

bool is_float(DType dtype) noexcept {
  switch (dtype) {
    case DType::kF16:
    case DType::kBF16:
    case DType::kF32:
    case DType::kF64:
    case DType::kF8E4M3:
    case DType::kF8E5M2:
      return true;
    default:
      return false;
  }
}

void to_float(DType dtype, const char* bytes, std::size_t count, float* out) {
  switch (dtype) {
    case DType::kF32:
      return copy(bytes, count * sizeof(float), out);
    case DType::kBF16:
      return HWY_DYNAMIC_DISPATCH(bf16_to_float)(bytes, count, out);
    case DType::kF16:
      return HWY_DYNAMIC_DISPATCH(f16_to_float)(bytes, count, out);
    case DType::kF64:
      return cast_elements<double, float>(bytes, count, out);
    case DType::kF8E4M3:
      return widen_bytes<E4M3>(bytes, count, out);
    case DType::kF8E5M2:
      return widen_bytes<E5M2>(bytes, count, out);
    default:
      fail_type(dtype);
  }
}

void from_float(DType dtype, const float* in, std::size_t count, char* bytes) {
  switch (dtype) {
    case DType::kF32:
      return copy(in, count * sizeof(float), bytes);
    case DType::kBF16:
      return HWY_DYNAMIC_DISPATCH(float_to_bf16)(in, count, bytes);
    case DType::kF16:
      return HWY_DYNAMIC_DISPATCH(float_to_f16)(in, count, bytes);
    case DType::kF64:
      return cast_elements<float, double>(in, count, bytes);
    case DType::kF8E4M3:
      return narrow_bytes<E4M3>(in, count, bytes);
    case DType::kF8E5M2:
      return narrow_bytes<E5M2>(in, count, bytes);
    default:
      fail_type(dtype);
  }
}

void to_double(DType dtype, const char* bytes, std::size_t count, double* out) {
  if (!is_float(dtype)) fail_type(dtype);
  if (dtype == DType::kF64) return copy(bytes, count * sizeof(double), out);
  if (dtype == DType::kF32) return cast_elements<float, double>(bytes, count, out);
  const auto width = static_cast<std::size_t>(dtype_bits(dtype) / 8);
  std::array<float, kBlock> block;
  for (std::size_t done = 0; done < count; done += kBlock) {
    const std::size_t now = std::min(kBlock, count - done);
    to_float(dtype, bytes + done * width, now, block.data());
    for (std::size_t i = 0; i < now; ++i) out[done + i] = static_cast<double>(block[i]);
  }
}

void from_double(DType dtype, const double* in, std::size_t count, char* bytes) {
  if (!is_float(dtype)) fail_type(dtype);
  if (dtype == DType::kF64) return copy(in, count * sizeof(double), bytes);
  if (dtype == DType::kF32) return cast_elements<double, float>(in, count, bytes);
  const auto width = static_cast<std::size_t>(dtype_bits(dtype) / 8);
  std::array<float, kBlock> block;
  for (std::size_t done = 0; done < count; done += kBlock) {
    const std::size_t now = std::min(kBlock, count - done);
    for (std::size_t i = 0; i < now; ++i) block[i] = round_to_odd(in[done + i]);
    from_float(dtype, block.data(), now, bytes + done * width);
  }
}

}  // namespace theriac::tensorfile
#endif  // HWY_ONCE
