#include "cpp/core/data/split.h"

#include <gmock/gmock.h>

#include <set>

#include "cpp/core/base/error.h"
#include "cpp/core/data/test_cohorts.h"

namespace theriac::data {
namespace {

using testing::ElementsAre;

std::vector<std::string> ids(const Cohort& cohort) {
  std::vector<std::string> out;
  for (std::int64_t p = 0; p < cohort.patients(); ++p) out.emplace_back(cohort.patient_id(p));
  return out;
}

std::int64_t last_time(const Cohort& cohort, std::int64_t patient) {
  std::int64_t latest = kNoTime;
  for (auto v = cohort.first_visit(patient); v < cohort.last_visit(patient); ++v) {
    latest = std::max(latest, cohort.visit(v).time);
  }
  return latest;
}

// Nobody is lost, nobody is in two parts, and every patient's visits are those of the parent.
void expect_partition(const Cohort& parent, const SplitParts& parts) {
  std::map<std::string, std::int64_t> positions;
  for (std::int64_t p = 0; p < parent.patients(); ++p)
    positions[std::string(parent.patient_id(p))] = p;
  std::set<std::string> seen;
  for (const Cohort* part : {&parts.train, &parts.valid, &parts.test}) {
    std::int64_t before = -1;
    for (std::int64_t p = 0; p < part->patients(); ++p) {
      const std::string id(part->patient_id(p));
      ASSERT_TRUE(seen.insert(id).second);
      const std::int64_t q = positions.at(id);
      ASSERT_GT(q, before);
      before = q;
      ASSERT_EQ(part->last_visit(p) - part->first_visit(p),
                parent.last_visit(q) - parent.first_visit(q));
      for (std::int64_t i = 0; i < part->last_visit(p) - part->first_visit(p); ++i) {
        const VisitView a = part->visit(part->first_visit(p) + i);
        const VisitView b = parent.visit(parent.first_visit(q) + i);
        ASSERT_EQ(a.id, b.id);
        ASSERT_EQ(a.time, b.time);
        for (int f = 0; f < kFieldCount; ++f) {
          ASSERT_THAT(a.field(static_cast<Field>(f)),
                      testing::ElementsAreArray(b.field(static_cast<Field>(f))));
        }
      }
    }
    for (int f = 0; f < kFieldCount; ++f) {
      ASSERT_EQ(part->vocabulary(static_cast<Field>(f)).fingerprint(),
                parent.vocabulary(static_cast<Field>(f)).fingerprint());
    }
  }
  EXPECT_EQ(seen.size(), positions.size());
}

TEST(Split, EveryWayIsAPartition) {
  for (const char* how : {"patient", "time", "file_order"}) {
    for (const int patients : {0, 1, 2, 3, 10, 97}) {
      SCOPED_TRACE(std::string(how) + " " + std::to_string(patients));
      const Cohort cohort = random_cohort(3, patients);
      for (const auto& [valid, test] : {std::pair{0.1, 0.1}, {0.0, 0.0}, {0.3, 0.7}, {0.0, 0.5}}) {
        expect_partition(cohort, split_cohort(cohort, {how, valid, test, 5}));
      }
    }
  }
}

TEST(Split, FoldsTestEveryPatientOnce) {
  for (const int patients : {2, 7, 38}) {
    const Cohort cohort = random_cohort(4, patients);
    for (const std::int64_t folds : {std::int64_t{2}, static_cast<std::int64_t>(patients)}) {
      std::multiset<std::string> tested;
      for (std::int64_t fold = 0; fold < folds; ++fold) {
        SplitOptions options;
        options.how = "fold", options.folds = folds, options.fold = fold;
        const SplitParts parts = split_cohort(cohort, options);
        expect_partition(cohort, parts);
        EXPECT_EQ(parts.valid.patients(), patients / 10);
        for (const std::string& id : ids(parts.test)) tested.insert(id);
      }
      EXPECT_EQ(tested.size(), static_cast<std::size_t>(patients));
      EXPECT_EQ(std::set<std::string>(tested.begin(), tested.end()).size(), tested.size());
    }
  }
}

TEST(Split, AFoldThatIsNotThereIsRefused) {
  SplitOptions options;
  options.how = "fold", options.folds = 3, options.fold = 3;
  try {
    split_cohort(random_cohort(1, 9), options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    EXPECT_THAT(error.what(), testing::HasSubstr("the last of 3 folds is 2"));
  }
  options.fold = 0;
  EXPECT_THROW(split_cohort(random_cohort(1, 2), options), Error);
}

TEST(Split, SizesAreTruncated) {
  for (const auto& [n, train, valid] :
       {std::tuple{10, 8, 1}, {11, 8, 1}, {38, 30, 4}, {1000, 800, 100}, {1, 0, 0}}) {
    const SplitParts parts = split_cohort(random_cohort(1, n), SplitOptions{});
    EXPECT_EQ(parts.train.patients(), train) << n;
    EXPECT_EQ(parts.valid.patients(), valid) << n;
    EXPECT_EQ(parts.test.patients(), n - train - valid) << n;
  }
}

TEST(Split, SeedDecidesThePatients) {
  const Cohort cohort = random_cohort(2, 60);
  const auto test_ids = [&](std::int64_t seed) {
    return ids(split_cohort(cohort, {"patient", 0.1, 0.2, seed}).test);
  };
  EXPECT_EQ(test_ids(1994), test_ids(1994));
  EXPECT_NE(test_ids(1994), test_ids(3407));
  EXPECT_NE(test_ids(1994), test_ids(-1));
}

TEST(Split, TimePutsTheLatestLast) {
  const Cohort cohort = random_cohort(4, 80);
  const SplitParts parts = split_cohort(cohort, {"time", 0.2, 0.2, 0});
  const auto range = [](const Cohort& part) {
    std::vector<std::int64_t> times;
    for (std::int64_t p = 0; p < part.patients(); ++p) times.push_back(last_time(part, p));
    return std::pair(*std::min_element(times.begin(), times.end()),
                     *std::max_element(times.begin(), times.end()));
  };
  EXPECT_LE(range(parts.train).second, range(parts.valid).first);
  EXPECT_LE(range(parts.valid).second, range(parts.test).first);
  EXPECT_EQ(range(parts.train).first, kNoTime);
}

TEST(Split, FileOrderIsTheBootstrapProtocol) {
  const Cohort cohort = random_cohort(1, 11);
  const SplitParts parts = split_cohort(cohort, {"file_order", 0.1, 0.1, 0});
  // train = int(22 / 3) = 7; rest 4: test first 2, validation the remainder.
  EXPECT_EQ(parts.train.patients(), 7);
  EXPECT_THAT(ids(parts.test), ElementsAre("patient-7", "patient-8"));
  EXPECT_THAT(ids(parts.valid), ElementsAre("patient-9", "patient-10"));
  EXPECT_EQ(split_cohort(random_cohort(1, 12), {"file_order", 0, 0, 0}).test.patients(), 2);
  EXPECT_EQ(split_cohort(random_cohort(1, 4), {"file_order", 0, 0, 0}).valid.patients(), 1);
}

TEST(Split, PartsSayWhereTheyComeFrom) {
  const Cohort cohort = random_cohort(1, 10);
  const SplitParts parts = split_cohort(cohort, SplitOptions{});
  EXPECT_EQ(parts.valid.provenance().at("part_of").at("part"), "valid");
  EXPECT_EQ(parts.valid.provenance().at("part_of").at("parent"), cohort.fingerprint());
  EXPECT_EQ(parts.valid.provenance().at("part_of").at("seed"), 1994);
}

TEST(Split, OptionsAreChecked) {
  const Cohort cohort = random_cohort(1, 10);
  EXPECT_THROW(split_cohort(cohort, {"patients", 0.1, 0.1, 0}), Error);
  EXPECT_THROW(split_cohort(cohort, {"patient", 0.6, 0.6, 0}), Error);
  EXPECT_THROW(split_cohort(cohort, {"patient", -0.1, 0.1, 0}), Error);
  EXPECT_THROW(SplitOptions::table().parse(Json{{"valid", 1.0}}), Error);
  EXPECT_EQ(SplitOptions::table().parse(Json{{"how", "time"}}).how, "time");
}

TEST(SelectPatients, KeepsTheOrderAsked) {
  const Cohort cohort = random_cohort(1, 5);
  EXPECT_THAT(ids(select_patients(cohort, {4, 0, 2})),
              ElementsAre("patient-4", "patient-0", "patient-2"));
  EXPECT_EQ(select_patients(cohort, {}).patients(), 0);
  EXPECT_EQ(select_patients(cohort, {0, 1, 2, 3, 4}).fingerprint(), cohort.fingerprint());
  EXPECT_THROW(select_patients(cohort, {5}), Error);
  EXPECT_THROW(select_patients(cohort, {-1}), Error);
  EXPECT_THROW(select_patients(cohort, {1, 1}), Error);
}

}  // namespace
}  // namespace theriac::data
