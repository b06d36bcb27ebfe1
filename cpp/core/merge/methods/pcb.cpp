// pcb: Du et al., "Parameter Competition Balancing for Model Merging", arXiv 2410.02396. Over the
// whole model, D elements of each of n models, d_i the differences from the base, s their sum:
//
//     a_i = |d_i| clamped to its values of ascending rank int(D 1e-4) and int(D (1 - 1e-4) - 1)
//     b_i = exp(n minmax(a_i)^2) tanh(d_i s)         competition within times between models
//     scale_i = minmax(b_i clamped from below to its value of ascending rank int(D (1 - ratio)))
//     out = base + sum_i w_i sign(d_i) a_i scale_i / max(sum_i scale_i, 1e-12)
//
// minmax of a constant is 0. All order statistics are exact.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>

#include "cpp/core/merge/methods/difference.h"
#include "cpp/core/merge/methods/methods.h"
#include "cpp/core/merge/methods/order_statistics.h"
#include "cpp/core/merge/methods/rounding.h"

namespace theriac::merge::methods {
namespace {

constexpr double kOutliers = 1e-4;
constexpr double kSmallestDivisor = 1e-12;

// From an ascending rank, from 0, to StreamedRank's.
StreamedRank rank_of(double ascending, std::uint64_t elements) {
  if (elements == 0) return StreamedRank(0);
  const auto last = static_cast<double>(elements - 1);
  return StreamedRank(elements -
                      static_cast<std::uint64_t>(std::clamp(std::trunc(ascending), 0.0, last)));
}

double minmax(double value, double low, double high) {
  return high > low ? (std::clamp(value, low, high) - low) / (high - low) : 0;
}

class Balance final : public ModelStatistics {
 public:
  explicit Balance(std::span<const TensorContext> tensors) : tensors_(tensors) {
    for (const TensorContext& tensor : tensors) {
      tasks_.resize(std::max(tasks_.size(), tensor.tasks));
      for (const std::size_t task : tensor.model_tasks) tasks_[task].elements += tensor.elements();
    }
    const double ratio = tensors.empty() ? 0 : tensors[0].parameters->number("ratio");
    for (Task& task : tasks_) {
      const auto n = static_cast<double>(task.elements);
      task.low_rank = rank_of(n * kOutliers, task.elements);
      task.high_rank = rank_of(n * (1 - kOutliers) - 1, task.elements);
      task.kept_rank = rank_of(n * (1 - ratio), task.elements);
    }
    for (const TensorContext& tensor : tensors) {
      if (tensor.parameters->number("ratio") == ratio) continue;
      refuse(Code::kInvalidArgument, "pcb", tensor, "ratio",
             "the ratio differs from other tensors'; it is one for the whole model");
    }
  }

  int passes() const override { return 4; }

  std::unique_ptr<Partial> observe(int pass, std::size_t tensor,
                                   const Block& block) const override {
    auto out = std::make_unique<Counts>();
    for (std::size_t m = 0; m < block.models.size(); ++m) {
      const Task& task = tasks_[tensors_[tensor].model_tasks[m]];
      if (pass < 2) {
        const auto key = [&](std::size_t i) { return magnitude_key(difference(block, m, i)); };
        if (pass == 0) {
          out->keys.push_back(count_upper_halves(block.count, key));
        } else {
          out->keys.push_back(count_lower_halves(block.count, task.low_rank.upper(), key));
          out->keys.push_back(count_lower_halves(block.count, task.high_rank.upper(), key));
        }
      } else {
        observe_balances(pass, task, block, m, *out);
      }
    }
    return out;
  }

  void absorb(int pass, std::size_t tensor, const Partial& partial) override {
    const auto& counts = static_cast<const Counts&>(partial);
    const std::vector<std::size_t>& model_tasks = tensors_[tensor].model_tasks;
    for (std::size_t m = 0; m < model_tasks.size(); ++m) {
      Task& task = tasks_[model_tasks[m]];
      if (pass == 0) {
        task.low_rank.add(counts.keys[m]);
        task.high_rank.add(counts.keys[m]);
      } else if (pass == 1) {
        task.low_rank.add(counts.keys[2 * m]);
        task.high_rank.add(counts.keys[2 * m + 1]);
      } else {
        task.kept_rank.add(counts.keys[m]);
        if (pass == 2) task.largest = std::max(task.largest, counts.largest[m]);
      }
    }
  }

