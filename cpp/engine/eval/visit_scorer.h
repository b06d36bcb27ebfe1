// Scoring every visit of a cohort, over threads, with results that do not depend on their number.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "cpp/core/base/job.h"
#include "cpp/core/data/cohort.h"

namespace theriac::eval {

// What gives class probabilities to visits. `score` is called from several threads at once.
class VisitScorer {
 public:
  virtual ~VisitScorer() = default;
  virtual std::int64_t classes() const = 0;
  // Every visit of the patients [first, last), each from its own past. Row r of `probabilities`
  // [visits, classes] is the r-th of these visits. A visit's row must not depend on the range asked
  // for.
  virtual void score(std::int64_t first, std::int64_t last,
                     std::span<float> probabilities) const = 0;
  // How many visits a call should bring at once; a device wants many, a core few.
  virtual std::int64_t preferred_visits() const { return 64; }
};

// Receives patients in order: their position and the probabilities of their visits [visits,
// classes].
using PatientSink = std::function<void(std::int64_t patient, std::span<const float> probabilities)>;

// Memory is bounded by blocks, not by the cohort. `sink` runs on the calling thread. Throws what
// the scorer or the sink throws, and kCancelled.
void score_cohort(const data::Cohort& cohort, const VisitScorer& scorer, int threads, Job& job,
                  const PatientSink& sink);

}  // namespace theriac::eval
