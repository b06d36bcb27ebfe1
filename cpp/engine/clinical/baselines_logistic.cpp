// L2-regularised logistic regression by truncated Newton steps (Lin, Weng, Keerthi, "Trust region
// Newton method for large-scale logistic regression", JMLR 2008; here with a backtracking line
// search, which is enough for a strictly convex objective from 0).
#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpp/engine/clinical/baselines.h"
#include "cpp/engine/eval/parallel.h"

namespace theriac::clinical {
namespace {

using Vector = std::vector<double>;

double dot(const Vector& a, const Vector& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}
void add_scaled(Vector& y, double a, const Vector& x) {
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += a * x[i];
}
double largest(const Vector& v) {
  double m = 0;
  for (double x : v) m = std::max(m, std::abs(x));
  return m;
}

// log(1 + exp(x)) without overflow.
double softplus(double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }
double sigmoid(double x) {
  return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}

// 0/1 rows by the positions of their ones. The last coordinate of a weight vector is the bias.
struct Rows {
  std::vector<std::size_t> offsets{0};
  std::vector<std::size_t> ids;
  std::size_t features = 0;
  std::size_t count() const { return offsets.size() - 1; }

  Vector times(const Vector& w) const {  // [count]
    Vector z(count(), w[features]);
    for (std::size_t i = 0; i < count(); ++i) {
      for (std::size_t k = offsets[i]; k < offsets[i + 1]; ++k) z[i] += w[ids[k]];
    }
    return z;
  }
  Vector transposed_times(const Vector& r) const {  // [features + 1]
    Vector g(features + 1, 0.0);
    for (std::size_t i = 0; i < count(); ++i) {
      for (std::size_t k = offsets[i]; k < offsets[i + 1]; ++k) g[ids[k]] += r[i];
      g[features] += r[i];
    }
    return g;
  }
};

Rows rows_of(const MappedCohort& cohort, std::span<const Sample> samples, std::int64_t diagnoses,
             std::int64_t procedures) {
  Rows rows;
  rows.features = static_cast<std::size_t>(diagnoses + procedures);
  for (const Sample& s : samples) {
    for (std::int32_t id : cohort.ids(data::Field::kDiagnoses, s.visit))
      rows.ids.push_back(static_cast<std::size_t>(id));
    for (std::int32_t id : cohort.ids(data::Field::kProcedures, s.visit)) {
      rows.ids.push_back(static_cast<std::size_t>(diagnoses + id));
    }
    rows.offsets.push_back(rows.ids.size());
  }
  return rows;
}

// One class: f(w) = |w|^2 / 2 + C sum_i log(1 + exp(z_i)) - y_i z_i with z = X w + bias.
class ClassProblem {
 public:
  ClassProblem(const Rows& rows, const std::vector<char>& labels, double c)
      : rows_(rows), labels_(labels), c_(c) {}

  Vector minimise(const LogisticSettings& settings) const {
    Vector w(rows_.features + 1, 0.0);
    double stop = 0;
    for (std::int64_t step = 0; step < settings.iterations; ++step) {
      const Vector z = rows_.times(w);
      const Vector gradient = gradient_at(w, z);
      if (step == 0) stop = settings.tolerance * std::max(1.0, largest(gradient));
      if (largest(gradient) <= stop || !line_search(w, z, gradient, newton_direction(z, gradient)))
        break;
    }
    return w;
  }

 private:
  double value(const Vector& w, const Vector& z) const {
    double loss = 0;
    for (std::size_t i = 0; i < z.size(); ++i) loss += softplus(z[i]) - (labels_[i] ? z[i] : 0);
    const double bias = w[rows_.features];
    return (dot(w, w) - bias * bias) / 2 + c_ * loss;
  }

  Vector gradient_at(const Vector& w, const Vector& z) const {
    Vector residual(z.size());
    for (std::size_t i = 0; i < z.size(); ++i)
      residual[i] = c_ * (sigmoid(z[i]) - (labels_[i] ? 1 : 0));
    Vector g = rows_.transposed_times(residual);
    for (std::size_t f = 0; f < rows_.features; ++f) g[f] += w[f];
    return g;
  }

