#include "cpp/core/merge/methods/native.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "cpp/core/merge/methods/order_statistics.h"
#include "cpp/core/merge/methods/rounding.h"

namespace theriac::merge::methods {
namespace {

using Values = std::vector<float>;

double wide(float value) { return static_cast<double>(value); }

// A strided run of elements: a tensor, a row or a column.
struct Line {
  std::size_t first = 0, count = 0, stride = 1;
  std::size_t at(std::size_t i) const { return first + i * stride; }
};

// The operations of tensors of one element type. `scalar` arguments stand for Python numbers, which
// torch rounds to float32 only.
template <class R>
struct Operations {
  static float round(float value) { return R::round(value); }
  static float round(double value) { return R::round(static_cast<float>(value)); }

  template <class Value>
  static Values each(std::size_t n, const Value& value) {
    Values out(n);
    for (std::size_t i = 0; i < n; ++i) out[i] = R::round(value(i));
    return out;
  }
  template <class Value>
  static double sum(std::size_t n, const Value& value) {
    double total = 0;
    for (std::size_t i = 0; i < n; ++i) total += wide(value(i));
    return total;
  }
  static double norm(const Values& x, const Line& line) {
    return std::sqrt(line_sum(line, [&](std::size_t i) { return wide(x[i]) * wide(x[i]); }));
  }
  static double norm(const Values& x) { return norm(x, {0, x.size()}); }
  // Of a tensor of rounded products.
  static float dot(const Values& x, const Values& y, const Line& line) {
    return round(line_sum(line, [&](std::size_t i) { return wide(R::round(x[i] * y[i])); }));
  }
  template <class Value>
  static double line_sum(const Line& line, const Value& value) {
    double total = 0;
    for (std::size_t i = 0; i < line.count; ++i) total += value(line.at(i));
    return total;
  }
  static float sine(float x) { return round(std::sin(wide(x))); }
  static float cosine(float x) { return round(std::cos(wide(x))); }
  static float arc_cosine(float x) { return round(std::acos(wide(x))); }
};

// What the methods below have in common: sees the whole tensor once.
class Whole : public TensorMerge {
 public:
  explicit Whole(const TensorContext& context) : context_(context), members_(context) {}
  Granularity granularity() const override { return Granularity::kTensor; }

 protected:
  const TensorContext& context() const { return context_; }
  const Members& members() const { return members_; }

  static Values copy(const float* values, std::size_t count) { return {values, values + count}; }
  template <class R>
  static Values difference(const float* x, const float* base, std::size_t count) {
    return Operations<R>::each(count, [&](std::size_t i) { return x[i] - base[i]; });
  }

 private:
  TensorContext context_;
  Members members_;
};

// A method whose arithmetic is `Method::apply_as<R>`, R being how intermediate results are rounded.
template <class Method>
class Rounded : public Whole {
 public:
  using Whole::Whole;
  void apply(const Block& block, float* out) const override {
    with_rounding(Accumulate::kNative, context().dtype, [&](auto r) {
      static_cast<const Method&>(*this).template apply_as<decltype(r)>(block, out);
    });
  }
};

// ---- slerp -------------------------------------------------------------------------------------

// In float32 throughout, as numpy has it, and rounded at the end.
class Slerp final : public Whole {
 public:
  explicit Slerp(const TensorContext& context)
      : Whole(context), t_(context.parameters->number("t")) {}

  void apply(const Block& block, float* out) const override {
    using Op = Operations<Float32Rounding>;
    const std::size_t n = block.count;
    const bool swapped = members().base() == 1;
    const float* a = members().values(block, swapped ? 1 : 0);
    const float* b = members().values(block, swapped ? 0 : 1);
    const Values u = unit(a, n), v = unit(b, n);
    const float cosine = Op::round(Op::sum(n, [&](std::size_t i) { return u[i] * v[i]; }));
    const auto t = static_cast<float>(t_);
    float of_a = static_cast<float>(1 - t_), of_b = t;
    if (std::fabs(cosine) <= kParallel) {
      const float angle = Op::arc_cosine(cosine), part = angle * t, sine = Op::sine(angle);
      of_a = Op::sine(angle - part) / sine;
      of_b = Op::sine(part) / sine;
    }
    for (std::size_t i = 0; i < n; ++i) out[i] = of_a * a[i] + of_b * b[i];
    round_all(context(), out, n);
  }

