#include "cpp/core/merge/cmaes.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "cpp/core/base/test_support.h"

namespace theriac::merge {
namespace {

using testing_support::failure_of;
using Vector = std::vector<double>;
using Cost = std::function<double(const Vector&)>;

TEST(CmaConstants, AreThoseOfTheTutorialInFiveDimensions) {
  const CmaConstants c = cma_constants(5);
  EXPECT_EQ(c.population, 8U);
  EXPECT_EQ(c.parents, 4U);
  EXPECT_NEAR(c.mu_eff, 2.600179, 1e-6);
  EXPECT_NEAR(c.c_1, 0.047292, 1e-6);
  EXPECT_NEAR(c.c_mu, 0.038169, 1e-6);
  EXPECT_NEAR(c.c_sigma, 0.365088, 1e-6);
  EXPECT_NEAR(c.d_sigma, 1.365088, 1e-6);
  EXPECT_NEAR(c.c_c, 0.4502, 1e-4);
  EXPECT_NEAR(c.chi, 2.128524, 1e-6);
  const Vector weights{0.52993, 0.28571, 0.14286, 0.0415, -0.16728, -0.45675, -0.70149, -0.9135};
  ASSERT_EQ(c.weights.size(), weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) EXPECT_NEAR(c.weights[i], weights[i], 1e-5);
}

TEST(CmaConstants, HoldForEveryDimensionAndPopulation) {
  for (std::size_t n = 1; n < 60; ++n) {
    for (const std::size_t population : {0, 3, 4, 5, 20, 200}) {
      const CmaConstants c = cma_constants(n, population);
      double positive = 0, sum = 0;
      for (const double w : c.weights) {
        positive += std::max(0.0, w);
        sum += w;
        EXPECT_TRUE(std::isfinite(w));
      }
      EXPECT_NEAR(positive, 1, 1e-12);
      // What is left of the old covariance stays at least zero.
      EXPECT_GE(1 - c.c_1 - c.c_mu * sum, 0) << n << " " << population;
      EXPECT_LE(c.c_1 + c.c_mu, 1);
      EXPECT_GT(c.d_sigma, 0);
    }
  }
}

double sphere(const Vector& x) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  return sum;
}
double ellipsoid(const Vector& x) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    sum += std::pow(1e6, static_cast<double>(i) / static_cast<double>(x.size() - 1)) * x[i] * x[i];
  }
  return sum;
}
double rosenbrock(const Vector& x) {
  double sum = 0;
  for (std::size_t i = 0; i + 1 < x.size(); ++i) {
    sum += 100 * std::pow(x[i] * x[i] - x[i + 1], 2) + std::pow(1 - x[i], 2);
  }
  return sum;
}

// Evaluations until a cost below 1e-9, or `most`.
std::size_t evaluations(const Cost& cost, std::size_t n, double start, double sigma,
                        std::uint64_t seed, std::size_t most = 20000) {
  CmaEs search(Vector(n, start), sigma, seed);
  std::size_t count = 0;
  while (count < most) {
    Vector costs;
    for (const Vector& x : search.ask()) {
      costs.push_back(cost(x));
      ++count;
      if (costs.back() < 1e-9) return count;
    }
    search.tell(costs);
  }
  return most;
}

double median(const Cost& cost, std::size_t n, double start, double sigma) {
  std::vector<std::size_t> counts;
  for (std::uint64_t seed = 1; seed <= 7; ++seed) {
    counts.push_back(evaluations(cost, n, start, sigma, seed));
  }
  std::sort(counts.begin(), counts.end());
  return static_cast<double>(counts[3]);
}

// Medians of seven runs of pycma 4.4 from the same start to the same target: sphere 808 and 1660,
// ellipsoid 1600 and 4500, Rosenbrock 1640 and 4960 evaluations in 5 and 10 dimensions.
TEST(CmaEs, TakesAsManyEvaluationsAsTheReferenceImplementation) {
  struct Case {
    const char* name;
    double (*cost)(const Vector&);
    double start, sigma;
    std::size_t n;
    double reference;
  };
  const Case cases[] = {
      {"sphere", sphere, 3, 2, 5, 808},
      {"sphere", sphere, 3, 2, 10, 1660},
      {"ellipsoid", ellipsoid, 3, 2, 5, 1600},
      {"ellipsoid", ellipsoid, 3, 2, 10, 4500},
      {"Rosenbrock", rosenbrock, 0, 0.5, 5, 1640},
      {"Rosenbrock", rosenbrock, 0, 0.5, 10, 4960},
  };
  for (const Case& c : cases) {
    const double count = median(c.cost, c.n, c.start, c.sigma);
    RecordProperty(std::string(c.name) + std::to_string(c.n), std::to_string(count));
    EXPECT_LT(count, 1.3 * c.reference) << c.name << " " << c.n;
    EXPECT_GT(count, 0.5 * c.reference) << c.name << " " << c.n;
  }
}

