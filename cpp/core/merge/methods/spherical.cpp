// Interpolation on the sphere. Everything here is a linear combination of the models' tensors whose
// factors follow from their inner products; those are exact sums (exact_sum.h), so that one pass
// suffices also for the iterative mean, and blocks may be cut anywhere.
//
// slerp: Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985:
//     sin((1 - t) o) / sin o a + sin(t o) / sin o b,  cos o = <a, b> / |a| |b|
// nuslerp: the same with t = w_b / (w_a + w_b), on differences from a base if there is one.
// multislerp: with u_i = x_i / |x_i|, m the normalised sum w_i u_i and
//     T = sum w_i (u_i - <u_i, m> m),
//     (m cos|T| + T sin|T| / |T|) sum w_i |x_i|
// karcher: fixed point of that step from m on, with equal weights: Karcher, "Riemannian center of
//     mass", CPAM 1977; for merging: arXiv 2603.04972.
#include <algorithm>
#include <array>
#include <cmath>

#include "cpp/core/merge/methods/exact_sum.h"
#include "cpp/core/merge/methods/methods.h"
#include "cpp/core/merge/methods/native.h"
#include "cpp/core/merge/methods/rounding.h"

namespace theriac::merge::methods {
namespace {

constexpr std::size_t kChunk = 512;

// ---- inner products ----------------------------------------------------------------------------

// Inner products of n vectors. Immutable once filled.
class Gram {
 public:
  Gram() = default;
  explicit Gram(std::size_t n) : n_(n), values_(n * n) {}
  std::size_t size() const noexcept { return n_; }
  double operator()(std::size_t i, std::size_t j) const noexcept { return values_[i * n_ + j]; }
  void set(std::size_t i, std::size_t j, double value) noexcept {
    values_[i * n_ + j] = values_[j * n_ + i] = value;
  }
  double norm(std::size_t i) const noexcept { return std::sqrt((*this)(i, i)); }
  // Inner product of vector i with the combination of all that has these factors.
  double with(std::size_t i, const std::vector<double>& factors) const noexcept {
    double sum = 0;
    for (std::size_t j = 0; j < n_; ++j) sum += factors[j] * (*this)(i, j);
    return sum;
  }
  double norm_of(const std::vector<double>& factors) const noexcept {
    double sum = 0;
    for (std::size_t i = 0; i < n_; ++i) sum += factors[i] * with(i, factors);
    return std::sqrt(std::max(sum, 0.0));
  }

 private:
  std::size_t n_ = 0;
  std::vector<double> values_;
};

void scale(std::vector<double>& factors, double by) {
  for (double& factor : factors) factor *= by;
}
void add(std::vector<double>& factors, double by, const std::vector<double>& others) {
  for (std::size_t i = 0; i < factors.size(); ++i) factors[i] += by * others[i];
}

// A sum that leaves the base's own bytes, also those of -0, where nothing is added.
double added(float base, double difference) {
  return difference == 0 ? static_cast<double>(base) : static_cast<double>(base) + difference;
}

struct GramPartial final : Partial {
  std::vector<ExactSum::Terms> sums;  // upper triangle, row by row
};

// What the methods below have in common: vectors in, a linear combination out.
class Combination : public TensorMerge {
 public:
  // `differences`: the vectors are the models' differences from the base, to which their
  // combination is added. Otherwise they are the members.
  Combination(const TensorContext& context, bool differences)
      : members_(context), context_(context), differences_(differences) {}

  int passes() const override { return 1; }

  std::unique_ptr<Partial> observe(int /*pass*/, const Block& block) const override {
    auto out = std::make_unique<GramPartial>();
    const std::size_t n = vectors();
    std::vector<ExactSum> sums(n * (n + 1) / 2);
    std::vector<float> chunk(n * kChunk);
    for (std::size_t first = 0; first < block.count; first += kChunk) {
      const std::size_t count = std::min(kChunk, block.count - first);
      for (std::size_t v = 0; v < n; ++v) read(block, v, first, count, &chunk[v * kChunk]);
      auto sum = sums.begin();
      for (std::size_t v = 0; v < n; ++v) {
        for (std::size_t w = v; w < n; ++w, ++sum) {
          const float* x = &chunk[v * kChunk];
          const float* y = &chunk[w * kChunk];
          for (std::size_t i = 0; i < count; ++i) sum->add_product(x[i], y[i]);
        }
      }
    }
    for (const ExactSum& sum : sums) out->sums.push_back(sum.terms());
    return out;
  }

