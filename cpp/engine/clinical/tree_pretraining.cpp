#include "cpp/engine/clinical/tree_pretraining.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpp/core/base/hash.h"
#include "cpp/core/base/random.h"
#include "cpp/engine/clinical/tree_pretraining_sage.h"

namespace theriac::clinical {
namespace {

std::vector<std::int32_t> parents_of(const codes::Hierarchy& tree) {
  std::vector<std::int32_t> parents(tree.size());
  for (std::size_t i = 0; i < parents.size(); ++i) parents[i] = tree.parent_index(i);
  return parents;
}

// x ~ N(0, I) of every node, keyed by its name: independent of the order of the list. [nodes, dim]
at::Tensor node_inputs(const codes::Hierarchy& tree, std::int64_t dim, std::uint64_t seed) {
  at::Tensor inputs = at::empty({static_cast<std::int64_t>(tree.size()), dim}, at::kFloat);
  float* values = inputs.data_ptr<float>();
  for (std::size_t node = 0; node < tree.size(); ++node) {
    Random random(seed, "tree.inputs", hash64(tree.node(node)));
    for (std::int64_t i = 0; i < dim; ++i) *values++ = static_cast<float>(random.normal());
  }
  return inputs;
}

double dot(const float* a, const float* b, std::int64_t dim) {
  // Sixteen partial sums in a fixed order: vectorised without changing the result between builds.
  float sums[16] = {};
  std::int64_t i = 0;
  for (; i + 16 <= dim; i += 16) {
    for (std::int64_t k = 0; k < 16; ++k) sums[k] += a[i + k] * b[i + k];
  }
  double total = 0;
  for (const float sum : sums) total += static_cast<double>(sum);
  for (; i < dim; ++i) total += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return total;
}

// log(1 + exp(x)) without overflow.
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : 1 - 1 / (1 + std::exp(x)); }

// Outputs of one batch and their gradient: row-major [rows, dim].
struct Outputs {
  const float* z;
  float* dz;
  std::int64_t dim;

  // Adds weight * -log sigmoid(sign * z_a . z_b) and its gradient. Rows may be equal.
  double add_pair(std::int64_t row_a, std::int64_t row_b, double sign, double weight) {
    const float* a = z + row_a * dim;
    const float* b = z + row_b * dim;
    const double score = sign * dot(a, b, dim);
    const auto slope = static_cast<float>(-weight * sign * sigmoid(-score));
    float* da = dz + row_a * dim;  // may be db
    float* db = dz + row_b * dim;
    for (std::int64_t i = 0; i < dim; ++i) {
      da[i] += slope * b[i];
      db[i] += slope * a[i];
    }
    return weight * softplus(-score);
  }
};

// Training state of one tree.
class TreeTrainer {
 public:
  TreeTrainer(const codes::Hierarchy& tree, const TreeOptions& options, std::uint64_t seed)
      : options_(options),
        seed_(seed),
        inputs_(node_inputs(tree, options.dim, seed)),
        planner_(parents_of(tree)),
        stack_(options.dim, seed, at::get_num_threads()),
        order_(tree.size()) {}

  // Mean loss per node.
  double epoch(std::int64_t number, Job& job) {
    std::iota(order_.begin(), order_.end(), 0);
    Random(seed_, "tree.shuffle", static_cast<std::uint64_t>(number)).shuffle(order_);
    double sum = 0;
    const auto size = static_cast<std::size_t>(options_.batch_size);
    for (std::size_t begin = 0; begin < order_.size(); begin += size) {
      job.progress("pretrain", static_cast<std::uint64_t>(number) * order_.size() + begin,
                   static_cast<std::uint64_t>(options_.epochs) * order_.size());
      const std::size_t count = std::min(size, order_.size() - begin);
      sum += step(std::span(order_).subspan(begin, count)) * static_cast<double>(count);
    }
    const double loss = sum / static_cast<double>(order_.size());
    if (!std::isfinite(loss)) {
      throw Error(Code::kNumericError, "tree pre-training: the loss of epoch " +
                                           std::to_string(number + 1) +
                                           " is not finite; a smaller learning_rate may help")
          .at("epoch", number + 1);
    }
    return loss;
  }

  // z of every node with dropout off, in blocks so that memory stays small. [nodes, dim]
  at::Tensor vectors() {
    constexpr std::int64_t kBlock = 4096;
    at::Tensor out = at::empty({planner_.nodes(), options_.dim}, at::kFloat);
    std::vector<std::int32_t> wanted;
    for (std::int64_t begin = 0; begin < planner_.nodes(); begin += kBlock) {
      wanted.resize(static_cast<std::size_t>(std::min(kBlock, planner_.nodes() - begin)));
      std::iota(wanted.begin(), wanted.end(), static_cast<std::int32_t>(begin));
      const at::Tensor z = stack_.forward(inputs_, planner_.plan(wanted), SageDropout{});
      out.narrow(0, begin, z.size(0)).copy_(z);  // wanted rows come first, in order
    }
    return out;
  }

 private:
  // One batch of anchors: mean loss, and an Adam step. No operator of LibTorch that is large enough
  // for its thread pool: the pool's threads would spin beside the stack's.
  double step(std::span<const std::int32_t> anchors) {
    Random random(seed_, "tree.negatives", step_);
    wanted_.assign(anchors.begin(), anchors.end());
    for (const std::int32_t node : anchors) {
      const std::int32_t parent = planner_.parent(node);
      wanted_.push_back(parent >= 0 ? parent : node);  // the root is its own positive
    }
    for (std::size_t i = 0; i < anchors.size(); ++i) {
      wanted_.push_back(static_cast<std::int32_t>(random.below(order_.size())));
    }
    const SagePlan& plan = planner_.plan(wanted_);
    const at::Tensor z = stack_.forward(inputs_, plan, {options_.dropout, seed_, step_});
    dz_.assign(static_cast<std::size_t>(z.numel()), 0.0F);
    const double loss =
        pair_losses(anchors.size(), {z.data_ptr<float>(), dz_.data(), options_.dim});
    stack_.backward(plan, at::from_blob(dz_.data(), z.sizes(), at::kFloat));
    stack_.update(options_.learning_rate);
    ++step_;
    return loss;
  }

