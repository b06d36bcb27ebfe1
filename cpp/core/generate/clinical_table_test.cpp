#include "cpp/core/generate/clinical_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>
#include <string>

#include "cpp/core/codes/hierarchy.h"
#include "cpp/core/generate/clinical_index.h"
#include "cpp/core/generate/official_lists_for_test.h"

namespace theriac::generate {
namespace {

std::vector<Condition> all_conditions() {
  std::vector<Condition> all = chronic_conditions();
  all.insert(all.end(), acute_conditions().begin(), acute_conditions().end());
  return all;
}

void each_treatment(const std::function<void(const Treatment&)>& visit) {
  for (const auto& condition : all_conditions()) {
    for (const auto& treatment : condition.treatments) visit(treatment);
  }
  for (const auto& procedure : procedures()) {
    for (const auto& treatment : procedure.treatments) visit(treatment);
  }
  for (const auto& routine : routines()) visit(routine.treatment);
}

// Writers put names into JSON and CSV as they are.
bool plain(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c >= ' ' && c < 127 && c != '"' && c != '\\';
  });
}

std::set<std::string> missing(const std::vector<CodeList>& families,
                              const std::set<std::string>& listed) {
  std::set<std::string> absent;
  for (const CodeList& family : families) {
    for (const auto code : family) {
      if (!listed.contains(std::string(code))) absent.emplace(code);
    }
  }
  return absent;
}

TEST(ClinicalTable, EveryNameIsPlainAndUnique) {
  std::set<std::string_view> names;
  for (const auto& condition : all_conditions()) {
    EXPECT_TRUE(plain(condition.name)) << condition.name;
    EXPECT_TRUE(names.insert(condition.name).second) << condition.name;
  }
  for (const auto& procedure : procedures()) {
    EXPECT_TRUE(plain(procedure.name)) << procedure.name;
    EXPECT_TRUE(names.insert(procedure.name).second) << procedure.name;
  }
  for (const auto& drug : drugs()) EXPECT_TRUE(plain(drug.name)) << drug.name;
  for (const auto& routine : routines()) EXPECT_TRUE(plain(routine.reason));
  for (const auto text : uncoded_orders()) EXPECT_TRUE(plain(text));
}

TEST(ClinicalTable, EveryReferenceResolves) {
  EXPECT_NO_THROW(ClinicalIndex());
  EXPECT_EQ(ClinicalIndex::shared().conditions.size(),
            chronic_conditions().size() + acute_conditions().size());
}

TEST(ClinicalTable, ConditionsHaveCodesOfBothEditionsOrThoseOfWhatTheyNeed) {
  for (const auto& condition : all_conditions()) {
    EXPECT_EQ(condition.icd9cm.empty(), condition.icd10cm.empty()) << condition.name;
    if (condition.icd9cm.empty()) {
      EXPECT_FALSE(condition.needs.empty()) << condition.name;
    }
  }
  for (const auto& procedure : procedures()) {
    EXPECT_FALSE(procedure.icd9proc.empty()) << procedure.name;
    EXPECT_FALSE(procedure.icd10pcs.empty()) << procedure.name;
  }
}

TEST(ClinicalTable, CodesHaveTheShapeOfTheirSystem) {
  using codes::has_code_shape;
  using codes::System;
  for (const auto& condition : all_conditions()) {
    for (const auto code : condition.icd9cm)
      EXPECT_TRUE(has_code_shape(System::kIcd9cm, code)) << code;
    for (const auto code : condition.icd10cm)
      EXPECT_TRUE(has_code_shape(System::kIcd10cm, code)) << code;
  }
  for (const auto& procedure : procedures()) {
    for (const auto code : procedure.icd9proc)
      EXPECT_TRUE(has_code_shape(System::kIcd9proc, code)) << code;
    for (const auto code : procedure.icd10pcs)
      EXPECT_TRUE(has_code_shape(System::kIcd10pcs, code)) << code;
  }
}

TEST(ClinicalTable, ProbabilitiesAndRangesAreSane) {
  each_treatment([](const Treatment& treatment) {
    EXPECT_GT(treatment.probability, 0);
    EXPECT_LE(treatment.probability, 1);
    for (const auto& alternative : treatment.alternatives) EXPECT_GT(alternative.weight, 0);
  });
  for (const auto& condition : all_conditions()) {
    EXPECT_LT(condition.ages.from, condition.ages.to) << condition.name;
    EXPECT_LT(condition.death, 0.5) << condition.name;
    for (const auto& link : condition.brings) EXPECT_LE(link.value, 1) << condition.name;
    for (const auto& link : condition.procedures) EXPECT_LE(link.value, 1) << condition.name;
    for (const auto& link : condition.leaves_behind) EXPECT_LE(link.value, 1) << condition.name;
  }
}

