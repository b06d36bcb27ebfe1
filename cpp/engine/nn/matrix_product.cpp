#include "cpp/engine/nn/matrix_product.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpp/engine/nn/matrix_product.cpp"
#include <hwy/foreach_target.h>  // re-includes this file once a target
//
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace theriac::nn::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Twelve sums, two vectors of the right-hand factor and one broadcast value fill the sixteen
// registers of AVX2. Wider vectors are not used: a panel's width is part of the packed layout.
using Lanes = hn::CappedTag<float, 8>;
constexpr std::size_t kPanel = 16;

// What sums start from.
enum class Start { kZero, kOut, kBias };

template <Start kStart, class D>
HWY_INLINE hn::Vec<D> start_of(D d, const float* bias, const float* out) {
  if constexpr (kStart == Start::kOut) return hn::LoadU(d, out);
  if constexpr (kStart == Start::kBias) return hn::LoadU(d, bias);
  return hn::Zero(d);
}

// One row against the panel's columns [c, c + 2 lanes).
template <Start kStart>
HWY_INLINE void one_row(const float* HWY_RESTRICT a, std::size_t a_step,
                        const float* HWY_RESTRICT panel, std::size_t inner, const float* bias,
                        float* HWY_RESTRICT out) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  auto s = start_of<kStart>(d, bias, out);
  auto t = start_of<kStart>(d, bias + lanes, out + lanes);
  for (std::size_t k = 0; k < inner; ++k, a += a_step, panel += kPanel) {
    const auto x = hn::Set(d, *a);
    s = hn::MulAdd(x, hn::LoadU(d, panel), s);
    t = hn::MulAdd(x, hn::LoadU(d, panel + lanes), t);
  }
  hn::StoreU(s, d, out);
  hn::StoreU(t, d, out + lanes);
}

// Six rows at once; end(r, s, t) takes the sums of row r. They have names because an array of vectors
// may not stay in registers.
template <Start kStart, class End>
HWY_INLINE void six_rows(const MatrixView& a, std::size_t i, std::size_t a_step,
                         const float* HWY_RESTRICT panel, std::size_t inner, const float* bias,
                         const float* out, std::size_t out_row, End end) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  const float *a0 = a.row(i), *a1 = a.row(i + 1), *a2 = a.row(i + 2), *a3 = a.row(i + 3),
              *a4 = a.row(i + 4), *a5 = a.row(i + 5);
  const auto low = [&](std::size_t r)
                       HWY_ATTR { return start_of<kStart>(d, bias, out + r * out_row); };
  const auto high = [&](std::size_t r) HWY_ATTR {
    return start_of<kStart>(d, bias + lanes, out + r * out_row + lanes);
  };
  auto s0 = low(0), s1 = low(1), s2 = low(2), s3 = low(3), s4 = low(4), s5 = low(5);
  auto t0 = high(0), t1 = high(1), t2 = high(2), t3 = high(3), t4 = high(4), t5 = high(5);
  for (std::size_t k = 0; k < inner; ++k, panel += kPanel) {
    const auto b = hn::LoadU(d, panel), c = hn::LoadU(d, panel + lanes);
    const auto row = [&](const float*& from, auto& s, auto& t) HWY_ATTR {
      const auto x = hn::Set(d, *from);
      from += a_step;
      s = hn::MulAdd(x, b, s);
      t = hn::MulAdd(x, c, t);
    };
    row(a0, s0, t0);
    row(a1, s1, t1);
    row(a2, s2, t2);
    row(a3, s3, t3);
    row(a4, s4, t4);
    row(a5, s5, t5);
  }
  end(0, s0, t0);
  end(1, s1, t1);
  end(2, s2, t2);
  end(3, s3, t3);
  end(4, s4, t4);
  end(5, s5, t5);
}

