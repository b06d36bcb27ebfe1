#include "cpp/core/data/cohort_policy_apply.h"

#include <gmock/gmock.h>

#include <fstream>

#include "cpp/core/base/error.h"
#include "cpp/core/data/test_cohorts.h"

namespace theriac::data {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

RawVisit visit(std::string id, std::int64_t time, std::vector<codes::MedicalCode> dx,
               std::vector<codes::MedicalCode> px, std::vector<codes::MedicalCode> meds) {
  return {std::move(id), time, std::move(dx), std::move(px), std::move(meds)};
}

// A usable visit with one code of each kind.
RawVisit usable(std::string id, std::int64_t time, std::string dx = "4280") {
  return visit(std::move(id), time, {icd9(std::move(dx))}, {proc9("3893")}, {atc("C03C")});
}

std::vector<std::string> patients(const Cohort& cohort) {
  std::vector<std::string> out;
  for (std::int64_t p = 0; p < cohort.patients(); ++p) out.emplace_back(cohort.patient_id(p));
  return out;
}

std::vector<std::string> visits(const Cohort& cohort) {
  std::vector<std::string> out;
  for (std::int64_t v = 0; v < cohort.visits(); ++v) out.emplace_back(cohort.visit(v).id);
  return out;
}

std::vector<std::string> vocabulary(const Cohort& cohort, Field field) {
  std::vector<std::string> out;
  for (const auto& code : cohort.vocabulary(field).codes()) out.push_back(code.text);
  return out;
}

TEST(IdBefore, NumbersByValueThenText) {
  const std::vector<std::string> ordered = {
      "0",  "00", "1", "2", "9",       "10", "010", "99999999999999999999",
      "-1", "1a", "A", "a", "\xc3\xa9"};
  for (std::size_t i = 0; i < ordered.size(); ++i) {
    for (std::size_t j = 0; j < ordered.size(); ++j) {
      const bool same_number = (i == 5 && j == 6) || (i == 6 && j == 5);
      if (!same_number) {
        EXPECT_EQ(id_before(ordered[i], ordered[j]), i < j) << i << " " << j;
      }
    }
  }
  EXPECT_TRUE(id_before("010", "10"));
  EXPECT_FALSE(id_before("10", "010"));
}

TEST(Accounting, CountsAndSorts) {
  Accounting books;
  books.read("rows", 5);
  books.kept("rows", 2);
  books.dropped("rows", "no code");
  EXPECT_THAT(books.unbalanced(), ElementsAre("rows"));
  books.dropped("rows", "bad date", 2);
  EXPECT_THAT(books.unbalanced(), IsEmpty());
  EXPECT_EQ(books.rows_dropped("rows"), 3);
  EXPECT_EQ(books.rows_dropped("rows", "bad date"), 2);
  EXPECT_EQ(books.rows_dropped("rows", "other"), 0);
  EXPECT_EQ(books.rows_read("nothing"), 0);
  for (int i = 0; i < 12; ++i) {
    for (int n = 0; n <= i / 2; ++n) books.unmapped("ndc", "drug " + std::to_string(10 + i));
  }
  const Json json = books.to_json();
  EXPECT_EQ(json.at("tables").dump(),
            R"({"rows":{"read":5,"kept":2,"dropped":{"bad date":2,"no code":1}}})");
  const Json& ndc = json.at("unmapped").at("ndc");
  EXPECT_EQ(ndc.at("rows"), 42);
  EXPECT_EQ(ndc.at("distinct"), 12);
  ASSERT_EQ(ndc.at("top").size(), 10U);
  EXPECT_EQ(ndc.at("top")[0].dump(), R"({"code":"drug 20","rows":6})");
  EXPECT_EQ(ndc.at("top")[1].at("code"), "drug 21");
  EXPECT_EQ(ndc.at("top")[9].at("code"), "drug 13");
}

TEST(ApplyPolicy, OrdersPatientsAndVisits) {
  Accounting books;
  const Cohort cohort =
      apply_policy({{"x", {usable("1", 5), usable("2", 4)}},
                    {"10", {usable("b", 7), usable("a", 7), usable("0", kNoTime), usable("c", -3)}},
                    {"9", {usable("1", 1), usable("2", 2)}}},
                   CohortPolicy{}, books, Json{{"format", "test"}});
  EXPECT_THAT(patients(cohort), ElementsAre("9", "10", "x"));
  EXPECT_THAT(visits(cohort), ElementsAre("1", "2", "c", "a", "b", "0", "2", "1"));
  EXPECT_EQ(cohort.provenance().at("policy").at("visit_order"), "time");
  EXPECT_EQ(cohort.provenance().at("format"), "test");

  CohortPolicy by_id;
  by_id.visit_order = "visit_id";
  Accounting more;
  const Cohort other = apply_policy({{"1", {usable("9", 1), usable("10", 2)}}}, by_id, more, {});
  EXPECT_THAT(visits(other), ElementsAre("10", "9"));
}

TEST(ApplyPolicy, DropsVisitsAndPatientsAndBalancesTheBooks) {
  Accounting books;
  const Cohort cohort = apply_policy(
      {{"1", {usable("1", 1), usable("2", 2), visit("3", 3, {icd9("1"), icd9("1")}, {}, {})}},
       {"2", {usable("1", 1), visit("2", 2, {icd9("1")}, {proc9("1")}, {})}},
       {"3", {visit("1", 1, {}, {}, {})}}},
      CohortPolicy{}, books, {});
  EXPECT_THAT(patients(cohort), ElementsAre("1"));
  EXPECT_EQ(cohort.visits(), 2);
  EXPECT_THAT(books.unbalanced(), IsEmpty());
  EXPECT_EQ(books.rows_read("cohort visits"), 6);
  EXPECT_EQ(books.rows_kept("cohort visits"), 2);
  EXPECT_EQ(books.rows_dropped("cohort visits", "without procedures, medications"), 1);
  EXPECT_EQ(books.rows_dropped("cohort visits", "without medications"), 1);
  EXPECT_EQ(books.rows_dropped("cohort visits", "without diagnoses, procedures, medications"), 1);
  EXPECT_EQ(books.rows_dropped("cohort visits", "patient dropped"), 1);
  EXPECT_EQ(books.rows_dropped("cohort patients", "fewer usable visits than min_visits"), 1);
  EXPECT_EQ(books.rows_dropped("cohort patients", "no usable visit"), 1);
  EXPECT_EQ(books.rows_dropped("cohort diagnoses", "repeated in the visit"), 1);
  EXPECT_EQ(books.rows_dropped("cohort diagnoses", "visit dropped"), 2);
  EXPECT_EQ(books.rows_dropped("cohort diagnoses", "patient dropped"), 1);
  EXPECT_EQ(cohort.accounting(), books.to_json());
}

TEST(ApplyPolicy, WithoutAllThreeKeepsEveryVisitWithACode) {
  CohortPolicy policy;
  policy.require_all_three = false;
  policy.min_visits = 1;
  Accounting books;
  const Cohort cohort = apply_policy(
      {{"1", {visit("1", 1, {icd9("1")}, {}, {}), visit("2", 2, {}, {}, {})}}}, policy, books, {});
  EXPECT_THAT(visits(cohort), ElementsAre("1"));
  EXPECT_THAT(books.unbalanced(), IsEmpty());
}

TEST(ApplyPolicy, CountsTheFrequentOverAllRows) {
  // "rare" is met twice, but one of these visits is dropped later; "other" is met once.
  CohortPolicy policy;
  policy.top_k_dx = 2;
  Accounting books;
  const Cohort cohort = apply_policy(
      {{"1",
        {usable("1", 1, "4280"),
         visit("2", 2, {icd9("RARE"), icd9("4280"), icd9("OTHER")}, {proc9("1")}, {atc("A02B")})}},
       {"2", {visit("1", 1, {icd9("RARE")}, {}, {})}}},
      policy, books, {});
  EXPECT_THAT(vocabulary(cohort, Field::kDiagnoses), ElementsAre("4280", "RARE"));
  EXPECT_EQ(books.rows_dropped("cohort diagnoses", "not among the top_k_dx most frequent"), 1);
  EXPECT_THAT(books.unbalanced(), IsEmpty());
}

TEST(ApplyPolicy, SetsDoNotDependOnTheOrderOfMedicationsOrOnRepeats) {
  const auto build = [](std::vector<codes::MedicalCode> meds) {
    Accounting books;
    return apply_policy({{"1",
                          {visit("1", 1, {icd9("2"), icd9("1")}, {proc9("1")}, std::move(meds)),
                           usable("2", 2)}}},
                        CohortPolicy{}, books, {})
        .fingerprint();
  };
  EXPECT_EQ(build({atc("A"), atc("B")}), build({atc("B"), atc("A"), atc("B")}));
}

TEST(ApplyPolicy, DiagnosesKeepTheOrderGiven) {
  Accounting books;
  const Cohort cohort = apply_policy(
      {{"1",
        {visit("1", 1, {icd9("2"), icd9("3"), icd9("2"), icd9("1")}, {proc9("1")}, {atc("A")}),
         usable("2", 2)}}},
      CohortPolicy{}, books, {});
  EXPECT_THAT(cohort.visit(0).diagnoses, ElementsAre(1, 2, 0));
}

TEST(ApplyPolicy, RefusesRepeatedPatientsAndVisits) {
  Accounting books;
  EXPECT_THROW(apply_policy({{"1", {usable("1", 1), usable("2", 2)}},
                             {"1", {usable("1", 1), usable("2", 2)}}},
                            CohortPolicy{}, books, {}),
               Error);
  EXPECT_THROW(apply_policy({{"1", {usable("1", 1), usable("1", 2)}}}, CohortPolicy{}, books, {}),
               Error);
}

TEST(ApplyPolicy, NothingInNothingOut) {
  Accounting books;
  EXPECT_EQ(apply_policy({}, CohortPolicy{}, books, {}).patients(), 0);
  EXPECT_THAT(books.unbalanced(), IsEmpty());
}

class UnknownCode : public testing::Test {
 protected:
  UnknownCode() {
    std::ofstream(folder_.path() / "proc.csv")
        << "code,parent\nICD9PROC,\n36,ICD9PROC\n360,36\n3606,360\n";
    policy_.lists.icd9proc = (folder_.path() / "proc.csv").string();
    policy_.min_visits = 1;
  }
  Cohort apply() {
    return apply_policy(
        {{"1",
          {visit("1", 1, {icd9("4280")},
                 {proc9("3601"), proc9("3605"), proc9("3606"), proc9("9999")}, {atc("A02B")})}}},
        policy_, books_, {});
  }
  TestFolder folder_;
  CohortPolicy policy_;
  Accounting books_;
};

TEST_F(UnknownCode, KeepCountsThem) {
  EXPECT_THAT(vocabulary(apply(), Field::kProcedures), ElementsAre("3601", "3605", "3606", "9999"));
  EXPECT_EQ(books_.to_json().at("unmapped").at("icd9proc").at("rows"), 3);
  EXPECT_FALSE(books_.to_json().at("unmapped").contains("icd9cm"));
}

TEST_F(UnknownCode, DropDropsThem) {
  policy_.unknown_code = "drop";
  EXPECT_THAT(vocabulary(apply(), Field::kProcedures), ElementsAre("3606"));
  EXPECT_EQ(books_.rows_dropped("cohort procedures", "not in the official list"), 3);
  EXPECT_THAT(books_.unbalanced(), IsEmpty());
}

TEST_F(UnknownCode, NearestAncestorStandsInOnce) {
  policy_.unknown_code = "nearest_ancestor";
  EXPECT_THAT(vocabulary(apply(), Field::kProcedures), ElementsAre("360", "3606"));
  EXPECT_EQ(books_.rows_dropped("cohort procedures", "repeated in the visit"), 1);
  EXPECT_EQ(books_.rows_dropped("cohort procedures", "not in the official list"), 1);
  EXPECT_THAT(books_.unbalanced(), IsEmpty());
}

TEST_F(UnknownCode, NeedsAList) {
  policy_.lists = {};
  policy_.unknown_code = "drop";
  EXPECT_THROW(apply(), Error);
}

TEST(MedicationClasses, FollowsMedMap) {
  TestFolder folder;
  std::ofstream(folder.path() / "atc.csv") << "rxcui,atc4\n7,N02BA\n7,B01AC\n";
  codes::MapOptions options;
  options.rxcui_atc = (folder.path() / "atc.csv").string();
  const codes::CodeMaps maps = codes::CodeMaps::load(options);
  CohortPolicy policy;
  const codes::MedicalCode aspirin{codes::System::kRxnorm, "7"};
  EXPECT_THAT(medication_classes(maps, aspirin, policy), ElementsAre(atc("B01A"), atc("N02B")));
  policy.med_map = "first";
  EXPECT_THAT(medication_classes(maps, aspirin, policy), ElementsAre(atc("B01A")));
  EXPECT_THAT(medication_classes(maps, {codes::System::kRxnorm, "8"}, policy), IsEmpty());
  EXPECT_THAT(medication_classes(maps, atc("N02BA01"), policy), ElementsAre(atc("N02B")));
}

}  // namespace
}  // namespace theriac::data