TEST(ClinicalTable, ChronicConditionsFollowTheirCauses) {
  std::set<std::string_view> above;
  for (const auto& condition : chronic_conditions()) {
    for (const auto cause : condition.needs) EXPECT_TRUE(above.contains(cause)) << condition.name;
    for (const auto& risk : condition.risks)
      EXPECT_TRUE(above.contains(risk.name)) << condition.name;
    above.insert(condition.name);
  }
  // Acute conditions depend on chronic ones only: acute risks would depend on the order of drawing.
  for (const auto& condition : acute_conditions()) {
    for (const auto& risk : condition.risks)
      EXPECT_TRUE(above.contains(risk.name)) << condition.name;
    for (const auto cause : condition.needs) EXPECT_TRUE(above.contains(cause)) << condition.name;
    for (const auto cause : condition.needs_any)
      EXPECT_TRUE(above.contains(cause)) << condition.name;
    for (const auto& link : condition.leaves_behind) EXPECT_TRUE(above.contains(link.name));
  }
}

TEST(ClinicalTable, DrugsAreSortedAndEachHasAUse) {
  EXPECT_TRUE(std::is_sorted(drugs().begin(), drugs().end(),
                             [](const Drug& a, const Drug& b) { return a.atc < b.atc; }));
  std::set<std::string_view> used, classes;
  each_treatment([&](const Treatment& treatment) {
    for (const auto& alternative : treatment.alternatives) {
      for (const auto& drug : drugs()) {
        if (!drug.atc.starts_with(alternative.atc)) continue;
        used.insert(drug.atc);
        classes.insert(drug.atc.substr(0, 4));
      }
    }
  });
  EXPECT_EQ(used.size(), drugs().size());
  EXPECT_GE(classes.size(), 90U);
  EXPECT_LE(classes.size(), 115U);
}

TEST(ClinicalTable, DiagnosesAreLeavesOfTheOfficialLists) {
  const auto icd9 = testing::find_data("clinical/icd9cm/nodes.csv.gz");
  const auto icd10 = testing::find_data("clinical/icd10cm/nodes.csv.gz");
  if (!icd9 || !icd10) GTEST_SKIP() << "clinical/icd9cm and clinical/icd10cm lists are not here";
  std::vector<CodeList> old_codes, new_codes;
  for (const auto& condition : all_conditions()) {
    old_codes.push_back(condition.icd9cm);
    new_codes.push_back(condition.icd10cm);
  }
  const std::set<std::string> none;
  EXPECT_EQ(missing(old_codes, testing::column_where(*icd9, "code", "is_leaf", "1")), none);
  EXPECT_EQ(missing(new_codes, testing::column_where(*icd10, "code", "billable", "1")), none);
}

TEST(ClinicalTable, ProceduresAreLeavesOfTheOfficialLists) {
  const auto icd9 = testing::find_data("clinical/icd9proc/nodes.csv.gz");
  const auto pcs = testing::find_data("clinical/mimic-iv-demo/hosp/d_icd_procedures.csv.gz");
  if (!icd9 || !pcs)
    GTEST_SKIP() << "clinical/icd9proc and the MIMIC-IV demo's procedure titles are not here";
  std::vector<CodeList> old_codes, new_codes;
  for (const auto& procedure : procedures()) {
    old_codes.push_back(procedure.icd9proc);
    new_codes.push_back(procedure.icd10pcs);
  }
  const std::set<std::string> none;
  EXPECT_EQ(missing(old_codes, testing::column_where(*icd9, "code", "is_leaf", "1")), none);
  EXPECT_EQ(missing(new_codes, testing::column_where(*pcs, "icd_code", "icd_version", "10")), none);
}

TEST(ClinicalTable, DrugsAreInTheAtcIndex) {
  const auto path = testing::find_data("clinical/nc-restricted/atc_nodes.csv.gz");
  if (!path) GTEST_SKIP() << "clinical/nc-restricted/atc_nodes.csv.gz is not here";
  std::set<std::string> listed = testing::column_where(*path, "code", "level", "5");
  listed.merge(testing::column_where(*path, "code", "level", "4"));
  CodeList written;
  for (const auto& drug : drugs()) written.push_back(drug.atc);
  EXPECT_EQ(missing({written}, listed), std::set<std::string>());
}

}  // namespace
}  // namespace theriac::generate