template <Start kStart>
HWY_INLINE void rows_by_panel(const MatrixView& a, std::size_t first, std::size_t a_step,
                              std::size_t rows, const float* panel, std::size_t inner,
                              const float* bias, float* out, std::size_t out_row) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  for (std::size_t c = 0; c < kPanel; c += 2 * lanes) {
    std::size_t i = 0;
    for (; i + 6 <= rows; i += 6) {
      float* to = out + i * out_row + c;
      six_rows<kStart>(a, first + i, a_step, panel + c, inner, bias + c, to, out_row,
                       [&](std::size_t r, auto s, auto t) HWY_ATTR {
                         hn::StoreU(s, d, to + r * out_row);
                         hn::StoreU(t, d, to + r * out_row + lanes);
                       });
    }
    for (; i < rows; ++i) {
      one_row<kStart>(a.row(first + i), a_step, panel + c, inner, bias + c, out + i * out_row + c);
    }
  }
}

// The last panel's columns that do not exist are computed beside the output and left there.
template <Start kStart>
HWY_INLINE void narrow_panel(const MatrixView& a, std::size_t first, std::size_t a_step,
                             std::size_t rows, const float* panel, std::size_t inner,
                             const float* bias, float* out, std::size_t out_row,
                             std::size_t columns) {
  HWY_ALIGN float wide[6 * kPanel] = {};
  HWY_ALIGN float wide_bias[kPanel] = {};
  if (kStart == Start::kBias) std::memcpy(wide_bias, bias, columns * sizeof(float));
  for (std::size_t i = 0; i < rows; i += 6) {
    const std::size_t some = rows - i < 6 ? rows - i : 6;
    if (kStart == Start::kOut) {
      for (std::size_t r = 0; r < some; ++r)
        std::memcpy(wide + r * kPanel, out + (i + r) * out_row, columns * sizeof(float));
    }
    rows_by_panel<kStart>(a, first + i, a_step, some, panel, inner, wide_bias, wide, kPanel);
    for (std::size_t r = 0; r < some; ++r)
      std::memcpy(out + (i + r) * out_row, wide + r * kPanel, columns * sizeof(float));
  }
}

// Rows in stretches that stay in the first-level cache while every panel passes over them.
constexpr std::size_t kStretch = 48;

template <Start kStart>
HWY_INLINE void all_panels(const MatrixView& a, std::size_t a_step, std::size_t rows,
                           const float* panels, std::size_t inner, std::size_t columns,
                           const float* bias, float* out, std::size_t out_row) {
  for (std::size_t i = 0; i < rows; i += kStretch) {
    const std::size_t some = rows - i < kStretch ? rows - i : kStretch;
    const float* panel = panels;
    for (std::size_t j = 0; j < columns; j += kPanel, panel += inner * kPanel) {
      float* to = out + i * out_row + j;
      const float* own_bias = kStart == Start::kBias ? bias + j : panel;
      if (columns - j >= kPanel) {
        rows_by_panel<kStart>(a, i, a_step, some, panel, inner, own_bias, to, out_row);
      } else {
        narrow_panel<kStart>(a, i, a_step, some, panel, inner, own_bias, to, out_row, columns - j);
      }
    }
  }
}

// A panel of a matrix whose columns are contiguous, `stride` apart: rows of a tile become columns.
void pack_columns(const float* HWY_RESTRICT from, std::size_t stride, std::size_t inner,
                  float* HWY_RESTRICT to) {
  std::size_t k = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> d;
  for (; k + 4 <= inner; k += 4, to += 4 * kPanel) {
    for (std::size_t c = 0; c < kPanel; c += 4) {
      const float* column = from + c * stride + k;
      const auto r0 = hn::LoadU(d, column), r1 = hn::LoadU(d, column + stride);
      const auto r2 = hn::LoadU(d, column + 2 * stride), r3 = hn::LoadU(d, column + 3 * stride);
      const auto low02 = hn::InterleaveLower(d, r0, r2), low13 = hn::InterleaveLower(d, r1, r3);
      const auto high02 = hn::InterleaveUpper(d, r0, r2), high13 = hn::InterleaveUpper(d, r1, r3);
      hn::StoreU(hn::InterleaveLower(d, low02, low13), d, to + c);
      hn::StoreU(hn::InterleaveUpper(d, low02, low13), d, to + kPanel + c);
      hn::StoreU(hn::InterleaveLower(d, high02, high13), d, to + 2 * kPanel + c);
      hn::StoreU(hn::InterleaveUpper(d, high02, high13), d, to + 3 * kPanel + c);
    }
  }
#endif
  for (; k < inner; ++k, to += kPanel) {
    for (std::size_t c = 0; c < kPanel; ++c) to[c] = from[c * stride + k];
  }
}

