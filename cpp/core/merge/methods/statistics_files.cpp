// Methods that weigh by statistics of the data each model was trained on, taken from files that
// another program made: safetensors, one a model, named by the parameter `statistics`.
//
// fisher: Matena & Raffel, "Merging Models with Fisher-Weighted Averaging", arXiv 2111.09832:
//     out = sum_i c_i (F_i + epsilon) x_i / sum_i c_i (F_i + epsilon), element by element
//   F_i is "<tensor>.fisher", of the tensor's shape, not negative; where it is missing, zero. c_i is
//   the model's weight, with `normalize` over the norm of F_i in the whole model plus 1e-6.
// regmean: Jin et al., "Dataless Knowledge Fusion by Merging Weights of Language Models",
//   arXiv 2212.09849: for a linear layer with weight W_i [out, in] and G_i = mean of x x^T over its
//   inputs x, the minimiser of sum_i mean ||x (W - W_i)^T||^2:
//     W^T = (sum_i H_i + e 1)^-1 (sum_i H_i W_i^T + e mean W_i^T),  H = r G + (1 - r) diag(G)
//   G_i is "<module>.gram" [in, in] of the tensor "<module>.weight"; e is the jitter times the mean
//   of the diagonal of the sum. It draws directions without data to the mean of the models, where
//   references divide by zero. Tensors without G get the plain mean.
//
// Names are those of the output's tensors.
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>
#include <vector>

#include "cpp/core/merge/methods/difference.h"
#include "cpp/core/merge/methods/difference_matrix.h"
#include "cpp/core/merge/methods/exact_sum.h"
#include "cpp/core/merge/methods/methods.h"
#include "cpp/core/merge/methods/rounding.h"
#include "cpp/core/tensorfile/convert.h"
#include "cpp/core/tensorfile/model_files.h"

namespace theriac::merge::methods {
namespace {

using tensorfile::ModelFiles;
using tensorfile::TensorRecord;

constexpr std::size_t kChunk = std::size_t{1} << 14;
constexpr double kSmallestNorm = 1e-6;

// The files of all tasks. Opened once; tensors are found by name and read by blocks.
class Files {
 public:
  Files(std::string_view method, std::span<const TensorContext> tensors) : method_(method) {
    for (const TensorContext& tensor : tensors) {
      names_.resize(std::max(names_.size(), tensor.tasks));
      for (std::size_t m = 0; m < tensor.models(); ++m) {
        std::string& name = names_[tensor.model_tasks[m]];
        const std::string& wanted = tensor.model_parameters[m]->text("statistics");
        if (name.empty()) name = wanted;
        if (name == wanted) continue;
        refuse(Code::kInvalidArgument, method_, tensor, "statistics",
               "statistics '" + wanted + "' differ from '" + name +
                   "' of other tensors; each model has one file");
      }
    }
    const std::filesystem::path folder = tensors.empty() ? "" : tensors[0].folder;
    for (std::string& name : names_) {
      if (!name.empty()) name = (folder / name).string();
      files_.push_back(name.empty() ? nullptr
                                    : std::make_unique<ModelFiles>(ModelFiles::open(name)));
    }
  }

  const std::vector<std::string>& names() const noexcept { return names_; }
  // Names of those tasks that have a file.
  std::vector<std::string> given() const {
    std::vector<std::string> out;
    std::copy_if(names_.begin(), names_.end(), std::back_inserter(out),
                 [](const std::string& name) { return !name.empty(); });
    return out;
  }
  const ModelFiles& of_task(std::size_t task) const { return *files_[task]; }

  // nullptr where the file has none. Throws kDataError for another shape.
  const TensorRecord* find(const TensorContext& context, std::size_t task, const std::string& name,
                           const std::vector<std::uint64_t>& shape) const {
    const TensorRecord* found = files_[task]->find(name);
    if (found == nullptr) return nullptr;
    if (found->shape == shape && tensorfile::is_float(found->dtype)) return found;
    std::string text;
    for (const std::uint64_t size : found->shape)
      text += (text.empty() ? "" : ", ") + std::to_string(size);
    std::string wanted;
    for (const std::uint64_t size : shape)
      wanted += (wanted.empty() ? "" : ", ") + std::to_string(size);
    refuse(Code::kDataError, method_, context, "statistics",
           "'" + name + "' in '" + names_[task] + "' is " +
               std::string(tensorfile::dtype_name(found->dtype)) + " [" + text +
               "]; expected floating point numbers [" + wanted + "]");
  }

