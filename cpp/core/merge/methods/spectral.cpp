// Methods that work on the singular values of the differences d_i of the models from the base, matrix
// by matrix. Tensors that are no matrices, and those with `average`, get the mean of the differences.
//
// tsv_m: Gargiulo et al., "Task Singular Vectors", arXiv 2412.00081: of each of n tasks the first
//     floor(r / n) singular triplets; their left and right vectors side by side, each replaced by the
//     nearest orthonormal ones: out = base + lambda U diag(s) V^T
// iso_c: Marczak et al., "No Task Left Behind", arXiv 2502.04959: sum_i d_i with all its singular
//     values replaced by their mean
// iso_cts: the same: c common triplets of sum_i d_i, then of each task what is orthogonal to these,
//     k triplets, with n k + c = r; made orthonormal, all values replaced by their mean
// star: Lee et al., "STAR", arXiv 2502.10339: of each task the fewest triplets that hold the share eta
//     of the sum of singular values, scaled back to that sum; then the mean
// wudi: Cheng et al., "WUDI-Merging", arXiv 2503.08099: minimises
//     L(x) = sum_i ||(x - d_i) d_i^T||^2 / ||d_i||^2
//   from sum_i d_i on by Adam, as published (it stops far from the minimum), or exactly:
//     x = (sum_i d_i A_i)(sum_i A_i)^+ with A_i = d_i^T d_i / ||d_i||^2
//
// Decompositions are in float64 on one core; a matrix of 1024 columns takes seconds, of 4096 minutes.
// They are to move to LibTorch, and with it to GPUs, where that is measured to be faster.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "cpp/core/merge/methods/difference.h"
#include "cpp/core/merge/methods/difference_matrix.h"
#include "cpp/core/merge/methods/methods.h"
#include "cpp/core/merge/methods/rounding.h"

namespace theriac::merge::methods {
namespace {

using Differences = std::vector<Matrix>;
using MergeMatrices = Matrix (*)(const TensorContext&, const Differences&);

struct Family {
  std::string_view name;
  MergeMatrices merge;
  // What is held at once beside one matrix a model: matrices of the tensor's size, and squares of
  // its smaller side or, where `by_columns`, of its second.
  std::uint64_t matrices = 6, squares = 3;
  bool by_columns = false;
};

class Spectral final : public TensorMerge {
 public:
  Spectral(const TensorContext& context, const Family& family)
      : context_(context),
        family_(family),
        decomposes_(is_matrix(context) && !context.parameters->flag("average") &&
                    context.models() > 0),
        lambda_(context.parameters->number("lambda")) {}

  Granularity granularity() const override {
    return decomposes_ ? Granularity::kTensor : Granularity::kElements;
  }
  std::uint64_t workspace() const override {
    if (!decomposes_) return 0;
    const std::uint64_t rows = context_.shape[0], columns = context_.shape[1];
    const std::uint64_t side = family_.by_columns ? columns : std::min(rows, columns);
    return sizeof(double) * ((context_.models() + family_.matrices) * rows * columns +
                             family_.squares * side * side);
  }

  void apply(const Block& block, float* out) const override {
    if (decomposes_) {
      merge_matrices(block, out);
    } else {
      move_by_mean(block, lambda_, out);
    }
    round_all(context_, out, block.count);
  }

 private:
  void merge_matrices(const Block& block, float* out) const {
    Differences differences;
    for (std::size_t m = 0; m < context_.models(); ++m) {
      differences.push_back(difference_matrix(family_.name, context_, block, m));
    }
    const Matrix merged = family_.merge(context_, differences);
    const auto columns = static_cast<std::size_t>(merged.cols());
    for (std::size_t i = 0; i < block.count; ++i) {
      const double change =
          merged(static_cast<Eigen::Index>(i / columns), static_cast<Eigen::Index>(i % columns));
      out[i] = moved(block.base[i], lambda_ * change);
    }
  }

  TensorContext context_;
  Family family_;
  bool decomposes_;
  double lambda_;
};

Matrix sum_of(const Differences& differences) {
  Matrix out = differences.front();
  for (std::size_t i = 1; i < differences.size(); ++i) out += differences[i];
  return out;
}

// Singular triplets side by side.
struct Triplets {
  Matrix u, v;
  Vector s;
  Eigen::Index count = 0;