 private:
  static constexpr float kParallel = 0.9995F, kSmallestNorm = 1e-8F;

  static Values unit(const float* x, std::size_t n) {
    using Op = Operations<Float32Rounding>;
    Values out = copy(x, n);
    const float norm = Op::round(Op::norm(out));
    if (norm > kSmallestNorm) {
      for (float& value : out) value /= norm;
    }
    return out;
  }

  double t_;
};

// ---- nuslerp -----------------------------------------------------------------------------------

class Nuslerp final : public Rounded<Nuslerp> {
 public:
  explicit Nuslerp(const TensorContext& context)
      : Rounded(context),
        flat_(context.parameters->flag("nuslerp_flatten") || context.shape.size() < 2),
        columns_(context.parameters->flag("nuslerp_row_wise")) {
    const double a = context.model_parameters[0]->number("weight");
    const double b = context.model_parameters[1]->number("weight");
    t_ = std::fabs(a + b) < 1e-6 ? 0.5 : b / (a + b);
  }

 private:
  friend Rounded<Nuslerp>;

  template <class R>
  void apply_as(const Block& block, float* out) const {
    const std::size_t n = block.count;
    const float* base = block.base;
    const Values a = base ? difference<R>(block.models[0], base, n) : copy(block.models[0], n);
    const Values b = base ? difference<R>(block.models[1], base, n) : copy(block.models[1], n);
    for (const Line& line : lines(n)) mix<R>(a, b, line, out);
    for (std::size_t i = 0; base && i < n; ++i) out[i] = R::round(base[i] + out[i]);
  }

  std::vector<Line> lines(std::size_t n) const {
    if (flat_) return {{0, n}};
    std::vector<Line> out;
    const auto rows = static_cast<std::size_t>(context().shape[0]);
    const auto length = static_cast<std::size_t>(context().row_length());
    if (columns_) {
      for (std::size_t c = 0; c < n / rows; ++c) out.push_back({c, rows, n / rows});
    } else {
      for (std::size_t first = 0; first < n; first += length) out.push_back({first, length});
    }
    return out;
  }

  template <class R>
  void mix(const Values& a, const Values& b, const Line& line, float* out) const {
    using Op = Operations<R>;
    const float norm_a = std::max(Op::round(Op::norm(a, line)), Op::round(kSmallestNorm));
    const float norm_b = std::max(Op::round(Op::norm(b, line)), Op::round(kSmallestNorm));
    const float cosine = Op::round(Op::line_sum(line, [&](std::size_t i) {
      return wide(R::round(R::round(a[i] / norm_a) * R::round(b[i] / norm_b)));
    }));
    const float angle = Op::arc_cosine(std::clamp(cosine, -1.0F, 1.0F)), sine = Op::sine(angle);
    const auto s = static_cast<float>(1 - t_), t = static_cast<float>(t_);
    const float of_a = Op::sine(R::round(s * angle)), of_b = Op::sine(R::round(t * angle));
    const bool straight = std::fabs(sine) < 1e-8F;
    for (std::size_t i = 0; i < line.count; ++i) {
      const std::size_t at = line.at(i);
      out[at] = straight
                    ? R::round(R::round(s * a[at]) + R::round(t * b[at]))
                    : R::round(R::round(R::round(of_a * a[at]) + R::round(of_b * b[at])) / sine);
    }
  }

  static constexpr double kSmallestNorm = 1e-7;
  bool flat_, columns_;
  double t_ = 0.5;
};

// ---- multislerp --------------------------------------------------------------------------------

class Multislerp final : public Rounded<Multislerp> {
 public:
  explicit Multislerp(const TensorContext& context)
      : Rounded(context), eps_(context.parameters->number("eps")) {}

