// Methods that weigh or choose by statistics of the differences d_i of the models from the base.
//
// model_stock: Jang et al., arXiv 2403.19522: t mean(x_i) + (1 - t) base with
//     t = k c / (1 + (k - 1) c), c the mean cosine between pairs of differences
// sce: Wan et al., "FuseChat", arXiv 2408.07990: select the elements of the largest variance over
//     the models, calculate weights mean(d_i^2) / sum, erase what disagrees with the elected sign
// ram: arXiv 2601.13572: elements |d| > epsilon of one model only are summed, shared ones averaged;
//     ramplus_tl multiplies the former by 1 + r clamp(shared_i / unique_i, 0, alpha)
// arcee_fusion: takes the model's element where |x - base| KL(softmax(x) || softmax(base)), by
//     rows, is at least median + 1.5 (third - first quartile)
#include <algorithm>
#include <array>
#include <cmath>

#include "cpp/core/merge/methods/exact_sum.h"
#include "cpp/core/merge/methods/methods.h"
#include "cpp/core/merge/methods/native.h"
#include "cpp/core/merge/methods/order_statistics.h"
#include "cpp/core/merge/methods/rounding.h"

namespace theriac::merge::methods {
namespace {

constexpr std::size_t kChunk = 512;

double as_double(float value) { return static_cast<double>(value); }

// base + difference, which leaves the base's own bytes, also those of -0, where nothing is added.
float moved(float base, double difference) {
  return difference == 0 ? base : static_cast<float>(as_double(base) + difference);
}

template <class Known>
std::vector<const Known*> as_known(std::span<const std::unique_ptr<Partial>> partials) {
  std::vector<const Known*> out;
  out.reserve(partials.size());
  for (const auto& partial : partials) out.push_back(static_cast<const Known*>(partial.get()));
  return out;
}

// ---- model_stock -------------------------------------------------------------------------------

class ModelStock final : public TensorMerge {
 public:
  explicit ModelStock(const TensorContext& context)
      : context_(context),
        by_row_(context.parameters->flag("filter_wise")),
        clamps_(!context.parameters->has("clamp_t") || context.parameters->flag("clamp_t")) {
    if (context.models() < 2) {
      refuse(Code::kInvalidArgument, "model_stock", context, "",
             "has " + std::to_string(context.models()) +
                 " models beside the base; expected two or more");
    }
  }

  Granularity granularity() const override {
    return by_row_ ? Granularity::kRows : Granularity::kElements;
  }
  int passes() const override { return by_row_ ? 0 : 1; }

  std::unique_ptr<Partial> observe(int /*pass*/, const Block& block) const override {
    auto out = std::make_unique<Products>();
    std::vector<ExactSum> sums(products());
    std::vector<float> chunk(context_.models() * kChunk);
    for (std::size_t first = 0; first < block.count; first += kChunk) {
      const std::size_t count = std::min(kChunk, block.count - first);
      for (std::size_t m = 0; m < context_.models(); ++m) {
        for (std::size_t i = 0; i < count; ++i) {
          chunk[m * kChunk + i] = block.models[m][first + i] - block.base[first + i];
        }
      }
      auto sum = sums.begin();
      for (std::size_t a = 0; a < context_.models(); ++a) {
        for (std::size_t b = a; b < context_.models(); ++b, ++sum) {
          for (std::size_t i = 0; i < count; ++i) {
            sum->add_product(chunk[a * kChunk + i], chunk[b * kChunk + i]);
          }
        }
      }
    }
    for (const ExactSum& sum : sums) out->sums.push_back(sum.terms());
    return out;
  }

  void end_pass(int /*pass*/, std::span<const std::unique_ptr<Partial>> partials) override {
    std::vector<double> values;
    for (std::size_t p = 0; p < products(); ++p) {
      ExactSum sum;
      for (const Products* block : as_known<Products>(partials)) sum.add(block->sums[p]);
      values.push_back(sum.value());
    }
    t_ = position(values);
  }

  void apply(const Block& block, float* out) const override {
    if (!by_row_) {
      move(block, 0, block.count, t_, out);
    } else {
      const std::size_t length = context_.row_length();
      for (std::size_t first = 0; first < block.count; first += length) {
        move(block, first, length, position(row_products(block, first, length)), out);
      }
    }
    round_all(context_, out, block.count);
  }

