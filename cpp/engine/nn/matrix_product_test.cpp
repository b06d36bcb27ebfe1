#include "cpp/engine/nn/matrix_product.h"

#include <gtest/gtest.h>

#include <cstring>

#include "cpp/engine/tensor/tensor.h"

namespace theriac::nn {
namespace {

at::Tensor filled(at::IntArrayRef shape, const std::string& purpose) {
  const at::Tensor tensor = at::empty(shape);
  tensor::fill_uniform(tensor, -1, 1, 5, purpose);
  return tensor;
}

MatrixView view(const at::Tensor& matrix) {
  return {matrix.const_data_ptr<float>(), static_cast<std::size_t>(matrix.stride(0)),
          static_cast<std::size_t>(matrix.stride(1))};
}

float* data(const at::Tensor& matrix) { return matrix.mutable_data_ptr<float>(); }

struct Shape {
  std::int64_t rows, inner, columns;
};

const Shape kShapes[] = {{1, 1, 1},    {5, 3, 2},     {6, 7, 16},    {7, 1, 17},   {13, 128, 128},
                         {49, 33, 31}, {100, 16, 48}, {3, 300, 130}, {0, 4, 4},    {4, 4, 0},
                         {4, 0, 5},    {48, 513, 16}, {97, 256, 1},  {12, 257, 20}};

// Every mix of transposed factors, against LibTorch in float64.
TEST(MatrixProduct, AgreesWithLibTorch) {
  for (const Shape& shape : kShapes) {
    for (const bool left_t : {false, true}) {
      for (const bool right_t : {false, true}) {
        at::Tensor a = left_t ? filled({shape.inner, shape.rows}, "a").t()
                              : filled({shape.rows, shape.inner}, "a");
        at::Tensor b = right_t ? filled({shape.columns, shape.inner}, "b").t()
                               : filled({shape.inner, shape.columns}, "b");
        const at::Tensor expected = at::mm(a.to(at::kDouble), b.to(at::kDouble));
        const auto rows = static_cast<std::size_t>(shape.rows);
        const auto columns = static_cast<std::size_t>(shape.columns);
        PackedFactor factor;
        factor.pack(view(b), static_cast<std::size_t>(shape.inner), columns);
        // Two more columns, which must stay as they are.
        const at::Tensor out = at::full({shape.rows, shape.columns + 2}, 7.0F);
        product(view(a), rows, factor, data(out), columns + 2);
        const at::Tensor got = out.narrow(1, 0, shape.columns);
        const double bound = 1e-6 * static_cast<double>(shape.inner + 1);
        EXPECT_TRUE(at::allclose(got.to(at::kDouble), expected, 0, bound))
            << shape.rows << " " << shape.inner << " " << shape.columns;
        product(view(a), rows, factor, data(out), columns + 2, Sum::kAdd);
        EXPECT_TRUE(at::allclose(got.to(at::kDouble), 2 * expected, 0, 3 * bound));
        EXPECT_TRUE(out.narrow(1, shape.columns, 2).eq(7).all().item<bool>());
        PackedFactor scratch;
        out.fill_(7);
        long_product(view(a), rows, view(b), static_cast<std::size_t>(shape.inner), columns,
                     data(out), columns + 2, scratch);
        EXPECT_TRUE(at::allclose(got.to(at::kDouble), expected, 0, bound));
        EXPECT_TRUE(out.narrow(1, shape.columns, 2).eq(7).all().item<bool>());
      }
    }
  }
}

// Sums that start at a bias, single elements and counts all have the product's own bits.
TEST(MatrixProduct, BiasElementsAndCounts) {
  for (const Shape& shape : kShapes) {
    const at::Tensor a = filled({shape.rows, shape.inner}, "a");
    at::Tensor b = filled({shape.inner, shape.columns}, "b");
    if (shape.columns > 2) b.select(1, 1).copy_(b.select(1, shape.columns - 1));  // equal scores
    const auto rows = static_cast<std::size_t>(shape.rows);
    const auto columns = static_cast<std::size_t>(shape.columns);
    PackedFactor factor;
    factor.pack(view(b), static_cast<std::size_t>(shape.inner), columns);
    const at::Tensor plain = at::empty({shape.rows, shape.columns});
    product(view(a), rows, factor, data(plain), columns);

    const at::Tensor bias = filled({shape.columns}, "bias");
    const at::Tensor added = bias.expand({shape.rows, shape.columns}).clone();
    product(view(a), rows, factor, data(added), columns, Sum::kAdd);
    const at::Tensor biased = at::full({shape.rows, shape.columns + 2}, 7.0F);
    product(view(a), rows, factor, data(bias), data(biased), columns + 2);
    EXPECT_TRUE(biased.narrow(1, 0, shape.columns).equal(added));
    EXPECT_TRUE(biased.narrow(1, shape.columns, 2).eq(7).all().item<bool>());

    std::vector<float> limits(rows);
    std::vector<std::uint32_t> above(rows, 3), equal(rows, 5);
    for (std::size_t i = 0; i < rows; ++i) {
      const auto row = static_cast<std::int64_t>(i);
      std::vector<const float*> each(columns);
      std::vector<float> found(columns);
      for (std::size_t j = 0; j < columns; ++j) each[j] = factor.column(columns - 1 - j);
      products_at(data(a) + i * factor.inner(), factor.inner(), each, found.data());
      for (std::size_t j = 0; j < columns; ++j)
        EXPECT_EQ(found[j], plain[row][static_cast<std::int64_t>(columns - 1 - j)].item<float>());
      if (columns > 0) limits[i] = plain[row][shape.columns - 1].item<float>();
    }
    count_products(view(a), rows, factor, limits.data(), above.data(), equal.data());
    for (std::size_t i = 0; i < rows; ++i) {
      const at::Tensor row = plain[static_cast<std::int64_t>(i)];
      EXPECT_EQ(above[i] - 3, row.gt(limits[i]).sum().item<std::int64_t>()) << columns;
      EXPECT_EQ(equal[i] - 5, row.eq(limits[i]).sum().item<std::int64_t>()) << columns;
    }
  }
}

TEST(MatrixProduct, RowsMayBePicked) {
  const at::Tensor a = filled({9, 40}, "a"), b = filled({30, 20}, "b");
  const std::vector<std::int64_t> left = {8, 0, 0, 3, 5, 1, 7, 2}, right(40, 4);
  const at::Tensor picked = a.index_select(0, at::tensor(left));
  MatrixView a_view = view(a), b_view = view(b);
  a_view.rows = left.data();
  b_view.rows = right.data();
  PackedFactor factor;
  factor.pack(b_view, 40, 20);
  const at::Tensor out = at::empty({8, 20});
  product(a_view, 8, factor, data(out), 20);
  const at::Tensor expected = at::mm(picked, b.index_select(0, at::tensor(right)));
  EXPECT_TRUE(at::allclose(out, expected, 1e-5, 1e-5));
  PackedFactor scratch;
  const at::Tensor gradient = at::empty({20, 40});  // of 7 rows: right^T left
  const at::Tensor g = filled({7, 20}, "g");
  long_product(view(g).transposed(), 20, a_view.from_row(1), 7, 40, data(gradient), 40, scratch);
  EXPECT_TRUE(at::allclose(gradient, at::mm(g.t(), picked.narrow(0, 1, 7)), 1e-5, 1e-5));
}

// Members of a team compute parts: their bits must be those of one call.
TEST(MatrixProduct, PartsHaveTheBitsOfTheWhole) {
  const at::Tensor a = filled({61, 300}, "a"), b = filled({300, 70}, "b");
  PackedFactor scratch;
  const at::Tensor whole = at::empty({61, 70}), parts = at::empty({61, 70});
  long_product(view(a), 61, view(b), 300, 70, data(whole), 70, scratch);
  for (const std::int64_t row : {0, 1, 8, 40}) {
    const std::int64_t last = row == 0 ? 1 : row == 1 ? 8 : row == 8 ? 40 : 61;
    for (const std::int64_t column : {0, 16, 48}) {
      const std::int64_t end = column == 0 ? 16 : column == 16 ? 48 : 70;
      long_product(view(a.narrow(0, row, last - row)), static_cast<std::size_t>(last - row),
                   view(b.narrow(1, column, end - column)), 300,
                   static_cast<std::size_t>(end - column), data(parts) + row * 70 + column, 70,
                   scratch);
    }
  }
  EXPECT_EQ(std::memcmp(data(whole), data(parts), 61 * 70 * sizeof(float)), 0);
}

}  // namespace
}  // namespace theriac::nn
