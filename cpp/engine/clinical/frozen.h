// Scoring one patient at batch 1 from constant weights, without LibTorch's dispatcher: what a
// session runs.
//
// A backbone freezes itself into plain float arrays once (after fit or load). Scoring reads each
// weight once, allocates nothing after warm-up and gives the same bits on any thread, since nothing
// is shared and no reduction order depends on anything but the input.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace theriac::clinical {

// One visit as vocabulary ids; codes outside the vocabulary come as the sum of their vectors.
struct FrozenVisit {
  std::span<const std::int32_t> diagnoses, procedures;  // distinct vocabulary ids
  std::span<const std::int32_t> medications;  // distinct class ids; empty for the current visit
  std::span<const float> diagnoses_extra, procedures_extra;  // [dim] or empty
};

// Scratch memory of one session; grows to the largest input seen, then stays. A scorer says how
// much it needs in all, then takes pieces of it.
class FrozenWorkspace {
 public:
  void reset(std::size_t count) {
    if (floats_.size() < count) floats_.resize(count);
    used_ = 0;
  }
  std::span<float> take(std::size_t count) {
    const std::span<float> piece = std::span(floats_).subspan(used_, count);
    used_ += count;
    return piece;
  }

 private:
  std::vector<float> floats_;
  std::size_t used_ = 0;
};

// What a backbone looked at, for explanations; empty where it has no such thing.
struct FrozenAttention {
  std::vector<float> visits;  // [T] GAMENet: history weights (last is 0); RETAIN: alpha, diagnoses
  std::vector<float> visits_procedures;  // [T] RETAIN: alpha, procedures
  std::vector<float> memory;             // [classes] GAMENet: graph-memory weights
};

// Immutable; shared by all sessions of a model.
class FrozenScorer {
 public:
  virtual ~FrozenScorer() = default;
  virtual std::int64_t classes() const noexcept = 0;
  // Visits in time order, the last one is the current visit (T >= 1). Writes probabilities
  // [classes].
  virtual void score(std::span<const FrozenVisit> visits, FrozenWorkspace& workspace,
                     std::span<float> probabilities,
                     FrozenAttention* attention = nullptr) const = 0;
};

}  // namespace theriac::clinical
