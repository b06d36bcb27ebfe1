#include "cpp/core/merge/matrices.h"

#include <algorithm>
#include <cmath>

namespace theriac::merge {
namespace {

// What is zero to rounding, beside the largest.
constexpr double kZeroValue = 1e-12;

}  // namespace

Svd svd_of(const Matrix& a) {
  const Eigen::BDCSVD<Matrix> svd(a, Eigen::ComputeThinU | Eigen::ComputeThinV);
  return {svd.matrixU(), svd.matrixV(), svd.singularValues()};
}

Matrix polar_of(const Matrix& a) { return a.size() == 0 ? a : polar_of(svd_of(a)); }

Matrix polar_of(const Svd& svd) {
  Eigen::Index rank = 0;
  while (rank < svd.s.size() && svd.s[rank] > kZeroValue * svd.s[0]) ++rank;
  return svd.u.leftCols(rank) * svd.v.leftCols(rank).transpose();
}

Matrix orthonormal(const Matrix& a) {
  const Eigen::HouseholderQR<Matrix> qr(a);
  return qr.householderQ() * Matrix::Identity(a.rows(), a.cols());
}

Eigenpairs eigenpairs_of(const Matrix& a) {
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(a);
  return {solver.eigenvectors().rowwise().reverse(), solver.eigenvalues().reverse()};
}

Matrix solved_from_right(const Matrix& a, const Matrix& x) {
  const Eigen::LLT<Matrix> cholesky(a);
  if (cholesky.info() == Eigen::Success && cholesky.rcond() > kZeroValue) {
    return cholesky.solve(x.transpose()).transpose();
  }
  const Eigenpairs pairs = eigenpairs_of(a);
  Eigen::Index rank = 0;
  while (rank < pairs.values.size() && pairs.values[rank] > kZeroValue * pairs.values[0]) ++rank;
  const auto basis = pairs.vectors.leftCols(rank);
  return (x * basis) * pairs.values.head(rank).cwiseInverse().asDiagonal() * basis.transpose();
}

}  // namespace theriac::merge
