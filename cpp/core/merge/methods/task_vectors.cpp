// Generalised task arithmetic: out = base + lambda sum_i w_i d_i over the differences d_i of the
// models from the base, sparsified or not, with or without an election of signs.
//
// Task arithmetic: Ilharco et al., arXiv 2212.04089. ExPO: Zheng et al., arXiv 2404.16792, which is
// task arithmetic with lambda = 1 + alpha from the less aligned model on. Sign election and
// disjoint mean: Yadav et al., arXiv 2306.01708:
//
//     s = sign(sum_i w_i d_i), zero counting as plus;  m_i = [sign(w_i d_i) = s]
//     mix = sum_i w_i d_i m_i;  divided by sum_i w_i m_i (1 where that is 0) if normalised
//
// The sparsifiers' papers are named in sparsify.h. Weights multiply before the election, so that a
// negative one turns its model's vote. PEFT's convention votes without weights and divides by the
// number of agreeing models.
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

#include "cpp/core/merge/methods/methods.h"
#include "cpp/core/merge/methods/rounding.h"
#include "cpp/core/merge/methods/sparsify.h"

namespace theriac::merge::methods {
namespace {

constexpr std::size_t kChunk = 512;
constexpr float kSmallestDivisor = 1e-8F;

enum class Reduce { kMean, kSum, kMax };

struct Convention {
  std::string_view method;
  Sparsifier sparsifier = Sparsifier::kNone;
  Rescale rescale = Rescale::kNone;
  bool elects = false;
  bool votes_weighted = true;
  bool keep_ties = false;
  Reduce reduce = Reduce::kMean;
  bool normalize = false;
  double lambda = 1;
};

struct RankPartial final : Partial {
  std::uint64_t first = 0;
  std::vector<SparseDifference::Counts> models;
};

class TaskArithmetic final : public TensorMerge {
 public:
  TaskArithmetic(const TensorContext& context, const Convention& convention)
      : convention_(convention), accumulate_(context.accumulate), dtype_(context.dtype) {
    bool ranked = false;
    for (std::size_t m = 0; m < context.models(); ++m) {
      models_.emplace_back(convention.method, context, m, convention.sparsifier, convention.rescale,
                           convention.keep_ties);
      const SparseDifference& model = models_.back();
      weights_.push_back(static_cast<float>(context.model_parameters[m]->number_or("weight", 1)));
      ranked = ranked || model.is_ranked();
      needs_norms_ = needs_norms_ || model.needs_norms();
      granularity_ = std::max(granularity_, model.granularity());
    }
    rank_passes_ = ranked ? 2 : 0;
  }

  Granularity granularity() const override { return granularity_; }
  int passes() const override { return rank_passes_ + (needs_norms_ ? 1 : 0); }

  std::unique_ptr<Partial> observe(int pass, const Block& block) const override {
    auto out = std::make_unique<RankPartial>();
    out->first = block.first;
    for (const SparseDifference& model : models_) {
      if (pass < rank_passes_) {
        out->models.push_back(model.is_ranked() ? model.observe_keys(pass, block)
                                                : SparseDifference::Counts{});
      } else {
        out->models.push_back(model.needs_norms() ? model.observe_norms(block)
                                                  : SparseDifference::Counts{});
      }
    }
    return out;
  }

  void end_pass(int pass, std::span<const std::unique_ptr<Partial>> partials) override {
    std::vector<std::uint64_t> firsts;
    for (const auto& partial : partials) firsts.push_back(as_ranks(*partial).first);
    for (std::size_t m = 0; m < models_.size(); ++m) {
      std::vector<const SparseDifference::Counts*> counts;
      for (const auto& partial : partials) counts.push_back(&as_ranks(*partial).models[m]);
      if (pass >= rank_passes_) {
        if (models_[m].needs_norms()) models_[m].end_norms(counts);
      } else if (models_[m].is_ranked()) {
        models_[m].end_keys(pass, firsts, counts);
      }
    }
  }

  void apply(const Block& block, float* out) const override {
    if (models_.empty()) return static_cast<void>(std::copy_n(block.base, block.count, out));
    with_rounding(accumulate_, dtype_, [&](auto rounding) { apply_as(block, out, rounding); });
  }

 private:
  static const RankPartial& as_ranks(const Partial& partial) {
    return static_cast<const RankPartial&>(partial);
  }

