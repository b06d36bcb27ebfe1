#include "cpp/engine/clinical/augmented_scorer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "cpp/core/base/test_support.h"

namespace theriac::clinical {
namespace {

using ::testing::HasSubstr;
using testing_support::failure_of;

// Remembers what it was asked; one class, whose probability is the share of the past's codes that are there.
class Recorder final : public FrozenScorer {
 public:
  std::int64_t classes() const noexcept override { return 1; }
  void score(std::span<const FrozenVisit> visits, FrozenWorkspace&, std::span<float> probabilities,
             FrozenAttention* attention) const override {
    std::vector<std::vector<std::int32_t>> sets;
    std::size_t past = 0;
    for (const FrozenVisit& visit : visits) {
      for (const auto& set : {visit.diagnoses, visit.procedures, visit.medications})
        sets.emplace_back(set.begin(), set.end());
    }
    for (std::size_t i = 0; i + 3 < sets.size(); ++i) past += sets[i].size();
    seen.push_back(sets);
    probabilities[0] = static_cast<float>(past) / 8;
    if (attention != nullptr) attention->visits.assign(visits.size(), 0.5F);
  }
  mutable std::vector<std::vector<std::vector<std::int32_t>>> seen;
};

struct Patient {
  std::vector<std::int32_t> a{1, 2, 3}, b{4}, c{5, 6}, d{7, 8}, now{9, 10};
  std::vector<FrozenVisit> visits{{a, b, c, {}, {}}, {d, {}, {}, {}, {}}, {now, b, {}, {}, {}}};
};

std::shared_ptr<const augment::Augmenter> augmenter(const char* json) {
  return std::make_shared<const augment::Augmenter>(
      augment::AugmenterOptions::table().parse(parse_json(json, "augmenter")));
}

TEST(AugmentedScorer, LeavesOutCodesOfThePastAlone) {
  const auto recorder = std::make_shared<Recorder>();
  const auto scorer = augmented_scorer(
      recorder, augmenter(R"({"op":"tmask_r","ratio":0.5,"copies":40,"dedup":false})"));
  const Patient patient;
  FrozenWorkspace workspace;
  float probability = -1;
  scorer->score(patient.visits, workspace, {&probability, 1});
  EXPECT_NEAR(probability, 0.5, 1e-6);  // 4 of 8 codes in every copy
  ASSERT_EQ(recorder->seen.size(), 40U);
  std::set<std::vector<std::vector<std::int32_t>>> different;
  const std::vector<std::vector<std::int32_t>> whole{{1, 2, 3}, {4},     {5, 6}, {7, 8}, {},
                                                     {},        {9, 10}, {4},    {}};
  for (const auto& sets : recorder->seen) {
    ASSERT_EQ(sets.size(), 9U);
    for (std::size_t s = 0; s < 9; ++s) {
      EXPECT_TRUE(std::includes(whole[s].begin(), whole[s].end(), sets[s].begin(), sets[s].end()));
    }
    EXPECT_EQ(sets[6], whole[6]);  // the current visit
    EXPECT_EQ(sets[7], whole[7]);
    different.insert(sets);
  }
  EXPECT_GT(different.size(), 20U);
}

TEST(AugmentedScorer, APatientWithoutAPastIsScoredOnce) {
  const auto recorder = std::make_shared<Recorder>();
  const auto scorer = augmented_scorer(recorder, augmenter(R"({"op":"tmask_r"})"));
  const Patient patient;
  FrozenWorkspace workspace;
  float probability = -1;
  scorer->score({&patient.visits[2], 1}, workspace, {&probability, 1});
  EXPECT_EQ(recorder->seen.size(), 1U);
  EXPECT_EQ(probability, 0);
}

TEST(AugmentedScorer, AttentionIsToThePatientAsRecorded) {
  const auto recorder = std::make_shared<Recorder>();
  const auto scorer = augmented_scorer(recorder, augmenter(R"({"op":"tmask_r"})"));
  const Patient patient;
  FrozenWorkspace workspace;
  FrozenAttention attention;
  float probability = -1;
  scorer->score(patient.visits, workspace, {&probability, 1}, &attention);
  EXPECT_EQ(attention.visits.size(), 3U);
  EXPECT_EQ(recorder->seen.front()[0].size(), 3U);
  EXPECT_NEAR(probability, 0.5, 1e-6);
}

TEST(AugmentedScorer, TheSameCodesGetTheSameCopies) {
  FrozenWorkspace workspace;
  std::vector<std::vector<std::vector<std::vector<std::int32_t>>>> seen;
  for (int round = 0; round < 3; ++round) {
    const auto recorder = std::make_shared<Recorder>();
    const auto scorer = augmented_scorer(recorder, augmenter(R"({"op":"tmask_r","dedup":false})"));
    Patient patient;
    if (round == 2) patient.a[0] = 0;  // another patient: other places are left out
    float probability = -1;
    scorer->score(patient.visits, workspace, {&probability, 1});
    for (auto& sets : recorder->seen) {
      for (auto& set : sets) std::replace(set.begin(), set.end(), 0, 1);
    }
    seen.push_back(recorder->seen);
  }
  EXPECT_EQ(seen[0], seen[1]);
  EXPECT_NE(seen[0], seen[2]);
}

TEST(AugmentedScorer, RefusesWhatSetsDoNotHave) {
  for (const char* op : {"reorder", "mask", "tmask_b", "tnoise"}) {
    const std::string json = R"({"op":")" + std::string(op) + "\"}";
    const auto failure = failure_of(
        [&] { augmented_scorer(std::make_shared<Recorder>(), augmenter(json.c_str())); });
    ASSERT_TRUE(failure) << op;
    EXPECT_EQ(failure->code, Code::kUnsupported);
    EXPECT_THAT(failure->message, HasSubstr("tmask_r"));
  }
  EXPECT_TRUE(failure_of([] {
    augmented_scorer(std::make_shared<Recorder>(), augmenter(R"({"op":"tmask_r","shift":1})"));
  }));
}

}  // namespace
}  // namespace theriac::clinical
