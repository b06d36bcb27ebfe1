#include "cpp/core/generate/sequence_simulator.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <queue>
#include <string>
#include <utility>

#include "cpp/core/base/error.h"

namespace theriac::generate {
namespace {

constexpr std::int64_t kLongestSequence = 10'000;

// When a user comes, and how long they stay at least, as shares of the period.
constexpr double kLatestArrival = 0.75, kShortestStay = 0.1;

SequenceOptions checked(const SequenceOptions& options) {
  const auto& table = SequenceOptions::table();
  table.parse(table.effective_json(options));  // refuses what is out of its own range
  if (options.clusters > options.items) {
    throw Error(Code::kInvalidArgument, "option 'clusters' is " + std::to_string(options.clusters) +
                                            "; expected at most one an item, " +
                                            std::to_string(options.items))
        .at("option", "clusters");
  }
  if (options.mean_length > static_cast<double>(options.items) / 2) {
    throw Error(Code::kInvalidArgument,
                "option 'mean_length' is more than half the number of items; users do not repeat "
                "an item, expected at most " +
                    std::to_string(options.items / 2))
        .at("option", "mean_length");
  }
  return options;
}

std::vector<std::int32_t> shuffled(std::int64_t count, std::int32_t first, std::uint64_t seed,
                                   const char* purpose) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), first);
  Random(seed, purpose).shuffle(order);
  return order;
}

// Increasing moments while the user is there, which need not be the whole period.
std::vector<std::int64_t> draw_times(std::int64_t count, Random& random) {
  const auto period = static_cast<double>(kSequencesSeconds);
  const double arrival = random.uniform(0, kLatestArrival);
  const double stay = random.uniform(kShortestStay, 1 - arrival);
  const auto span = static_cast<std::int64_t>(stay * period) - count;
  std::vector<std::int64_t> times(static_cast<std::size_t>(count));
  for (std::int64_t& time : times) {
    time = kSequencesStart + static_cast<std::int64_t>(arrival * period) +
           static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(span)));
  }
  std::sort(times.begin(), times.end());
  for (std::int64_t i = 0; i < count; ++i) times[static_cast<std::size_t>(i)] += i;  // no two equal
  return times;
}

}  // namespace

// ---- weighted items ----

void WeightedItems::add(std::int32_t item, double weight) {
  items_.push_back(item);
  cumulative_.push_back(this->weight() + weight);
}

std::optional<std::int32_t> WeightedItems::draw(const std::vector<bool>& taken,
                                                Random& random) const {
  // Drawing again is drawing from the rest, and quick while few are taken.
  constexpr int kTries = 32;
  for (int i = 0; i < kTries; ++i) {
    const double at = random.uniform() * weight();
    const auto found = std::upper_bound(cumulative_.begin(), cumulative_.end() - 1, at);
    const std::int32_t item = items_[static_cast<std::size_t>(found - cumulative_.begin())];
    if (!taken[static_cast<std::size_t>(item)]) return item;
  }
  return draw_of_the_rest(taken, random);
}

std::optional<std::int32_t> WeightedItems::draw_of_the_rest(const std::vector<bool>& taken,
                                                            Random& random) const {
  std::vector<std::int32_t> rest;
  std::vector<double> weights;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (taken[static_cast<std::size_t>(items_[i])]) continue;
    rest.push_back(items_[i]);
    weights.push_back(weight_at(i));
  }
  if (rest.empty()) return std::nullopt;
  return rest[random.weighted(weights)];
}

// ---- the chain ----

ItemChain::ItemChain(const SequenceOptions& options)
    : members_(static_cast<std::size_t>(options.clusters)),
      cluster_of_(static_cast<std::size_t>(options.items) + 1, -1) {
  const auto seed = static_cast<std::uint64_t>(options.seed);
  deal(options);
  link(seed);
  drift(seed, options.drift);
}

