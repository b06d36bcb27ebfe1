// Products of small float32 matrices for training loops that keep their own memory: no dispatcher,
// no thread pool, and a factor that several threads or products use is repacked once.
//
// An element is one chain of multiply-adds over the inner index in ascending order, whatever rows
// or columns are asked for together: results do not depend on how work is split. SIMD with run-time
// dispatch by Highway; bench/matrix_product_bench.cpp has it beside LibTorch's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace theriac::nn {

// A strided view of a matrix: element (i, j) is at[i * row_stride + j * column_stride]; with `rows`,
// row i is the rows[i]-th one that the strides lead to, so that nothing has to be gathered first.
struct MatrixView {
  const float* at = nullptr;
  std::size_t row_stride = 0, column_stride = 1;
  const std::int64_t* rows = nullptr;

  const float* row(std::size_t i) const {
    return at + (rows == nullptr ? i : static_cast<std::size_t>(rows[i])) * row_stride;
  }
  // Of a view without `rows`.
  MatrixView transposed() const { return {at, column_stride, row_stride}; }
  MatrixView from_row(std::size_t first) const {
    return rows == nullptr ? MatrixView{at + first * row_stride, row_stride, column_stride}
                           : MatrixView{at, row_stride, column_stride, rows + first};
  }
  MatrixView from_column(std::size_t first) const {
    return {at + first * column_stride, row_stride, column_stride, rows};
  }
};

// The right-hand factor, [inner, columns], in panels as wide as the kernel's tile; reuses its
// memory. Packing is not thread-safe, using it is.
class PackedFactor {
 public:
  void pack(const MatrixView& matrix, std::size_t inner, std::size_t columns);
  std::size_t inner() const noexcept { return inner_; }
  std::size_t columns() const noexcept { return columns_; }
  const float* data() const noexcept { return panels_.get(); }
  const float* column(std::size_t j) const noexcept;  // for products_at

 private:
  std::size_t inner_ = 0, columns_ = 0, room_ = 0;
  std::unique_ptr<float[]> panels_;  // every element is written by `pack`
};

enum class Sum { kReplace, kAdd };

// out[i, j] = (kAdd: out[i, j] +) sum_k left[i, k] right[k, j] for `rows` rows i. `out` rows are
// `out_stride` apart and contiguous; it overlaps neither factor.
void product(const MatrixView& left, std::size_t rows, const PackedFactor& right, float* out,
             std::size_t out_stride, Sum sum = Sum::kReplace) noexcept;

// The same with sums that start at bias[j]; bias: [right.columns()].
void product(const MatrixView& left, std::size_t rows, const PackedFactor& right, const float* bias,
             float* out, std::size_t out_stride) noexcept;

// Elements of one row's product, the same bits as `product` gives them: out[i] of columns[i], which is
// PackedFactor::column of some factor with `inner` rows. row: [inner].
void products_at(const float* row, std::size_t inner, std::span<const float* const> columns,
                 float* out) noexcept;

// How many elements of row i's product are above limits[i], and how many equal it, added to above[i]
// and equal[i]; the product itself is not kept.
void count_products(const MatrixView& left, std::size_t rows, const PackedFactor& right,
                    const float* limits, std::uint32_t* above, std::uint32_t* equal) noexcept;

// Of a long inner index, packed at a time.
inline constexpr int kLongProductStretch = 256;

// The same with a long inner index, such as a weight's gradient over the rows of a batch: `right`
// [inner, columns] is packed a stretch at a time into `scratch`, which
// allocates nothing once it has held a stretch as wide.
void long_product(const MatrixView& left, std::size_t rows, const MatrixView& right,
                  std::size_t inner, std::size_t columns, float* out, std::size_t out_stride,
                  PackedFactor& scratch);

}  // namespace theriac::nn
