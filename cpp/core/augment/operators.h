// What augmentation operators do to one sequence of item ids, once their random choices are made. Ids
// are in time order, the oldest first; positions are 0-based.
//
// Removing and masking: TMask-R and TMask-B of "Data Augmentation as Free Lunch: Exploring the Test-Time
// Augmentation for Sequential Recommendation", SIGIR 2025 (arXiv 2504.04843). Substituting and inserting:
// CoSeRec (arXiv 2108.06479).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace theriac::augment {

using Ids = std::vector<std::int32_t>;
using IdSpan = std::span<const std::int32_t>;
using Positions = std::vector<std::uint32_t>;

// `positions` of the functions below: each once, in any order, all below ids.size().

// Without the ids at `positions`; the others keep their order.
Ids without(IdSpan ids, const Positions& positions);
// `by[i]` in the place of ids[positions[i]].
Ids replaced(IdSpan ids, const Positions& positions, IdSpan by);
// The ids before[i], in their order, in front of ids[positions[i]].
Ids inserted(IdSpan ids, const Positions& positions, std::span<const Ids> before);

}  // namespace theriac::augment