 private:
  friend Rounded<Multislerp>;

  template <class R>
  void apply_as(const Block& block, float* out) const {
    using Op = Operations<R>;
    const std::size_t n = block.count, k = context().models();
    if (k == 1) return static_cast<void>(std::copy_n(block.models[0], n, out));
    const float* base = block.base;
    std::vector<Values> x;
    for (const float* model : block.models) {
      x.push_back(base ? difference<R>(model, base, n) : copy(model, n));
    }
    const Values weights = this->template weights<R>();
    Values norms;
    std::vector<Values> units;
    for (const Values& vector : x) {
      norms.push_back(Op::round(Op::norm(vector)));
      const float divisor = R::round(norms.back() + static_cast<float>(eps_));
      units.push_back(Op::each(n, [&](std::size_t i) { return vector[i] / divisor; }));
    }
    Values mean = mixed<R>(units, weights);
    const float length = Op::round(Op::norm(mean));
    if (wide(length) < eps_) return without_direction<R>(x, weights, base, out);
    for (float& value : mean) value = R::round(value / length);
    for (Values& unit : units) {
      const float dot = Op::dot(unit, mean, {0, n});
      for (std::size_t i = 0; i < n; ++i) unit[i] = R::round(unit[i] - R::round(dot * mean[i]));
    }
    const Values tangent = mixed<R>(units, weights);
    const float step = R::round(Op::round(Op::norm(tangent)) + static_cast<float>(eps_));
    const float cosine = Op::cosine(step), sine = R::round(Op::sine(step) / step);
    const float scale =
        Op::round(Op::sum(k, [&](std::size_t m) { return R::round(norms[m] * weights[m]); }));
    for (std::size_t i = 0; i < n; ++i) {
      const float moved = R::round(R::round(mean[i] * cosine) + R::round(tangent[i] * sine));
      out[i] = R::round(moved * scale);
      if (base) out[i] = R::round(out[i] + base[i]);
    }
  }

  template <class R>
  Values weights() const {
    Values out;
    for (const Parameters* model : context().model_parameters) {
      out.push_back(Operations<R>::round(model->number("weight")));
    }
    if (!context().parameters->flag("normalize_weights")) return out;
    const float sum =
        Operations<R>::round(Operations<R>::sum(out.size(), [&](std::size_t m) { return out[m]; }));
    for (float& weight : out) weight = R::round(weight / sum);
    return out;
  }

  template <class R>
  static Values mixed(const std::vector<Values>& vectors, const Values& weights) {
    return Operations<R>::each(vectors[0].size(), [&](std::size_t i) {
      float sum = 0;
      for (std::size_t m = 0; m < vectors.size(); ++m) sum += R::round(vectors[m][i] * weights[m]);
      return sum;
    });
  }

  template <class R>
  void without_direction(const std::vector<Values>& x, const Values& weights, const float* base,
                         float* out) const {
    if (x.size() != 2) {
      refuse(Code::kNumericError, "multislerp", context(), "weight",
             "the weighted directions cancel out, so that the models have no mean on the sphere; "
             "give other weights");
    }
    const Values sum = mixed<R>(x, weights);
    for (std::size_t i = 0; i < sum.size(); ++i) {
      out[i] = base ? R::round(sum[i] + base[i]) : sum[i];
    }
  }

  double eps_;
};

// ---- karcher -----------------------------------------------------------------------------------

class Karcher final : public Rounded<Karcher> {
 public:
  explicit Karcher(const TensorContext& context)
      : Rounded(context),
        iterations_(static_cast<int>(context.parameters->number("max_iter"))),
        tolerance_(context.parameters->number("tol")) {}

 private:
  friend Rounded<Karcher>;

  static float float_norm(const Values& x) {  // of the tensor as float32
    return static_cast<float>(Operations<Float32Rounding>::norm(x));
  }

