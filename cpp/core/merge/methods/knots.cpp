// knots: Stoica et al., "Model Merging with SVD to Tie the Knots", arXiv 2410.19735. The differences
// d_i of a matrix side by side are decomposed,
//
//     [d_1 ... d_n] = U diag(s) [V_1^T ... V_n^T],   singular values up to 1e-5 dropped,
//
// and merged in the common basis U: the blocks diag(s) V_i^T = U^T d_i are trimmed to their largest
// entries, signs are elected and what agrees is averaged (TIES); the result times U is the merged
// difference. With scope 'global' the density is a share of the blocks of all matrices of the model,
// with 'tensor' of each. Kept are, as in the reference implementation, all that reach the
// (int(density D) + 1)-th largest. Tensors that are no matrices get the mean of the differences.
//
// U is the eigenbasis of the smaller Gram matrix, made again for every pass: three times with scope
// 'global'.
#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <vector>

#include "cpp/core/merge/methods/difference.h"
#include "cpp/core/merge/methods/difference_matrix.h"
#include "cpp/core/merge/methods/methods.h"
#include "cpp/core/merge/methods/order_statistics.h"
#include "cpp/core/merge/methods/rounding.h"

namespace theriac::merge::methods {
namespace {

constexpr double kSmallestValue = 1e-5;
constexpr double kSmallestShare = 1e-7;  // of the largest: what a Gram matrix can tell from zero

bool decomposes(const TensorContext& context) {
  return is_matrix(context) && !context.parameters->flag("average") && context.models() > 0;
}

struct Aligned {
  Matrix basis;                // U: [rows, r]
  std::vector<Matrix> blocks;  // U^T d_i: [r, columns], rounded to float, one a model
};

Matrix basis_of(const std::vector<Matrix>& differences) {
  const Eigen::Index rows = differences[0].rows(), columns = differences[0].cols();
  const auto models = static_cast<Eigen::Index>(differences.size());
  Matrix basis;
  Vector values;
  if (rows <= models * columns) {
    Matrix gram = Matrix::Zero(rows, rows);
    for (const Matrix& d : differences) gram += d * d.transpose();
    Eigenpairs pairs = eigenpairs_of(gram);
    basis = std::move(pairs.vectors);
    values = pairs.values.cwiseMax(0).cwiseSqrt();
  } else {
    Matrix joined(rows, models * columns);
    for (Eigen::Index m = 0; m < models; ++m) {
      joined.middleCols(m * columns, columns) = differences[static_cast<std::size_t>(m)];
    }
    Svd svd = svd_of(joined);
    basis = std::move(svd.u);
    values = std::move(svd.s);
  }
  Eigen::Index rank = 0;
  const double smallest = std::max(kSmallestValue, kSmallestShare * values[0]);
  while (rank < values.size() && values[rank] > smallest) ++rank;
  return basis.leftCols(rank);
}

// The same bits each time it is called: thresholds of one pass hold in the next.
Aligned aligned(const TensorContext& context, const Block& block) {
  std::vector<Matrix> differences;
  for (std::size_t m = 0; m < context.models(); ++m) {
    differences.push_back(difference_matrix("knots", context, block, m));
  }
  Aligned out;
  out.basis = basis_of(differences);
  for (const Matrix& d : differences) {
    out.blocks.push_back((out.basis.transpose() * d).cast<float>().cast<double>());
  }
  return out;
}

std::uint32_t key_of(const Matrix& block, std::size_t i) {
  return magnitude_key(static_cast<float>(block.data()[i]));
}

std::uint64_t kept_entries(double density, std::uint64_t all) {
  return static_cast<std::uint64_t>(std::max(0.0, density) * static_cast<double>(all)) + 1;
}

class AlignedTrim final : public ModelStatistics {
 public:
  explicit AlignedTrim(std::span<const TensorContext> tensors) : tensors_(tensors) {
    for (const TensorContext& tensor : tensors) {
      cuts_.resize(std::max(cuts_.size(), tensor.tasks), StreamedRank(0));
      if (tensor.parameters->number("density") == density()) continue;
      refuse(Code::kInvalidArgument, "knots", tensor, "density",
             "the density differs from other tensors'; with scope 'global' it is one for the "
             "whole model");
    }
    entries_.resize(cuts_.size());
  }

  int passes() const override { return 2; }
  std::unique_ptr<Partial> observe(int pass, std::size_t tensor,
                                   const Block& block) const override {
    auto out = std::make_unique<Counts>();
    const TensorContext& context = tensors_[tensor];
    if (!decomposes(context)) return out;
    const Aligned found = aligned(context, block);
    for (std::size_t m = 0; m < found.blocks.size(); ++m) {
      const Matrix& aligned_block = found.blocks[m];
      const auto n = static_cast<std::size_t>(aligned_block.size());
      const auto key = [&](std::size_t i) { return key_of(aligned_block, i); };
      out->entries = n;
      out->keys.push_back(pass == 0
                              ? count_upper_halves(n, key)
                              : count_lower_halves(n, cuts_[context.model_tasks[m]].upper(), key));
    }
    return out;
  }
  void absorb(int pass, std::size_t tensor, const Partial& partial) override {
    const auto& counts = static_cast<const Counts&>(partial);
    for (std::size_t m = 0; m < counts.keys.size(); ++m) {
      const std::size_t task = tensors_[tensor].model_tasks[m];
      cuts_[task].add(counts.keys[m]);
      if (pass == 0) entries_[task] += counts.entries;
    }
  }
  void end_pass(int pass) override {
    for (std::size_t task = 0; task < cuts_.size(); ++task) {
      if (pass == 0) {
        cuts_[task].set_rank(kept_entries(density(), entries_[task]));
        cuts_[task].end_first_pass();
      } else {
        cuts_[task].end_second_pass();
      }
    }
  }
  Json summary() const override {
    Json thresholds = Json::array();
    for (const StreamedRank& cut : cuts_) thresholds.push_back(std::bit_cast<float>(cut.key()));
    return Json{{"thresholds", std::move(thresholds)}};
  }

