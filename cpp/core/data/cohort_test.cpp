#include "cpp/core/data/cohort.h"

#include <gmock/gmock.h>

#include "cpp/core/base/error.h"
#include "cpp/core/data/test_cohorts.h"

namespace theriac::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::vector<std::string> texts(const Cohort& cohort, Field field, std::int64_t visit) {
  std::vector<std::string> out;
  const VisitView view = cohort.visit(visit);
  for (const std::int32_t id : view.field(field)) {
    out.push_back(cohort.vocabulary(field).code(id).text);
  }
  return out;
}

std::string error_of(CohortColumns columns) {
  try {
    Cohort cohort(std::move(columns));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kDataError);
    return error.what();
  }
  return "no error";
}

TEST(Vocabulary, FindsByPosition) {
  const Vocabulary vocabulary({icd9("4280"), icd10("4280"), icd9("0010")});
  EXPECT_EQ(vocabulary.size(), 3);
  EXPECT_EQ(vocabulary.find(icd10("4280")), 1);
  EXPECT_EQ(vocabulary.find(proc9("4280")), -1);
  EXPECT_EQ(vocabulary.code(2), icd9("0010"));
}

TEST(Vocabulary, FingerprintKnowsOrderAndSystem) {
  const std::string one = Vocabulary({icd9("1"), icd9("2")}).fingerprint();
  EXPECT_EQ(one.size(), 32U);
  EXPECT_EQ(one, Vocabulary({icd9("1"), icd9("2")}).fingerprint());
  EXPECT_NE(one, Vocabulary({icd9("2"), icd9("1")}).fingerprint());
  EXPECT_NE(one, Vocabulary({icd9("1"), icd10("2")}).fingerprint());
  EXPECT_NE(one, Vocabulary({icd9("12")}).fingerprint());
}

TEST(Vocabulary, RefusesBadCodes) {
  EXPECT_THROW(Vocabulary({icd9("1"), icd9("1")}), Error);
  EXPECT_THROW(Vocabulary({icd9("")}), Error);
  EXPECT_THROW(Vocabulary({icd9("\xff")}), Error);
}

TEST(Cohort, HoldsWhatTheBuilderWasGiven) {
  const Cohort cohort = small_cohort();
  ASSERT_EQ(cohort.patients(), 2);
  ASSERT_EQ(cohort.visits(), 3);
  EXPECT_EQ(cohort.patient_id(0), "7");
  EXPECT_EQ(cohort.first_visit(1), 2);
  EXPECT_EQ(cohort.last_visit(1), 3);
  EXPECT_EQ(cohort.visit(0).id, "71");
  EXPECT_EQ(cohort.visit(2).time, kNoTime);
  EXPECT_THAT(texts(cohort, Field::kDiagnoses, 0), ElementsAre("4280", "25001"));
  EXPECT_THAT(texts(cohort, Field::kMedications, 0), ElementsAre("C03C", "A02B"));
  EXPECT_THAT(texts(cohort, Field::kProcedures, 1), ElementsAre());
  EXPECT_EQ(cohort.provenance().at("format"), "test");
}

TEST(Cohort, VocabularyIsSortedBySystemThenText) {
  const Cohort cohort = small_cohort();
  EXPECT_THAT(cohort.vocabulary(Field::kDiagnoses).codes(),
              ElementsAre(icd9("25001"), icd9("4280"), icd10("I5021")));
}

TEST(Cohort, RepeatsWithinAVisitChangeNothing) {
  const auto build = [](const std::vector<codes::MedicalCode>& diagnoses) {
    CohortBuilder builder;
    builder.begin_patient("1");
    builder.add_visit("1", 0, diagnoses, {}, {});
    builder.add_visit("2", 1, diagnoses, {}, {});
    return std::move(builder).finish();
  };
  const Cohort once = build({icd9("2"), icd9("1")});
  EXPECT_EQ(once.fingerprint(), build({icd9("2"), icd9("2"), icd9("1"), icd9("2")}).fingerprint());
  EXPECT_EQ(once.ids(Field::kDiagnoses).size(), 4U);
}

TEST(Cohort, FingerprintCoversContentButNotDocuments) {
  const auto changed = [](auto change) {
    CohortColumns columns = small_cohort().columns();
    change(columns);
    return Cohort(std::move(columns)).fingerprint();
  };
  const std::string print = small_cohort().fingerprint();
  EXPECT_EQ(print, changed([](CohortColumns& c) { c.accounting["more"] = 1; }));
  EXPECT_EQ(print, changed([](CohortColumns& c) { c.provenance = Json::object(); }));
  EXPECT_NE(print, changed([](CohortColumns& c) { c.patient_ids[0] = "8"; }));
  EXPECT_NE(print, changed([](CohortColumns& c) { c.visit_ids[0] = "70"; }));
  EXPECT_NE(print, changed([](CohortColumns& c) { c.times[0] += 1; }));
  EXPECT_NE(print, changed([](CohortColumns& c) { c.ids[0][0] = 2; }));
  EXPECT_NE(print, changed([](CohortColumns& c) { c.patient_offsets[1] = 1; }));
  EXPECT_NE(print, changed([](CohortColumns& c) {
              c.vocabularies[2] = Vocabulary({atc("A02B"), atc("C03C"), atc("Z99Z")});
            }));
}

