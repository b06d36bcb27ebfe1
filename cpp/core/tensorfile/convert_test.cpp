#include "cpp/core/tensorfile/convert.h"

#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "cpp/core/base/random.h"
#include "cpp/core/base/test_support.h"

namespace theriac::tensorfile {
namespace {

using testing_support::failure_of;

// A narrow format as its definition reads: sign, exponent, mantissa; in doubles, without tricks.
struct Format {
  DType dtype;
  int exponent_bits, mantissa_bits, bias;
  bool has_infinity;
  int bits() const { return 1 + exponent_bits + mantissa_bits; }
  std::uint32_t sign_bit() const { return 1U << (bits() - 1); }
  std::uint32_t top_exponent() const { return (1U << exponent_bits) - 1; }
};

const std::vector<Format> kFormats{{DType::kF16, 5, 10, 15, true},
                                   {DType::kBF16, 8, 7, 127, true},
                                   {DType::kF8E4M3, 4, 3, 7, false},
                                   {DType::kF8E5M2, 5, 2, 15, true}};

double reference_value(const Format& format, std::uint32_t pattern) {
  const std::uint32_t mantissa = pattern & ((1U << format.mantissa_bits) - 1);
  const std::uint32_t exponent = (pattern >> format.mantissa_bits) & format.top_exponent();
  const double sign = (pattern & format.sign_bit()) != 0 ? -1 : 1;
  if (exponent == format.top_exponent()) {
    const bool all_ones = mantissa == (1U << format.mantissa_bits) - 1;
    if (format.has_infinity && mantissa == 0) return sign * std::numeric_limits<double>::infinity();
    if (format.has_infinity || all_ones) return std::numeric_limits<double>::quiet_NaN();
  }
  const double fraction = std::ldexp(mantissa, -format.mantissa_bits);
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - format.bias);
  return sign * std::ldexp(1 + fraction, static_cast<int>(exponent) - format.bias);
}

// Nearest by comparing with the neighbours among all finite values: a search, not a formula.
class ReferenceRounding {
 public:
  explicit ReferenceRounding(const Format& format) : format_(format) {
    for (std::uint32_t p = 0; p < format.sign_bit(); ++p) {
      const double value = reference_value(format, p);
      if (!std::isfinite(value)) break;
      finite_.push_back(value);
    }
  }
  bool is_nan_result(double value) const {
    return std::isnan(value) || (!format_.has_infinity && rounds_beyond(std::fabs(value)));
  }
  std::uint32_t pattern(double value) const {  // not for values whose result is NaN
    const double size = std::fabs(value);
    const std::uint32_t sign = std::signbit(value) ? format_.sign_bit() : 0;
    if (rounds_beyond(size)) return sign | static_cast<std::uint32_t>(finite_.size());
    const auto after = std::upper_bound(finite_.begin(), finite_.end(), size);
    const auto below = static_cast<std::uint32_t>(after - finite_.begin()) - 1;
    if (after == finite_.end()) return sign | below;
    const double down = size - finite_[below], up = *after - size;  // exact here
    if (down < up || (down == up && below % 2 == 0)) return sign | below;
    return sign | (below + 1);
  }
  const std::vector<double>& finite() const { return finite_; }