  template <class R>
  void apply_as(const Block& block, float* out) const {
    using Op = Operations<R>;
    const std::size_t n = block.count, k = members().size();
    if (k == 1) return static_cast<void>(std::copy_n(members().values(block, 0), n, out));
    std::vector<Values> units;
    double scale = 0;
    for (std::size_t m = 0; m < k; ++m) {
      Values unit = copy(members().values(block, m), n);
      const float norm = float_norm(unit);
      scale += 1 / static_cast<double>(k) * wide(norm);
      if (wide(norm) <= tolerance_) continue;
      for (float& value : unit) value = R::round(value / norm);
      units.push_back(std::move(unit));
    }
    if (units.empty()) return std::fill(out, out + n, 0.0F);
    // mergekit's weights 1 / k, divided by their sum.
    const double all =
        std::accumulate(units.begin(), units.end(), 0.0,
                        [k](double sum, const auto&) { return sum + 1 / static_cast<double>(k); });
    const auto share = static_cast<float>(1 / static_cast<double>(k) / all);
    Values mean(n);
    for (const Values& unit : units) {
      for (std::size_t i = 0; i < n; ++i) mean[i] = R::round(mean[i] + R::round(share * unit[i]));
    }
    const float length = float_norm(mean);
    if (wide(length) < tolerance_) {
      mean = units[0];
    } else {
      for (float& value : mean) value = R::round(value / length);
    }
    for (int i = 0; i < iterations_ && step<R>(units, share, mean); ++i) continue;
    for (std::size_t i = 0; i < n; ++i) out[i] = Op::round(static_cast<float>(scale) * mean[i]);
  }

  template <class R>
  bool step(const std::vector<Values>& units, float share, Values& mean) const {
    using Op = Operations<R>;
    const std::size_t n = mean.size();
    Values tangent(n);
    for (const Values& unit : units) {
      const double product =
          Op::line_sum({0, n}, [&](std::size_t i) { return wide(mean[i]) * wide(unit[i]); });
      const float dot = std::clamp(Op::round(product), -1.0F, 1.0F);
      const float angle = Op::arc_cosine(dot);
      if (wide(angle) < tolerance_) continue;
      const float pull = R::round(share * R::round(angle / Op::sine(angle)));
      for (std::size_t i = 0; i < n; ++i) {
        const float away = R::round(unit[i] - R::round(dot * mean[i]));
        tangent[i] = R::round(tangent[i] + R::round(pull * away));
      }
    }
    const float length = float_norm(tangent);
    if (wide(length) < tolerance_) return false;
    // A number that stands before a tensor is rounded to the tensor's type, one after it is not.
    const float cosine = Op::round(std::cos(wide(length))),
                sine = Op::round(std::sin(wide(length)));
    for (std::size_t i = 0; i < n; ++i) {
      const float onward = R::round(sine * R::round(tangent[i] / length));
      mean[i] = R::round(R::round(cosine * mean[i]) + onward);
    }
    const float norm = float_norm(mean);
    if (wide(norm) > tolerance_) {
      for (float& value : mean) value = R::round(value / norm);
    }
    return true;
  }

  int iterations_;
  double tolerance_;
};

// ---- model_stock -------------------------------------------------------------------------------

class ModelStock final : public Rounded<ModelStock> {
 public:
  explicit ModelStock(const TensorContext& context)
      : Rounded(context),
        by_row_(context.parameters->flag("filter_wise")),
        clamps_(context.parameters->has("clamp_t") && context.parameters->flag("clamp_t")) {}

 private:
  friend Rounded<ModelStock>;

  template <class R>
  void apply_as(const Block& block, float* out) const {
    std::vector<Values> offsets;
    for (const float* model : block.models) {
      offsets.push_back(difference<R>(model, block.base, block.count));
    }
    const auto length = by_row_ ? static_cast<std::size_t>(context().row_length()) : block.count;
    for (std::size_t first = 0; first < block.count; first += length) {
      move<R>(block, offsets, {first, length}, out);
    }
  }