  void end_pass(int /*pass*/, std::span<const std::unique_ptr<Partial>> partials) override {
    Gram gram(vectors());
    std::size_t position = 0;
    for (std::size_t v = 0; v < gram.size(); ++v) {
      for (std::size_t w = v; w < gram.size(); ++w, ++position) {
        ExactSum sum;
        for (const auto& partial : partials) {
          sum.add(static_cast<const GramPartial&>(*partial).sums[position]);
        }
        gram.set(v, w, sum.value());
      }
    }
    factors_ = factors_of(gram);
  }

  void apply(const Block& block, float* out) const override {
    combine(block, 0, block.count, factors_, out);
    round_all(context_, out, block.count);
  }

 protected:
  virtual std::vector<double> factors_of(const Gram& gram) const = 0;

  std::size_t vectors() const noexcept {
    return differences_ ? context_.models() : members_.size();
  }
  const TensorContext& context() const noexcept { return context_; }
  const Members& members() const noexcept { return members_; }

  void read(const Block& block, std::size_t vector, std::size_t first, std::size_t count,
            float* out) const {
    if (!differences_) {
      std::copy_n(members_.values(block, vector) + first, count, out);
      return;
    }
    const float* x = block.models[vector] + first;
    const float* base = block.base + first;
    for (std::size_t i = 0; i < count; ++i) out[i] = x[i] - base[i];
  }

  // Factors that are 0 leave their vector out, and a lone 1 copies it.
  void combine(const Block& block, std::size_t first, std::size_t count,
               const std::vector<double>& factors, float* out) const {
    std::array<double, kChunk> sums;
    std::array<float, kChunk> vector;
    for (std::size_t done = 0; done < count; done += kChunk) {
      const std::size_t at = first + done, n = std::min(kChunk, count - done);
      bool empty = true;
      sums.fill(0);
      for (std::size_t v = 0; v < factors.size(); ++v) {
        const double factor = factors[v];
        if (factor == 0) continue;
        read(block, v, at, n, vector.data());
        for (std::size_t i = 0; i < n; ++i) {
          const double value = factor * static_cast<double>(vector[i]);
          sums[i] = empty ? value : sums[i] + value;
        }
        empty = false;
      }
      for (std::size_t i = 0; i < n; ++i) {
        if (differences_) sums[i] = added(block.base[at + i], sums[i]);
        out[at + i] = static_cast<float>(sums[i]);
      }
    }
  }

 private:
  Members members_;
  TensorContext context_;
  bool differences_;
  std::vector<double> factors_;
};

// ---- two vectors -------------------------------------------------------------------------------

double unit(double norm, double smallest) { return norm > smallest ? norm : 1.0; }

std::vector<double> straight(double t) { return {1 - t, t}; }
std::vector<double> along_arc(double angle, double t) {
  return {std::sin((1 - t) * angle) / std::sin(angle), std::sin(t * angle) / std::sin(angle)};
}

// The base at t = 0; a straight line where the two are (anti)parallel.
class Slerp final : public Combination {
 public:
  explicit Slerp(const TensorContext& context)
      : Combination(context, false), t_(context.parameters->number("t")) {
    if (vectors() != 2) {
      refuse(Code::kInvalidArgument, "slerp", context, "",
             "has " + std::to_string(vectors()) + " models; expected two, the base among them");
    }
  }

 private:
  std::vector<double> factors_of(const Gram& gram) const override {
    constexpr double kParallel = 0.9995, kSmallestNorm = 1e-8;
    const double cosine =
        gram(0, 1) / (unit(gram.norm(0), kSmallestNorm) * unit(gram.norm(1), kSmallestNorm));
    // The base is the first end wherever the recipe lists it.
    std::vector<double> out = std::fabs(cosine) > kParallel || t_ == 0 || t_ == 1
                                  ? straight(t_)
                                  : along_arc(std::acos(cosine), t_);
    if (members().base() == 1) std::swap(out[0], out[1]);
    return out;
  }

  double t_;
};

class Nuslerp final : public Combination {
 public:
  explicit Nuslerp(const TensorContext& context)
      : Combination(context, context.has_base),
        flat_(context.parameters->flag("nuslerp_flatten") || context.shape.size() < 2),
        columns_(context.parameters->flag("nuslerp_row_wise")) {
    if (vectors() != 2) {
      refuse(Code::kInvalidArgument, "nuslerp", context, "",
             "has " + std::to_string(vectors()) + " models beside the base; expected two");
    }
    const double a = context.model_parameters[0]->number("weight");
    const double b = context.model_parameters[1]->number("weight");
    t_ = std::fabs(a + b) < kSmallestWeight ? 0.5 : b / (a + b);
  }