  // One chunk at a time, so that the differences of all models stay in the first-level cache.
  template <class Rounding>
  void apply_as(const Block& block, float* out, Rounding r) const {
    std::vector<SparseDifference::Mask> masks;
    masks.reserve(models_.size());
    for (const SparseDifference& model : models_) masks.push_back(model.mask(block));
    std::vector<float> weights;
    for (const float weight : weights_) weights.push_back(r.round(weight));
    std::vector<float> differences(models_.size() * kChunk);
    std::array<float, kChunk> mix;
    for (std::size_t first = 0; first < block.count; first += kChunk) {
      const std::size_t n = std::min(kChunk, block.count - first);
      for (std::size_t m = 0; m < models_.size(); ++m) {
        float* d = differences.data() + m * kChunk;
        models_[m].differences(block, first, n, d);
        masks[m].apply(first, n, d);
        const float scale = models_[m].scale();
        if (scale != 1) {
          for (std::size_t i = 0; i < n; ++i) d[i] = r.round(d[i] * scale);
        }
      }
      if (convention_.elects) {
        mix_elected(differences, weights, n, mix.data(), r);
      } else {
        mix_all(differences, weights, n, mix.data(), r);
      }
      add_to_base(block.base + first, mix.data(), n, out + first, r);
    }
  }

  // A sum over the models is one reduction, which torch accumulates in float32.
  template <class Rounding>
  void mix_all(const std::vector<float>& differences, const std::vector<float>& weights,
               std::size_t n, float* mix, Rounding r) const {
    float divisor = 0;
    std::fill(mix, mix + n, 0.0F);
    for (std::size_t m = 0; m < weights.size(); ++m) {
      const float* d = differences.data() + m * kChunk;
      const float w = weights[m];
      divisor += w;
      for (std::size_t i = 0; i < n; ++i) mix[i] += r.round(w * d[i]);
    }
    divisor = r.round(divisor);
    if (!convention_.normalize || std::fabs(divisor) < kSmallestDivisor) divisor = 1;
    for (std::size_t i = 0; i < n; ++i) mix[i] = r.round(r.round(mix[i]) / divisor);
  }

  template <class Rounding>
  void mix_elected(const std::vector<float>& differences, const std::vector<float>& weights,
                   std::size_t n, float* mix, Rounding r) const {
    std::array<float, kChunk> votes{}, divisors{};
    std::array<std::uint32_t, kChunk> elected;
    const bool weighted = convention_.votes_weighted;
    for (std::size_t m = 0; m < weights.size(); ++m) {
      const float* d = differences.data() + m * kChunk;
      const float w = weighted ? weights[m] : 1.0F;
      for (std::size_t i = 0; i < n; ++i) votes[i] += r.round(w * d[i]);
    }
    for (std::size_t i = 0; i < n; ++i) {
      elected[i] = mask_of(r.round(votes[i]) < 0) & 0x80000000U;
    }
    std::fill(mix, mix + n, 0.0F);
    const std::uint32_t takes_largest = mask_of(convention_.reduce == Reduce::kMax);
    for (std::size_t m = 0; m < weights.size(); ++m) {
      const float* d = differences.data() + m * kChunk;
      const float w = weights[m], vote = weighted ? w : 1.0F;
      for (std::size_t i = 0; i < n; ++i) {
        const auto bits = std::bit_cast<std::uint32_t>(r.round(vote * d[i]));
        const bool same = ((bits ^ elected[i]) >> 31) == 0, counts = (bits << 1) != 0;
        const std::uint32_t agrees = mask_of(same) & mask_of(counts);
        const float value = masked(r.round(w * d[i]), agrees);
        const std::uint32_t replaces = mask_of(magnitude_key(value) > magnitude_key(mix[i]));
        const float largest = selected(value, mix[i], replaces);
        mix[i] = selected(largest, mix[i] + value, takes_largest);
        divisors[i] += masked(vote, agrees);
      }
    }
    const bool divides = convention_.normalize && convention_.reduce == Reduce::kMean;
    const std::uint32_t keeps = mask_of(!divides);
    for (std::size_t i = 0; i < n; ++i) {
      const float divisor = r.round(divisors[i]);
      const float safe = selected(1.0F, divisor, keeps | mask_of(divisor == 0));
      mix[i] = r.round(r.round(mix[i]) / safe);
    }
  }