  void end_pass(int pass) override {
    for (Task& task : tasks_) {
      if (pass == 0) {
        task.low_rank.end_first_pass();
        task.high_rank.end_first_pass();
      } else if (pass == 1) {
        task.low_rank.end_second_pass();
        task.high_rank.end_second_pass();
        task.low = as_double(std::bit_cast<float>(task.low_rank.key()));
        task.high = as_double(std::bit_cast<float>(task.high_rank.key()));
      } else if (pass == 2) {
        task.kept_rank.end_first_pass();
      } else {
        task.kept_rank.end_second_pass();
        task.kept = as_double(from_ordered_key(task.kept_rank.key()));
      }
    }
  }

  Json summary() const override {
    Json out = Json::array();
    for (const Task& task : tasks_) {
      if (task.elements == 0) continue;
      out.push_back(Json{{"smallest_magnitude", task.low},
                         {"largest_magnitude", task.high},
                         {"smallest_balance", task.kept}});
    }
    return Json{{"tasks", std::move(out)}};
  }

  struct Term {
    double value = 0, scale = 0;
  };
  Term term(std::size_t task_number, const Block& block, std::size_t model, std::size_t i,
            double sum) const {
    const Task& task = tasks_[task_number];
    const double d = as_double(difference(block, model, i));
    const double a =
        task.high > task.low ? std::clamp(std::fabs(d), task.low, task.high) : task.low;
    const double sign = d == 0 ? 0 : std::copysign(1.0, d);
    const auto b = as_double(balance(task, d, sum));
    return {sign * a, minmax(b, task.kept, as_double(task.largest))};
  }

 private:
  struct Counts final : Partial {
    std::vector<KeyCounts> keys;
    std::vector<float> largest;  // balance of each model
  };
  struct Task {
    std::uint64_t elements = 0;
    StreamedRank low_rank{0}, high_rank{0}, kept_rank{0};
    double low = 0, high = 0, kept = 0;
    float largest = -std::numeric_limits<float>::infinity();
  };

  // Rounded to float, so that order statistics of it are exact; adding zero makes -0 the same as 0.
  float balance(const Task& task, double d, double sum) const {
    const auto n = static_cast<double>(tasks_.size());
    const double within = minmax(std::fabs(d), task.low, task.high);
    return static_cast<float>(std::exp(n * within * within) * std::tanh(d * sum)) + 0.0F;
  }

  void observe_balances(int pass, const Task& task, const Block& block, std::size_t model,
                        Counts& out) const {
    std::vector<float> balances(block.count);
    float largest = -std::numeric_limits<float>::infinity();
    for (std::size_t i = 0; i < block.count; ++i) {
      balances[i] =
          balance(task, as_double(difference(block, model, i)), sum_of_differences(block, i));
      largest = std::max(largest, balances[i]);
    }
    const auto key = [&](std::size_t i) { return ordered_key(balances[i]); };
    out.largest.push_back(largest);
    out.keys.push_back(pass == 2 ? count_upper_halves(block.count, key)
                                 : count_lower_halves(block.count, task.kept_rank.upper(), key));
  }

  std::span<const TensorContext> tensors_;
  std::vector<Task> tasks_;
};

class Pcb final : public TensorMerge {
 public:
  explicit Pcb(const TensorContext& context)
      : context_(context), balance_(static_cast<const Balance*>(context.statistics)) {
    for (const Parameters* own : context.model_parameters) {
      weights_.push_back(own->number("weight"));
    }
  }

  void apply(const Block& block, float* out) const override {
    for (std::size_t i = 0; i < block.count; ++i) {
      const double sum = sum_of_differences(block, i);
      double mix = 0, divisor = 0;
      for (std::size_t m = 0; m < weights_.size(); ++m) {
        const auto [value, scale] = balance_->term(context_.model_tasks[m], block, m, i, sum);
        mix += weights_[m] * value * scale;
        divisor += scale;
      }
      out[i] = moved(block.base[i], mix / std::max(divisor, kSmallestDivisor));
    }
    round_all(context_, out, block.count);
  }

 private:
  TensorContext context_;
  const Balance* balance_;
  std::vector<double> weights_;
};

}  // namespace

Made make_pcb(const TensorContext& context) { return std::make_unique<Pcb>(context); }
MadeStatistics make_pcb_statistics(std::span<const TensorContext> tensors) {
  return std::make_unique<Balance>(tensors);
}

}  // namespace theriac::merge::methods