 private:
  struct Products final : Partial {
    std::vector<ExactSum::Terms> sums;  // of pairs a <= b, row by row
  };

  std::size_t products() const { return context_.models() * (context_.models() + 1) / 2; }

  std::vector<double> row_products(const Block& block, std::size_t first,
                                   std::size_t length) const {
    std::vector<double> out;
    for (std::size_t a = 0; a < context_.models(); ++a) {
      for (std::size_t b = a; b < context_.models(); ++b) {
        double sum = 0;
        for (std::size_t i = first; i < first + length; ++i) {
          sum += as_double(block.models[a][i] - block.base[i]) *
                 as_double(block.models[b][i] - block.base[i]);
        }
        out.push_back(sum);
      }
    }
    return out;
  }

  // Where between the base (0) and the average (1).
  double position(const std::vector<double>& products) const {
    constexpr double kSmallestNorms = 1e-6, kSmallestDivisor = 1e-12;
    const std::size_t k = context_.models();
    const auto product = [&](std::size_t a, std::size_t b) {
      return products[a * k - a * (a + 1) / 2 + b];
    };
    double cosines = 0;
    for (std::size_t a = 0; a < k; ++a) {
      for (std::size_t b = a + 1; b < k; ++b) {
        const double norms = std::sqrt(product(a, a)) * std::sqrt(product(b, b));
        cosines += std::clamp(product(a, b) / std::max(norms, kSmallestNorms), -1.0, 1.0);
      }
    }
    const auto models = static_cast<double>(k);
    const double cosine = cosines / (models * (models - 1) / 2);
    const double divisor = 1 + (models - 1) * cosine;
    if (std::fabs(divisor) < kSmallestDivisor) return 0;
    const double t = models * cosine / divisor;
    return clamps_ ? std::clamp(t, 0.0, 1.0) : t;
  }

  void move(const Block& block, std::size_t first, std::size_t count, double t, float* out) const {
    const auto models = static_cast<double>(context_.models());
    for (std::size_t i = first; i < first + count; ++i) {
      const double base = as_double(block.base[i]);
      double sum = 0;
      for (const float* model : block.models) sum += as_double(model[i]) - base;
      out[i] = moved(block.base[i], t * sum / models);
    }
  }

  TensorContext context_;
  bool by_row_, clamps_;
  double t_ = 0;
};

// ---- sce ---------------------------------------------------------------------------------------

class Sce final : public TensorMerge {
 public:
  explicit Sce(const TensorContext& context)
      : context_(context),
        share_(context.parameters->number("select_topk")),
        selects_(share_ < 1),
        selected_(0) {}

  int passes() const override { return context_.models() == 0 ? 0 : selects_ ? 3 : 1; }

  std::unique_ptr<Partial> observe(int pass, const Block& block) const override {
    auto out = std::make_unique<Statistics>();
    out->first = block.first;
    const auto key = [&](std::size_t i) { return variance_key(block, i); };
    if (selects_ && pass == 0) {
      out->keys = count_upper_halves(block.count, key);
      for (std::size_t i = 0; i < block.count; ++i) out->varying += key(i) != 0 ? 1U : 0U;
    } else if (selects_ && pass == 1) {
      out->keys = count_lower_halves(block.count, selected_.upper(), key);
    } else {
      observe_energies(block, *out);
    }
    return out;
  }

  void end_pass(int pass, std::span<const std::unique_ptr<Partial>> partials) override {
    const auto blocks = as_known<Statistics>(partials);
    if (selects_ && pass == 0) {
      std::uint64_t varying = 0;
      std::vector<const KeyCounts*> counts;
      for (const Statistics* block : blocks) {
        varying += block->varying;
        counts.push_back(&block->keys);
      }
      const double rank = std::max(0.0, static_cast<double>(varying) * share_);
      selected_ = LargestElements(static_cast<std::uint64_t>(rank));
      selected_.end_first_pass(counts);
    } else if (selects_ && pass == 1) {
      std::vector<LargestElements::BlockCounts> counts;
      for (const Statistics* block : blocks) counts.push_back({block->first, &block->keys});
      selected_.end_second_pass(counts);
    } else {
      end_energies(blocks);
    }
  }

