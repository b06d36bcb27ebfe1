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

// One row against the panel's columns [c, c + 2 lanes).
template <bool kAdd>
HWY_INLINE void one_row(const float* HWY_RESTRICT a, std::size_t a_step,
                        const float* HWY_RESTRICT panel, std::size_t inner,
                        float* HWY_RESTRICT out) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  auto s = kAdd ? hn::LoadU(d, out) : hn::Zero(d);
  auto t = kAdd ? hn::LoadU(d, out + lanes) : hn::Zero(d);
  for (std::size_t k = 0; k < inner; ++k, a += a_step, panel += kPanel) {
    const auto x = hn::Set(d, *a);
    s = hn::MulAdd(x, hn::LoadU(d, panel), s);
    t = hn::MulAdd(x, hn::LoadU(d, panel + lanes), t);
  }
  hn::StoreU(s, d, out);
  hn::StoreU(t, d, out + lanes);
}

// Six rows at once. The sums have names because an array of vectors may not stay in registers.
template <bool kAdd>
HWY_INLINE void six_rows(const MatrixView& a, std::size_t i, std::size_t a_step,
                         const float* HWY_RESTRICT panel, std::size_t inner,
                         float* HWY_RESTRICT out, std::size_t out_row) {
  const Lanes d;
  const std::size_t lanes = hn::Lanes(d);
  const float *a0 = a.row(i), *a1 = a.row(i + 1), *a2 = a.row(i + 2), *a3 = a.row(i + 3),
              *a4 = a.row(i + 4), *a5 = a.row(i + 5);
  float *o0 = out, *o1 = o0 + out_row, *o2 = o1 + out_row, *o3 = o2 + out_row, *o4 = o3 + out_row,
        *o5 = o4 + out_row;
  const auto start = [&](const float* o) { return kAdd ? hn::LoadU(d, o) : hn::Zero(d); };
  auto s0 = start(o0), s1 = start(o1), s2 = start(o2), s3 = start(o3), s4 = start(o4),
       s5 = start(o5);
  auto t0 = start(o0 + lanes), t1 = start(o1 + lanes), t2 = start(o2 + lanes),
       t3 = start(o3 + lanes), t4 = start(o4 + lanes), t5 = start(o5 + lanes);
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
  const auto end = [&](auto s, auto t, float* o) HWY_ATTR {
    hn::StoreU(s, d, o);
    hn::StoreU(t, d, o + lanes);
  };
  end(s0, t0, o0);
  end(s1, t1, o1);
  end(s2, t2, o2);
  end(s3, t3, o3);
  end(s4, t4, o4);
  end(s5, t5, o5);
}

template <bool kAdd>
HWY_INLINE void rows_by_panel(const MatrixView& a, std::size_t first, std::size_t a_step,
                              std::size_t rows, const float* panel, std::size_t inner, float* out,
                              std::size_t out_row) {
  const std::size_t width = 2 * hn::Lanes(Lanes());
  for (std::size_t c = 0; c < kPanel; c += width) {
    std::size_t i = 0;
    for (; i + 6 <= rows; i += 6) {
      six_rows<kAdd>(a, first + i, a_step, panel + c, inner, out + i * out_row + c, out_row);
    }
    for (; i < rows; ++i) {
      one_row<kAdd>(a.row(first + i), a_step, panel + c, inner, out + i * out_row + c);
    }
  }
}

// The last panel's columns that do not exist are computed beside the output and left there.
template <bool kAdd>
HWY_INLINE void narrow_panel(const MatrixView& a, std::size_t first, std::size_t a_step,
                             std::size_t rows, const float* panel, std::size_t inner, float* out,
                             std::size_t out_row, std::size_t columns) {
  HWY_ALIGN float wide[6 * kPanel] = {};
  for (std::size_t i = 0; i < rows; i += 6) {
    const std::size_t some = rows - i < 6 ? rows - i : 6;
    if (kAdd) {
      for (std::size_t r = 0; r < some; ++r)
        std::memcpy(wide + r * kPanel, out + (i + r) * out_row, columns * sizeof(float));
    }
    rows_by_panel<kAdd>(a, first + i, a_step, some, panel, inner, wide, kPanel);
    for (std::size_t r = 0; r < some; ++r)
      std::memcpy(out + (i + r) * out_row, wide + r * kPanel, columns * sizeof(float));
  }
}

template <bool kAdd>
HWY_INLINE void all_panels(const MatrixView& a, std::size_t a_step, std::size_t rows,
                           const float* panels, std::size_t inner, std::size_t columns, float* out,
                           std::size_t out_row) {
  // Rows in stretches that stay in the first-level cache while every panel passes over them.
  constexpr std::size_t kStretch = 48;
  for (std::size_t i = 0; i < rows; i += kStretch) {
    const std::size_t some = rows - i < kStretch ? rows - i : kStretch;
    const float* panel = panels;
    for (std::size_t j = 0; j < columns; j += kPanel, panel += inner * kPanel) {
      float* to = out + i * out_row + j;
      if (columns - j >= kPanel) {
        rows_by_panel<kAdd>(a, i, a_step, some, panel, inner, to, out_row);
      } else {
        narrow_panel<kAdd>(a, i, a_step, some, panel, inner, to, out_row, columns - j);
      }
    }
  }
}

void product_all(const MatrixView& left, std::size_t rows, const float* panels, std::size_t inner,
                 std::size_t columns, float* out, std::size_t out_row, bool add) {
  if (add) {
    all_panels<true>(left, left.column_stride, rows, panels, inner, columns, out, out_row);
  } else {
    all_panels<false>(left, left.column_stride, rows, panels, inner, columns, out, out_row);
  }
}

}  // namespace theriac::nn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace theriac::nn {

HWY_EXPORT(product_all);

namespace {

constexpr std::size_t kPanel = 16;
// A panel of a stretch fills half of a first-level cache.
constexpr auto kInnerStretch = static_cast<std::size_t>(kLongProductStretch);

}  // namespace

void PackedFactor::pack(const MatrixView& matrix, std::size_t inner, std::size_t columns) {
  inner_ = inner;
  columns_ = columns;
  panels_.resize((columns + kPanel - 1) / kPanel * kPanel * inner);
  float* to = panels_.data();
  for (std::size_t j = 0; j < columns; j += kPanel) {
    const std::size_t width = std::min(kPanel, columns - j);
    const MatrixView columns_of_panel = matrix.from_column(j);
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