  // Elements first, first + 1, ... as float32.
  void read(const TensorRecord& tensor, std::size_t task, std::uint64_t first, std::size_t count,
            std::string& raw, float* into) const {
    const auto each = static_cast<std::size_t>(tensorfile::dtype_bits(tensor.dtype)) / 8;
    raw.resize(count * each);
    files_[task]->read(tensor, first * each, raw);
    tensorfile::to_float(tensor.dtype, raw.data(), count, into);
  }

 private:
  std::string_view method_;
  std::vector<std::string> names_;  // empty: the task has no tensor
  std::vector<std::unique_ptr<ModelFiles>> files_;
};

// ---- fisher ------------------------------------------------------------------------------------

// A chunk of one model's information; zeros where the file has none.
class Information {
 public:
  Information(const Files& files, const TensorContext& context, std::size_t model)
      : files_(files),
        context_(context),
        task_(context.model_tasks[model]),
        record_(files.find(context, task_, context.name + ".fisher", context.shape)) {}

  const float* read(std::uint64_t first, std::size_t count) {
    values_.assign(count, 0.0F);
    if (record_ == nullptr) return values_.data();
    files_.read(*record_, task_, first, count, raw_, values_.data());
    for (const float value : values_) {
      if (value >= 0 && std::isfinite(value)) continue;
      refuse(Code::kDataError, "fisher", context_, "statistics",
             "'" + record_->name + "' in '" + files_.names()[task_] +
                 "' has an element that is negative or not finite; Fisher information is neither");
    }
    return values_.data();
  }

 private:
  const Files& files_;
  const TensorContext& context_;
  std::size_t task_;
  const TensorRecord* record_;
  std::string raw_;
  std::vector<float> values_;
};

class FisherNorms final : public ModelStatistics {
 public:
  explicit FisherNorms(std::span<const TensorContext> tensors)
      : tensors_(tensors), files_("fisher", tensors), squares_(files_.names().size()) {
    std::vector<std::uint64_t> found(squares_.size());
    for (const TensorContext& tensor : tensors) {
      normalizes_ = normalizes_ || tensor.parameters->flag("normalize");
      for (const std::size_t task : tensor.model_tasks) {
        const bool has =
            files_.find(tensor, task, tensor.name + ".fisher", tensor.shape) != nullptr;
        (has ? found[task] : without_) += 1;
      }
    }
    for (std::size_t task = 0; task < found.size(); ++task) {
      if (found[task] > 0 || files_.names()[task].empty()) continue;
      throw Error(Code::kDataError, "'" + files_.names()[task] +
                                        "' has no '<tensor>.fisher' of any tensor that is merged, "
                                        "such as '" +
                                        tensors[0].name + ".fisher'")
          .at("file", files_.names()[task]);
    }
  }

  int passes() const override { return normalizes_ ? 1 : 0; }
  std::unique_ptr<Partial> observe(int /*pass*/, std::size_t tensor,
                                   const Block& block) const override {
    auto out = std::make_unique<Sums>();
    for (std::size_t m = 0; m < block.models.size(); ++m) {
      Information information(files_, tensors_[tensor], m);
      ExactSum sum;
      for (std::size_t first = 0; first < block.count; first += kChunk) {
        const std::size_t n = std::min(kChunk, block.count - first);
        const float* f = information.read(block.first + first, n);
        for (std::size_t i = 0; i < n; ++i) sum.add_product(f[i], f[i]);
      }
      out->squares.push_back(sum.terms());
    }
    return out;
  }
  void absorb(int /*pass*/, std::size_t tensor, const Partial& partial) override {
    const auto& squares = static_cast<const Sums&>(partial).squares;
    for (std::size_t m = 0; m < squares.size(); ++m) {
      squares_[tensors_[tensor].model_tasks[m]].add(squares[m]);
    }
  }
  void end_pass(int /*pass*/) override {
    for (const ExactSum& sum : squares_) norms_.push_back(std::sqrt(sum.value()));
  }
  std::vector<std::string> files() const override { return files_.given(); }
  Json summary() const override {
    return Json{{"norms", norms_}, {"tensors_without_information", without_}};
  }

  const Files& information() const noexcept { return files_; }
  double factor(std::size_t task) const {
    return norms_.empty() ? 1 : 1 / (norms_[task] + kSmallestNorm);
  }

 private:
  struct Sums final : Partial {
    std::vector<ExactSum::Terms> squares;
  };
  std::span<const TensorContext> tensors_;
  Files files_;
  bool normalizes_ = false;
  std::uint64_t without_ = 0;  // tensors, of all models
  std::vector<ExactSum> squares_;
  std::vector<double> norms_;
};

class Fisher final : public TensorMerge {
 public:
  explicit Fisher(const TensorContext& context)
      : context_(context),
        norms_(static_cast<const FisherNorms*>(context.statistics)),
        normalizes_(context.parameters->flag("normalize")),
        epsilon_(context.parameters->number("epsilon")) {}