TEST(CmaEs, WorksInOneDimension) { EXPECT_LT(evaluations(sphere, 1, 3, 2, 1), 400U); }

TEST(CmaEs, IsDecidedByTheSeed) {
  const auto trace = [](std::uint64_t seed) {
    CmaEs search(Vector(4, 1.0), 0.5, seed);
    for (int g = 0; g < 20; ++g) {
      Vector costs;
      for (const Vector& x : search.ask()) costs.push_back(rosenbrock(x));
      search.tell(costs);
    }
    return search.ask();
  };
  EXPECT_EQ(trace(3), trace(3));
  EXPECT_NE(trace(3), trace(4));
}

// Only the order of the costs counts, and a rotation of the coordinates changes nothing but the path.
TEST(CmaEs, IgnoresMonotoneTransformsOfTheCost) {
  CmaEs plain(Vector(3, 1.0), 0.5, 1), bent(Vector(3, 1.0), 0.5, 1);
  for (int g = 0; g < 30; ++g) {
    Vector a, b;
    for (const Vector& x : plain.ask()) a.push_back(ellipsoid(x));
    for (const Vector& x : bent.ask()) b.push_back(std::log(ellipsoid(x) + 1e-300) * 7 - 3);
    plain.tell(a);
    bent.tell(b);
  }
  EXPECT_EQ(plain.ask(), bent.ask());
}

TEST(CmaEs, RanksCandidatesWithoutACostLast) {
  CmaEs with_nan(Vector(2, 1.0), 0.5, 1), with_infinity(Vector(2, 1.0), 0.5, 1);
  for (int g = 0; g < 10; ++g) {
    Vector a, b;
    for (const Vector& x : with_nan.ask()) {
      const bool bad = x[0] > 1;
      a.push_back(bad ? std::numeric_limits<double>::quiet_NaN() : sphere(x));
      b.push_back(bad ? std::numeric_limits<double>::infinity() : sphere(x));
    }
    with_nan.tell(a);
    with_infinity.tell(b);
  }
  EXPECT_EQ(with_nan.ask(), with_infinity.ask());
  EXPECT_LT(with_nan.mean()[0], 1);
}

TEST(CmaEs, SurvivesACostThatIsTheSameEverywhere) {
  CmaEs search(Vector(3, 0.0), 1, 1);
  for (int g = 0; g < 300; ++g) search.tell(Vector(search.ask().size(), 1.0));
  for (const Vector& x : search.ask()) {
    for (const double v : x) EXPECT_TRUE(std::isfinite(v));
  }
}

TEST(CmaEs, SaysWhenItHasConverged) {
  CmaEs search(Vector(3, 1.0), 0.5, 1);
  EXPECT_FALSE(search.converged(1e-3));
  for (int g = 0; g < 200 && !search.converged(1e-6); ++g) {
    Vector costs;
    for (const Vector& x : search.ask()) costs.push_back(sphere(x));
    search.tell(costs);
  }
  EXPECT_TRUE(search.converged(1e-6));
  EXPECT_LT(search.sigma(), 1e-3);
  EXPECT_LT(sphere(search.mean()), 1e-9);
}

TEST(CmaEs, RefusesWhatMakesNoSense) {
  for (const auto& failure :
       {failure_of([] { CmaEs({}, 1, 0); }), failure_of([] { CmaEs({1}, 0, 0); }),
        failure_of([] { CmaEs({1}, -1, 0); }), failure_of([] { CmaEs({1}, 1, 0, 2); }),
        failure_of([] { CmaEs({std::nan("")}, 1, 0); }), failure_of([] {
          CmaEs({1, 2}, 1, 0).tell(Vector{1});
        })}) {
    ASSERT_TRUE(failure);
    EXPECT_EQ(failure->code, Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace theriac::merge
