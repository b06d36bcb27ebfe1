// Methods that give each task a mask over one shared difference. d_i are the models' differences
// from the base, s their sum.
//
// emr: Huang et al., "EMR-Merging", arXiv 2405.17461:
//     g = +1 where s > 0, else -1;   u = g max{|d_i| : d_i g > 0}, 0 where there is none
//     m_i = [d_i g > 0];   l_i = sum_tensors mean|d_i| / sum_tensors mean|m_i u|
//   The output is base + u, or for `task` i: base + l_i m_i u. The paper's text has sums over all
//   elements in place of the means over tensors, its code the means: `scale_from`.
// tall_masks: Wang et al., "Localizing Task Information", arXiv 2405.07813:
//     m_i = [|d_i| > lambda_i |s - d_i|];   output base + s, or for `task` i: base + m_i s
// With `output: masks` both give all m_i of an element as one number, task i as bit i from 0, in the
// narrowest of U8, U16 and U32.
// consensus: the same paper: base + lambda s where at least min_tasks of the m_i are 1.
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "cpp/core/merge/methods/difference.h"
#include "cpp/core/merge/methods/exact_sum.h"
#include "cpp/core/merge/methods/methods.h"
#include "cpp/core/merge/methods/rounding.h"

namespace theriac::merge::methods {
namespace {

// The task asked for, from 0; kShared for what all tasks share.
constexpr std::size_t kShared = static_cast<std::size_t>(-1);

std::size_t task_of(const TensorContext& context, std::string_view method) {
  const double task = context.parameters->number("task");
  if (task > static_cast<double>(context.tasks)) {
    refuse(Code::kInvalidArgument, method, context, "task",
           "there is no task " + std::to_string(static_cast<std::uint64_t>(task)) +
               "; expected 1 to " + std::to_string(context.tasks) +
               ", in the order of the models, or 0 for what they share");
  }
  return task == 0 ? kShared : static_cast<std::size_t>(task) - 1;
}

// What all masks of an element fit in.
std::optional<tensorfile::DType> masks_dtype(const TensorContext& context,
                                             std::string_view method) {
  constexpr std::size_t kMostTasks = 24;  // float32 holds these whole numbers
  if (context.parameters->text("output") != "masks") return std::nullopt;
  if (context.tasks <= 8) return tensorfile::DType::kU8;
  if (context.tasks <= 16) return tensorfile::DType::kU16;
  if (context.tasks <= kMostTasks) return tensorfile::DType::kU32;
  refuse(Code::kUnsupported, method, context, "output",
         "masks of " + std::to_string(context.tasks) + " models; at most 24 fit into one number");
}

// Calls is_set(i, m) for the mask of model m at element i.
template <class IsSet>
void write_masks(const TensorContext& context, const Block& block, float* out,
                 const IsSet& is_set) {
  for (std::size_t i = 0; i < block.count; ++i) {
    std::uint32_t bits = 0;
    for (std::size_t m = 0; m < block.models.size(); ++m) {
      if (is_set(i, m)) bits |= std::uint32_t{1} << context.model_tasks[m];
    }
    out[i] = static_cast<float>(bits);
  }
}

// ---- emr ---------------------------------------------------------------------------------------

// Of one element, in the elected direction.
class Unified {
 public:
  Unified(const Block& block, std::size_t i) : positive_(sum_of_differences(block, i) > 0) {
    for (std::size_t m = 0; m < block.models.size(); ++m) {
      const float d = difference(block, m, i);
      if (agrees(d)) value_ = positive_ ? std::max(value_, d) : std::min(value_, d);
    }
  }
  bool agrees(float d) const noexcept { return positive_ ? d > 0 : d < 0; }
  float value() const noexcept { return value_; }

 private:
  bool positive_;
  float value_ = 0;
};

class EmrScales final : public ModelStatistics {
 public:
  explicit EmrScales(std::span<const TensorContext> tensors) : tensors_(tensors) {
    for (const TensorContext& tensor : tensors) {
      scales_.resize(std::max(scales_.size(), tensor.tasks), 1.0);
    }
    means_.resize(tensors.size());
    from_means_ = tensors.empty() || tensors[0].parameters->text("scale_from") == "tensor_means";
  }

  int passes() const override { return 1; }
  std::unique_ptr<Partial> observe(int /*pass*/, std::size_t tensor,
                                   const Block& block) const override {
    std::vector<ExactSum> sums(2 * tensors_[tensor].models());
    for (std::size_t i = 0; i < block.count; ++i) {
      const Unified unified(block, i);
      for (std::size_t m = 0; m < block.models.size(); ++m) {
        const float d = difference(block, m, i);
        sums[2 * m].add_magnitude(d);
        if (unified.agrees(d)) sums[2 * m + 1].add_magnitude(unified.value());
      }
    }
    auto out = std::make_unique<Sums>();
    for (const ExactSum& sum : sums) out->sums.push_back(sum.terms());
    return out;
  }
  // The blocks of a tensor come one after the other.
  void absorb(int /*pass*/, std::size_t tensor, const Partial& partial) override {
    const auto& terms = static_cast<const Sums&>(partial).sums;
    if (tensor != current_) {
      current_ = tensor;
      sums_.assign(terms.size(), ExactSum());
    }
    means_[tensor].clear();
    for (std::size_t s = 0; s < terms.size(); ++s) {
      sums_[s].add(terms[s]);
      means_[tensor].push_back(sums_[s].value());
    }
  }
  void end_pass(int /*pass*/) override {
    std::vector<double> own(scales_.size()), shared(scales_.size());
    for (std::size_t t = 0; t < tensors_.size(); ++t) {
      const double n = from_means_ ? static_cast<double>(tensors_[t].elements()) : 1;
      for (std::size_t m = 0; 2 * m + 1 < means_[t].size(); ++m) {
        own[tensors_[t].model_tasks[m]] += means_[t][2 * m] / n;
        shared[tensors_[t].model_tasks[m]] += means_[t][2 * m + 1] / n;
      }
    }
    for (std::size_t task = 0; task < scales_.size(); ++task) {
      if (shared[task] > 0) scales_[task] = own[task] / shared[task];
    }
  }
  Json summary() const override { return Json{{"scales", scales_}}; }