  // Solves H d = -g by conjugate gradients until the residual is a tenth of |g|.
  Vector newton_direction(const Vector& z, const Vector& gradient) const {
    Vector curvature(z.size());
    for (std::size_t i = 0; i < z.size(); ++i) {
      const double p = sigmoid(z[i]);
      curvature[i] = c_ * p * (1 - p);
    }
    const auto hessian_times = [&](const Vector& v) {
      Vector u = rows_.times(v);
      for (std::size_t i = 0; i < u.size(); ++i) u[i] *= curvature[i];
      Vector h = rows_.transposed_times(u);
      for (std::size_t f = 0; f < rows_.features; ++f) h[f] += v[f];
      return h;
    };
    Vector direction(gradient.size(), 0.0), residual = gradient;
    for (double& r : residual) r = -r;
    Vector search = residual;
    double rr = dot(residual, residual);
    const double enough = 0.01 * rr;
    for (int k = 0; k < 250 && rr > enough; ++k) {
      const Vector h = hessian_times(search);
      const double bend = dot(search, h);
      if (bend <= 0) break;  // all curvature rounded away along the bias
      const double alpha = rr / bend;
      add_scaled(direction, alpha, search);
      add_scaled(residual, -alpha, h);
      const double next = dot(residual, residual);
      for (std::size_t i = 0; i < search.size(); ++i)
        search[i] = residual[i] + next / rr * search[i];
      rr = next;
    }
    return direction;
  }

  // Halves the step until the value falls enough (Armijo); false when rounding leaves nothing to
  // gain.
  bool line_search(Vector& w, const Vector& z, const Vector& gradient,
                   const Vector& direction) const {
    const double before = value(w, z), slope = dot(gradient, direction);
    if (slope >= 0) return false;
    double step = 1;
    for (int k = 0; k < 40; ++k, step /= 2) {
      Vector moved = w;
      add_scaled(moved, step, direction);
      if (value(moved, rows_.times(moved)) <= before + 1e-4 * step * slope) {
        w = std::move(moved);
        return true;
      }
    }
    return false;
  }

  const Rows& rows_;
  const std::vector<char>& labels_;
  double c_;
};

std::vector<char> labels_of(const MappedCohort& cohort, std::span<const Sample> samples,
                            std::int32_t id) {
  std::vector<char> labels;
  labels.reserve(samples.size());
  for (const Sample& s : samples) {
    const auto set = cohort.ids(data::Field::kMedications, s.visit);  // sorted
    labels.push_back(std::binary_search(set.begin(), set.end(), id) ? 1 : 0);
  }
  return labels;
}

void fit_class(const MappedCohort& cohort, std::span<const Sample> samples, const Rows& rows,
               const LogisticSettings& settings, std::size_t id, LogisticWeights& weights) {
  const std::vector<char> labels = labels_of(cohort, samples, static_cast<std::int32_t>(id));
  const auto positives = std::count(labels.begin(), labels.end(), 1);
  if (positives == 0 || positives == static_cast<std::ptrdiff_t>(labels.size())) {
    weights.bias[id] = positives == 0 ? -kSurely : kSurely;
    return;
  }
  const Vector w = ClassProblem(rows, labels, settings.c).minimise(settings);
  for (std::size_t f = 0; f < rows.features; ++f)
    weights.weight[id * rows.features + f] = static_cast<float>(w[f]);
  weights.bias[id] = static_cast<float>(w[rows.features]);
}

}  // namespace

LogisticWeights fit_logistic(const MappedCohort& cohort, std::span<const Sample> samples,
                             std::int64_t diagnoses, std::int64_t procedures,
                             const LogisticSettings& settings, int threads, Job& job) {
  const Rows rows = rows_of(cohort, samples, diagnoses, procedures);
  const auto classes = static_cast<std::size_t>(cohort.classes());
  LogisticWeights weights{cohort.classes(), diagnoses, procedures, {}, {}};
  weights.weight.assign(classes * rows.features, 0.0F);
  weights.bias.assign(classes, 0.0F);
  const std::size_t wave = static_cast<std::size_t>(std::max(1, threads)) * 2;
  for (std::size_t begin = 0; begin < classes; begin += wave) {
    eval::parallel_for(std::min(wave, classes - begin), threads, [&](std::size_t i) {
      fit_class(cohort, samples, rows, settings, begin + i, weights);
    });
    job.progress("fit", std::min(begin + wave, classes), classes);
  }
  return weights;
}

}  // namespace theriac::clinical