  void apply(const Block& block, float* out) const override {
    std::vector<Information> information;
    std::vector<double> factors;
    double all = 0;
    for (std::size_t m = 0; m < block.models.size(); ++m) {
      information.emplace_back(norms_->information(), context_, m);
      factors.push_back(context_.model_parameters[m]->number("weight"));
      if (normalizes_) factors.back() *= norms_->factor(context_.model_tasks[m]);
      all += factors.back();
    }
    if (all == 0)
      refuse(Code::kInvalidArgument, "fisher", context_, "weight", "the weights sum to 0");
    for (double& factor : factors) factor /= all;
    for (std::size_t first = 0; first < block.count; first += kChunk) {
      const std::size_t n = std::min(kChunk, block.count - first);
      std::vector<const float*> f;
      for (Information& model : information) f.push_back(model.read(block.first + first, n));
      for (std::size_t i = 0; i < n; ++i) out[first + i] = average(block, first + i, f, i, factors);
    }
    round_all(context_, out, block.count);
  }

 private:
  // Models that agree give their own bytes.
  float average(const Block& block, std::size_t element, const std::vector<const float*>& f,
                std::size_t i, const std::vector<double>& factors) const {
    double sum = 0, divisor = 0;
    bool same = true;
    for (std::size_t m = 0; m < f.size(); ++m) {
      const double share = factors[m] * (as_double(f[m][i]) + epsilon_);
      sum += share * as_double(block.models[m][element]);
      divisor += share;
      same = same && block.models[m][element] == block.models[0][element];
    }
    return same ? block.models[0][element] : static_cast<float>(sum / divisor);
  }

  TensorContext context_;
  const FisherNorms* norms_;
  bool normalizes_;
  double epsilon_;
};

// ---- regmean -----------------------------------------------------------------------------------

class Grams final : public ModelStatistics {
 public:
  explicit Grams(std::span<const TensorContext> tensors)
      : tensors_(tensors), files_("regmean", tensors) {
    for (std::size_t t = 0; t < tensors.size(); ++t) solved_ += has_grams(tensors[t]) ? 1 : 0;
    if (solved_ > 0 || tensors.empty()) return;
    throw Error(Code::kDataError,
                "no statistics file has a '<module>.gram' of any matrix "
                "'<module>.weight' that is merged")
        .at("file", files_.names()[0]);
  }
  int passes() const override { return 0; }
  std::unique_ptr<Partial> observe(int /*pass*/, std::size_t /*tensor*/,
                                   const Block& /*block*/) const override {
    return nullptr;
  }
  void absorb(int /*pass*/, std::size_t /*tensor*/, const Partial& /*partial*/) override {}
  std::vector<std::string> files() const override { return files_.given(); }
  Json summary() const override {
    return Json{{"solved", solved_}, {"averaged", tensors_.size() - solved_}};
  }

  // Of all the tensor's models, or of none.
  bool has_grams(const TensorContext& context) const {
    std::size_t found = 0;
    for (std::size_t m = 0; m < context.models(); ++m) found += find(context, m) != nullptr ? 1 : 0;
    if (found == 0 || found == context.models()) return found > 0;
    refuse(Code::kDataError, "regmean", context, "statistics",
           std::to_string(found) + " of " + std::to_string(context.models()) + " models have '" +
               name_for(context).value_or("") + "'; expected all or none");
  }

  Matrix read(const TensorContext& context, std::size_t model) const {
    const TensorRecord& record = *find(context, model);
    const auto n = static_cast<Eigen::Index>(record.shape[0]);
    std::vector<float> values(static_cast<std::size_t>(n * n));
    std::string raw;
    files_.read(record, context.model_tasks[model], 0, values.size(), raw, values.data());
    Matrix out = Eigen::Map<const Eigen::MatrixXf>(values.data(), n, n).cast<double>();
    if (!out.allFinite() || (out.diagonal().array() < 0).any()) {
      refuse(Code::kDataError, "regmean", context, "statistics",
             "'" + record.name + "' in '" + files_.names()[context.model_tasks[model]] +
                 "' is no Gram matrix: an entry is not finite, or one of the diagonal negative");
    }
    return (out + out.transpose().eval()) / 2;
  }

