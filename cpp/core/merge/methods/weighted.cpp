// Methods that combine the models' values element by element.
//
// linear: sum w_i x_i, over sum w_i where normalised (Wortsman et al., "Model soups",
// arXiv 2203.05482). passthrough: x, times `scale`. nearswap: w b + (1 - w) a with
// w = clamp(t / max(|a - b|, 1e-6), 0, 1). magmax: a + lambda d, d the difference of the largest
// magnitude, the later one among equals (Marczak et al., "MagMax", arXiv 2407.06322).
#include <algorithm>
#include <array>
#include <cmath>

#include "cpp/core/merge/methods/loops.h"
#include "cpp/core/merge/methods/methods.h"
#include "cpp/core/merge/methods/rounding.h"

namespace theriac::merge::methods {
namespace {

constexpr std::size_t kChunk = 512;
constexpr double kSmallestWeight = 1e-8;

// ---- linear ------------------------------------------------------------------------------------

// In float64 under kFloat32, so that equal models give their own bytes for any weights.
class Linear final : public TensorMerge {
 public:
  explicit Linear(const TensorContext& context)
      : accumulate_(context.accumulate), dtype_(context.dtype), members_(context) {
    if (members_.size() == 0) refuse(Code::kInvalidArgument, "linear", context, "", "no model");
    double sum = 0;
    for (std::size_t m = 0; m < members_.size(); ++m) {
      weights_.push_back(members_.parameters(m).number("weight"));
      sum += weights_.back();
    }
    if (!context.parameters->flag("normalize")) return;
    if (std::fabs(sum) < kSmallestWeight) {
      refuse(Code::kInvalidArgument, "linear", context, "weight",
             "the weights sum to " + std::to_string(sum) +
                 " and can not be normalised; give others or 'normalize: false'");
    }
    normalizes_ = true;
    divisor_ = sum;
  }

  bool divisible() const override { return true; }
  void apply(const Block& block, float* out) const override {
    if (accumulate_ == Accumulate::kFloat32) return apply_in_double(block, out);
    with_rounding(accumulate_, dtype_, [&](auto rounding) { apply_rounded(block, out, rounding); });
  }

 private:
  void apply_in_double(const Block& block, float* out) const {
    std::vector<const float*> values;
    for (std::size_t m = 0; m < members_.size(); ++m) values.push_back(members_.values(block, m));
    loops::weigh(weights_.data(), values.data(), values.size(), 1 / divisor_, block.count, out);
  }

  // A sum over the models is one reduction, which torch accumulates in float32.
  template <class Rounding>
  void apply_rounded(const Block& block, float* out, Rounding r) const {
    float divisor = 0;
    for (const double w : weights_) divisor += r.round(static_cast<float>(w));
    divisor = normalizes_ ? r.round(divisor) : 1.0F;
    std::fill(out, out + block.count, 0.0F);
    for (std::size_t m = 0; m < weights_.size(); ++m) {
      const float* x = members_.values(block, m);
      const float w = r.round(static_cast<float>(weights_[m]));
      for (std::size_t i = 0; i < block.count; ++i) out[i] += r.round(w * x[i]);
    }
    for (std::size_t i = 0; i < block.count; ++i) out[i] = r.round(r.round(out[i]) / divisor);
  }

  Accumulate accumulate_;
  tensorfile::DType dtype_;
  Members members_;
  std::vector<double> weights_;
  bool normalizes_ = false;
  double divisor_ = 1;
};

// ---- passthrough -------------------------------------------------------------------------------

class Passthrough final : public TensorMerge {
 public:
  explicit Passthrough(const TensorContext& context)
      : accumulate_(context.accumulate), dtype_(context.dtype), members_(context) {
    if (members_.size() != 1) {
      refuse(Code::kInvalidArgument, "passthrough", context, "",
             "has " + std::to_string(members_.size()) + " models; expected one");
    }
    scale_ = static_cast<float>(members_.parameters(0).number_or("scale", 1.0));
  }

