#include "cpp/core/generate/sequences.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <sstream>

#include "cpp/core/base/csv.h"
#include "cpp/core/base/file.h"
#include "cpp/core/base/test_support.h"
#include "cpp/core/generate/sequence_simulator.h"

namespace theriac::generate {
namespace {

using ::testing::HasSubstr;
using testing_support::detail;
using testing_support::failure_of;
using testing_support::ScratchFolder;

constexpr std::int64_t kHalfWay = kSequencesStart + kSequencesSeconds / 2;

SequenceOptions with(std::int64_t users, std::int64_t items, std::int64_t clusters) {
  SequenceOptions options;
  options.users = users;
  options.items = items;
  options.clusters = clusters;
  return options;
}

std::vector<UserSequence> simulated(const SequenceOptions& options) {
  SequenceSimulator simulator(options);
  std::vector<UserSequence> out;
  for (std::int64_t user = 0; user < options.users; ++user) out.push_back(simulator.user(user));
  return out;
}

double mean_length(const std::vector<UserSequence>& users) {
  std::size_t items = 0;
  for (const UserSequence& user : users) items += user.items.size();
  return static_cast<double>(items) / static_cast<double>(users.size());
}

double share(std::int64_t part, std::int64_t whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}

void expect_well_formed(const UserSequence& user, std::int64_t items) {
  ASSERT_GE(std::ssize(user.items), kShortestSequence);
  ASSERT_EQ(user.items.size(), user.times.size());
  const std::set<std::int32_t> distinct(user.items.begin(), user.items.end());
  EXPECT_EQ(distinct.size(), user.items.size());
  EXPECT_GE(*distinct.begin(), 1);
  EXPECT_LE(*distinct.rbegin(), items);
  EXPECT_GE(user.times.front(), kSequencesStart);
  EXPECT_LT(user.times.back(), kSequencesStart + kSequencesSeconds);
  for (std::size_t i = 1; i < user.times.size(); ++i) EXPECT_LT(user.times[i - 1], user.times[i]);
}

// ---- users ----

TEST(SimulatedUsers, AreWellFormedAtEveryCornerOfTheOptions) {
  std::vector<SequenceOptions> corners = {with(300, 500, 20), with(100, 10, 1), with(100, 10, 10),
                                          with(20, 50, 7)};
  corners[1].mean_length = 5;  // many users take every item there is
  corners[2].mean_length = 5;
  corners[3].mean_length = 25;
  for (SequenceOptions options : corners) {
    for (const double stickiness : {0.0, 0.7, 1.0}) {
      for (const double popularity : {0.0, 0.8, 4.0}) {
        options.stickiness = stickiness;
        options.popularity = popularity;
        for (const UserSequence& user : simulated(options)) expect_well_formed(user, options.items);
      }
    }
  }
}

// Among so many moments, some would be equal.
TEST(SimulatedUsers, AreWellFormedWithLongSequences) {
  SequenceOptions options = with(200, 3'000, 7);
  options.mean_length = 1'000;
  options.popularity = 0;
  for (const UserSequence& user : simulated(options)) expect_well_formed(user, options.items);
}

TEST(SimulatedUsers, HaveTheStatedLengthOnAverage) {
  for (const double expected : {5.0, 9.0, 30.0}) {
    SequenceOptions options = with(4'000, 500, 20);
    options.mean_length = expected;
    EXPECT_NEAR(mean_length(simulated(options)), expected, 0.05 * (expected - 5)) << expected;
  }
}

TEST(SimulatedUsers, ComeAndGoWithinThePeriod) {
  std::int64_t only_early = 0, only_late = 0, both = 0;
  for (const UserSequence& user : simulated(with(500, 500, 20))) {
    const bool early = user.times.front() < kHalfWay, late = user.times.back() >= kHalfWay;
    ++(early && late ? both : early ? only_early : only_late);
  }
  EXPECT_GT(only_early, 25);
  EXPECT_GT(only_late, 25);
  EXPECT_GT(both, 25);
}

TEST(SimulatedUsers, AreFunctionsOfOptionsAndIndex) {
  const SequenceOptions options = with(50, 500, 20);
  const auto users = simulated(options);
  SequenceSimulator again(options);
  for (const std::int64_t user : {31, 0, 31}) {
    EXPECT_EQ(again.user(user).items, users[static_cast<std::size_t>(user)].items);
    EXPECT_EQ(again.user(user).times, users[static_cast<std::size_t>(user)].times);
  }
}

// ---- popularity ----

// Also when nearly all the weight is taken, so that drawing again would take for ever.
TEST(Popularity, DecidesAmongTheRest) {
  WeightedItems items;
  items.add(1, 1e6);
  items.add(2, 1);
  items.add(3, 3);
  Random random(1, "rest");
  std::int64_t threes = 0;
  for (int i = 0; i < 4'000; ++i) {
    const auto drawn = items.draw({false, true, false, false}, random);
    ASSERT_TRUE(drawn == 2 || drawn == 3);
    threes += drawn == 3 ? 1 : 0;
  }
  EXPECT_NEAR(share(threes, 4'000), 0.75, 0.03);
  EXPECT_EQ(items.draw({false, true, true, true}, random), std::nullopt);
}

// First items are drawn by popularity alone.
TEST(Popularity, FollowsThePowerLaw) {
  for (const double exponent : {0.0, 0.8, 1.5}) {
    SequenceOptions options = with(10'000, 200, 20);
    options.popularity = exponent;
    options.mean_length = 5;
    const auto users = simulated(options);
    std::vector<std::int64_t> count(201);
    for (const UserSequence& user : users) ++count[static_cast<std::size_t>(user.items[0])];
    const std::vector<std::int32_t> ranking = SequenceSimulator(options).chain().all().items();
    ASSERT_EQ(ranking.size(), 200U);
    double total = 0, weight = 0;
    for (int rank = 1; rank <= 200; ++rank) total += std::pow(rank, -exponent);
    std::int64_t drawn = 0;
    for (int rank = 1; rank <= 200; ++rank) {
      weight += std::pow(rank, -exponent) / total;
      drawn += count[static_cast<std::size_t>(ranking[static_cast<std::size_t>(rank - 1)])];
      EXPECT_NEAR(share(drawn, options.users), weight, 0.02) << exponent << ", rank " << rank;
    }
  }
}

// Slope of log count over log rank, of the more popular half.
double slope_of(std::vector<double> counts) {
  std::sort(counts.rbegin(), counts.rend());
  double n = 0, x = 0, y = 0, xx = 0, xy = 0;
  for (std::size_t i = 0; i < counts.size() / 2; ++i) {
    const double lx = std::log(static_cast<double>(i + 1)), ly = std::log(counts[i]);
    n += 1, x += lx, y += ly, xx += lx * lx, xy += lx * ly;
  }
  return (n * xy - x * y) / (n * xx - x * x);
}

// Users who follow the chain meet items nearly as often as popularity says.
TEST(Popularity, OutlastsTheChain) {
  for (const double exponent : {0.4, 0.8}) {
    SequenceOptions options = with(5'000, 500, 20);
    options.popularity = exponent;
    std::vector<double> counts(501);
    for (const UserSequence& user : simulated(options))
      for (const std::int32_t item : user.items) counts[static_cast<std::size_t>(item)] += 1;
    counts.erase(counts.begin());
    EXPECT_NEAR(slope_of(counts), -exponent, 0.12) << exponent;
  }
}

TEST(Popularity, IsNotInTheNumberOfAnItem) {
  const std::vector<std::int32_t> ranking =
      SequenceSimulator(with(1, 500, 20)).chain().all().items();
  EXPECT_FALSE(std::is_sorted(ranking.begin(), ranking.end()));
  std::vector<std::int32_t> sorted = ranking;
  std::sort(sorted.begin(), sorted.end());
  for (std::int32_t item = 1; item <= 500; ++item)
    ASSERT_EQ(sorted[static_cast<std::size_t>(item - 1)], item);
}

TEST(Clusters, AreEqualInSizeAndNearlyInWeight) {
  const SequenceOptions options = with(1, 503, 20);
  const SequenceSimulator simulator(options);
  const ItemChain& chain = simulator.chain();
  std::vector<std::int64_t> sizes;
  double least = 1e9, most = 0;
  for (std::int32_t c = 0; c < 20; ++c) {
    const WeightedItems& members = chain.members(c);
    sizes.push_back(std::ssize(members.items()));
    for (const std::int32_t item : members.items()) EXPECT_EQ(chain.cluster_of(item), c);
    least = std::min(least, members.weight());
    most = std::max(most, members.weight());
  }
  EXPECT_EQ(std::count(sizes.begin(), sizes.end(), 26), 3);
  EXPECT_EQ(std::count(sizes.begin(), sizes.end(), 25), 17);
  EXPECT_LT(most, 2 * least);  // the most popular item alone outweighs an average cluster
}

// ---- the chain ----

// How often the next item is in the cluster where the chain leads, by the chain of a given moment.
struct Steps {
  std::int64_t steps = 0, followed = 0;
  double rate() const { return share(followed, steps); }
  void add(const ItemChain& chain, const UserSequence& user, std::size_t i, std::int64_t moment) {
    ++steps;
    const std::int32_t from = chain.cluster_of(user.items[i - 1]);
    followed += chain.cluster_of(user.items[i]) == chain.successor(from, moment) ? 1 : 0;
  }
};

TEST(Chain, IsFollowedWithTheStatedStickiness) {
  for (const double stickiness : {0.0, 0.3, 0.7, 1.0}) {
    SequenceOptions options = with(2'000, 500, 20);
    options.stickiness = stickiness;
    const SequenceSimulator simulator(options);
    Steps steps;
    for (const UserSequence& user : simulated(options)) {
      for (std::size_t i = 1; i < user.items.size(); ++i)
        steps.add(simulator.chain(), user, i, user.times[i]);
    }
    ASSERT_GT(steps.steps, 10'000);
    const double by_chance = (1 - stickiness) / 20;  // popularity leads there too
    EXPECT_NEAR(steps.rate(), stickiness + by_chance, 0.015) << stickiness;
  }
}

std::vector<std::int32_t> successors(const ItemChain& chain, std::int32_t clusters,
                                     std::int64_t time) {
  std::vector<std::int32_t> out(static_cast<std::size_t>(clusters));
  for (std::int32_t c = 0; c < clusters; ++c)
    out[static_cast<std::size_t>(c)] = chain.successor(c, time);
  return out;
}

TEST(Chain, IsOneRing) {
  for (const std::int32_t clusters : {1, 2, 20}) {
    const SequenceSimulator simulator(with(1, 500, clusters));
    std::set<std::int32_t> visited;
    std::int32_t at = 0;
    for (std::int32_t i = 0; i < clusters; ++i) {
      visited.insert(at);
      at = simulator.chain().successor(at, kSequencesStart);
    }
    EXPECT_EQ(std::ssize(visited), clusters);
    EXPECT_EQ(at, 0);
  }
}

TEST(Chain, ChangesHalfWayForTheStatedShareOfClusters) {
  for (const auto& [drift, changed] :
       std::vector<std::pair<double, std::int64_t>>{{0, 0}, {.05, 1}, {.1, 2}, {.2, 4}, {1, 20}}) {
    SequenceOptions options = with(1, 500, 20);
    options.drift = drift;
    const SequenceSimulator simulator(options);
    const auto before = successors(simulator.chain(), 20, kHalfWay - 1);
    const auto after = successors(simulator.chain(), 20, kHalfWay);
    EXPECT_EQ(before, successors(simulator.chain(), 20, kSequencesStart));
    EXPECT_EQ(after, successors(simulator.chain(), 20, kSequencesStart + kSequencesSeconds));
    std::int64_t different = 0;
    for (std::size_t c = 0; c < 20; ++c) different += before[c] == after[c] ? 0 : 1;
    EXPECT_EQ(different, changed) << drift;
    const std::set<std::int32_t> reached(after.begin(), after.end());
    EXPECT_EQ(reached.size(), changed == 1 ? 19U : 20U);
  }
}

TEST(Chain, UsersFollowTheChangedOneInTheSecondHalf) {
  SequenceOptions options = with(2'000, 500, 20);
  options.drift = 0.5;
  const SequenceSimulator simulator(options);
  const ItemChain& chain = simulator.chain();
  Steps old_before, old_after, new_after;  // steps from clusters that change
  for (const UserSequence& user : simulated(options)) {
    for (std::size_t i = 1; i < user.items.size(); ++i) {
      const std::int32_t from = chain.cluster_of(user.items[i - 1]);
      if (chain.successor(from, kHalfWay - 1) == chain.successor(from, kHalfWay)) continue;
      const bool before = user.times[i] < kHalfWay;
      (before ? old_before : old_after).add(chain, user, i, kSequencesStart);
      if (!before) new_after.add(chain, user, i, kHalfWay);
    }
  }
  ASSERT_GT(old_before.steps, 2'000);
  ASSERT_GT(new_after.steps, 2'000);
  EXPECT_NEAR(old_before.rate(), 0.715, 0.03);
  EXPECT_NEAR(new_after.rate(), 0.715, 0.03);
  EXPECT_LT(old_after.rate(), 0.05);
}

// ---- data sets ----

TEST(GeneratedSequences, HoldWhatWasSimulated) {
  const SequenceOptions options = with(60, 500, 20);
  const data::Sequences sequences = generate_sequences(options);
  const auto users = simulated(options);
  ASSERT_EQ(sequences.users(), 60);
  ASSERT_EQ(sequences.items(), 500);
  EXPECT_TRUE(sequences.timed());
  std::size_t first = 0;
  for (std::int64_t user = 0; user < 60; ++user) {
    const UserSequence& expected = users[static_cast<std::size_t>(user)];
    const auto items = sequences.of(user);
    EXPECT_TRUE(
        std::equal(items.begin(), items.end(), expected.items.begin(), expected.items.end()));
    const auto times = std::span(sequences.columns().times).subspan(first, items.size());
    EXPECT_TRUE(std::equal(times.begin(), times.end(), expected.times.begin()));
    first += items.size();
  }
  EXPECT_EQ(std::ssize(sequences.columns().ids), static_cast<std::int64_t>(first));
  EXPECT_EQ(sequences.user_names().text(0), "1");
  EXPECT_EQ(sequences.item_names().number(499), 500);
  EXPECT_EQ(sequences.provenance()["generator"], "sequences");
  EXPECT_EQ(sequences.provenance()["options"]["clusters"], 20);
}

TEST(GeneratedSequences, DependOnOptionsAlone) {
  const SequenceOptions options = with(60, 500, 20);
  const std::string expected = generate_sequences(options).fingerprint();
  EXPECT_EQ(generate_sequences(options).fingerprint(), expected);
  for (const char* changed : {"seed=2", "stickiness=0.8", "popularity=0.9", "drift=0.6",
                              "mean_length=10", "clusters=21"}) {
    SequenceOptions other = options;
    SequenceOptions::table().update(other, json_from_settings({changed}));
    EXPECT_NE(generate_sequences(other).fingerprint(), expected) << changed;
  }
}

// ---- files ----

std::string written(const SequenceOptions& options) {
  const ScratchFolder folder;
  Job job;
  write_sequences(folder / "out", options, job);
  return read_file(folder / "out");
}

TEST(SequenceFiles, SameOptionsSameBytes) {
  for (const char* format : {"lines", "csv"}) {
    SequenceOptions options = with(40, 500, 20);
    options.format = format;
    const std::string bytes = written(options);
    EXPECT_EQ(written(options), bytes);
    SequenceOptions more = options;
    more.users = 50;
    EXPECT_EQ(written(more).substr(0, bytes.size()), bytes) << "more users extend the file";
    options.seed = 2;
    EXPECT_NE(written(options), bytes);
  }
}

TEST(SequenceFiles, LinesHoldTheGeneratedItems) {
  const SequenceOptions options = with(40, 500, 20);
  const data::Sequences sequences = generate_sequences(options);
  std::string expected;
  for (std::int64_t user = 0; user < 40; ++user) {
    expected += std::to_string(user + 1);
    for (const std::int32_t item : sequences.of(user)) expected += " " + std::to_string(item);
    expected += "\n";
  }
  EXPECT_EQ(written(options), expected);
}

TEST(SequenceFiles, TablesHoldTheGeneratedItemsAndTimes) {
  SequenceOptions options = with(40, 500, 20);
  options.format = "csv";
  const data::Sequences sequences = generate_sequences(options);
  const std::string bytes = written(options);
  CsvReader csv(memory_source(bytes, "out"));
  EXPECT_THAT(csv.header(), ::testing::ElementsAre("user", "item", "time"));
  std::size_t row = 0;
  for (std::int64_t user = 0; user < 40; ++user) {
    for (const std::int32_t item : sequences.of(user)) {
      ASSERT_TRUE(csv.next());
      EXPECT_EQ(csv.field(0), std::to_string(user + 1));
      EXPECT_EQ(csv.field(1), std::to_string(item));
      EXPECT_EQ(csv.field(2), std::to_string(sequences.columns().times[row++]));
    }
  }
  EXPECT_FALSE(csv.next());
}

TEST(SequenceFiles, AStoppedOneLeavesTheOldFile) {
  const ScratchFolder folder;
  replace_file(folder / "out", "old");
  int calls = 0;
  Job job([&](std::string_view, std::uint64_t, std::uint64_t,
              std::string_view) { return ++calls == 10 ? Verdict::kCancel : Verdict::kContinue; },
          nullptr, std::chrono::milliseconds(0));
  const auto failure = failure_of([&] { write_sequences(folder / "out", with(40, 500, 20), job); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kCancelled);
  EXPECT_EQ(read_file(folder / "out"), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

// ---- options ----

TEST(SequenceOptionsTable, ValuesOutOfRangeAreErrors) {
  for (const char* setting :
       {"users=0", "items=9", "clusters=0", "clusters=501", "mean_length=4.9", "mean_length=251",
        "stickiness=1.1", "stickiness=-0.1", "popularity=-1", "drift=2", "seed=-1", "format=xml"}) {
    SequenceOptions options;
    const auto failure = failure_of([&] {
      SequenceOptions::table().update(options, json_from_settings({setting}));
      generate_sequences(options);
    });
    ASSERT_TRUE(failure) << setting;
    EXPECT_EQ(failure->code, Code::kInvalidArgument) << setting;
    const std::string option = std::string(setting).substr(0, std::string(setting).find('='));
    EXPECT_EQ(detail(*failure, "option"), option) << failure->message;
  }
}

// Also when no table has checked them.
TEST(SequenceOptionsTable, AStructOutOfRangeIsAnError) {
  SequenceOptions options;
  options.stickiness = std::nan("");
  EXPECT_TRUE(failure_of([&] { generate_sequences(options); }));
  options = {};
  options.users = 0;
  EXPECT_TRUE(failure_of([&] { generate_sequences(options); }));
  options = {};
  options.format = "xml";
  Job job;
  const ScratchFolder folder;
  const auto failure = failure_of([&] { write_sequences(folder / "out", options, job); });
  ASSERT_TRUE(failure);
  EXPECT_THAT(failure->message, HasSubstr("format"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace theriac::generate