  void apply(const Block& block, float* out) const override {
    if (context_.models() == 0) return static_cast<void>(std::copy_n(block.base, block.count, out));
    const std::size_t limit = tie_limit(block);
    for (std::size_t i = 0; i < block.count; ++i) {
      const bool takes = !selects_ || selected_.contains(variance_key(block, i), i, limit);
      out[i] = takes ? moved(block.base[i], merged(block, i)) : block.base[i];
    }
    round_all(context_, out, block.count);
  }

 private:
  struct Statistics final : Partial {
    std::uint64_t first = 0, varying = 0;
    KeyCounts keys;
    std::vector<ExactSum::Terms> energies;  // one a model
  };

  static float difference(const Block& block, std::size_t model, std::size_t i) {
    return block.models[model][i] - block.base[i];
  }

  // Of the population variance, which is not negative, as a float.
  std::uint32_t variance_key(const Block& block, std::size_t i) const {
    const auto n = static_cast<double>(context_.models());
    double mean = 0, squares = 0;
    for (std::size_t m = 0; m < context_.models(); ++m) mean += as_double(difference(block, m, i));
    mean /= n;
    for (std::size_t m = 0; m < context_.models(); ++m) {
      const double deviation = as_double(difference(block, m, i)) - mean;
      squares += deviation * deviation;
    }
    return magnitude_key(static_cast<float>(squares / n));
  }

  std::size_t tie_limit(const Block& block) const {
    if (!selects_) return 0;
    return selected_.tie_limit(block.first, block.count,
                               [&](std::size_t i) { return variance_key(block, i); });
  }

  void observe_energies(const Block& block, Statistics& out) const {
    const std::size_t limit = tie_limit(block);
    std::vector<ExactSum> sums(context_.models());
    for (std::size_t i = 0; i < block.count; ++i) {
      if (selects_ && !selected_.contains(variance_key(block, i), i, limit)) continue;
      for (std::size_t m = 0; m < sums.size(); ++m) {
        const float d = difference(block, m, i);
        sums[m].add_product(d, d);
      }
    }
    for (const ExactSum& sum : sums) out.energies.push_back(sum.terms());
  }

  void end_energies(const std::vector<const Statistics*>& blocks) {
    constexpr double kSmallestEnergy = 1e-6;
    const auto elements = static_cast<double>(std::max<std::uint64_t>(1, context_.elements()));
    double sum = 0;
    weights_.clear();
    for (std::size_t m = 0; m < context_.models(); ++m) {
      ExactSum energy;
      for (const Statistics* block : blocks) energy.add(block->energies[m]);
      weights_.push_back(energy.value() / elements);
      sum += weights_.back();
    }
    const bool even = sum < kSmallestEnergy;
    for (double& w : weights_) w = even ? 1 / static_cast<double>(weights_.size()) : w / sum;
  }

  double merged(const Block& block, std::size_t i) const {
    constexpr double kSmallestDivisor = 1e-6;
    double votes = 0, mix = 0, divisor = 0;
    for (std::size_t m = 0; m < weights_.size(); ++m) votes += as_double(difference(block, m, i));
    for (std::size_t m = 0; m < weights_.size(); ++m) {
      const double d = as_double(difference(block, m, i));
      const bool agrees = votes >= 0 ? d > 0 : d < 0;
      mix += agrees ? weights_[m] * d : 0;
      divisor += agrees ? weights_[m] : 0;
    }
    return mix / std::max(divisor, kSmallestDivisor);
  }

  TensorContext context_;
  double share_;
  bool selects_;
  LargestElements selected_;
  std::vector<double> weights_;
};

// ---- ram ---------------------------------------------------------------------------------------

class Ram final : public TensorMerge {
 public:
  Ram(const TensorContext& context, double r, double alpha)
      : context_(context),
        epsilon_(context.parameters->number("epsilon")),
        r_(r),
        alpha_(alpha),
        factors_(context.models(), 1.0) {}

  int passes() const override { return r_ == 0 || context_.models() == 0 ? 0 : 1; }

