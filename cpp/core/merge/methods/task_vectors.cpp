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

#include "cpp/core/merge/methods/global_trim.h"
#include "cpp/core/merge/methods/loops.h"
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
  const GlobalTrim* global = nullptr;  // trims over the whole model
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
      : convention_(convention), rounding_(loops::rounding_of(context.accumulate, context.dtype)) {
    bool ranked = false;
    for (std::size_t m = 0; m < context.models(); ++m) {
      models_.emplace_back(convention.method, context, m, convention.sparsifier, convention.rescale,
                           convention.keep_ties, convention.global);
      const SparseDifference& model = models_.back();
      weights_.push_back(static_cast<float>(context.model_parameters[m]->number_or("weight", 1)));
      ranked = ranked || model.is_ranked();
      needs_norms_ = needs_norms_ || model.needs_norms();
      granularity_ = std::max(granularity_, model.granularity());
    }
    rank_passes_ = ranked ? 2 : 0;
    with_rounding(context.accumulate, context.dtype, [&](auto r) {
      float sum = 0;
      for (float& weight : weights_) sum += weight = r.round(weight);
      sum = r.round(sum);
      if (convention_.normalize && std::fabs(sum) >= kSmallestDivisor) divisor_ = sum;
    });
    votes_ = convention_.votes_weighted ? weights_ : std::vector<float>(weights_.size(), 1.0F);
  }

  Granularity granularity() const override { return granularity_; }
  int passes() const override { return rank_passes_ + (needs_norms_ ? 1 : 0); }
  // Cuts by magnitude count the ties of whole blocks.
  bool divisible() const override { return rank_passes_ == 0; }
  std::uint64_t kept() const override {
    std::uint64_t bytes = 0;
    for (const SparseDifference& model : models_) bytes += model.kept();
    return bytes;
  }

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
      std::vector<SparseDifference::Counts*> counts;
      for (const auto& partial : partials) counts.push_back(&as_ranks(*partial).models[m]);
      if (pass >= rank_passes_) {
        if (models_[m].needs_norms()) models_[m].end_norms(counts);
      } else if (models_[m].is_ranked()) {
        models_[m].end_keys(pass, firsts, {counts.begin(), counts.end()});
      }
    }
  }

  // One chunk at a time, so that the differences of all models stay in the first-level cache.
  void apply(const Block& block, float* out) const override {
    if (models_.empty()) return static_cast<void>(std::copy_n(block.base, block.count, out));
    std::vector<SparseDifference::Mask> masks;
    masks.reserve(models_.size());
    for (const SparseDifference& model : models_) masks.push_back(model.mask(block));
    std::vector<float> differences(models_.size() * kChunk);
    std::array<float, kChunk> mix;
    for (std::size_t first = 0; first < block.count; first += kChunk) {
      const std::size_t n = std::min(kChunk, block.count - first);
      for (std::size_t m = 0; m < models_.size(); ++m) {
        models_[m].kept(block, masks[m], first, n, differences.data() + m * kChunk);
      }
      if (convention_.elects) {
        mix_elected(differences, n, mix.data());
      } else {
        mix_all(differences, n, mix.data());
      }
      loops::add_to_base(rounding_, static_cast<float>(convention_.lambda), block.base + first,
                         mix.data(), n, out + first);
    }
  }

 private:
  static RankPartial& as_ranks(Partial& partial) { return static_cast<RankPartial&>(partial); }

  // A sum over the models is one reduction, which torch accumulates in float32.
  void mix_all(const std::vector<float>& differences, std::size_t n, float* mix) const {
    std::fill(mix, mix + n, 0.0F);
    for (std::size_t m = 0; m < weights_.size(); ++m) {
      loops::add_product(rounding_, weights_[m], differences.data() + m * kChunk, n, mix);
    }
    loops::divide(rounding_, divisor_, n, mix);
  }

  void mix_elected(const std::vector<float>& differences, std::size_t n, float* mix) const {
    loops::Election election;
    election.models = weights_.size();
    election.weights = weights_.data();
    election.votes = votes_.data();
    election.zero_is_minus = convention_.global && convention_.global->zero_elects_minus();
    election.largest = convention_.reduce == Reduce::kMax;
    election.divides = convention_.normalize && convention_.reduce == Reduce::kMean;
    loops::mix_elected(rounding_, election, differences.data(), kChunk, n, mix);
  }

  Convention convention_;
  loops::Rounding rounding_;
  Granularity granularity_ = Granularity::kElements;
  int rank_passes_ = 0;
  bool needs_norms_ = false;
  std::vector<SparseDifference> models_;
  std::vector<float> weights_, votes_;
  float divisor_ = 1;  // of a mix without election
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

// The preset's parts, but for those that the recipe gives.
TiesConvention ties_parts(const Parameters& given) {
  TiesConvention out = ties_convention(given.text("preset"));
  const auto take = [&given](const char* name, std::string& part) {
    if (given.has(name)) part = given.text(name);
  };
  take("scope", out.scope);
  take("keep", out.keep);
  take("zero_sign", out.zero_sign);
  take("reduce", out.reduce);
  take("vote", out.vote);
  return out;
}

// What concerns the whole model can not differ between tensors.
void check_same_parts(const TensorContext& context, const TiesConvention& wanted) {
  const TiesConvention parts = ties_parts(*context.parameters);
  for (const auto& [name, value, other] :
       {std::array<std::string, 3>{"scope", parts.scope, wanted.scope},
        std::array<std::string, 3>{"keep", parts.keep, wanted.keep},
        std::array<std::string, 3>{"zero_sign", parts.zero_sign, wanted.zero_sign},
        std::array<std::string, 3>{"vote", parts.vote, wanted.vote}}) {
    const bool matters = wanted.scope == "global" || name == "scope";
    if (value == other || !matters) continue;
    refuse(Code::kInvalidArgument, "ties", context, name,
           name + " '" + value + "' differs from '" + other +
               "' of other tensors; with scope 'global' it is one for the whole model");
  }
  if (parts.scope == "tensor" && parts.zero_sign == "majority") {
    refuse(Code::kUnsupported, "ties", context, "zero_sign",
           "zero_sign 'majority' counts signs over the whole model and needs scope 'global'");
  }
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
  const TiesConvention parts = ties_parts(*context.parameters);
  convention.global = static_cast<const GlobalTrim*>(context.statistics);
  convention.keep_ties = parts.keep == "ge";
  convention.votes_weighted = parts.vote == "weighted";
  if (parts.reduce == "sum") convention.reduce = Reduce::kSum;
  if (parts.reduce == "max") convention.reduce = Reduce::kMax;
  return std::make_unique<TaskArithmetic>(context, convention);
}

MadeStatistics make_ties_statistics(std::span<const TensorContext> tensors) {
  if (tensors.empty()) return nullptr;
  const TiesConvention parts = ties_parts(*tensors.front().parameters);
  for (const TensorContext& tensor : tensors) check_same_parts(tensor, parts);
  if (parts.scope == "tensor") return nullptr;
  GlobalTrim::Options options;
  options.keep_ties = parts.keep == "ge";
  options.majority = parts.zero_sign == "majority";
  options.votes_weighted = parts.vote == "weighted";
  return std::make_unique<GlobalTrim>(tensors, options);
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
