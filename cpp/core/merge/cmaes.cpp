#include "cpp/core/merge/cmaes.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "cpp/core/base/error.h"
#include "cpp/core/base/random.h"

namespace theriac::merge {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

// (sum w)^2 / sum w^2 of the weights in [first, last).
double effective_size(const std::vector<double>& weights, std::size_t first, std::size_t last) {
  double sum = 0, squares = 0;
  for (std::size_t i = first; i < last; ++i) {
    sum += weights[i];
    squares += weights[i] * weights[i];
  }
  return squares > 0 ? sum * sum / squares : 0;
}

}  // namespace

CmaConstants cma_constants(std::size_t dimension, std::size_t population) {
  if (dimension == 0) throw Error(Code::kInvalidArgument, "CMA-ES needs at least one variable");
  if (population != 0 && population < 3) {
    throw Error(Code::kInvalidArgument, "a population of " + std::to_string(population) +
                                            " is too small; expected at least 3")
        .at("option", "population");
  }
  const auto n = static_cast<double>(dimension);
  CmaConstants out;
  out.population =
      population != 0 ? population : 4 + static_cast<std::size_t>(std::floor(3 * std::log(n)));
  out.parents = out.population / 2;
  for (std::size_t i = 1; i <= out.population; ++i) {
    out.weights.push_back(std::log((static_cast<double>(out.population) + 1) / 2) -
                          std::log(static_cast<double>(i)));
  }
  out.mu_eff = effective_size(out.weights, 0, out.parents);
  const double mu_eff_negative = effective_size(out.weights, out.parents, out.population);
  out.c_1 = 2 / ((n + 1.3) * (n + 1.3) + out.mu_eff);
  out.c_mu = std::min(1 - out.c_1 - 1e-8,
                      2 * (out.mu_eff - 2 + 1 / out.mu_eff) / ((n + 2) * (n + 2) + out.mu_eff));
  out.c_sigma = (out.mu_eff + 2) / (n + out.mu_eff + 5);
  out.d_sigma = 1 + 2 * std::max(0.0, std::sqrt((out.mu_eff - 1) / (n + 1)) - 1) + out.c_sigma;
  out.c_c = (4 + out.mu_eff / n) / (n + 4 + 2 * out.mu_eff / n);
  out.chi = std::sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n));
  double positive = 0, negative = 0;
  for (const double w : out.weights) (w > 0 ? positive : negative) += std::abs(w);
  // With c_mu = 0 (few parents) the rank-mu update takes no part, and its negative half has no bound.
  const double most_negative =
      out.c_mu > 0 ? std::min({1 + out.c_1 / out.c_mu, 1 + 2 * mu_eff_negative / (out.mu_eff + 2),
                               (1 - out.c_1 - out.c_mu) / (n * out.c_mu)})
                   : 0;
  for (double& w : out.weights) w *= w > 0 ? 1 / positive : most_negative / negative;
  return out;
}

struct CmaEs::State {
  CmaConstants constants;
  std::uint64_t seed = 0;
  std::size_t generation = 0;
  double sigma = 0;
  VectorXd mean, path_sigma, path_c;
  MatrixXd covariance, basis;   // C = B D^2 B'
  VectorXd scales;              // D
  std::vector<VectorXd> steps;  // y of each candidate: x = mean + sigma y
  std::vector<std::vector<double>> candidates;

  void sample() {
    steps.clear();
    candidates.clear();
    for (std::size_t i = 0; i < constants.population; ++i) {
      Random random(seed, "cma-es", generation * constants.population + i);
      VectorXd z(mean.size());
      for (double& value : z) value = random.normal();
      steps.emplace_back(basis * scales.cwiseProduct(z));
      const VectorXd x = mean + sigma * steps.back();
      candidates.emplace_back(x.begin(), x.end());
    }
  }

  // C^-1/2 v
  VectorXd whitened(const VectorXd& v) const {
    return basis * (basis.transpose() * v).cwiseQuotient(scales);
  }

  void decompose() {
    covariance = (covariance + covariance.transpose()).eval() / 2;
    const Eigen::SelfAdjointEigenSolver<MatrixXd> solver(covariance);
    basis = solver.eigenvectors();
    // Rounding may leave the smallest eigenvalues at or below zero.
    const double least = solver.eigenvalues().maxCoeff() * 1e-14;
    scales = solver.eigenvalues().cwiseMax(least).cwiseSqrt();
  }