 private:
  // "x.gram" of "x.weight"; nothing for other names and what is no matrix.
  static std::optional<std::string> name_for(const TensorContext& context) {
    constexpr std::string_view kWeight = ".weight";
    if (!is_matrix(context) || !context.name.ends_with(kWeight)) return std::nullopt;
    return context.name.substr(0, context.name.size() - kWeight.size()) + ".gram";
  }
  const TensorRecord* find(const TensorContext& context, std::size_t model) const {
    const auto name = name_for(context);
    if (!name) return nullptr;
    const std::uint64_t inputs =
        context.shape[context.parameters->flag("weight_transpose") ? 1 : 0];
    return files_.find(context, context.model_tasks[model], *name, {inputs, inputs});
  }

  std::span<const TensorContext> tensors_;
  Files files_;
  std::size_t solved_ = 0;
};

class RegMean final : public TensorMerge {
 public:
  explicit RegMean(const TensorContext& context)
      : context_(context),
        grams_(static_cast<const Grams*>(context.statistics)),
        solves_(grams_->has_grams(context)),
        transposed_(context.parameters->flag("weight_transpose")) {}

  Granularity granularity() const override {
    return solves_ ? Granularity::kTensor : Granularity::kElements;
  }
  std::uint64_t workspace() const override {
    if (!solves_) return 0;
    const std::uint64_t inputs = context_.shape[transposed_ ? 1 : 0];
    return sizeof(double) * (5 * inputs * inputs + 5 * context_.elements());
  }

  void apply(const Block& block, float* out) const override {
    if (solves_ && !all_equal(block)) {
      solve(block, out);
    } else {
      average(block, out);
    }
    round_all(context_, out, block.count);
  }

 private:
  using Stored = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  bool all_equal(const Block& block) const {
    for (const float* model : block.models) {
      if (!std::equal(model, model + block.count, block.models[0])) return false;
    }
    return true;
  }

  void average(const Block& block, float* out) const {
    const auto models = static_cast<double>(block.models.size());
    for (std::size_t i = 0; i < block.count; ++i) {
      double sum = 0;
      bool same = true;
      for (const float* model : block.models) {
        sum += as_double(model[i]);
        same = same && model[i] == block.models[0][i];
      }
      out[i] = same ? block.models[0][i] : static_cast<float>(sum / models);
    }
  }

  // Rows are outputs, columns inputs.
  Matrix weight(const Block& block, std::size_t model) const {
    const auto rows = static_cast<Eigen::Index>(context_.shape[0]);
    const auto columns = static_cast<Eigen::Index>(context_.shape[1]);
    const Eigen::Map<const Stored> stored(block.models[model], rows, columns);
    Matrix out =
        transposed_ ? Matrix(stored.cast<double>()) : Matrix(stored.transpose().cast<double>());
    if (out.allFinite()) return out;
    refuse(Code::kNumericError, "regmean", context_, "", "has NaN or infinite weights");
  }

  void solve(const Block& block, float* out) const {
    const double ratio = context_.parameters->number("reduce_non_diagonal_ratio");
    Matrix mean = weight(block, 0);
    for (std::size_t m = 1; m < block.models.size(); ++m) mean += weight(block, m);
    mean /= static_cast<double>(block.models.size());
    Matrix sum, products = Matrix::Zero(mean.rows(), mean.cols());
    for (std::size_t m = 0; m < block.models.size(); ++m) {
      Matrix gram = grams_->read(context_, m);
      const Vector diagonal = gram.diagonal();
      gram *= ratio;
      gram.diagonal() = diagonal;
      products += weight(block, m) * gram;
      sum = m == 0 ? gram : Matrix(sum + gram);
    }
    const double jitter = context_.parameters->number("jitter") * sum.diagonal().mean();
    sum.diagonal().array() += jitter;
    products += jitter * mean;
    const Matrix merged = sum.isZero(0) ? mean : solved_from_right(sum, products);
    Eigen::Map<Stored> result(out, static_cast<Eigen::Index>(context_.shape[0]),
                              static_cast<Eigen::Index>(context_.shape[1]));
    if (transposed_) {
      result = merged.cast<float>();
    } else {
      result = merged.transpose().cast<float>();
    }
  }

  TensorContext context_;
  const Grams* grams_;
  bool solves_, transposed_;
};

}  // namespace

Made make_fisher(const TensorContext& context) { return std::make_unique<Fisher>(context); }
MadeStatistics make_fisher_statistics(std::span<const TensorContext> tensors) {
  return std::make_unique<FisherNorms>(tensors);
}
Made make_regmean(const TensorContext& context) { return std::make_unique<RegMean>(context); }
MadeStatistics make_regmean_statistics(std::span<const TensorContext> tensors) {
  return std::make_unique<Grams>(tensors);
}

}  // namespace theriac::merge::methods
