#include "cpp/core/tensorfile/low_rank.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpp/core/tensorfile/low_rank.cpp"
#include <hwy/foreach_target.h>  // re-includes this file once a target
//
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace theriac::tensorfile::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

struct Product {
  const float* left;
  const float* right;
  std::size_t rank, right_stride;
  float scale;
  float* out;
  std::size_t out_stride;
};

// One tile of kRows rows and one vector of columns, its sums in registers.
template <std::size_t kRows, class D>
HWY_INLINE void add_tile(D d, const Product& p, std::size_t row, std::size_t column) {
  using V = hn::VFromD<D>;
  V sums[kRows];
  for (std::size_t i = 0; i < kRows; ++i) sums[i] = hn::Zero(d);
  const float* left = p.left + row * p.rank;
  const float* right = p.right + column;
  for (std::size_t k = 0; k < p.rank; ++k, right += p.right_stride) {
    const V values = hn::LoadU(d, right);
    for (std::size_t i = 0; i < kRows; ++i) {
      sums[i] = hn::Add(sums[i], hn::Mul(hn::Set(d, left[i * p.rank + k]), values));
    }
  }
  for (std::size_t i = 0; i < kRows; ++i) {
    float* const out = p.out + (row + i) * p.out_stride + column;
    hn::StoreU(hn::Add(hn::LoadU(d, out), hn::Mul(hn::Set(d, p.scale), sums[i])), d, out);
  }
}

template <std::size_t kRows>
HWY_INLINE void add_rows(const Product& p, std::size_t row, std::size_t columns) {
  const hn::CappedTag<float, 16> wide;
  const hn::CappedTag<float, 1> single;
  const std::size_t lanes = hn::Lanes(wide);
  std::size_t column = 0;
  for (; column + lanes <= columns; column += lanes) add_tile<kRows>(wide, p, row, column);
  for (; column < columns; ++column) add_tile<kRows>(single, p, row, column);
}

void add_all(const Product& p, std::size_t rows, std::size_t columns) {
  constexpr std::size_t kRows = 8;  // each value of `right` that is loaded serves so many rows
  std::size_t row = 0;
  for (; row + kRows <= rows; row += kRows) add_rows<kRows>(p, row, columns);
  for (; row < rows; ++row) add_rows<1>(p, row, columns);
}

void add_product_on(const float* left, const float* right, std::size_t rank,
                    std::size_t right_stride, float scale, std::size_t rows, std::size_t columns,
                    float* out, std::size_t out_stride) {
  add_all({left, right, rank, right_stride, scale, out, out_stride}, rows, columns);
}

}  // namespace theriac::tensorfile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace theriac::tensorfile {

HWY_EXPORT(add_product_on);

void add_product(const float* left, const float* right, std::size_t rank, std::size_t right_stride,
                 float scale, std::size_t rows, std::size_t columns, float* out,
                 std::size_t out_stride) {
  HWY_DYNAMIC_DISPATCH(add_product_on)
  (left, right, rank, right_stride, scale, rows, columns, out, out_stride);
}

}  // namespace theriac::tensorfile
#endif  // HWY_ONCE