void product_all(const MatrixView& left, std::size_t rows, const float* panels, std::size_t inner,
                 std::size_t columns, float* out, std::size_t out_row, bool add) {
  if (add) {
    all_panels<Start::kOut>(left, left.column_stride, rows, panels, inner, columns, nullptr, out,
                            out_row);
  } else {
    all_panels<Start::kZero>(left, left.column_stride, rows, panels, inner, columns, nullptr, out,
                             out_row);
  }
}

void product_biased(const MatrixView& left, std::size_t rows, const float* panels,
                    std::size_t inner, std::size_t columns, const float* bias, float* out,
                    std::size_t out_row) {
  all_panels<Start::kBias>(left, left.column_stride, rows, panels, inner, columns, bias, out,
                           out_row);
}

// As many columns at once as `one_row` takes; their elements are kPanel apart.
void products_of_columns(const float* row, std::size_t inner, const float* const* columns,
                         std::size_t count, float* out) {
  constexpr std::size_t kInnerAtOnce = 64;
  HWY_ALIGN float gathered[kInnerAtOnce * kPanel] = {};
  HWY_ALIGN float sums[kPanel];
  const std::size_t width = 2 * hn::Lanes(Lanes());
  for (std::size_t i = 0; i < count; i += width) {
    const std::size_t some = count - i < width ? count - i : width;
    for (float& sum : sums) sum = 0;
    for (std::size_t k = 0; k < inner; k += kInnerAtOnce) {
      const std::size_t rows = inner - k < kInnerAtOnce ? inner - k : kInnerAtOnce;
      for (std::size_t c = 0; c < some; ++c) {
        const float* from = columns[i + c] + k * kPanel;
        for (std::size_t r = 0; r < rows; ++r) gathered[r * kPanel + c] = from[r * kPanel];
      }
      one_row<Start::kOut>(row + k, 1, gathered, rows, gathered, sums);
    }
    for (std::size_t c = 0; c < some; ++c) out[i + c] = sums[c];
  }
}

// A few rows against one panel, of which `columns` exist.
HWY_INLINE void count_some(const MatrixView& a, std::size_t first, std::size_t rows,
                           const float* panel, std::size_t inner, std::size_t columns,
                           const float* limits, std::uint32_t* above, std::uint32_t* equal) {
  HWY_ALIGN float sums[6 * kPanel];
  for (std::size_t i = 0; i < rows; i += 6) {
    const std::size_t some = rows - i < 6 ? rows - i : 6;
    rows_by_panel<Start::kZero>(a, first + i, a.column_stride, some, panel, inner, panel, sums,
                                kPanel);
    for (std::size_t r = 0; r < some; ++r) {
      for (std::size_t c = 0; c < columns; ++c) {
        above[i + r] += sums[r * kPanel + c] > limits[i + r] ? 1 : 0;
        equal[i + r] += sums[r * kPanel + c] == limits[i + r] ? 1 : 0;
      }
    }
  }
}

void count_products_all(const MatrixView& left, std::size_t rows, const float* panels,
                        std::size_t inner, std::size_t columns, const float* limits,
                        std::uint32_t* above, std::uint32_t* equal) {
  const Lanes d;
  const std::size_t width = 2 * hn::Lanes(d);
  for (std::size_t first = 0; first < rows; first += kStretch) {
    const std::size_t some = rows - first < kStretch ? rows - first : kStretch;
    const std::size_t sixes = some / 6 * 6;
    const float* panel = panels;
    for (std::size_t j = 0; j < columns; j += kPanel, panel += inner * kPanel) {
      const bool whole = columns - j >= kPanel;
      for (std::size_t i = first; whole && i < first + sixes; i += 6) {
        for (std::size_t c = 0; c < kPanel; c += width) {
          six_rows<Start::kZero>(
              left, i, left.column_stride, panel + c, inner, panel, panel, 0,
              [&](std::size_t r, auto s, auto t) HWY_ATTR {
                const auto limit = hn::Set(d, limits[i + r]);
                above[i + r] += static_cast<std::uint32_t>(hn::CountTrue(d, hn::Gt(s, limit)) +
                                                           hn::CountTrue(d, hn::Gt(t, limit)));
                equal[i + r] += static_cast<std::uint32_t>(hn::CountTrue(d, hn::Eq(s, limit)) +
                                                           hn::CountTrue(d, hn::Eq(t, limit)));
              });
        }
      }
      const std::size_t done = first + (whole ? sixes : 0);
      count_some(left, done, first + some - done, panel, inner, whole ? kPanel : columns - j,
                 limits + done, above + done, equal + done);
    }
  }
}

}  // namespace theriac::nn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace theriac::nn {