  template <class R>
  void move(const Block& block, const std::vector<Values>& offsets, const Line& line,
            float* out) const {
    const float t = position<R>(offsets, line);
    const auto models = static_cast<float>(offsets.size());
    const float rest = R::round(1.0F - t);
    for (std::size_t i = line.first; i < line.first + line.count; ++i) {
      float sum = block.models[0][i];
      for (std::size_t m = 1; m < offsets.size(); ++m) sum = R::round(sum + block.models[m][i]);
      const float mean = R::round(sum / models);
      out[i] = R::round(R::round(t * mean) + R::round(rest * block.base[i]));
    }
  }

  template <class R>
  float position(const std::vector<Values>& offsets, const Line& line) const {
    using Op = Operations<R>;
    const std::size_t k = offsets.size();
    Values norms;
    for (const Values& offset : offsets) norms.push_back(Op::round(Op::norm(offset, line)));
    float cosines = 0;
    for (std::size_t a = 0; a < k; ++a) {
      for (std::size_t b = a + 1; b < k; ++b) {
        const float product = std::max(R::round(norms[a] * norms[b]), Op::round(1e-6));
        const float cosine = R::round(Op::dot(offsets[a], offsets[b], line) / product);
        cosines += std::clamp(cosine, -1.0F, 1.0F);
      }
    }
    const auto models = static_cast<float>(k), pairs = models * (models - 1) / 2;
    const float cosine = R::round(cosines / pairs);
    const float divisor = R::round(1.0F + R::round((models - 1) * cosine));
    const float t = R::round(R::round(models * cosine) / divisor);
    return clamps_ ? std::clamp(t, 0.0F, 1.0F) : t;
  }

  bool by_row_, clamps_;
};

// ---- sce ---------------------------------------------------------------------------------------

class Sce final : public Rounded<Sce> {
 public:
  explicit Sce(const TensorContext& context)
      : Rounded(context), share_(context.parameters->number("select_topk")) {}

 private:
  friend Rounded<Sce>;

  template <class R>
  void apply_as(const Block& block, float* out) const {
    using Op = Operations<R>;
    const std::size_t n = block.count, k = context().models();
    if (k == 0) return static_cast<void>(std::copy_n(block.base, n, out));
    std::vector<Values> vectors;
    for (const float* model : block.models) {
      vectors.push_back(difference<R>(model, block.base, n));
    }
    if (share_ < 1) select<R>(vectors);
    const Values weights = energies<R>(vectors);
    for (std::size_t i = 0; i < n; ++i) {
      float votes = 0, mix = 0, divisor = 0;
      for (const Values& vector : vectors) votes += vector[i];
      const bool positive = R::round(votes) >= 0;
      for (std::size_t m = 0; m < k; ++m) {
        const float value = vectors[m][i];
        if (positive ? !(value > 0) : !(value < 0)) continue;
        mix += R::round(value * weights[m]);
        divisor += weights[m];
      }
      const float safe = std::max(R::round(divisor), Op::round(1e-6));
      out[i] = R::round(block.base[i] + R::round(R::round(mix) / safe));
    }
  }

  // Keeps the elements of the largest variance over the models.
  template <class R>
  void select(std::vector<Values>& vectors) const {
    const std::size_t n = vectors[0].size();
    const auto models = static_cast<double>(vectors.size());
    std::vector<std::uint32_t> keys(n);
    std::size_t varying = 0;
    for (std::size_t i = 0; i < n; ++i) {
      double mean = 0, squares = 0;
      for (const Values& vector : vectors) mean += wide(vector[i]);
      mean /= models;
      for (const Values& vector : vectors) {
        squares += (wide(vector[i]) - mean) * (wide(vector[i]) - mean);
      }
      keys[i] = magnitude_key(Operations<R>::round(squares / models));
      varying += keys[i] != 0 ? 1U : 0U;
    }
    // A count times a number is float32 in torch.
    const float wanted = static_cast<float>(varying) * static_cast<float>(std::max(0.0, share_));
    std::vector<std::uint64_t> order, scratch;
    descending_order(keys, order, scratch);
    for (std::size_t rank = static_cast<std::size_t>(wanted); rank < n; ++rank) {
      for (Values& vector : vectors) vector[order[rank] & 0xffffffffU] = 0;
    }
  }