// The heaviest item that is left goes to the lightest cluster that has room. With clusters of equal
// weight, users who only follow the chain meet items about as often as those who follow popularity.
void ItemChain::deal(const SequenceOptions& options) {
  using Load = std::pair<double, std::int32_t>;  // weight, cluster
  std::priority_queue<Load, std::vector<Load>, std::greater<>> lightest;
  for (std::int32_t c = 0; c < options.clusters; ++c) lightest.emplace(0, c);
  const auto order =
      shuffled(options.items, 1, static_cast<std::uint64_t>(options.seed), "sequences popularity");
  const std::int64_t least = options.items / options.clusters;
  const std::int64_t larger_clusters = options.items % options.clusters;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    const std::int32_t item = order[rank];
    const double weight = std::pow(static_cast<double>(rank + 1), -options.popularity);
    all_.add(item, weight);
    const std::int32_t cluster = lightest.top().second;
    lightest.pop();
    WeightedItems& members = members_[static_cast<std::size_t>(cluster)];
    members.add(item, weight);
    cluster_of_[static_cast<std::size_t>(item)] = cluster;
    const std::int64_t room = least + (cluster < larger_clusters ? 1 : 0);
    if (std::ssize(members.items()) < room) lightest.emplace(members.weight(), cluster);
  }
}

// One ring through all clusters in random order: none is a dead end, none follows itself.
void ItemChain::link(std::uint64_t seed) {
  const auto ring = shuffled(std::ssize(members_), 0, seed, "sequences chain");
  successor_.resize(ring.size());
  for (std::size_t i = 0; i < ring.size(); ++i)
    successor_[static_cast<std::size_t>(ring[i])] = ring[(i + 1) % ring.size()];
}

// The clusters that change pass their successors round, so that each cluster still follows one.
void ItemChain::drift(std::uint64_t seed, double share) {
  drifted_ = successor_;
  const auto order = shuffled(std::ssize(members_), 0, seed, "sequences drift");
  const auto count =
      static_cast<std::size_t>(std::lround(share * static_cast<double>(order.size())));
  const auto successor = [&](std::size_t i) {
    return successor_[static_cast<std::size_t>(order[i % count])];
  };
  for (std::size_t i = 0; i < count; ++i)
    drifted_[static_cast<std::size_t>(order[i])] = successor(i + 1);
  if (count == 1)  // nobody to exchange with: one cluster of the ring is left out
    drifted_[static_cast<std::size_t>(order[0])] =
        successor_[static_cast<std::size_t>(successor(0))];
}

std::int32_t ItemChain::successor(std::int32_t cluster, std::int64_t time) const {
  const bool later = time >= kSequencesStart + kSequencesSeconds / 2;
  return (later ? drifted_ : successor_)[static_cast<std::size_t>(cluster)];
}

// ---- users ----

SequenceSimulator::SequenceSimulator(const SequenceOptions& options)
    : options_(checked(options)),
      chain_(options_),
      taken_(static_cast<std::size_t>(options_.items) + 1) {}

// The shortest length and a geometric rest.
std::int64_t SequenceSimulator::draw_length(Random& random) const {
  const double rest = options_.mean_length - static_cast<double>(kShortestSequence);
  const std::int64_t longest = std::min(options_.items, kLongestSequence);
  if (rest == 0) return kShortestSequence;
  const double extra = std::floor(std::log1p(-random.uniform()) / std::log(rest / (1 + rest)));
  return std::min(longest, kShortestSequence + static_cast<std::int64_t>(extra));
}

std::int32_t SequenceSimulator::next_item(std::int32_t previous, std::int64_t time,
                                          Random& random) const {
  if (previous != 0 && random.chance(options_.stickiness)) {
    const std::int32_t cluster = chain_.successor(chain_.cluster_of(previous), time);
    if (const auto item = chain_.members(cluster).draw(taken_, random)) return *item;
  }
  return chain_.all().draw(taken_, random).value();  // a sequence is no longer than the list
}

UserSequence SequenceSimulator::user(std::int64_t index) {
  Random random(static_cast<std::uint64_t>(options_.seed), "sequences user",
                static_cast<std::uint64_t>(index));
  UserSequence out;
  out.times = draw_times(draw_length(random), random);
  for (const std::int64_t time : out.times) {
    const std::int32_t previous = out.items.empty() ? 0 : out.items.back();
    out.items.push_back(next_item(previous, time, random));
    taken_[static_cast<std::size_t>(out.items.back())] = true;
  }
  for (const std::int32_t item : out.items) taken_[static_cast<std::size_t>(item)] = false;
  return out;
}

}  // namespace theriac::generate