HWY_EXPORT(pack_columns);
HWY_EXPORT(product_all);
HWY_EXPORT(product_biased);
HWY_EXPORT(products_of_columns);
HWY_EXPORT(count_products_all);

namespace {

constexpr std::size_t kPanel = 16;
// A panel of a stretch fills half of a first-level cache.
constexpr auto kInnerStretch = static_cast<std::size_t>(kLongProductStretch);

}  // namespace

void PackedFactor::pack(const MatrixView& matrix, std::size_t inner, std::size_t columns) {
  inner_ = inner;
  columns_ = columns;
  const std::size_t size = (columns + kPanel - 1) / kPanel * kPanel * inner;
  if (size > room_) {
    panels_ = std::make_unique_for_overwrite<float[]>(size);
    room_ = size;
  }
  float* to = panels_.get();
  for (std::size_t j = 0; j < columns; j += kPanel) {
    const std::size_t width = std::min(kPanel, columns - j);
    const MatrixView columns_of_panel = matrix.from_column(j);
    if (matrix.row_stride == 1 && matrix.rows == nullptr && width == kPanel) {
      HWY_DYNAMIC_DISPATCH(pack_columns)(columns_of_panel.at, matrix.column_stride, inner, to);
      to += inner * kPanel;
      continue;
    }
    for (std::size_t k = 0; k < inner; ++k, to += kPanel) {
      const float* from = columns_of_panel.row(k);
      if (matrix.column_stride == 1 && width == kPanel) {
        std::memcpy(to, from, kPanel * sizeof(float));
        continue;
      }
      for (std::size_t c = 0; c < width; ++c) to[c] = from[c * matrix.column_stride];
      std::fill(to + width, to + kPanel, 0.0F);
    }
  }
}

void product(const MatrixView& left, std::size_t rows, const PackedFactor& right, float* out,
             std::size_t out_stride, Sum sum) noexcept {
  HWY_DYNAMIC_DISPATCH(product_all)
  (left, rows, right.data(), right.inner(), right.columns(), out, out_stride, sum == Sum::kAdd);
}

void product(const MatrixView& left, std::size_t rows, const PackedFactor& right, const float* bias,
             float* out, std::size_t out_stride) noexcept {
  HWY_DYNAMIC_DISPATCH(product_biased)
  (left, rows, right.data(), right.inner(), right.columns(), bias, out, out_stride);
}

const float* PackedFactor::column(std::size_t j) const noexcept {
  return panels_.get() + j / kPanel * kPanel * inner_ + j % kPanel;
}

void products_at(const float* row, std::size_t inner, std::span<const float* const> columns,
                 float* out) noexcept {
  HWY_DYNAMIC_DISPATCH(products_of_columns)(row, inner, columns.data(), columns.size(), out);
}

void count_products(const MatrixView& left, std::size_t rows, const PackedFactor& right,
                    const float* limits, std::uint32_t* above, std::uint32_t* equal) noexcept {
  HWY_DYNAMIC_DISPATCH(count_products_all)
  (left, rows, right.data(), right.inner(), right.columns(), limits, above, equal);
}

void long_product(const MatrixView& left, std::size_t rows, const MatrixView& right,
                  std::size_t inner, std::size_t columns, float* out, std::size_t out_stride,
                  PackedFactor& scratch) {
  std::size_t k = 0;
  do {  // once even without an inner index: the sums are 0 then
    const std::size_t some = std::min(kInnerStretch, inner - k);
    scratch.pack(right.from_row(k), some, columns);
    product(left.from_column(k), rows, scratch, out, out_stride,
            k == 0 ? Sum::kReplace : Sum::kAdd);
    k += some;
  } while (k < inner);
}

}  // namespace theriac::nn
#endif
