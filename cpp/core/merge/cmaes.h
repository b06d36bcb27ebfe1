// CMA-ES: minimises a function of a few dozen numbers that can only be evaluated, as merging with
// some coefficients and scoring the result can.
//
// The active variant with rank-one and rank-mu updates and cumulative step-size control, with the
// constants of Hansen, "The CMA Evolution Strategy: A Tutorial" (1604.00772), table 1 and algorithm
// in its appendix A. The covariance matrix is decomposed in every generation: evaluations are
// expected to cost far more than n^3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace theriac::merge {

// What depends on dimension and population only. Weights: one a candidate, best first; the positive
// ones add up to 1, the negative ones push the covariance away from bad directions.
struct CmaConstants {
  std::size_t population = 0;  // lambda = 4 + floor(3 ln n) unless given
  std::size_t parents = 0;     // mu
  double mu_eff = 0;
  double c_sigma = 0, d_sigma = 0;    // step size
  double c_c = 0, c_1 = 0, c_mu = 0;  // covariance
  double chi = 0;                     // E ||N(0, I)||
  std::vector<double> weights;
};
// `dimension` at least 1; `population` 0 for the default, else at least 3.
CmaConstants cma_constants(std::size_t dimension, std::size_t population = 0);

// One run. Draws are keyed by (seed, generation, candidate): the same seed and the same costs give the
// same candidates on every machine with the same arithmetic. Not shared between threads.
class CmaEs {
 public:
  // `mean`: where to start, at least one number; `sigma`: of the first draws, above 0. Throws
  // kInvalidArgument.
  CmaEs(std::vector<double> mean, double sigma, std::uint64_t seed, std::size_t population = 0);
  ~CmaEs();
  CmaEs(CmaEs&& other) noexcept;
  CmaEs& operator=(CmaEs&& other) noexcept;

  const CmaConstants& constants() const noexcept;
  // The candidates of the current generation, the same until `tell`.
  const std::vector<std::vector<double>>& ask() const noexcept;
  // Their costs, lower is better, in the order of `ask`; NaN counts as the worst. Begins the next
  // generation. Throws kInvalidArgument for another number of costs.
  void tell(std::span<const double> costs);

  std::size_t generation() const noexcept;  // from 0
  double sigma() const noexcept;
  std::vector<double> mean() const;
  // The largest standard deviation of a coordinate is below `tolerance`.
  bool converged(double tolerance) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace theriac::merge