TEST(Cohort, RefusesColumnsThatContradictEachOther) {
  const auto broken = [](auto change) {
    CohortColumns columns = small_cohort().columns();
    change(columns);
    return error_of(std::move(columns));
  };
  EXPECT_THAT(broken([](CohortColumns& c) { c.patient_offsets.pop_back(); }),
              HasSubstr("patient_offsets"));
  EXPECT_THAT(broken([](CohortColumns& c) {
                c.patient_offsets = {0, 3, 2};
              }),
              HasSubstr("from 0 to 3"));
  EXPECT_THAT(broken([](CohortColumns& c) { c.patient_offsets = {}; }), HasSubstr("expected 3"));
  EXPECT_THAT(broken([](CohortColumns& c) { c.patient_ids[1] = "7"; }), HasSubstr("repeats"));
  EXPECT_THAT(broken([](CohortColumns& c) { c.patient_ids[1] = ""; }), HasSubstr("empty"));
  EXPECT_THAT(broken([](CohortColumns& c) { c.patient_ids[1] = "\xc3("; }), HasSubstr("UTF-8"));
  EXPECT_THAT(broken([](CohortColumns& c) { c.visit_ids[1] = "71"; }), HasSubstr("visit_ids"));
  EXPECT_THAT(broken([](CohortColumns& c) { c.visit_ids[1] = "\x80"; }), HasSubstr("UTF-8"));
  EXPECT_THAT(broken([](CohortColumns& c) { c.times.pop_back(); }), HasSubstr("times"));
  EXPECT_THAT(broken([](CohortColumns& c) { c.times[0] = kLastTime + 1; }), HasSubstr("years"));
  EXPECT_THAT(broken([](CohortColumns& c) {
                c.offsets[0] = {0, 3, 2, 4};
              }),
              HasSubstr("falls at entry 2"));
  EXPECT_THAT(broken([](CohortColumns& c) { c.offsets[1][0] = -1; }),
              HasSubstr("procedures.offsets"));
  EXPECT_THAT(broken([](CohortColumns& c) { c.ids[0][0] = 3; }),
              HasSubstr("outside its vocabulary"));
  EXPECT_THAT(broken([](CohortColumns& c) { c.ids[0][0] = -1; }),
              HasSubstr("outside its vocabulary"));
  EXPECT_THAT(broken([](CohortColumns& c) { c.ids[0][0] = c.ids[0][1]; }),
              HasSubstr("repeats a code"));
}

TEST(CohortBuilder, RefusesWrongUse) {
  CohortBuilder builder;
  EXPECT_THROW(builder.add_visit("1", 0, {}, {}, {}), Error);
  EXPECT_THROW(builder.begin_patient(""), Error);
  builder.begin_patient("secret-id");
  try {
    builder.begin_patient("secret-id");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kDataError);
    EXPECT_THAT(error.what(), Not(HasSubstr("secret-id")));
  }
  EXPECT_THROW(builder.add_visit("1", 0, {icd9("")}, {}, {}), Error);
}

TEST(CohortBuilder, FixedVocabulariesKeepIdsAndRefuseOthers) {
  CohortBuilder builder(Vocabulary({icd9("9"), icd9("1")}), Vocabulary(),
                        Vocabulary({atc("B01A")}));
  builder.begin_patient("1");
  builder.add_visit("1", 0, {icd9("1"), icd9("1")}, {}, {});
  EXPECT_THROW(builder.add_visit("2", 0, {icd9("2")}, {}, {}), Error);
  CohortBuilder other(Vocabulary({icd9("9"), icd9("1")}), Vocabulary(), Vocabulary({atc("B01A")}));
  other.begin_patient("1");
  other.add_visit("1", 0, {icd9("1"), icd9("1")}, {}, {});
  const Cohort cohort = std::move(other).finish();
  EXPECT_THAT(cohort.ids(Field::kDiagnoses), ElementsAre(1));
  EXPECT_EQ(cohort.vocabulary(Field::kMedications).size(), 1);
}

TEST(CohortBuilder, EmptyCohortIsACohort) {
  const Cohort cohort = CohortBuilder().finish();
  EXPECT_EQ(cohort.patients(), 0);
  EXPECT_EQ(cohort.visits(), 0);
  EXPECT_EQ(cohort.fingerprint().size(), 32U);
}

}  // namespace
}  // namespace theriac::data
