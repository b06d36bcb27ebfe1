#include "cpp/core/merge/methods/global_trim.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "cpp/core/merge/methods/methods.h"
#include "cpp/core/merge/methods/rounding.h"

namespace theriac::merge::methods {
namespace {

constexpr std::size_t kChunk = 512;

}  // namespace

struct GlobalTrim::Counts final : Partial {
  std::uint64_t first = 0;
  std::vector<KeyCounts> keys;      // one a model of the tensor
  std::vector<std::uint64_t> ties;  // one a model of the tensor
  std::int64_t signs = 0;
};

GlobalTrim::GlobalTrim(std::span<const TensorContext> tensors, const Options& options)
    : tensors_(tensors), options_(options) {
  for (const TensorContext& tensor : tensors) add_tensor(tensor);
  bool trims = false;
  for (Task& task : tasks_) {
    const auto share =
        static_cast<std::uint64_t>(task.density * static_cast<double>(task.elements));
    if (!task.trims()) continue;
    trims = true;
    task.cut = StreamedRank(options.keep_ties ? share + 1 : std::max<std::uint64_t>(1, share));
    task.ties.resize(tensors.size());
  }
  if (trims) passes_ = {Pass::kUpperHalves, Pass::kLowerHalves};
  if (trims && !options.keep_ties) passes_.push_back(Pass::kTies);
  if (options.majority) passes_.push_back(Pass::kSigns);
}

void GlobalTrim::add_tensor(const TensorContext& tensor) {
  tasks_.resize(std::max(tasks_.size(), tensor.tasks));
  for (std::size_t m = 0; m < tensor.models(); ++m) {
    Task& task = tasks_[tensor.model_tasks[m]];
    const double density = tensor.model_parameters[m]->number("density");
    if (task.seen && task.density != density) {
      refuse(Code::kInvalidArgument, "ties", tensor, "density",
             "density " + std::to_string(density) + " differs from " +
                 std::to_string(task.density) +
                 " of other tensors; with scope 'global' each model has one density");
    }
    task.density = density;
    task.seen = true;
    task.elements += tensor.elements();
  }
}

std::unique_ptr<Partial> GlobalTrim::observe(int pass, std::size_t tensor,
                                             const Block& block) const {
  const TensorContext& context = tensors_[tensor];
  auto out = std::make_unique<Counts>();
  out->first = block.first;
  const Pass kind = passes_[static_cast<std::size_t>(pass)];
  if (kind == Pass::kSigns) {
    out->signs = elected_signs(tensor, block);
    return out;
  }
  out->keys.resize(context.models());
  out->ties.resize(context.models());
  with_rounding(context.accumulate, context.dtype, [&](auto r) {
    for (std::size_t m = 0; m < context.models(); ++m) {
      const Task& task = tasks_[context.model_tasks[m]];
      if (!task.trims()) continue;
      const float* base = block.base;
      const float* model = block.models[m];
      const auto key = [&](std::size_t i) { return magnitude_key(r.round(model[i] - base[i])); };
      if (kind == Pass::kUpperHalves) {
        out->keys[m] = count_upper_halves(block.count, key);
      } else if (kind == Pass::kLowerHalves) {
        out->keys[m] = count_lower_halves(block.count, task.cut.upper(), key);
      } else {
        for (std::size_t i = 0; i < block.count; ++i) {
          out->ties[m] += key(i) == task.cut.key() ? 1U : 0U;
        }
      }
    }
  });
  return out;
}

// The votes are those of the merge itself, summed in the same order and type.
std::int64_t GlobalTrim::elected_signs(std::size_t tensor, const Block& block) const {
  const TensorContext& context = tensors_[tensor];
  std::vector<SparseDifference> models;
  models.reserve(context.models());  // masks refer to them
  std::vector<SparseDifference::Mask> masks;
  for (std::size_t m = 0; m < context.models(); ++m) {
    models.emplace_back("ties", context, m, Sparsifier::kMagnitude, Rescale::kNone,
                        options_.keep_ties, this);
    masks.push_back(models.back().mask(block));
  }
  std::int64_t sum = 0;
  with_rounding(context.accumulate, context.dtype, [&](auto r) {
    std::array<float, kChunk> votes, d;
    for (std::size_t first = 0; first < block.count; first += kChunk) {
      const std::size_t n = std::min(kChunk, block.count - first);
      votes.fill(0.0F);
      for (std::size_t m = 0; m < models.size(); ++m) {
        const auto own = static_cast<float>(context.model_parameters[m]->number("weight"));
        const float w = options_.votes_weighted ? r.round(own) : 1.0F;
        models[m].differences(block, first, n, d.data());
        masks[m].apply(first, n, d.data());
        for (std::size_t i = 0; i < n; ++i) votes[i] += r.round(w * d[i]);
      }
      for (std::size_t i = 0; i < n; ++i) {
        const float vote = r.round(votes[i]);
        sum += (vote > 0 ? 1 : 0) - (vote < 0 ? 1 : 0);
      }
    }
  });
  return sum;
}

void GlobalTrim::absorb(int pass, std::size_t tensor, const Partial& partial) {
  const auto& counts = static_cast<const Counts&>(partial);
  const Pass kind = passes_[static_cast<std::size_t>(pass)];
  if (kind == Pass::kSigns) {
    signs_ += counts.signs;
    return;
  }
  const TensorContext& context = tensors_[tensor];
  for (std::size_t m = 0; m < context.models(); ++m) {
    Task& task = tasks_[context.model_tasks[m]];
    if (!task.trims()) continue;
    if (kind == Pass::kTies) {
      task.ties[tensor].emplace_back(counts.first, counts.ties[m]);
    } else {
      task.cut.add(counts.keys[m]);
    }
  }
}

void GlobalTrim::end_pass(int pass) {
  for (Task& task : tasks_) {
    if (!task.trims()) continue;
    switch (passes_[static_cast<std::size_t>(pass)]) {
      case Pass::kUpperHalves:
        task.cut.end_first_pass();
        break;
      case Pass::kLowerHalves:
        task.cut.end_second_pass();
        break;
      case Pass::kTies:
        order_ties(task);
        break;
      case Pass::kSigns:
        break;
    }
  }
}

// In the order of the output, whatever the order in the files.
void GlobalTrim::order_ties(Task& task) {
  std::uint64_t left = task.cut.ties();
  for (auto& blocks : task.ties) {
    std::sort(blocks.begin(), blocks.end());
    for (auto& [first, ties] : blocks) {
      const std::uint64_t taken = std::min(left, ties);
      ties = left;
      left -= taken;
    }
  }
}

std::uint64_t GlobalTrim::ties_left(std::size_t task, std::size_t tensor,
                                    std::uint64_t first) const {
  if (options_.keep_ties) return std::numeric_limits<std::uint64_t>::max();
  const auto& blocks = tasks_[task].ties[tensor];
  const auto found = std::lower_bound(blocks.begin(), blocks.end(), std::pair(first, UINT64_C(0)));
  if (found == blocks.end() || found->first != first) {
    throw Error(Code::kInternal, "a block was not observed before it is merged")
        .at("first_element", first);
  }
  return found->second;
}

Json GlobalTrim::summary() const {
  Json thresholds = Json::array();
  for (const Task& task : tasks_) {
    thresholds.push_back(task.trims() ? Json(std::bit_cast<float>(task.cut.key())) : Json(0.0));
  }
  Json out{{"thresholds", std::move(thresholds)}};
  if (options_.majority) out["sign_majority"] = signs_;
  return out;
}

}  // namespace theriac::merge::methods