  // Vectors along the first dimension are spread over the tensor.
  Granularity granularity() const override {
    if (flat_) return Granularity::kElements;
    return columns_ ? Granularity::kTensor : Granularity::kRows;
  }
  int passes() const override { return flat_ ? 1 : 0; }

  void apply(const Block& block, float* out) const override {
    if (flat_) return Combination::apply(block, out);
    if (columns_) {
      apply_to_columns(block, out);
    } else {
      apply_to_rows(block, out);
    }
    round_all(context(), out, block.count);
  }

 private:
  static constexpr double kSmallestWeight = 1e-6, kSmallestNorm = 1e-7, kSmallestSine = 1e-8;

  std::vector<double> factors_of(const Gram& gram) const override {
    return factors_of(gram(0, 0), gram(0, 1), gram(1, 1));
  }
  std::vector<double> factors_of(double aa, double ab, double bb) const {
    const double cosine =
        ab / (std::max(std::sqrt(aa), kSmallestNorm) * std::max(std::sqrt(bb), kSmallestNorm));
    const double angle = std::acos(std::clamp(cosine, -1.0, 1.0));
    if (std::fabs(std::sin(angle)) < kSmallestSine || t_ == 0 || t_ == 1) return straight(t_);
    return along_arc(angle, t_);
  }

  void apply_to_rows(const Block& block, float* out) const {
    const std::size_t length = context().row_length();
    std::vector<float> a(length), b(length);
    for (std::size_t first = 0; first < block.count; first += length) {
      read(block, 0, first, length, a.data());
      read(block, 1, first, length, b.data());
      double aa = 0, ab = 0, bb = 0;
      for (std::size_t i = 0; i < length; ++i) {
        const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
        aa += x * x;
        ab += x * y;
        bb += y * y;
      }
      combine(block, first, length, factors_of(aa, ab, bb), out);
    }
  }

  void apply_to_columns(const Block& block, float* out) const {
    if (block.count == 0) return;
    const std::size_t rows = context().shape[0], columns = block.count / rows;
    std::vector<double> aa(columns), ab(columns), bb(columns);
    std::vector<float> a(columns), b(columns);
    for (std::size_t row = 0; row < rows; ++row) {
      read(block, 0, row * columns, columns, a.data());
      read(block, 1, row * columns, columns, b.data());
      for (std::size_t c = 0; c < columns; ++c) {
        const double x = static_cast<double>(a[c]), y = static_cast<double>(b[c]);
        aa[c] += x * x;
        ab[c] += x * y;
        bb[c] += y * y;
      }
    }
    for (std::size_t c = 0; c < columns; ++c) {
      const std::vector<double> factors = factors_of(aa[c], ab[c], bb[c]);
      aa[c] = factors[0];
      bb[c] = factors[1];
    }
    for (std::size_t row = 0; row < rows; ++row) {
      const std::size_t first = row * columns;
      read(block, 0, first, columns, a.data());
      read(block, 1, first, columns, b.data());
      for (std::size_t c = 0; c < columns; ++c) {
        const double sum = aa[c] * static_cast<double>(a[c]) + bb[c] * static_cast<double>(b[c]);
        out[first + c] =
            static_cast<float>(context().has_base ? added(block.base[first + c], sum) : sum);
      }
    }
  }

  bool flat_, columns_;
  double t_ = 0.5;
};

// ---- several vectors ---------------------------------------------------------------------------

class Multislerp final : public Combination {
 public:
  explicit Multislerp(const TensorContext& context)
      : Combination(context, context.has_base), eps_(context.parameters->number("eps")) {
    double sum = 0;
    for (const Parameters* model : context.model_parameters) {
      weights_.push_back(model->number("weight"));
      sum += weights_.back();
    }
    if (weights_.empty()) refuse(Code::kInvalidArgument, "multislerp", context, "", "no model");
    if (!context.parameters->flag("normalize_weights")) return;
    if (std::fabs(sum) < kSmallestWeight) {
      refuse(Code::kInvalidArgument, "multislerp", context, "weight",
             "the weights sum to " + std::to_string(sum) +
                 " and can not be normalised; give others or 'normalize_weights: false'");
    }
    scale(weights_, 1 / sum);
  }

 private:
  static constexpr double kSmallestWeight = 1e-8;