  double pair_losses(std::size_t count, Outputs outputs) {
    const double weight = 1 / static_cast<double>(count);
    double loss = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t anchor = planner_.row(wanted_[i]);
      loss += outputs.add_pair(anchor, planner_.row(wanted_[count + i]), 1, weight);
      loss += outputs.add_pair(anchor, planner_.row(wanted_[2 * count + i]), -1, weight);
    }
    return loss;
  }

  TreeOptions options_;
  std::uint64_t seed_;
  at::Tensor inputs_;  // [nodes, dim]
  SagePlanner planner_;
  SageStack stack_;
  std::vector<float> dz_;  // [wanted, dim]
  std::vector<std::int32_t> order_, wanted_;
  std::uint64_t step_ = 0;
};

// Share of (positive, negative) pairs in order, ties half: the Mann-Whitney statistic.
double auc(const std::vector<double>& positives, const std::vector<double>& negatives) {
  if (positives.empty() || negatives.empty()) return 0;
  std::vector<double> sorted = negatives;
  std::sort(sorted.begin(), sorted.end());
  double wins = 0;
  for (const double score : positives) {
    const auto [low, high] = std::equal_range(sorted.begin(), sorted.end(), score);
    wins += static_cast<double>(low - sorted.begin()) + 0.5 * static_cast<double>(high - low);
  }
  return wins / (static_cast<double>(positives.size()) * static_cast<double>(negatives.size()));
}

double mean(const std::vector<double>& values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::vector<std::vector<std::int32_t>> children_of(const codes::Hierarchy& tree) {
  std::vector<std::vector<std::int32_t>> children(tree.size());
  for (std::size_t i = 0; i < tree.size(); ++i) {
    const std::int32_t parent = tree.parent_index(i);
    if (parent >= 0)
      children[static_cast<std::size_t>(parent)].push_back(static_cast<std::int32_t>(i));
  }
  return children;
}

}  // namespace

const OptionTable<TreeOptions>& TreeOptions::table() {
  static const auto table = [] {
    OptionTable<TreeOptions> t("tree", "Self-supervised pre-training on a code tree");
    add_tree_options(t);
    return t;
  }();
  return table;
}

TreeTraining pretrain_tree(const codes::Hierarchy& tree, const TreeOptions& options,
                           std::uint64_t seed, Job& job) {
  if (tree.is_structural() || tree.size() == 0) {
    throw Error(Code::kInvalidArgument,
                "tree pre-training needs the nodes of a listed hierarchy: from a code list, or the "
                "closure of the codes in use");
  }
  const torch::NoGradGuard no_grad;
  TreeTrainer trainer(tree, options, seed);
  TreeTraining training;
  for (std::int64_t epoch = 0; epoch < options.epochs; ++epoch) {
    training.losses.push_back(trainer.epoch(epoch, job));
    job.milestone("pretrain", static_cast<std::uint64_t>(epoch + 1) * tree.size(),
                  static_cast<std::uint64_t>(options.epochs) * tree.size(),
                  dump_json(Json{{"epoch", epoch + 1}, {"loss", training.losses.back()}}));
  }
  training.vectors = trainer.vectors();
  return training;
}

TreeQuality measure(const codes::Hierarchy& tree, const at::Tensor& vectors) {
  const at::Tensor z = vectors.to(at::kCPU, at::kFloat).contiguous();
  const std::int64_t dim = z.size(1);
  const auto row = [&](std::int32_t node) { return z.data_ptr<float>() + node * dim; };
  const auto children = children_of(tree);
  std::vector<double> norms(tree.size());
  for (std::size_t i = 0; i < tree.size(); ++i) {
    const float* a = row(static_cast<std::int32_t>(i));
    norms[i] = std::sqrt(dot(a, a, dim));
  }
  const auto cosine = [&](std::int32_t a, std::int32_t b) {
    const double scale = norms[static_cast<std::size_t>(a)] * norms[static_cast<std::size_t>(b)];
    return scale > 0 ? dot(row(a), row(b), dim) / scale : 0.0;
  };
  Random random(0, "tree.measure");
  std::vector<double> positives, negatives, parent_cosines, sibling_cosines, random_cosines;
  for (std::size_t i = 0; i < tree.size(); ++i) {
    const auto node = static_cast<std::int32_t>(i);
    const std::int32_t parent = tree.parent_index(i);
    const auto other = static_cast<std::int32_t>(random.below(tree.size()));
    if (parent < 0) continue;
    positives.push_back(dot(row(node), row(parent), dim));
    negatives.push_back(dot(row(node), row(other), dim));
    parent_cosines.push_back(cosine(node, parent));
    random_cosines.push_back(cosine(node, other));
    const auto& family = children[static_cast<std::size_t>(parent)];
    if (family.size() < 2) continue;
    // A uniform sibling: one of the others, the last one standing in for the node itself.
    const std::int32_t drawn = family[random.below(family.size() - 1)];
    sibling_cosines.push_back(cosine(node, drawn == node ? family.back() : drawn));
  }
  return {auc(positives, negatives), mean(parent_cosines), mean(sibling_cosines),
          mean(random_cosines), mean(norms)};
}

}  // namespace theriac::clinical