 private:
  bool rounds_beyond(double size) const {
    const double last = finite_.back();
    const double middle = last + (last - finite_[finite_.size() - 2]) / 2;
    // At the tie the neighbour with the even pattern wins.
    return size > middle || (size == middle && finite_.size() % 2 == 0);
  }
  Format format_;
  std::vector<double> finite_;
};

std::string pattern_bytes(const Format& format, std::uint32_t pattern) {
  std::string out(1, static_cast<char>(pattern));
  if (format.bits() == 16) out += static_cast<char>(pattern >> 8);
  return out;
}

std::uint32_t pattern_of(const Format& format, const char* bytes) {
  std::uint32_t pattern = static_cast<unsigned char>(bytes[0]);
  if (format.bits() == 16) pattern |= std::uint32_t{static_cast<unsigned char>(bytes[1])} << 8;
  return pattern;
}

std::size_t width_of(const Format& format) { return format.bits() == 16 ? 2 : 1; }

bool is_nan_pattern(const Format& format, std::uint32_t pattern) {
  return std::isnan(reference_value(format, pattern));
}

// Runs the body once for each instruction set that this processor has.
template <class Body>
void on_every_target(Body body) {
  const std::int64_t supported = hwy::SupportedTargets();
  for (std::int64_t left = supported; left != 0; left &= left - 1) {
    const std::int64_t target = left & -left;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    SCOPED_TRACE(hwy::TargetName(target));
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

void check_rounding(const Format& format, const ReferenceRounding& reference,
                    const std::vector<float>& values) {
  const std::size_t width = width_of(format);
  std::string bytes(values.size() * width, '\0');
  from_float(format.dtype, values.data(), values.size(), bytes.data());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint32_t got = pattern_of(format, bytes.data() + i * width);
    if (reference.is_nan_result(static_cast<double>(values[i]))) {
      ASSERT_TRUE(is_nan_pattern(format, got)) << values[i];
    } else {
      ASSERT_EQ(got, reference.pattern(static_cast<double>(values[i])))
          << dtype_name(format.dtype) << " of " << std::hexfloat << values[i];
    }
  }
}

TEST(Convert, KnowsItsTypes) {
  for (const DType dtype :
       {DType::kF16, DType::kBF16, DType::kF32, DType::kF64, DType::kF8E4M3, DType::kF8E5M2}) {
    EXPECT_TRUE(is_float(dtype)) << dtype_name(dtype);
  }
  float value = 0;
  double wide = 0;
  char bytes[8] = {};
  for (const DType dtype : {DType::kI64, DType::kBool, DType::kU8, DType::kC64, DType::kF8E8M0,
                            DType::kF8E4M3Fnuz, DType::kF8E5M2Fnuz, DType::kF4}) {
    EXPECT_FALSE(is_float(dtype)) << dtype_name(dtype);
    for (const auto& failure : {failure_of([&] { to_float(dtype, bytes, 1, &value); }),
                                failure_of([&] { from_float(dtype, &value, 1, bytes); }),
                                failure_of([&] { to_double(dtype, bytes, 1, &wide); }),
                                failure_of([&] { from_double(dtype, &wide, 1, bytes); })}) {
      ASSERT_TRUE(failure);
      EXPECT_EQ(failure->code, Code::kUnsupported);
    }
  }
}

TEST(Convert, WidensEveryPattern) {
  for (const Format& format : kFormats) {
    std::string bytes;
    const std::uint32_t patterns = 2 * format.sign_bit();
    for (std::uint32_t p = 0; p < patterns; ++p) bytes += pattern_bytes(format, p);
    std::vector<float> values(patterns);
    std::vector<double> wide(patterns);
    on_every_target([&] {
      to_float(format.dtype, bytes.data(), patterns, values.data());
      to_double(format.dtype, bytes.data(), patterns, wide.data());
      for (std::uint32_t p = 0; p < patterns; ++p) {
        const double expected = reference_value(format, p);
        ASSERT_EQ(std::isnan(values[p]), std::isnan(expected)) << p;
        ASSERT_EQ(std::isnan(wide[p]), std::isnan(expected)) << p;
        ASSERT_EQ(std::signbit(values[p]), (p & format.sign_bit()) != 0) << p;
        if (std::isnan(expected)) continue;
        ASSERT_EQ(static_cast<double>(values[p]), expected) << p;
        ASSERT_EQ(wide[p], expected) << p;
      }
    });
  }
}

TEST(Convert, NarrowsBackEveryPattern) {
  for (const Format& format : kFormats) {
    const std::uint32_t patterns = 2 * format.sign_bit();
    std::string bytes;
    for (std::uint32_t p = 0; p < patterns; ++p) bytes += pattern_bytes(format, p);
    std::vector<float> values(patterns);
    std::string again(bytes.size(), '\0');
    on_every_target([&] {
      to_float(format.dtype, bytes.data(), patterns, values.data());
      from_float(format.dtype, values.data(), patterns, again.data());
      for (std::uint32_t p = 0; p < patterns; ++p) {
        const std::uint32_t got = pattern_of(format, again.data() + p * width_of(format));
        if (is_nan_pattern(format, p)) {
          ASSERT_TRUE(is_nan_pattern(format, got)) << p;
          ASSERT_EQ(got & format.sign_bit(), p & format.sign_bit()) << p;
        } else {
          ASSERT_EQ(got, p);
        }
      }
    });
  }
}

// Around every value, every tie and both ends of the range.
TEST(Convert, RoundsToNearestEven) {
  for (const Format& format : kFormats) {
    const ReferenceRounding reference(format);
    std::vector<float> values{0.0F,
                              -0.0F,
                              std::numeric_limits<float>::infinity(),
                              -std::numeric_limits<float>::infinity(),
                              std::numeric_limits<float>::quiet_NaN(),
                              std::numeric_limits<float>::signaling_NaN(),
                              std::bit_cast<float>(0x7F800001U),  // loses all payload bits kept
                              std::bit_cast<float>(0xFF800001U),
                              std::numeric_limits<float>::denorm_min(),
                              std::numeric_limits<float>::min(),
                              std::numeric_limits<float>::max(),
                              -std::numeric_limits<float>::max()};
    const auto& finite = reference.finite();
    for (std::size_t i = 0; i < finite.size(); ++i) {
      const double next = i + 1 < finite.size() ? finite[i + 1] : 2 * finite[i] - finite[i - 1];
      const auto tie = static_cast<float>(finite[i] + (next - finite[i]) / 2);
      for (const float value : {std::nextafter(tie, 0.0F), tie, std::nextafter(tie, HUGE_VALF)}) {
        values.push_back(value);
        values.push_back(-value);
      }
    }
    Random random(7, "convert");
    for (int i = 0; i < 20000; ++i) values.push_back(std::bit_cast<float>(random()));
    on_every_target([&] { check_rounding(format, reference, values); });
  }
}

TEST(Convert, KnownRoundings) {
  const auto narrowed = [](DType dtype, float value) {
    char bytes[2] = {};
    from_float(dtype, &value, 1, bytes);
    return std::uint32_t{static_cast<unsigned char>(bytes[0])} |
           std::uint32_t{static_cast<unsigned char>(bytes[1])} << 8;
  };
  EXPECT_EQ(narrowed(DType::kF16, 65519.0F), 0x7BFFU);
  EXPECT_EQ(narrowed(DType::kF16, 65520.0F), 0x7C00U);
  EXPECT_EQ(narrowed(DType::kF16, 2.98023223876953125e-08F), 0x0000U);  // 2^-25: tie to even zero
  EXPECT_EQ(narrowed(DType::kF16, 2.9802326e-08F), 0x0001U);
  EXPECT_EQ(narrowed(DType::kBF16, 0.3F), 0x3E9AU);
  EXPECT_EQ(narrowed(DType::kBF16, 1.0F / 3.0F), 0x3EABU);
  EXPECT_EQ(narrowed(DType::kBF16, 3.4e38F), 0x7F80U);
  EXPECT_EQ(narrowed(DType::kF8E4M3, 448.0F), 0x7EU);
  EXPECT_EQ(narrowed(DType::kF8E4M3, 464.0F), 0x7EU);
  EXPECT_EQ(narrowed(DType::kF8E4M3, 464.1F), 0x7FU);
  EXPECT_EQ(narrowed(DType::kF8E4M3, -1e30F), 0xFFU);
  EXPECT_EQ(narrowed(DType::kF8E5M2, 61439.0F), 0x7BU);
  EXPECT_EQ(narrowed(DType::kF8E5M2, 61440.0F), 0x7CU);
}

// 1 + 2^-11 + 2^-40 is above the tie between two halves; the nearest float lies on it.
TEST(Convert, DoublesAreRoundedOnce) {
  for (const Format& format : kFormats) {
    const ReferenceRounding reference(format);
    const double tie = 1 + std::ldexp(1, -format.mantissa_bits - 1);
    std::vector<double> values{0.0,
                               -0.0,
                               1e300,
                               -1e300,
                               1e-300,
                               3.5e38,
                               -3.4e38,
                               std::numeric_limits<double>::infinity(),
                               std::numeric_limits<double>::quiet_NaN()};
    for (const double sign : {1.0, -1.0}) {
      for (const double shift : {-1.0, 0.0, 1.0}) {
        values.push_back(sign * (tie + shift * std::ldexp(1, -40)));
        values.push_back(sign * (tie + 2 * (tie - 1) + shift * std::ldexp(1, -40)));
      }
    }
    const auto& finite = reference.finite();
    for (std::size_t i = 0; i + 1 < finite.size(); i += 1 + finite.size() / 500) {
      const double middle = finite[i] + (finite[i + 1] - finite[i]) / 2;
      for (const double value :
           {std::nextafter(middle, 0), middle, std::nextafter(middle, 1e300)}) {
        values.push_back(value);
      }
    }
    const std::size_t width = width_of(format);
    std::string bytes(values.size() * width, '\0');
    from_double(format.dtype, values.data(), values.size(), bytes.data());
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::uint32_t got = pattern_of(format, bytes.data() + i * width);
      if (reference.is_nan_result(values[i])) {
        EXPECT_TRUE(is_nan_pattern(format, got)) << values[i];
      } else {
        EXPECT_EQ(got, reference.pattern(values[i]))
            << dtype_name(format.dtype) << " of " << std::hexfloat << values[i];
      }
    }
  }
}

TEST(Convert, WideTypes) {
  const std::vector<double> doubles{1.0 / 3, -1e300, 5e-324, 0.1};
  std::string bytes(doubles.size() * 8 + 1, '\0');
  from_double(DType::kF64, doubles.data(), doubles.size(), bytes.data() + 1);
  std::vector<double> again(doubles.size());
  to_double(DType::kF64, bytes.data() + 1, doubles.size(), again.data());
  EXPECT_EQ(again, doubles);
  std::vector<float> floats(doubles.size());
  to_float(DType::kF64, bytes.data() + 1, doubles.size(), floats.data());
  EXPECT_EQ(floats[0], 1.0F / 3);
  EXPECT_EQ(floats[1], -std::numeric_limits<float>::infinity());
  EXPECT_EQ(floats[2], 0.0F);
  from_float(DType::kF64, floats.data(), floats.size(), bytes.data() + 1);
  to_double(DType::kF64, bytes.data() + 1, 1, again.data());
  EXPECT_EQ(again[0], static_cast<double>(1.0F / 3));
  from_double(DType::kF32, doubles.data(), 4, bytes.data() + 1);
  to_double(DType::kF32, bytes.data() + 1, 4, again.data());
  EXPECT_EQ(again[3], static_cast<double>(0.1F));
  EXPECT_TRUE(std::isinf(again[1]));
  to_float(DType::kF32, nullptr, 0, nullptr);
  from_double(DType::kF64, nullptr, 0, nullptr);
}

// Neither side is aligned, and nothing outside the range is touched.
TEST(Convert, EveryCountAtOddOffsets) {
  const std::vector<DType> types{DType::kF16, DType::kBF16,   DType::kF32,
                                 DType::kF64, DType::kF8E4M3, DType::kF8E5M2};
  on_every_target([&] {
    for (const DType dtype : types) {
      const auto width = static_cast<std::size_t>(dtype_bits(dtype) / 8);
      for (std::size_t count = 0; count <= 67; ++count) {
        for (const std::size_t shift : {1U, 3U}) {
          std::vector<float> in(count), out(count + 2, -7.0F);
          for (std::size_t i = 0; i < count; ++i) in[i] = static_cast<float>(i % 15) / 4 - 2;
          std::string bytes(shift + count * width + 1, '#');
          from_float(dtype, in.data(), count, bytes.data() + shift);
          to_float(dtype, bytes.data() + shift, count, out.data() + 1);
          ASSERT_EQ(bytes[shift - 1], '#');
          ASSERT_EQ(bytes.back(), '#');
          ASSERT_EQ(out.front(), -7.0F);
          ASSERT_EQ(out.back(), -7.0F);
          for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(out[i + 1], in[i]) << count;
        }
      }
    }
  });
}

// More than one block of the conversion in two steps.
TEST(Convert, LongRunsOfDoubles) {
  std::vector<double> in(1500), out(in.size());
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<double>(i);
  std::string bytes(2 * in.size(), '\0');
  from_double(DType::kF16, in.data(), in.size(), bytes.data());
  to_double(DType::kF16, bytes.data(), in.size(), out.data());
  EXPECT_EQ(out, in);
}

}  // namespace
}  // namespace theriac::tensorfile
