#include "cpp/engine/clinical/augmented_scorer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "cpp/core/base/test_support.h"

namespace theriac::clinical {
namespace {

using ::testing::ElementsAre;
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

using Sets = std::vector<std::vector<std::int32_t>>;

// What one copy a time of an operator makes of the patient.
std::vector<Sets> copies_by(const char* json, const SimilarCodeTables& similar = {}) {
  const auto recorder = std::make_shared<Recorder>();
  const auto scorer = augmented_scorer(recorder, augmenter(json), similar);
  const Patient patient;
  FrozenWorkspace workspace;
  float probability = -1;
  scorer->score(patient.visits, workspace, {&probability, 1});
  for (const Sets& sets : recorder->seen) {
    EXPECT_EQ(sets[6], patient.now);  // the current visit
    EXPECT_EQ(sets[7], patient.b);
  }
  return recorder->seen;
}

std::size_t codes_in(const Sets& sets) {
  std::size_t count = 0;
  for (std::size_t s = 0; s < 6; ++s) count += sets[s].size();
  return count;
}

TEST(AugmentedScorer, MaskedCodesAreLeftOut) {
  for (const char* json :
       {R"({"op":"mask","ratio":0.5,"copies":30})", R"({"op":"tmask_b","ratio":0.5,"copies":30})",
        R"({"op":"tmask_b","mask_as":"zero","ratio":0.5,"copies":30})",
        R"({"op":"tmask_b","mask_as":"block","ratio":0.5,"copies":30})"}) {
    const auto copies = copies_by(json);
    EXPECT_GT(copies.size(), 10U) << json;
    for (const Sets& sets : copies) EXPECT_EQ(codes_in(sets), 4U) << json;
  }
}

// Diagnoses 1, 2, 3 of the first visit and 7, 8 of the second change places; nothing else can.
TEST(AugmentedScorer, ReorderedCodesChangeVisits) {
  const auto copies = copies_by(R"({"op":"reorder","ratio":0.99,"copies":60,"dedup":false})");
  std::set<Sets> different;
  for (Sets sets : copies) {
    EXPECT_EQ(sets[1], (std::vector<std::int32_t>{4}));
    EXPECT_THAT(sets[2], ::testing::UnorderedElementsAre(5, 6));
    ASSERT_EQ(sets[0].size(), 3U);
    ASSERT_EQ(sets[3].size(), 2U);
    std::vector<std::int32_t> diagnoses = sets[0];
    diagnoses.insert(diagnoses.end(), sets[3].begin(), sets[3].end());
    EXPECT_THAT(diagnoses, ::testing::UnorderedElementsAre(1, 2, 3, 7, 8));
    std::sort(sets[0].begin(), sets[0].end());
    different.insert({sets[0]});
  }
  EXPECT_GE(different.size(), 3U);
}

// Of the patient's codes: 1 is like 2 and 11, 7 like 12; of procedures 4 like 13. Ids are positions + 1.
SimilarCodeTables some_similar() {
  std::vector<std::int32_t> diagnoses(20 * 2), procedures(20 * 2);
  diagnoses[1 * 2] = 2 + 1;
  diagnoses[1 * 2 + 1] = 11 + 1;
  diagnoses[7 * 2] = 12 + 1;
  procedures[4 * 2] = 13 + 1;
  SimilarCodeTables tables;
  tables.item_cf[0] = std::make_shared<const augment::SimilarityTable>(20, 2, diagnoses);
  tables.item_cf[1] = std::make_shared<const augment::SimilarityTable>(20, 2, procedures);
  return tables;
}

TEST(AugmentedScorer, SubstitutedCodesAreSimilarAndOfTheirKind) {
  const auto copies = copies_by(
      R"({"op":"substitute","similar":"item_cf","ratio":0.99,"copies":40})", some_similar());
  std::set<std::int32_t> procedures, second;
  for (const Sets& sets : copies) {
    // 1 may become 2, which is there already: once.
    EXPECT_THAT(sets[0], ::testing::AnyOf(ElementsAre(1, 2, 3), ElementsAre(2, 3)));
    procedures.insert(sets[1][0]);
    second.insert(sets[3][0]);
    EXPECT_THAT(sets[2], ElementsAre(5, 6));  // nothing is like them
  }
  EXPECT_EQ(procedures, (std::set<std::int32_t>{4, 13}));
  EXPECT_EQ(second, (std::set<std::int32_t>{7, 12}));
}

TEST(AugmentedScorer, InsertedCodesAreSimilarAndStandInTheirVisit) {
  const auto copies =
      copies_by(R"({"op":"insert","similar":"item_cf","ratio":0.13,"inserts":2,"copies":90})",
                some_similar());
  std::set<std::int32_t> first, second;
  for (const Sets& sets : copies) {
    EXPECT_GE(codes_in(sets), 8U);
    first.insert(sets[0].begin(), sets[0].end());
    second.insert(sets[3].begin(), sets[3].end());
    EXPECT_EQ(std::count(sets[0].begin(), sets[0].end(), 2), 1);
  }
  EXPECT_EQ(first, (std::set<std::int32_t>{1, 2, 3, 11}));
  EXPECT_EQ(second, (std::set<std::int32_t>{7, 8, 12}));
}

TEST(AugmentedScorer, RefusesWhatVisitsDoNotHave) {
  struct Case {
    const char *json, *option, *instead;
  };
  for (const Case& one :
       {Case{R"({"op":"tnoise"})", "op", "tmask_r"},
        Case{R"({"op":"mask","mask_id":3})", "mask_id", "0"},
        Case{R"({"op":"substitute","similar":"cosine"})", "similar", "item_cf"},
        Case{R"({"op":"insert","similar":"item_cf_iuf"})", "similar", "fit it again"},
        Case{R"({"op":"tmask_r","shift":1})", "shift", "vector"}}) {
    const auto failure = failure_of([&] {
      augmented_scorer(std::make_shared<Recorder>(), augmenter(one.json), some_similar());
    });
    ASSERT_TRUE(failure) << one.json;
    EXPECT_EQ(failure->code, Code::kUnsupported);
    EXPECT_THAT(failure->message, HasSubstr(std::string("augmenter, ") + one.option));
    EXPECT_THAT(failure->message, HasSubstr(one.instead));
  }
}

}  // namespace
}  // namespace theriac::clinical