  std::vector<double> factors_of(const Gram& gram) const override {
    const std::size_t n = gram.size();
    std::vector<double> units(n), mean(n), tangent(n);
    double length = 0;
    for (std::size_t i = 0; i < n; ++i) {
      units[i] = 1 / (gram.norm(i) + eps_);
      mean[i] = weights_[i] * units[i];
      length += weights_[i] * gram.norm(i);
    }
    const double norm = gram.norm_of(mean);
    if (norm < eps_) return without_direction(gram);
    scale(mean, 1 / norm);
    for (std::size_t i = 0; i < n; ++i) {
      tangent[i] += weights_[i] * units[i];
      add(tangent, -weights_[i] * units[i] * gram.with(i, mean), mean);
    }
    const double step = gram.norm_of(tangent) + eps_;
    scale(mean, length * std::cos(step));
    add(mean, length * std::sin(step) / step, tangent);
    return mean;
  }

  std::vector<double> without_direction(const Gram& gram) const {
    bool zero = true;
    for (std::size_t i = 0; i < gram.size(); ++i) zero = zero && gram(i, i) == 0;
    if (!zero && gram.size() != 2) {
      refuse(Code::kNumericError, "multislerp", context(), "weight",
             "the weighted directions cancel out, so that the models have no mean on the sphere; "
             "give other weights");
    }
    return weights_;
  }

  std::vector<double> weights_;
  double eps_;
};

class Karcher final : public Combination {
 public:
  explicit Karcher(const TensorContext& context)
      : Combination(context, false),
        iterations_(static_cast<int>(context.parameters->number("max_iter"))),
        tolerance_(context.parameters->number("tol")) {
    if (vectors() == 0) refuse(Code::kInvalidArgument, "karcher", context, "", "no model");
  }

 private:
  // Models of (nearly) zero norm have no direction, but count in the mean of the norms.
  std::vector<double> factors_of(const Gram& gram) const override {
    const std::size_t n = gram.size();
    std::vector<double> units(n), mean(n);
    double length = 0, directed = 0;
    for (std::size_t i = 0; i < n; ++i) {
      length += gram.norm(i) / static_cast<double>(n);
      if (gram.norm(i) <= tolerance_) continue;
      units[i] = 1 / gram.norm(i);
      directed += 1;
    }
    if (directed == 0) return mean;
    for (std::size_t i = 0; i < n; ++i) mean[i] = units[i] / directed;
    const double norm = gram.norm_of(mean);
    if (norm < tolerance_) {
      const auto first = std::find_if(units.begin(), units.end(), [](double u) { return u != 0; });
      mean.assign(n, 0.0);
      mean[static_cast<std::size_t>(first - units.begin())] = *first;
    } else {
      scale(mean, 1 / norm);
    }
    for (int i = 0; i < iterations_ && step(gram, units, directed, mean); ++i) continue;
    scale(mean, length);
    return mean;
  }

  // False once the mean has been found. Models opposite to it pull nowhere and are left out.
  bool step(const Gram& gram, const std::vector<double>& units, double directed,
            std::vector<double>& mean) const {
    constexpr double kSmallestSine = 1e-8;
    std::vector<double> tangent(gram.size());
    for (std::size_t i = 0; i < gram.size(); ++i) {
      if (units[i] == 0) continue;
      const double cosine = std::clamp(units[i] * gram.with(i, mean), -1.0, 1.0);
      const double angle = std::acos(cosine), sine = std::sin(angle);
      if (angle < tolerance_ || sine < kSmallestSine) continue;
      const double pull = angle / (sine * directed);
      tangent[i] += pull * units[i];
      add(tangent, -pull * cosine, mean);
    }
    const double length = gram.norm_of(tangent);
    if (length < tolerance_) return false;
    scale(mean, std::cos(length));
    add(mean, std::sin(length) / length, tangent);
    const double norm = gram.norm_of(mean);
    if (norm > 0) scale(mean, 1 / norm);
    return true;
  }

  int iterations_;
  double tolerance_;
};

// The usual kernel checks the parameters, also of the native one.
template <class Method>
Made make(std::string_view name, const TensorContext& context) {
  Made usual = std::make_unique<Method>(context);
  Made native = make_native(name, context);
  return native ? std::move(native) : std::move(usual);
}

}  // namespace

Made make_slerp(const TensorContext& context) { return make<Slerp>("slerp", context); }
Made make_nuslerp(const TensorContext& context) { return make<Nuslerp>("nuslerp", context); }
Made make_multislerp(const TensorContext& context) {
  return make<Multislerp>("multislerp", context);
}
Made make_karcher(const TensorContext& context) { return make<Karcher>("karcher", context); }

}  // namespace theriac::merge::methods