  template <class R>
  static Values energies(const std::vector<Values>& vectors) {
    using Op = Operations<R>;
    Values out;
    for (const Values& vector : vectors) {
      const double sum =
          Op::sum(vector.size(), [&](std::size_t i) { return R::round(vector[i] * vector[i]); });
      out.push_back(Op::round(sum / static_cast<double>(vector.size())));
    }
    const float sum = Op::round(Op::sum(out.size(), [&](std::size_t m) { return out[m]; }));
    const auto models = static_cast<float>(out.size());
    for (float& weight : out) {
      weight = wide(std::fabs(sum)) < 1e-6 ? R::round(1.0F / models) : R::round(weight / sum);
    }
    return out;
  }

  double share_;
};

// ---- arcee_fusion ------------------------------------------------------------------------------

class ArceeFusion final : public Rounded<ArceeFusion> {
 public:
  explicit ArceeFusion(const TensorContext& context) : Rounded(context) {}

 private:
  friend Rounded<ArceeFusion>;

  template <class R>
  void apply_as(const Block& block, float* out) const {
    const std::size_t n = block.count;
    if (block.models.empty()) return static_cast<void>(std::copy_n(block.base, n, out));
    const Values change = difference<R>(block.models[0], block.base, n);
    const Values importance = importances<R>(block, change);
    Values sorted = importance;
    const auto quantile = [&](float q) {
      const auto rank = static_cast<std::ptrdiff_t>(q * static_cast<float>(n - 1));
      std::nth_element(sorted.begin(), sorted.begin() + rank, sorted.end());
      return sorted[static_cast<std::size_t>(rank)];
    };
    const float median = quantile(0.5F), first = quantile(0.25F), third = quantile(0.75F);
    const float threshold = R::round(median + R::round(1.5F * R::round(third - first)));
    for (std::size_t i = 0; i < n; ++i) {
      const bool takes = importance[i] >= threshold;
      out[i] = takes ? R::round(block.base[i] + change[i]) : block.base[i];
    }
  }

  template <class R>
  Values importances(const Block& block, const Values& change) const {
    using Op = Operations<R>;
    Values out(block.count);
    const auto length = static_cast<std::size_t>(context().row_length());
    for (std::size_t first = 0; first < block.count; first += length) {
      const Values p = shares<R>(block.models[0] + first, length);
      const Values q = shares<R>(block.base + first, length);
      const float divergence = Op::round(Op::sum(length, [&](std::size_t i) {
        return R::round(p[i] * Op::round(std::log(wide(R::round(p[i] / q[i])))));
      }));
      for (std::size_t i = first; i < first + length; ++i) {
        out[i] = R::round(std::fabs(change[i]) * divergence);
      }
    }
    return out;
  }

  // softmax + 1e-8.
  template <class R>
  static Values shares(const float* row, std::size_t length) {
    const double largest = wide(*std::max_element(row, row + length));
    std::vector<double> exponentials(length);
    double sum = 0;
    for (std::size_t i = 0; i < length; ++i) {
      sum += exponentials[i] = std::exp(wide(row[i]) - largest);
    }
    return Operations<R>::each(
        length, [&](std::size_t i) { return Operations<R>::round(exponentials[i] / sum) + 1e-8F; });
  }
};

template <class Method>
Made made(const TensorContext& context) {
  return std::make_unique<Method>(context);
}

}  // namespace

Made make_native(std::string_view method, const TensorContext& context) {
  if (context.accumulate != Accumulate::kNative) return nullptr;
  if (method == "slerp") return made<Slerp>(context);
  if (method == "nuslerp") return made<Nuslerp>(context);
  if (method == "multislerp") return made<Multislerp>(context);
  if (method == "karcher") return made<Karcher>(context);
  if (method == "model_stock") return made<ModelStock>(context);
  if (method == "sce") return made<Sce>(context);
  if (method == "arcee_fusion") return made<ArceeFusion>(context);
  return nullptr;
}

}  // namespace theriac::merge::methods
