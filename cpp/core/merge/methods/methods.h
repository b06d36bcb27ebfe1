// The makers of all kernels, and what the families share.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "cpp/core/base/error.h"
#include "cpp/core/merge/method.h"

namespace theriac::merge::methods {

using Made = std::unique_ptr<TensorMerge>;
using MadeStatistics = std::unique_ptr<ModelStatistics>;

// weighted.cpp
Made make_linear(const TensorContext& context);
Made make_passthrough(const TensorContext& context);
Made make_nearswap(const TensorContext& context);
Made make_magmax(const TensorContext& context);

// task_vectors.cpp
Made make_task_arithmetic(const TensorContext& context);
Made make_expo(const TensorContext& context);
Made make_ties(const TensorContext& context);
MadeStatistics make_ties_statistics(std::span<const TensorContext> tensors);
Made make_dare_linear(const TensorContext& context);
Made make_dare_ties(const TensorContext& context);
Made make_breadcrumbs(const TensorContext& context);
Made make_breadcrumbs_ties(const TensorContext& context);
Made make_della(const TensorContext& context);
Made make_della_linear(const TensorContext& context);

// spherical.cpp
Made make_slerp(const TensorContext& context);
Made make_nuslerp(const TensorContext& context);
Made make_multislerp(const TensorContext& context);
Made make_karcher(const TensorContext& context);

// statistics.cpp
Made make_model_stock(const TensorContext& context);
Made make_sce(const TensorContext& context);
Made make_ram(const TensorContext& context);
Made make_ramplus_tl(const TensorContext& context);
Made make_arcee_fusion(const TensorContext& context);

// whole_model.cpp
Made make_metagpt(const TensorContext& context);
MadeStatistics make_metagpt_statistics(std::span<const TensorContext> tensors);
Made make_lines(const TensorContext& context);
MadeStatistics make_lines_statistics(std::span<const TensorContext> tensors);

// masks.cpp
Made make_emr(const TensorContext& context);
MadeStatistics make_emr_statistics(std::span<const TensorContext> tensors);
Made make_tall_masks(const TensorContext& context);
Made make_consensus(const TensorContext& context);

// pcb.cpp
Made make_pcb(const TensorContext& context);
MadeStatistics make_pcb_statistics(std::span<const TensorContext> tensors);

// spectral.cpp
Made make_tsv_m(const TensorContext& context);
Made make_iso_c(const TensorContext& context);
Made make_iso_cts(const TensorContext& context);
Made make_star(const TensorContext& context);
Made make_wudi(const TensorContext& context);

// knots.cpp
Made make_knots(const TensorContext& context);
MadeStatistics make_knots_statistics(std::span<const TensorContext> tensors);

// statistics_files.cpp
Made make_fisher(const TensorContext& context);
MadeStatistics make_fisher_statistics(std::span<const TensorContext> tensors);
Made make_regmean(const TensorContext& context);
MadeStatistics make_regmean_statistics(std::span<const TensorContext> tensors);

// The models of a method whose base is one of them, in the recipe's order: the base stands where a
// position is missing among model_keys, else last.
class Members {
 public:
  explicit Members(const TensorContext& context);
  std::size_t size() const noexcept { return size_; }
  std::size_t base() const noexcept { return base_; }  // its position, size() where there is none
  const Parameters& parameters(std::size_t member) const { return *parameters_[member]; }
  const float* values(const Block& block, std::size_t member) const noexcept {
    if (member == base_) return block.base;
    return block.models[member < base_ ? member : member - 1];
  }

 private:
  std::size_t size_ = 0;
  std::size_t base_ = 0;  // size_ where there is none
  std::vector<const Parameters*> parameters_;
};

// "method 'linear', tensor 'x': <what>", with method, tensor and parameter as details.
[[noreturn]] void refuse(Code code, std::string_view method, const TensorContext& context,
                         std::string_view parameter, const std::string& what);

}  // namespace theriac::merge::methods