  std::unique_ptr<Partial> observe(int /*pass*/, const Block& block) const override {
    auto out = std::make_unique<Overlap>();
    out->shared.resize(factors_.size());
    out->unique.resize(factors_.size());
    for (std::size_t i = 0; i < block.count; ++i) {
      std::size_t active = 0;
      for (std::size_t m = 0; m < factors_.size(); ++m) active += is_active(block, m, i) ? 1U : 0U;
      for (std::size_t m = 0; m < factors_.size(); ++m) {
        if (is_active(block, m, i)) ++(active > 1 ? out->shared : out->unique)[m];
      }
    }
    return out;
  }

  void end_pass(int /*pass*/, std::span<const std::unique_ptr<Partial>> partials) override {
    for (std::size_t m = 0; m < factors_.size(); ++m) {
      std::uint64_t shared = 0, unique = 0;
      for (const Overlap* block : as_known<Overlap>(partials)) {
        shared += block->shared[m];
        unique += block->unique[m];
      }
      const double ratio =
          static_cast<double>(shared) / std::max(static_cast<double>(unique), kSmallestCount);
      factors_[m] = 1 + r_ * std::clamp(ratio, 0.0, alpha_);
    }
  }

  void apply(const Block& block, float* out) const override {
    for (std::size_t i = 0; i < block.count; ++i) {
      double plain = 0, scaled = 0;
      std::size_t active = 0;
      for (std::size_t m = 0; m < factors_.size(); ++m) {
        if (!is_active(block, m, i)) continue;
        const double d = difference(block, m, i);
        ++active;
        plain += d;
        scaled += factors_[m] * d;
      }
      const double mix = active > 1 ? plain / static_cast<double>(active) : scaled;
      out[i] = moved(block.base[i], mix);
    }
    round_all(context_, out, block.count);
  }

 private:
  static constexpr double kSmallestCount = 1e-5;

  struct Overlap final : Partial {
    std::vector<std::uint64_t> shared, unique;  // elements of each model
  };

  // In float64, so that a single model's element comes out as its own bytes.
  static double difference(const Block& block, std::size_t model, std::size_t i) {
    return as_double(block.models[model][i]) - as_double(block.base[i]);
  }
  bool is_active(const Block& block, std::size_t model, std::size_t i) const {
    return std::fabs(difference(block, model, i)) > epsilon_;
  }

  TensorContext context_;
  double epsilon_, r_, alpha_;
  std::vector<double> factors_;  // of what a model alone changed
};

// ---- arcee_fusion ------------------------------------------------------------------------------

class ArceeFusion final : public TensorMerge {
 public:
  explicit ArceeFusion(const TensorContext& context) : context_(context) {
    if (context.models() > 1) {
      refuse(Code::kInvalidArgument, "arcee_fusion", context, "", "has several models");
    }
    const std::uint64_t n = context.elements();
    for (const double quantile : {0.25, 0.5, 0.75}) {  // sorted[int(q (n - 1))], ascending
      const auto rank =
          n == 0 ? 0 : static_cast<std::uint64_t>(quantile * static_cast<double>(n - 1));
      quartiles_.emplace_back(n - rank);
    }
  }

  Granularity granularity() const override { return Granularity::kRows; }
  int passes() const override { return context_.models() == 0 || context_.elements() == 0 ? 0 : 2; }

  std::unique_ptr<Partial> observe(int pass, const Block& block) const override {
    auto out = std::make_unique<Importances>();
    out->first = block.first;
    if (pass == 0) out->divergences = divergences_of(block);
    const double* divergences =
        pass == 0 ? out->divergences.data() : &divergences_[block.first / context_.row_length()];
    const std::vector<std::uint32_t> keys = keys_of(block, divergences);
    const auto key = [&](std::size_t i) { return keys[i]; };
    if (pass == 0) {
      out->keys.push_back(count_upper_halves(block.count, key));
    } else {
      for (const LargestElements& quartile : quartiles_) {
        out->keys.push_back(count_lower_halves(block.count, quartile.upper(), key));
      }
    }
    return out;
  }