  double scale(std::size_t task) const { return scales_[task]; }

 private:
  struct Sums final : Partial {
    std::vector<ExactSum::Terms> sums;  // for each model: of its magnitudes, of those it shares
  };

  std::span<const TensorContext> tensors_;
  bool from_means_ = true;
  std::size_t current_ = kShared;
  std::vector<ExactSum> sums_;              // of the current tensor
  std::vector<std::vector<double>> means_;  // of each tensor, the sums
  std::vector<double> scales_;
};

class Emr final : public TensorMerge {
 public:
  explicit Emr(const TensorContext& context)
      : context_(context),
        scales_(static_cast<const EmrScales*>(context.statistics)),
        task_(task_of(context, "emr")),
        masks_(masks_dtype(context, "emr")) {}

  std::optional<tensorfile::DType> output_dtype() const override { return masks_; }

  void apply(const Block& block, float* out) const override {
    if (masks_) {
      return write_masks(context_, block, out, [&](std::size_t i, std::size_t m) {
        return Unified(block, i).agrees(difference(block, m, i));
      });
    }
    const bool shared = task_ == kShared;
    const std::size_t model = shared ? 0 : model_of_task(context_, task_);
    if (block.models.empty() || model == block.models.size()) {
      return static_cast<void>(std::copy_n(block.base, block.count, out));
    }
    const double scale = shared ? 1 : scales_->scale(task_);
    for (std::size_t i = 0; i < block.count; ++i) {
      const Unified unified(block, i);
      const bool takes = shared || unified.agrees(difference(block, model, i));
      out[i] = moved(block.base[i], takes ? scale * as_double(unified.value()) : 0);
    }
    round_all(context_, out, block.count);
  }

 private:
  TensorContext context_;
  const EmrScales* scales_;
  std::size_t task_;
  std::optional<tensorfile::DType> masks_;
};

// ---- tall_masks and consensus ------------------------------------------------------------------

std::vector<double> mask_lambdas(const TensorContext& context) {
  std::vector<double> out;
  for (const Parameters* own : context.model_parameters) out.push_back(own->number("mask_lambda"));
  return out;
}

bool is_own(double difference, double sum, double lambda) {
  return std::fabs(difference) > lambda * std::fabs(sum - difference);
}

class TallMasks final : public TensorMerge {
 public:
  explicit TallMasks(const TensorContext& context)
      : context_(context),
        lambdas_(mask_lambdas(context)),
        task_(task_of(context, "tall_masks")),
        masks_(masks_dtype(context, "tall_masks")) {}

  std::optional<tensorfile::DType> output_dtype() const override { return masks_; }

  void apply(const Block& block, float* out) const override {
    if (masks_) {
      return write_masks(context_, block, out, [&](std::size_t i, std::size_t m) {
        const double sum = sum_of_differences(block, i);
        return is_own(as_double(difference(block, m, i)), sum, lambdas_[m]);
      });
    }
    const bool shared = task_ == kShared;
    const std::size_t model = shared ? 0 : model_of_task(context_, task_);
    if (block.models.empty() || model == block.models.size()) {
      return static_cast<void>(std::copy_n(block.base, block.count, out));
    }
    for (std::size_t i = 0; i < block.count; ++i) {
      const double sum = sum_of_differences(block, i);
      const double d = as_double(difference(block, model, i));
      out[i] = moved(block.base[i], shared || is_own(d, sum, lambdas_[model]) ? sum : 0);
    }
    round_all(context_, out, block.count);
  }

 private:
  TensorContext context_;
  std::vector<double> lambdas_;
  std::size_t task_;
  std::optional<tensorfile::DType> masks_;
};

class Consensus final : public TensorMerge {
 public:
  explicit Consensus(const TensorContext& context)
      : context_(context),
        lambdas_(mask_lambdas(context)),
        lambda_(context.parameters->number("lambda")),
        wanted_(context.parameters->number("min_tasks")) {}

  void apply(const Block& block, float* out) const override {
    for (std::size_t i = 0; i < block.count; ++i) {
      const double sum = sum_of_differences(block, i);
      double tasks = 0;
      for (std::size_t m = 0; m < block.models.size(); ++m) {
        tasks += is_own(as_double(difference(block, m, i)), sum, lambdas_[m]) ? 1 : 0;
      }
      out[i] = moved(block.base[i], tasks >= wanted_ ? lambda_ * sum : 0);
    }
    round_all(context_, out, block.count);
  }

 private:
  TensorContext context_;
  std::vector<double> lambdas_;
  double lambda_, wanted_;
};

}  // namespace

Made make_emr(const TensorContext& context) { return std::make_unique<Emr>(context); }
MadeStatistics make_emr_statistics(std::span<const TensorContext> tensors) {
  return std::make_unique<EmrScales>(tensors);
}
Made make_tall_masks(const TensorContext& context) { return std::make_unique<TallMasks>(context); }
Made make_consensus(const TensorContext& context) { return std::make_unique<Consensus>(context); }

}  // namespace theriac::merge::methods
