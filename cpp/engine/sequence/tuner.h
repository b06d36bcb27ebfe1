// Evaluation of a model as a host asks for it: plainly, with an augmenter, or over a grid of augmenters of
// which validation data picks one (sequential-tta.md sections 11.6 and 13).
#pragma once

#include "cpp/core/base/job.h"
#include "cpp/core/base/json.h"
#include "cpp/core/data/sequences.h"
#include "cpp/engine/sequence/sequence_state.h"

namespace theriac::sequence {

struct Evaluation {
  Json report;  // {"metrics", "counts", "by_length", "config"}; with "tune": also "grid" and "best"
};

// Options: those of RankingOptions, "augment": {...}, or "tune": [{...}, ...] (true: default_grid) and
// "select": the metric. Plain prediction is always among the candidates of a tuning and wins ties, so
// that nothing is added without a gain on this data.
Evaluation evaluate(const SequenceState& state, const data::Sequences& sequences,
                    const Json& options, int threads, Job& job);

// Augmenters worth trying on a model: those of the study behind the operators that it can carry out.
Json default_grid(const SequenceState& state);
// Names of the operators that it can carry out.
Json operators_of(const SequenceState& state);

}  // namespace theriac::sequence
