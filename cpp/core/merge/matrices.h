// Dense linear algebra for what decomposes matrices, in float64, on Eigen. Its decompositions are
// instantiated here alone: they are slow to compile.
#pragma once

#include <Eigen/Dense>

namespace theriac::merge {

using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;

// a = u diag(s) v^T with r = min(rows, columns) values, descending.
struct Svd {
  Matrix u, v;  // [rows, r], [columns, r]
  Vector s;
};
Svd svd_of(const Matrix& a);

// u v^T of a's decomposition, over the singular values that are not zero to rounding: the nearest
// matrix with orthonormal columns where a has full rank, a partial isometry elsewhere.
Matrix polar_of(const Svd& svd);
Matrix polar_of(const Matrix& a);

// Orthonormal columns that span those of a [n, m], n >= m.
Matrix orthonormal(const Matrix& a);

// Eigenvectors [n, r] of a symmetric positive semidefinite matrix with their values, descending.
struct Eigenpairs {
  Matrix vectors;
  Vector values;
};
Eigenpairs eigenpairs_of(const Matrix& a);

// x a^+ for a symmetric positive semidefinite a: Cholesky where a is definite, else over the
// eigenvalues that are not zero to rounding.
Matrix solved_from_right(const Matrix& a, const Matrix& x);

}  // namespace theriac::merge
