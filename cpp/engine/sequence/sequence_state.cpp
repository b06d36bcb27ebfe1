#include "cpp/engine/sequence/sequence_state.h"

#include <algorithm>
#include <cmath>

#include "cpp/engine/sequence/catalogue.h"
#include "cpp/engine/sequence/frozen_linear.h"

namespace theriac::sequence {
namespace {

constexpr std::size_t kNeighbours = 10;

std::shared_ptr<const augment::SimilarityTable> required(
    std::shared_ptr<const augment::SimilarityTable> table, const std::string& name) {
  if (table) return table;
  throw Error(Code::kUnsupported, "augmenter, similar: this model has no table '" + name +
                                      "'; it comes from training sequences, or from those given "
                                      "with imported weights")
      .at("option", "similar");
}

}  // namespace

augment::SimilarityTable similar_by_vectors(const at::Tensor& vectors, std::size_t width,
                                            bool cosine) {
  std::vector<float> rows = values(vectors);
  const auto count = static_cast<std::size_t>(vectors.size(0)),
             dim = static_cast<std::size_t>(vectors.size(1));
  for (std::size_t r = 0; r < count && cosine; ++r) {
    float* row = rows.data() + r * dim;
    double square = 0;
    for (std::size_t c = 0; c < dim; ++c) square += static_cast<double>(row[c]) * row[c];
    const auto scale = static_cast<float>(1 / std::max(std::sqrt(square), 1e-30));
    for (std::size_t c = 0; c < dim; ++c) row[c] *= scale;
  }
  const Catalogue catalogue(rows.data(), count, dim);
  Catalogue::Scratch scratch;
  const auto items = static_cast<std::int32_t>(count) - 2;
  std::vector<std::int32_t> neighbours(static_cast<std::size_t>(items) * width);
  std::vector<float> scores(neighbours.size());
  constexpr std::int32_t kBlock = 48;
  std::vector<RowReader> readers(kBlock);
  std::vector<std::vector<std::int32_t>> excluded(kBlock);
  for (std::int32_t first = 1; first <= items; first += kBlock) {
    const auto some = static_cast<std::size_t>(std::min(kBlock, items - first + 1));
    for (std::size_t i = 0; i < some; ++i) {
      excluded[i] = {0, first + static_cast<std::int32_t>(i), items + 1};
      readers[i].begin(excluded[i], Excluded::kOut, -1, 0, width);
    }
    catalogue.read(rows.data() + static_cast<std::size_t>(first) * dim,
                   std::span(readers).first(some), scratch);
    for (std::size_t i = 0; i < some; ++i) {
      const std::size_t at = (static_cast<std::size_t>(first) - 1 + i) * width;
      const BestItems& best = readers[i].best();
      std::copy(best.ids().begin(), best.ids().end(),
                neighbours.begin() + static_cast<std::ptrdiff_t>(at));
      std::copy(best.scores().begin(), best.scores().end(),
                scores.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }
  return {items, width, std::move(neighbours), std::move(scores)};
}

std::shared_ptr<const augment::Augmenter> SequenceState::augmenter_of(const Json& options) const {
  if (options.is_null()) return nullptr;
  augment::AugmenterOptions chosen;
  chosen.seed = static_cast<std::int64_t>(seed);
  augment::AugmenterOptions::table().update(chosen, options);
  return std::make_shared<const augment::Augmenter>(std::move(chosen),
                                                    static_cast<std::int32_t>(items.size()));
}

std::shared_ptr<const augment::Augmenter> SequenceState::prepared(
    std::shared_ptr<const augment::Augmenter> augmenter) const {
  if (augmenter == nullptr) return nullptr;
  scorer->check(*augmenter);
  if (!augmenter->wants_table()) return augmenter;
  const std::string& name = augmenter->options().similar;
  const auto by_vectors = [&](bool cosine) {
    if (!item_vectors.defined()) required(nullptr, name);
    return std::make_shared<const augment::SimilarityTable>(
        similar_by_vectors(item_vectors, kNeighbours, cosine));
  };
  std::shared_ptr<const augment::SimilarityTable> table;
  if (name == "dot" || name == "cosine") {
    table = by_vectors(name == "cosine");
  } else if (name == "item_cf") {
    table = required(similar.item_cf, name);
  } else if (name == "item_cf_iuf") {
    table = required(similar.item_cf_iuf, name);
  } else {
    table = std::make_shared<const augment::SimilarityTable>(
        augment::hybrid(*by_vectors(false), *required(similar.item_cf_iuf, name)));
  }
  return std::make_shared<const augment::Augmenter>(augmenter->with_table(std::move(table)));
}

}  // namespace theriac::sequence
