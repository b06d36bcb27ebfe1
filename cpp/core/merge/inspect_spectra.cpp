#include "cpp/core/merge/inspect_spectra.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>

namespace theriac::merge {
namespace {

using Matrix = Eigen::MatrixXd;
using Index = Eigen::Index;

Matrix matrix_of(const std::vector<double>& values, Index rows, Index columns) {
  using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  return Eigen::Map<const RowMajor>(values.data(), rows, columns);
}

Eigen::BDCSVD<Matrix> singular(const Matrix& matrix) {
  return {matrix, Eigen::ComputeThinU | Eigen::ComputeThinV};
}

// The top factors of all matrices side by side.
struct Factors {
  Matrix u, v;  // [rows, rank * matrices], [columns, rank * matrices]
  Eigen::VectorXd values;
};

// U'U - I of matrices whose columns have unit length.
Matrix off_diagonal(const Matrix& vectors) {
  Matrix gram = vectors.transpose() * vectors;
  gram.diagonal().array() -= 1;
  return gram;
}

}  // namespace

SpectralAgreement spectral_agreement(std::span<const std::vector<double>> matrices,
                                     std::size_t rows, std::size_t columns, std::size_t rank) {
  const auto m = static_cast<Index>(rows), n = static_cast<Index>(columns);
  const std::size_t side = std::min(rows, columns);
  SpectralAgreement out;
  out.rank = std::clamp<std::size_t>(
      rank == 0 ? side / std::max<std::size_t>(1, matrices.size()) : rank, 1, side);
  const auto k = static_cast<Index>(out.rank), count = static_cast<Index>(matrices.size());

  Factors factors{Matrix(m, k * count), Matrix(n, k * count), Eigen::VectorXd(k * count)};
  Matrix sum = Matrix::Zero(m, n);
  for (Index i = 0; i < count; ++i) {
    const Matrix tau = matrix_of(matrices[static_cast<std::size_t>(i)], m, n);
    sum += tau;
    const auto svd = singular(tau);
    factors.u.middleCols(i * k, k) = svd.matrixU().leftCols(k);
    factors.v.middleCols(i * k, k) = svd.matrixV().leftCols(k);
    factors.values.segment(i * k, k) = svd.singularValues().head(k);
  }
  out.interference =
      (off_diagonal(factors.u) * factors.values.asDiagonal() * off_diagonal(factors.v))
          .cwiseAbs()
          .sum();

  const Matrix top = singular(sum).matrixU().leftCols(k);
  for (const std::vector<double>& values : matrices) {
    const Matrix tau = matrix_of(values, m, n);
    const double norm = tau.norm();
    out.alignment.push_back(norm > 0 ? (top.transpose() * tau).norm() / norm
                                     : std::numeric_limits<double>::quiet_NaN());
  }
  return out;
}

}  // namespace theriac::merge