  void end_pass(int pass, std::span<const std::unique_ptr<Partial>> partials) override {
    const auto blocks = as_known<Importances>(partials);
    for (std::size_t q = 0; q < quartiles_.size(); ++q) {
      std::vector<const KeyCounts*> upper;
      std::vector<LargestElements::BlockCounts> lower;
      for (const Importances* block : blocks) {
        if (pass == 0) upper.push_back(&block->keys[0]);
        if (pass == 1) lower.push_back({block->first, &block->keys[q]});
      }
      if (pass == 0) quartiles_[q].end_first_pass(upper);
      if (pass == 1) quartiles_[q].end_second_pass(lower);
    }
    if (pass == 1) return set_threshold();
    for (const Importances* block : blocks) {
      divergences_.insert(divergences_.end(), block->divergences.begin(), block->divergences.end());
    }
  }

  void apply(const Block& block, float* out) const override {
    if (passes() == 0) return static_cast<void>(std::copy_n(block.base, block.count, out));
    const std::vector<std::uint32_t> keys =
        keys_of(block, &divergences_[block.first / context_.row_length()]);
    for (std::size_t i = 0; i < block.count; ++i) {
      const bool takes = as_double(from_ordered_key(keys[i])) >= threshold_;
      out[i] = takes ? block.models[0][i] : block.base[i];
    }
  }

 private:
  struct Importances final : Partial {
    std::uint64_t first = 0;
    std::vector<KeyCounts> keys;
    std::vector<double> divergences;  // one a row
  };

  void set_threshold() {
    std::array<double, 3> values{};
    for (std::size_t q = 0; q < values.size(); ++q) {
      values[q] = as_double(from_ordered_key(quartiles_[q].smallest_key()));
    }
    threshold_ = values[1] + 1.5 * (values[2] - values[0]);
  }

  static std::vector<double> softmax(const float* row, std::size_t length) {
    const double largest = as_double(*std::max_element(row, row + length));
    std::vector<double> out(length);
    double sum = 0;
    for (std::size_t i = 0; i < length; ++i) {
      out[i] = std::exp(as_double(row[i]) - largest);
      sum += out[i];
    }
    for (double& p : out) p /= sum;
    return out;
  }

  std::vector<double> divergences_of(const Block& block) const {
    constexpr double kSmallest = 1e-8;
    std::vector<double> out;
    const std::size_t length = context_.row_length();
    for (std::size_t first = 0; first < block.count; first += length) {
      const std::vector<double> p = softmax(block.models[0] + first, length);
      const std::vector<double> q = softmax(block.base + first, length);
      double sum = 0;
      for (std::size_t i = 0; i < length; ++i) {
        sum += (p[i] + kSmallest) * std::log((p[i] + kSmallest) / (q[i] + kSmallest));
      }
      out.push_back(sum);
    }
    return out;
  }

  // Adding zero makes -0 the same as 0.
  std::vector<std::uint32_t> keys_of(const Block& block, const double* divergences) const {
    std::vector<std::uint32_t> out(block.count);
    const std::size_t length = context_.row_length();
    for (std::size_t i = 0; i < block.count; ++i) {
      const double change = as_double(block.models[0][i]) - as_double(block.base[i]);
      const double importance = std::fabs(change) * divergences[i / length];
      out[i] = ordered_key(static_cast<float>(importance) + 0.0F);
    }
    return out;
  }

  TensorContext context_;
  std::vector<LargestElements> quartiles_;
  std::vector<double> divergences_;  // one a row of the tensor
  double threshold_ = 0;
};

// The usual kernel checks the parameters, also of the native one.
template <class Method>
Made make(std::string_view name, const TensorContext& context) {
  Made usual = std::make_unique<Method>(context);
  Made native = make_native(name, context);
  return native ? std::move(native) : std::move(usual);
}

}  // namespace

Made make_model_stock(const TensorContext& context) {
  return make<ModelStock>("model_stock", context);
}
Made make_sce(const TensorContext& context) { return make<Sce>("sce", context); }
Made make_ram(const TensorContext& context) { return std::make_unique<Ram>(context, 0, 0); }
Made make_ramplus_tl(const TensorContext& context) {
  return std::make_unique<Ram>(context, context.parameters->number("r"),
                               context.parameters->number("alpha"));
}
Made make_arcee_fusion(const TensorContext& context) {
  return make<ArceeFusion>("arcee_fusion", context);
}

}  // namespace theriac::merge::methods