  void apply(const Block& block, float* out) const override {
    const float* x = members_.values(block, 0);
    with_rounding(accumulate_, dtype_, [&](auto r) {
      for (std::size_t i = 0; i < block.count; ++i) out[i] = r.round(x[i] * scale_);
    });
  }

 private:
  Accumulate accumulate_;
  tensorfile::DType dtype_;
  Members members_;
  float scale_ = 1;
};

// ---- nearswap and magmax -----------------------------------------------------------------------

class Nearswap final : public TensorMerge {
 public:
  explicit Nearswap(const TensorContext& context)
      : accumulate_(context.accumulate),
        dtype_(context.dtype),
        models_(context.models()),
        t_(static_cast<float>(context.parameters->number("t"))) {
    if (models_ > 1) refuse(Code::kInvalidArgument, "nearswap", context, "", "has several models");
  }

  void apply(const Block& block, float* out) const override {
    if (models_ == 0) return static_cast<void>(std::copy_n(block.base, block.count, out));
    const float* a = block.base;
    const float* b = block.models[0];
    if (accumulate_ == Accumulate::kFloat32) {
      for (std::size_t i = 0; i < block.count; ++i) {
        const float distance = std::max(std::fabs(a[i] - b[i]), kSmallestDistance);
        const float w = std::clamp(t_ / distance, 0.0F, 1.0F);
        out[i] = a[i] == b[i] ? a[i] : w * b[i] + (1.0F - w) * a[i];
      }
      return;
    }
    // torch divides a number by a tensor as the number times the tensor's reciprocal.
    with_rounding(accumulate_, dtype_, [&](auto r) {
      for (std::size_t i = 0; i < block.count; ++i) {
        const float distance =
            std::max(std::fabs(r.round(a[i] - b[i])), r.round(kSmallestDistance));
        const float w = std::clamp(r.round(r.round(1.0F / distance) * t_), 0.0F, 1.0F);
        out[i] = r.round(r.round(w * b[i]) + r.round(r.round(1.0F - w) * a[i]));
      }
    });
  }

 private:
  static constexpr float kSmallestDistance = 1e-6F;
  Accumulate accumulate_;
  tensorfile::DType dtype_;
  std::size_t models_;
  float t_;
};

class Magmax final : public TensorMerge {
 public:
  explicit Magmax(const TensorContext& context)
      : accumulate_(context.accumulate),
        dtype_(context.dtype),
        lambda_(static_cast<float>(context.parameters->number("lambda"))) {}

  void apply(const Block& block, float* out) const override {
    with_rounding(accumulate_, dtype_, [&](auto r) {
      std::array<float, kChunk> largest{};
      for (std::size_t first = 0; first < block.count; first += kChunk) {
        const std::size_t n = std::min(kChunk, block.count - first);
        const float* base = block.base + first;
        largest.fill(0.0F);
        for (const float* model : block.models) {
          for (std::size_t i = 0; i < n; ++i) {
            const float difference = r.round(model[first + i] - base[i]);
            largest[i] = selected(difference, largest[i],
                                  mask_of(std::fabs(difference) >= std::fabs(largest[i])));
          }
        }
        for (std::size_t i = 0; i < n; ++i) {
          const float scaled = r.round(largest[i] * lambda_);
          out[first + i] = selected(base[i], r.round(base[i] + scaled), mask_of(scaled == 0));
        }
      }
    });
  }

 private:
  Accumulate accumulate_;
  tensorfile::DType dtype_;
  float lambda_;
};

}  // namespace

Made make_linear(const TensorContext& context) { return std::make_unique<Linear>(context); }
Made make_passthrough(const TensorContext& context) {
  return std::make_unique<Passthrough>(context);
}
Made make_nearswap(const TensorContext& context) { return std::make_unique<Nearswap>(context); }
Made make_magmax(const TensorContext& context) { return std::make_unique<Magmax>(context); }

}  // namespace theriac::merge::methods
