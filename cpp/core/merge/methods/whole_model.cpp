// Methods that weigh models by norms of their differences d_i over the whole model.
//
// metagpt: Zhou et al., "MetaGPT", arXiv 2406.11385: base + sum_i l_i d_i with
//     l_i = ||d_i||^2 / sum_j ||d_j||^2
// lines: Wang et al., "LiNeS", arXiv 2410.17146: base + (alpha + beta t) sum_i w_i d_i, t the position
//     among the layers, 0 to 1, and 0 outside them. For several models the paper's
//     alpha = ||sum_i d_i||_1 / (k ||sum_i w_i d_i||_1)
#include <algorithm>
#include <cmath>
#include <memory>

#include "cpp/core/merge/methods/difference.h"
#include "cpp/core/merge/methods/exact_sum.h"
#include "cpp/core/merge/methods/methods.h"
#include "cpp/core/merge/methods/rounding.h"

namespace theriac::merge::methods {
namespace {

struct Sums final : Partial {
  std::vector<ExactSum::Terms> sums;
};

// ---- metagpt -----------------------------------------------------------------------------------

class Norms final : public ModelStatistics {
 public:
  explicit Norms(std::span<const TensorContext> tensors) : tensors_(tensors) {
    for (const TensorContext& tensor : tensors) tasks_ = std::max(tasks_, tensor.tasks);
    squares_.resize(tasks_);
  }

  int passes() const override { return 1; }
  std::unique_ptr<Partial> observe(int /*pass*/, std::size_t tensor,
                                   const Block& block) const override {
    auto out = std::make_unique<Sums>();
    for (std::size_t m = 0; m < tensors_[tensor].models(); ++m) {
      ExactSum sum;
      for (std::size_t i = 0; i < block.count; ++i) {
        const float d = difference(block, m, i);
        sum.add_product(d, d);
      }
      out->sums.push_back(sum.terms());
    }
    return out;
  }
  void absorb(int /*pass*/, std::size_t tensor, const Partial& partial) override {
    const auto& sums = static_cast<const Sums&>(partial).sums;
    for (std::size_t m = 0; m < sums.size(); ++m) {
      squares_[tensors_[tensor].model_tasks[m]].add(sums[m]);
    }
  }
  void end_pass(int /*pass*/) override {
    double all = 0;
    for (const ExactSum& sum : squares_) all += sum.value();
    for (const ExactSum& sum : squares_) weights_.push_back(all == 0 ? 0 : sum.value() / all);
  }
  Json summary() const override { return Json{{"weights", weights_}}; }

  double weight(std::size_t task) const { return weights_[task]; }

 private:
  std::span<const TensorContext> tensors_;
  std::size_t tasks_ = 0;
  std::vector<ExactSum> squares_;
  std::vector<double> weights_;
};

class MetaGpt final : public TensorMerge {
 public:
  explicit MetaGpt(const TensorContext& context)
      : context_(context), norms_(static_cast<const Norms*>(context.statistics)) {}

  void apply(const Block& block, float* out) const override {
    std::vector<double> weights;
    for (const std::size_t task : context_.model_tasks) weights.push_back(norms_->weight(task));
    for (std::size_t i = 0; i < block.count; ++i) {
      double sum = 0;
      for (std::size_t m = 0; m < weights.size(); ++m) {
        sum += weights[m] * as_double(difference(block, m, i));
      }
      out[i] = moved(block.base[i], sum);
    }
    round_all(context_, out, block.count);
  }

 private:
  TensorContext context_;
  const Norms* norms_;
};

// ---- lines -------------------------------------------------------------------------------------

double weighted_difference(const TensorContext& context, const std::vector<double>& weights,
                           const Block& block, std::size_t i) {
  double sum = 0;
  for (std::size_t m = 0; m < context.models(); ++m) {
    sum += weights[m] * as_double(difference(block, m, i));
  }
  return sum;
}

std::vector<double> weights_of(const TensorContext& context) {
  std::vector<double> out;
  for (const Parameters* own : context.model_parameters) out.push_back(own->number("weight"));
  return out;
}

// L1 norms of the plain and of the weighted sum of differences.
class SumNorms final : public ModelStatistics {
 public:
  explicit SumNorms(std::span<const TensorContext> tensors) : tensors_(tensors) {
    for (const TensorContext& tensor : tensors) tasks_ = std::max(tasks_, tensor.tasks);
  }

  int passes() const override { return 1; }
  std::unique_ptr<Partial> observe(int /*pass*/, std::size_t tensor,
                                   const Block& block) const override {
    const TensorContext& context = tensors_[tensor];
    const std::vector<double> ones(context.models(), 1.0), weights = weights_of(context);
    ExactSum plain, weighted;
    for (std::size_t i = 0; i < block.count; ++i) {
      plain.add_magnitude(static_cast<float>(weighted_difference(context, ones, block, i)));
      weighted.add_magnitude(static_cast<float>(weighted_difference(context, weights, block, i)));
    }
    auto out = std::make_unique<Sums>();
    out->sums = {plain.terms(), weighted.terms()};
    return out;
  }
  void absorb(int /*pass*/, std::size_t /*tensor*/, const Partial& partial) override {
    const auto& sums = static_cast<const Sums&>(partial).sums;
    plain_.add(sums[0]);
    weighted_.add(sums[1]);
  }
  void end_pass(int /*pass*/) override {
    const double merged = weighted_.value() * static_cast<double>(tasks_);
    alpha_ = merged == 0 ? 0 : plain_.value() / merged;
  }
  Json summary() const override { return Json{{"alpha", alpha_}}; }

  double alpha() const noexcept { return alpha_; }

 private:
  std::span<const TensorContext> tensors_;
  std::size_t tasks_ = 0;
  ExactSum plain_, weighted_;
  double alpha_ = 0;
};

class Lines final : public TensorMerge {
 public:
  explicit Lines(const TensorContext& context)
      : context_(context),
        norms_(static_cast<const SumNorms*>(context.statistics)),
        weights_(weights_of(context)) {}

  void apply(const Block& block, float* out) const override {
    const Parameters& given = *context_.parameters;
    const double alpha = given.has("alpha") ? given.number("alpha") : norms_->alpha();
    const double scale = alpha + given.number("beta") * context_.t;
    for (std::size_t i = 0; i < block.count; ++i) {
      out[i] = moved(block.base[i], scale * weighted_difference(context_, weights_, block, i));
    }
    round_all(context_, out, block.count);
  }

 private:
  TensorContext context_;
  const SumNorms* norms_;
  std::vector<double> weights_;
};

}  // namespace

Made make_metagpt(const TensorContext& context) { return std::make_unique<MetaGpt>(context); }
MadeStatistics make_metagpt_statistics(std::span<const TensorContext> tensors) {
  return std::make_unique<Norms>(tensors);
}

Made make_lines(const TensorContext& context) { return std::make_unique<Lines>(context); }
MadeStatistics make_lines_statistics(std::span<const TensorContext> tensors) {
  const auto lacks = [](const TensorContext& tensor) { return !tensor.parameters->has("alpha"); };
  if (std::none_of(tensors.begin(), tensors.end(), lacks)) return nullptr;
  return std::make_unique<SumNorms>(tensors);
}

}  // namespace theriac::merge::methods