  // Where nothing is added the base's own bytes remain, also those of -0.
  template <class Rounding>
  void add_to_base(const float* base, const float* mix, std::size_t n, float* out,
                   Rounding r) const {
    const auto lambda = static_cast<float>(convention_.lambda);
    for (std::size_t i = 0; i < n; ++i) {
      const float scaled = r.round(mix[i] * lambda);
      out[i] = selected(base[i], r.round(base[i] + scaled), mask_of(scaled == 0));
    }
  }

  Convention convention_;
  Accumulate accumulate_;
  tensorfile::DType dtype_;
  Granularity granularity_ = Granularity::kElements;
  int rank_passes_ = 0;
  bool needs_norms_ = false;
  std::vector<SparseDifference> models_;
  std::vector<float> weights_;
};

// ---- conventions -------------------------------------------------------------------------------

Rescale rescale_named(const std::string& name) {
  if (name == "l1") return Rescale::kL1;
  if (name == "l2") return Rescale::kL2;
  if (name == "linf") return Rescale::kLinf;
  return name == "inverse_density" ? Rescale::kInverseDensity : Rescale::kNone;
}

Convention convention_of(const TensorContext& context, std::string_view method,
                         Sparsifier sparsifier, bool elects) {
  Convention out;
  out.method = method;
  out.sparsifier = sparsifier;
  out.elects = elects;
  out.normalize = context.parameters->flag("normalize");
  out.lambda = context.parameters->number("lambda");
  if (sparsifier != Sparsifier::kNone) {
    out.rescale = rescale_named(context.parameters->text("rescale"));
  }
  return out;
}

Made make(const TensorContext& context, std::string_view method, Sparsifier sparsifier,
          bool elects) {
  return std::make_unique<TaskArithmetic>(context,
                                          convention_of(context, method, sparsifier, elects));
}

}  // namespace

Made make_task_arithmetic(const TensorContext& context) {
  return make(context, "task_arithmetic", Sparsifier::kNone, false);
}

Made make_expo(const TensorContext& context) {
  Convention convention;
  convention.method = "expo";
  convention.lambda = 1 + context.parameters->number("alpha");
  return std::make_unique<TaskArithmetic>(context, convention);
}

Made make_ties(const TensorContext& context) {
  Convention convention = convention_of(context, "ties", Sparsifier::kMagnitude, true);
  const Parameters& given = *context.parameters;
  const TiesConvention& preset = ties_convention(given.text("preset"));
  const auto part = [&](const char* name, const std::string& fallback) {
    return given.has(name) ? given.text(name) : fallback;
  };
  for (const auto& [name, value, wanted] :
       {std::array<std::string, 3>{"scope", part("scope", preset.scope), "tensor"},
        std::array<std::string, 3>{"zero_sign", part("zero_sign", preset.zero_sign), "plus"}}) {
    if (value == wanted) continue;
    refuse(Code::kUnsupported, "ties", context, name,
           name + " '" + value + "' (preset '" + preset.preset +
               "') needs statistics of the whole model; expected '" + wanted +
               "' for now, as presets mergekit and peft have it");
  }
  convention.keep_ties = part("keep", preset.keep) == "ge";
  convention.votes_weighted = part("vote", preset.vote) == "weighted";
  const std::string reduce = part("reduce", preset.reduce);
  if (reduce == "sum") convention.reduce = Reduce::kSum;
  if (reduce == "max") convention.reduce = Reduce::kMax;
  return std::make_unique<TaskArithmetic>(context, convention);
}

Made make_dare_linear(const TensorContext& context) {
  return make(context, "dare_linear", Sparsifier::kRandom, false);
}
Made make_dare_ties(const TensorContext& context) {
  return make(context, "dare_ties", Sparsifier::kRandom, true);
}
Made make_breadcrumbs(const TensorContext& context) {
  return make(context, "breadcrumbs", Sparsifier::kOutliers, false);
}
Made make_breadcrumbs_ties(const TensorContext& context) {
  return make(context, "breadcrumbs_ties", Sparsifier::kOutliers, true);
}
Made make_della(const TensorContext& context) {
  return make(context, "della", Sparsifier::kRanked, true);
}
Made make_della_linear(const TensorContext& context) {
  return make(context, "della_linear", Sparsifier::kRanked, false);
}

}  // namespace theriac::merge::methods
