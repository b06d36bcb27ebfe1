// What sessions and evaluation share of a fitted model of item sequences. Immutable.
#pragma once

#include <memory>
#include <string>

#include "cpp/core/augment/augmenter.h"
#include "cpp/core/data/sequences.h"
#include "cpp/engine/sequence/next_item_scorer.h"

namespace theriac::sequence {

// Similar items for substituting and inserting; null where the model has no such table.
struct SimilarTables {
  std::shared_ptr<const augment::SimilarityTable> item_cf, item_cf_iuf;
};

struct SequenceState {
  std::string method, model_version, library_version, limits;
  data::Names items;
  std::shared_ptr<const NextItemScorer> scorer;
  SimilarTables similar;
  at::Tensor item_vectors;  // [items + 2, dim] on the CPU, or undefined
  std::uint64_t seed = 0;   // of the context: of augmenters whose options name none

  // From options, {"op": ..., ...}; null for null. Throws kInvalidArgument naming the option.
  std::shared_ptr<const augment::Augmenter> augmenter_of(const Json& options) const;
  // The augmenter ready for this model: checked, with the model's table if it wants one. Throws
  // kUnsupported or kInvalidArgument naming the option.
  std::shared_ptr<const augment::Augmenter> prepared(
      std::shared_ptr<const augment::Augmenter> augmenter) const;
};

// Most similar items by item vectors, `width` of each: by dot product or cosine.
augment::SimilarityTable similar_by_vectors(const at::Tensor& vectors, std::size_t width,
                                            bool cosine);

}  // namespace theriac::sequence