  void update(const std::vector<std::size_t>& order) {
    const CmaConstants& c = constants;
    const auto n = static_cast<double>(mean.size());
    VectorXd step = VectorXd::Zero(mean.size());
    for (std::size_t i = 0; i < c.parents; ++i) step += c.weights[i] * steps[order[i]];
    mean += sigma * step;

    path_sigma = (1 - c.c_sigma) * path_sigma +
                 std::sqrt(c.c_sigma * (2 - c.c_sigma) * c.mu_eff) * whitened(step);
    const double length = path_sigma.norm();
    const double settled =
        std::sqrt(1 - std::pow(1 - c.c_sigma, 2 * (static_cast<double>(generation) + 1)));
    const bool steady = length / settled < (1.4 + 2 / (n + 1)) * c.chi;
    path_c *= 1 - c.c_c;
    if (steady) path_c += std::sqrt(c.c_c * (2 - c.c_c) * c.mu_eff) * step;

    const double lost = steady ? 0 : c.c_c * (2 - c.c_c);
    const double weights = std::accumulate(c.weights.begin(), c.weights.end(), 0.0);
    covariance *= 1 + c.c_1 * lost - c.c_1 - c.c_mu * weights;
    covariance += c.c_1 * path_c * path_c.transpose();
    for (std::size_t i = 0; i < c.population; ++i) {
      const VectorXd& y = steps[order[i]];
      double w = c.weights[i];
      if (w < 0) w *= n / std::max(whitened(y).squaredNorm(), 1e-300);
      covariance += c.c_mu * w * y * y.transpose();
    }
    sigma *= std::exp(std::min(1.0, c.c_sigma / c.d_sigma * (length / c.chi - 1)));
  }
};

CmaEs::CmaEs(std::vector<double> mean, double sigma, std::uint64_t seed, std::size_t population)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.constants = cma_constants(mean.size(), population);
  const bool finite =
      std::all_of(mean.begin(), mean.end(), [](double x) { return std::isfinite(x); });
  if (!finite || !std::isfinite(sigma) || !(sigma > 0)) {
    throw Error(
        Code::kInvalidArgument,
        "CMA-ES starts from finite numbers and a step size above 0, not " + std::to_string(sigma))
        .at("option", "sigma");
  }
  s.seed = seed;
  s.sigma = sigma;
  const auto n = static_cast<Index>(mean.size());
  s.mean = Eigen::Map<const VectorXd>(mean.data(), n);
  s.path_sigma = s.path_c = VectorXd::Zero(n);
  s.covariance = s.basis = MatrixXd::Identity(n, n);
  s.scales = VectorXd::Ones(n);
  s.sample();
}
CmaEs::~CmaEs() = default;
CmaEs::CmaEs(CmaEs&& other) noexcept = default;
CmaEs& CmaEs::operator=(CmaEs&& other) noexcept = default;

const CmaConstants& CmaEs::constants() const noexcept { return state_->constants; }
const std::vector<std::vector<double>>& CmaEs::ask() const noexcept { return state_->candidates; }
std::size_t CmaEs::generation() const noexcept { return state_->generation; }
double CmaEs::sigma() const noexcept { return state_->sigma; }
std::vector<double> CmaEs::mean() const { return {state_->mean.begin(), state_->mean.end()}; }

void CmaEs::tell(std::span<const double> costs) {
  State& s = *state_;
  if (costs.size() != s.constants.population) {
    throw Error(Code::kInvalidArgument, std::to_string(costs.size()) + " costs for " +
                                            std::to_string(s.constants.population) + " candidates");
  }
  const auto cost = [&costs](std::size_t i) {
    return std::isnan(costs[i]) ? std::numeric_limits<double>::infinity() : costs[i];
  };
  std::vector<std::size_t> order(costs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&cost](std::size_t a, std::size_t b) { return cost(a) < cost(b); });
  s.update(order);
  ++s.generation;
  s.decompose();
  s.sample();
}

bool CmaEs::converged(double tolerance) const {
  return state_->sigma * std::sqrt(state_->covariance.diagonal().maxCoeff()) < tolerance;
}

}  // namespace theriac::merge