  Triplets(const Matrix& a, Eigen::Index room) : u(a.rows(), room), v(a.cols(), room), s(room) {}
  void add(const Svd& svd, Eigen::Index first) {
    u.middleCols(count, first) = svd.u.leftCols(first);
    v.middleCols(count, first) = svd.v.leftCols(first);
    s.segment(count, first) = svd.s.head(first);
    count += first;
  }
};

// ---- tsv_m -------------------------------------------------------------------------------------

// Columns that r does not share out evenly would stay zero: there are none.
Matrix tsv_m(const TensorContext& /*context*/, const Differences& differences) {
  const Matrix& first = differences.front();
  const auto tasks = static_cast<Eigen::Index>(differences.size());
  const Eigen::Index share = std::min(first.rows(), first.cols()) / tasks;
  Triplets all(first, share * tasks);
  if (share == 0) return Matrix::Zero(first.rows(), first.cols());
  for (const Matrix& difference : differences) all.add(svd_of(difference), share);
  return polar_of(all.u) * all.s.asDiagonal() * polar_of(all.v).transpose();
}

// ---- iso_c and iso_cts -------------------------------------------------------------------------

Matrix iso_c(const TensorContext& /*context*/, const Differences& differences) {
  const Svd svd = svd_of(sum_of(differences));
  return svd.s.mean() * polar_of(svd);
}

// Triplets of each task. r - c is rounded to a multiple of n, half to even; where that is more than
// there are, down.
Eigen::Index task_triplets(Eigen::Index rank, double common_share, Eigen::Index tasks) {
  const auto common = static_cast<Eigen::Index>(static_cast<double>(rank) * common_share);
  const double share = static_cast<double>(rank - common) / static_cast<double>(tasks);
  const auto rounded = static_cast<Eigen::Index>(std::nearbyint(share));
  return rounded * tasks > rank ? static_cast<Eigen::Index>(share) : rounded;
}

Matrix iso_cts(const TensorContext& context, const Differences& differences) {
  const Matrix sum = sum_of(differences);
  const Eigen::Index rank = std::min(sum.rows(), sum.cols());
  const auto tasks = static_cast<Eigen::Index>(differences.size());
  const Eigen::Index own =
      task_triplets(rank, context.parameters->number("common_fraction"), tasks);
  const Eigen::Index common = rank - own * tasks;
  const Svd shared = svd_of(sum);
  const Matrix basis = shared.u.leftCols(common);
  Triplets all(sum, rank);
  for (const Matrix& difference : differences) {
    if (own > 0) all.add(svd_of(difference - basis * (basis.transpose() * difference)), own);
  }
  all.add(shared, common);
  return all.s.mean() * (polar_of(all.u) * polar_of(all.v).transpose());
}

// ---- star --------------------------------------------------------------------------------------

Matrix star(const TensorContext& context, const Differences& differences) {
  const double eta = context.parameters->number("eta");
  Matrix out = Matrix::Zero(differences.front().rows(), differences.front().cols());
  for (const Matrix& difference : differences) {
    const Svd svd = svd_of(difference);
    const double all = svd.s.sum();
    if (all == 0) continue;
    Eigen::Index rank = 0;
    double kept = 0;
    while (rank < svd.s.size() && (rank == 0 || kept < eta * all)) kept += svd.s[rank++];
    out += (all / kept) * (svd.u.leftCols(rank) * svd.s.head(rank).asDiagonal() *
                           svd.v.leftCols(rank).transpose());
  }
  return out / static_cast<double>(differences.size());
}

// ---- wudi --------------------------------------------------------------------------------------

// sum A_i and sum d_i A_i.
struct Quadratic {
  Matrix a, b;
};
Quadratic quadratic_of(const Differences& differences) {
  const Matrix& first = differences.front();
  Quadratic out{Matrix::Zero(first.cols(), first.cols()), Matrix::Zero(first.rows(), first.cols())};
  for (const Matrix& d : differences) {
    const double norm = d.squaredNorm();
    if (norm == 0) continue;
    const Matrix own = d.transpose() * d / norm;
    out.a += own;
    out.b += d * own;
  }
  return out;
}

// Kingma & Ba, "Adam", arXiv 1412.6980.
Matrix adam(Matrix x, const Quadratic& q, std::int64_t steps, double rate) {
  constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;
  Matrix mean = Matrix::Zero(x.rows(), x.cols()), square = mean;
  double power1 = 1, power2 = 1;
  for (std::int64_t step = 0; step < steps; ++step) {
    const Matrix gradient = 2 * (x * q.a - q.b);
    power1 *= kBeta1;
    power2 *= kBeta2;
    mean = kBeta1 * mean + (1 - kBeta1) * gradient;
    square = kBeta2 * square + (1 - kBeta2) * gradient.cwiseAbs2();
    x.array() -=
        rate / (1 - power1) * mean.array() / ((square.array() / (1 - power2)).sqrt() + kEpsilon);
  }
  return x;
}

Matrix wudi(const TensorContext& context, const Differences& differences) {
  const Quadratic q = quadratic_of(differences);
  if (context.parameters->text("solver") == "exact") {
    if (q.a.isZero(0)) return q.b;
    return solved_from_right(q.a, q.b);
  }
  const auto steps = static_cast<std::int64_t>(context.parameters->number("iterations"));
  return adam(sum_of(differences), q, steps, context.parameters->number("learning_rate"));
}

}  // namespace

Made make_tsv_m(const TensorContext& context) {
  return std::make_unique<Spectral>(context, Family{"tsv_m", tsv_m});
}
Made make_iso_c(const TensorContext& context) {
  return std::make_unique<Spectral>(context, Family{"iso_c", iso_c});
}
Made make_iso_cts(const TensorContext& context) {
  return std::make_unique<Spectral>(context, Family{"iso_cts", iso_cts, 9});
}
Made make_star(const TensorContext& context) {
  return std::make_unique<Spectral>(context, Family{"star", star});
}
Made make_wudi(const TensorContext& context) {
  return std::make_unique<Spectral>(context, Family{"wudi", wudi, 6, 4, true});
}

}  // namespace theriac::merge::methods