  std::uint32_t key(std::size_t task) const { return cuts_[task].key(); }

 private:
  struct Counts final : Partial {
    std::vector<KeyCounts> keys;  // one a model, or none
    std::uint64_t entries = 0;    // of each
  };
  double density() const { return tensors_[0].parameters->number("density"); }

  std::span<const TensorContext> tensors_;
  std::vector<StreamedRank> cuts_;      // one a task
  std::vector<std::uint64_t> entries_;  // of all its blocks
};

class Knots final : public TensorMerge {
 public:
  explicit Knots(const TensorContext& context)
      : context_(context),
        trim_(static_cast<const AlignedTrim*>(context.statistics)),
        lambda_(context.parameters->number("lambda")),
        density_(context.parameters->number("density")) {}

  Granularity granularity() const override {
    return decomposes(context_) ? Granularity::kTensor : Granularity::kElements;
  }
  std::uint64_t workspace() const override {
    if (!decomposes(context_)) return 0;
    const std::uint64_t models = context_.models(), size = context_.elements();
    const std::uint64_t rank = std::min(context_.shape[0], models * context_.shape[1]);
    return sizeof(double) * (3 * models * size + models * rank * context_.shape[1] +
                             3 * rank * rank + context_.shape[0] * rank);
  }

  void apply(const Block& block, float* out) const override {
    if (decomposes(context_)) {
      merge_aligned(block, out);
    } else {
      move_by_mean(block, lambda_, out);
    }
    round_all(context_, out, block.count);
  }

 private:
  std::uint32_t threshold(std::size_t model, const Matrix& aligned_block) const {
    if (density_ >= 1) return 0;
    if (trim_ != nullptr) return trim_->key(context_.model_tasks[model]);
    const auto n = static_cast<std::size_t>(aligned_block.size());
    StreamedRank cut(kept_entries(density_, n));
    const auto key = [&](std::size_t i) { return key_of(aligned_block, i); };
    cut.add(count_upper_halves(n, key));
    cut.end_first_pass();
    cut.add(count_lower_halves(n, cut.upper(), key));
    cut.end_second_pass();
    return cut.key();
  }

  void merge_aligned(const Block& block, float* out) const {
    Aligned found = aligned(context_, block);
    if (density_ > 0) elect(found.blocks);
    const Matrix merged = density_ > 0 ? Matrix(found.basis * found.blocks[0])
                                       : Matrix::Zero(found.basis.rows(), found.blocks[0].cols());
    const auto columns = static_cast<std::size_t>(merged.cols());
    for (std::size_t i = 0; i < block.count; ++i) {
      const double change =
          merged(static_cast<Eigen::Index>(i / columns), static_cast<Eigen::Index>(i % columns));
      out[i] = moved(block.base[i], lambda_ * change);
    }
  }

  // Trims, elects, averages what agrees; the result replaces the first block.
  void elect(std::vector<Matrix>& blocks) const {
    std::vector<std::uint32_t> thresholds;
    for (std::size_t m = 0; m < blocks.size(); ++m) thresholds.push_back(threshold(m, blocks[m]));
    const auto n = static_cast<std::size_t>(blocks[0].size());
    for (std::size_t i = 0; i < n; ++i) {
      double votes = 0;
      for (std::size_t m = 0; m < blocks.size(); ++m) {
        if (key_of(blocks[m], i) < thresholds[m]) blocks[m].data()[i] = 0;
        votes += blocks[m].data()[i];
      }
      double mix = 0, agreeing = 0;
      for (const Matrix& aligned_block : blocks) {
        const double value = aligned_block.data()[i];
        const bool agrees = votes >= 0 ? value > 0 : value < 0;
        mix += agrees ? value : 0;
        agreeing += agrees ? 1 : 0;
      }
      blocks[0].data()[i] = mix / std::max(1.0, agreeing);
    }
  }

  TensorContext context_;
  const AlignedTrim* trim_;
  double lambda_, density_;
};

}  // namespace

Made make_knots(const TensorContext& context) { return std::make_unique<Knots>(context); }

MadeStatistics make_knots_statistics(std::span<const TensorContext> tensors) {
  if (tensors.empty()) return nullptr;
  const Parameters& first = *tensors[0].parameters;
  for (const TensorContext& tensor : tensors) {
    if (tensor.parameters->text("scope") == first.text("scope")) continue;
    refuse(Code::kInvalidArgument, "knots", tensor, "scope",
           "the scope differs from other tensors'; it is one for the whole model");
  }
  const double density = first.number("density");
  if (first.text("scope") == "tensor" || density >= 1 || density <= 0) return nullptr;
  return std::make_unique<AlignedTrim>(tensors);
}

}  // namespace theriac::merge::methods
