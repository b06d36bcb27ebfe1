// Baselines of next-item recommendation: counts of training sequences.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpp/core/augment/similarity_table.h"
#include "cpp/engine/sequence/next_item_scorer.h"

namespace theriac::sequence {

// The same for everybody: how often an item occurs. share: [items + 2] by id.
std::shared_ptr<const NextItemScorer> popularity_scorer(std::vector<float> share);

// Item to item (Linden et al., "Amazon.com Recommendations", IEEE Internet Computing 2003; ItemKNN of the
// top-N literature): the sum of the similarities of the history's items, the latest counting most: the
// j-th last with decay^(j - 1). neighbours: [items, width] of ids 1 ... items, 0 where there are fewer;
// scores: the same.
std::shared_ptr<const NextItemScorer> item_knn_scorer(std::size_t items, std::size_t width,
                                                      std::vector<std::int32_t> neighbours,
                                                      std::vector<float> scores, double decay,
                                                      std::size_t max_length);

}  // namespace theriac::sequence
