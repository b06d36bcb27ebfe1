// Relation vectors of a code tree, learned without labels and without patient data: unsupervised
// GraphSAGE on the tree (HIER; medication.md section 7.3). A node's positive is its parent, its
// negative any node:
//   L = -mean log sigmoid(z_i . z_parent(i)) - mean log sigmoid(-z_i . z_random).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpp/core/base/job.h"
#include "cpp/core/base/options.h"
#include "cpp/core/codes/hierarchy.h"
#include "cpp/engine/tensor/tensor.h"

namespace theriac::clinical {

struct TreeOptions {
  std::int64_t dim = 128;
  std::int64_t epochs = 50;
  std::int64_t batch_size = 256;
  double learning_rate = 1e-3;
  double dropout = 0.5;  // rounded to 1/65536
  static const OptionTable<TreeOptions>& table();
};

// Declares them in the table of a struct that has them too.
template <class Options>
void add_tree_options(OptionTable<Options>& table) {
  table.integer("dim", &Options::dim, {1, 4096}, "width of a relation vector")
      .integer("epochs", &Options::epochs, {1, 100'000}, "passes over all nodes of the tree")
      .integer("batch_size", &Options::batch_size, {1, 1 << 20}, "anchor nodes a step")
      .real("learning_rate", &Options::learning_rate, {0.0, 10.0, true, false}, "of Adam")
      .real("dropout", &Options::dropout, {0.0, 1.0, false, true},
            "share of hidden features dropped, rounded to 1/65536");
}

struct TreeTraining {
  at::Tensor vectors;          // [nodes, dim] float32, z with dropout off
  std::vector<double> losses;  // [epochs] mean loss per node
};

// Trains on a listed hierarchy. The inputs N(0, I) are keyed by node name and the other draws by
// epoch and step, so the result depends on (tree, options, seed) alone. Throws kInvalidArgument for
// a structural or empty hierarchy, kNumericError when the loss is not finite, kCancelled as the job
// asks.
TreeTraining pretrain_tree(const codes::Hierarchy& tree, const TreeOptions& options,
                           std::uint64_t seed, Job& job);

// How well vectors hold the tree: every node against its parent, a sibling and a random node (drawn
// from a fixed seed, so that two tables of one tree are compared on the same pairs).
struct TreeQuality {
  double link_auc = 0;        // P(z_i . z_parent > z_i . z_random), ties half
  double parent_cosine = 0;   // means over nodes
  double sibling_cosine = 0;  // over nodes that have a sibling
  double random_cosine = 0;
  double mean_norm = 0;  // of z
};
TreeQuality measure(const codes::Hierarchy& tree, const at::Tensor& vectors);

}  // namespace theriac::clinical
