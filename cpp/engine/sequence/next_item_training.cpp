#include "cpp/engine/sequence/next_item_training.h"

#include <algorithm>

namespace theriac::sequence {

void draw_negatives(std::span<const std::int32_t> own, std::int64_t rows, std::uint64_t seed,
                    std::int64_t epoch, std::int64_t user, std::span<std::int32_t> out) {
  constexpr int kTries = 1000;  // who has nearly every item gets one of their own at last
  Random random(seed, "negatives " + std::to_string(epoch), static_cast<std::uint64_t>(user));
  for (std::int32_t& id : out) {
    for (int t = 0; t < kTries; ++t) {
      id = static_cast<std::int32_t>(1 + random.below(static_cast<std::uint64_t>(rows - 1)));
      if (!std::binary_search(own.begin(), own.end(), id)) break;
    }
  }
}

at::Tensor next_item_loss(const at::Tensor& hidden, const at::Tensor& next,
                          const at::Tensor& drawn) {
  const at::Tensor positive = (hidden * next).sum(-1), negative = (hidden * drawn).sum(-1);
  return (at::softplus(-positive) + at::softplus(negative)).mean();
}

NextItemTraining::NextItemTraining(NextItemNetwork network, const FitData& data,
                                   const std::string& select, int threads, Job& job)
    : network_(std::move(network)),
      train_(*data.train),
      select_(select),
      threads_(threads),
      job_(job) {
  for (std::int64_t user = 0; user < train_.users(); ++user) {
    if (train_.of(user).size() >= 2) users_.push_back(user);
  }
  if (data.valid != nullptr) valid_.emplace(*data.valid, *data.items);
  const std::size_t at = select_.find('@');
  ranking_.cutoffs = {5, 10, 20};
  if (at != std::string::npos) ranking_.cutoffs.push_back(std::stoll(select_.substr(at + 1)));
}

at::Tensor NextItemTraining::loss(std::span<const std::int64_t> batch, const train::Step& step) {
  const auto rows = network_.item_vectors.size(0);
  const auto most = static_cast<std::size_t>(network_.max_length);
  std::vector<std::int32_t> inputs, targets, own, drawn;
  std::vector<std::int64_t> starts{0};
  for (const std::int64_t example : batch) {
    const std::int64_t user = users_[static_cast<std::size_t>(example)];
    const auto items = train_.of(user);
    const std::size_t n = std::min(items.size() - 1, most);
    inputs.insert(inputs.end(), items.end() - static_cast<std::ptrdiff_t>(n) - 1, items.end() - 1);
    targets.insert(targets.end(), items.end() - static_cast<std::ptrdiff_t>(n), items.end());
    own.assign(items.begin(), items.end());
    std::sort(own.begin(), own.end());
    drawn.resize(targets.size());
    draw_negatives(own, rows, step.seed, step.epoch, user, std::span(drawn).last(n));
    starts.push_back(static_cast<std::int64_t>(inputs.size()));
  }
  const TokenBatch tokens(inputs, std::move(starts), network_.max_length, network_.device);
  const at::Tensor hidden = network_.forward(tokens, step.generator("dropout"));
  const std::int64_t count = tokens.tokens();
  const at::Tensor both = at::empty({2 * count}, at::kLong);  // next items, then drawn ones
  auto* id = both.mutable_data_ptr<std::int64_t>();
  std::copy(targets.begin(), targets.end(), id);
  std::copy(drawn.begin(), drawn.end(), id + count);
  const at::Tensor vectors = at::embedding(network_.item_vectors, both.to(network_.device));
  return next_item_loss(hidden, vectors.narrow(0, 0, count), vectors.narrow(0, count, count));
}

std::optional<train::Validation> NextItemTraining::validate() {
  if (!valid_) return std::nullopt;
  const auto scorer = network_.freeze();
  const auto values =
      summary(ranks_of(*valid_, *scorer, nullptr, ranking_, threads_, job_), ranking_).values();
  train::Validation validation;
  validation.name = select_;
  validation.selection = values.at(select_);
  Json json = Json::object();
  for (const auto& [name, value] : values) json[name] = value;
  validation.metrics_json = dump_json(json);
  return validation;
}

}  // namespace theriac::sequence
