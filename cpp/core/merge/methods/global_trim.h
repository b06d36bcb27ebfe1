// Trimming and the vote of zeros over the whole model, as TIES's paper and FusionBench have them:
// Yadav et al., "TIES-merging", arXiv 2306.01708.
//
// All merged tensors are one vector of D elements a model. Kept are, of a model's differences from
// the base,
//
//     keep exact   the int(d D) largest, at least one; among equals the first, in the output's order
//     keep ge      all that reach the (int(d D) + 1)-th largest, as the reference implementations do
//
// Where the sum of what is kept is zero, `zero_sign: majority` elects the sign of the sum over the
// model of the elected signs; if that is zero, minus.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpp/core/merge/method.h"
#include "cpp/core/merge/methods/order_statistics.h"
#include "cpp/core/merge/methods/sparsify.h"

namespace theriac::merge::methods {

class GlobalTrim final : public ModelStatistics {
 public:
  struct Options {
    bool keep_ties = false;
    bool majority = false;
    bool votes_weighted = false;
  };
  // Throws kInvalidArgument where a model's density differs between tensors.
  GlobalTrim(std::span<const TensorContext> tensors, const Options& options);

  int passes() const override { return static_cast<int>(passes_.size()); }
  std::unique_ptr<Partial> observe(int pass, std::size_t tensor, const Block& block) const override;
  void absorb(int pass, std::size_t tensor, const Partial& partial) override;
  void end_pass(int pass) override;
  Json summary() const override;

  std::uint32_t key(std::size_t task) const { return tasks_[task].cut.key(); }
  // Elements equal to the key, from element `first` of a tensor on, that are kept as well.
  std::uint64_t ties_left(std::size_t task, std::size_t tensor, std::uint64_t first) const;
  bool zero_elects_minus() const noexcept { return options_.majority && signs_ <= 0; }

 private:
  enum class Pass { kUpperHalves, kLowerHalves, kTies, kSigns };
  struct Task {
    double density = 1;
    bool seen = false;
    std::uint64_t elements = 0;
    StreamedRank cut{0};
    // Of each tensor's blocks: first element; how many ties are in it, later how many are left to
    // be kept from there on.
    std::vector<std::vector<std::pair<std::uint64_t, std::uint64_t>>> ties;

    bool trims() const noexcept { return density > 0 && density < 1 && elements > 0; }
  };
  struct Counts;

  void add_tensor(const TensorContext& tensor);
  std::int64_t elected_signs(std::size_t tensor, const Block& block) const;
  void order_ties(Task& task);

  std::span<const TensorContext> tensors_;
  Options options_;
  std::vector<Pass> passes_;
  std::vector<Task> tasks_;
  std::int64_t signs_ = 0;  // sum over all elements of the elected signs
};

}  // namespace theriac::merge::methods
