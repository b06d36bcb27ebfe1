// The real demonstration cohorts against the fixtures of medication.md section 12.6, digit for
// digit.
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cpp/core/base/input.h"
#include "cpp/core/data/cohort_io.h"
#include "cpp/core/readers/clinical.h"
#include "cpp/core/readers/test_folder.h"

namespace theriac::readers {
namespace {

namespace fs = std::filesystem;
using data::Field;
using testing::expect_balanced;

fs::path clinical_data() {
  const char* given = std::getenv("THERIAC_DATA_DIR");
  return (given ? fs::path(given) : fs::path(THERIAC_SOURCE_DIR) / ".." / "shared" / "data") /
         "clinical";
}

std::vector<Json> json_lines_of(std::istream& in) {
  std::vector<Json> out;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty()) out.push_back(Json::parse(line));
  }
  return out;
}

std::string read_all(const fs::path& path) {
  const auto source = open_source(path);
  std::string out, chunk(1 << 16, '\0');
  while (const std::size_t got = source->read(chunk)) out.append(chunk, 0, got);
  return out;
}

class Golden : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(clinical_data() / "fixtures")) {
      GTEST_SKIP() << "no clinical data at " << clinical_data() << "; set THERIAC_DATA_DIR";
    }
  }

  static data::CohortPolicy policy(const std::string& med_map) {
    data::CohortPolicy out;
    out.med_map = med_map;
    out.maps.ndc_rxcui = (clinical_data() / "rxnorm/ndc_rxcui.csv").string();
    out.maps.rxcui_atc = (clinical_data() / "nc-restricted/rxcui_atc.csv").string();
    out.maps.ndc_atc = (clinical_data() / "nc-restricted/ndc_atc.csv").string();
    return out;
  }

  static data::Cohort read(const std::string& format, const std::string& folder,
                           const std::string& med_map) {
    Job job;
    return read_cohort(format, clinical_data() / folder, policy(med_map), job);
  }

  static void expect_fixture(const data::Cohort& cohort, const std::string& name) {
    std::stringstream out;
    data::export_table(cohort, "patients", "jsonl", out);
    std::istringstream fixture(read_all(clinical_data() / "fixtures" / name));
    const std::vector<Json> got = json_lines_of(out), expected = json_lines_of(fixture);
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i)
      ASSERT_EQ(got[i], expected[i]) << "patient number " << i;
  }
};

struct Row {
  std::int64_t patients, visits;
  int dx, px, atc3;
  double meds;
};

void expect_row(const data::Cohort& cohort, const Row& row) {
  EXPECT_EQ(cohort.patients(), row.patients);
  EXPECT_EQ(cohort.visits(), row.visits);
  EXPECT_EQ(cohort.vocabulary(Field::kDiagnoses).size(), row.dx);
  EXPECT_EQ(cohort.vocabulary(Field::kProcedures).size(), row.px);
  EXPECT_EQ(cohort.vocabulary(Field::kMedications).size(), row.atc3);
  const auto meds = static_cast<double>(cohort.ids(Field::kMedications).size());
  EXPECT_NEAR(meds / static_cast<double>(cohort.visits()), row.meds, 0.0005);
}

std::int64_t unmapped_ndc(const data::Cohort& cohort) {
  return cohort.accounting()["unmapped"]["ndc"]["rows"].get<std::int64_t>();
}

TEST_F(Golden, MimicIiiFirst) {
  const data::Cohort cohort = read("mimic-iii", "mimic-iii-demo", "first");
  expect_row(cohort, {11, 36, 227, 57, 86, 19.889});
  EXPECT_EQ(unmapped_ndc(cohort), 1682);
  expect_fixture(cohort, "mimic-iii-demo.single.jsonl.gz");
  expect_balanced(cohort);
}

TEST_F(Golden, MimicIiiAll) {
  const data::Cohort cohort = read("mimic-iii", "mimic-iii-demo", "all");
  expect_row(cohort, {11, 36, 227, 57, 118, 36.389});
  EXPECT_EQ(unmapped_ndc(cohort), 1682);
}

TEST_F(Golden, MimicIvFirst) {
  const data::Cohort cohort = read("mimic-iv", "mimic-iv-demo/hosp", "first");
  expect_row(cohort, {38, 132, 994, 257, 100, 18.295});
  EXPECT_EQ(unmapped_ndc(cohort), 2772);
  expect_fixture(cohort, "mimic-iv-demo.single.jsonl.gz");
}

TEST_F(Golden, MimicIvAll) {
  const data::Cohort cohort = read("mimic-iv", "mimic-iv-demo", "all");  // finds hosp/ by itself
  expect_row(cohort, {38, 132, 994, 257, 136, 33.568});
  EXPECT_EQ(unmapped_ndc(cohort), 2772);
  expect_fixture(cohort, "mimic-iv-demo.multi.jsonl.gz");
  expect_balanced(cohort);
  const Json& tables = cohort.accounting()["tables"];
  EXPECT_EQ(tables["admissions"]["read"], 275);
  EXPECT_EQ(tables["diagnoses_icd"]["read"], 4506);
  EXPECT_EQ(tables["procedures_icd"]["read"], 722);
  EXPECT_EQ(tables["prescriptions"]["read"], 18087);
  EXPECT_EQ(tables["prescriptions"]["dropped"]["no NDC"], 2631);
}

TEST_F(Golden, FhirIsTheSameCohortAsCsv) {
  for (const std::string med_map : {"first", "all"}) {
    const data::Cohort fhir = read("fhir", "fhir-mimic-iv-demo", med_map);
    const data::Cohort csv = read("mimic-iv", "mimic-iv-demo/hosp", med_map);
    expect_fixture(fhir, med_map == "first" ? "mimic-iv-demo.single.jsonl.gz"
                                            : "mimic-iv-demo.multi.jsonl.gz");
    EXPECT_EQ(fhir.fingerprint(), csv.fingerprint());
    expect_balanced(fhir);
    const Json& tables = fhir.accounting()["tables"];
    EXPECT_EQ(tables["Encounter"]["read"], 275);
    EXPECT_EQ(tables["Condition"]["read"], 4506);
    EXPECT_EQ(tables["Procedure"]["read"], 722);
    EXPECT_EQ(tables["MedicationRequest"]["read"], 14524);
  }
}

// medication.md 2.1 step 4: fewer classes, and the same stays where each still has one.
TEST_F(Golden, FirstDayWindow) {
  data::CohortPolicy first_day = policy("first");
  first_day.med_window = "first_day";
  Job job;
  const data::Cohort csv = read_mimic_iv(clinical_data() / "mimic-iv-demo/hosp", first_day, job);
  const data::Cohort fhir = read_fhir(clinical_data() / "fhir-mimic-iv-demo", first_day, job);
  EXPECT_EQ(csv.fingerprint(), fhir.fingerprint());
  const auto meds = static_cast<double>(csv.ids(Field::kMedications).size());
  EXPECT_LT(meds / static_cast<double>(csv.visits()), 18.295);
  EXPECT_GT(csv.accounting()["tables"]["prescriptions"]["dropped"]
                            ["after the first day (med_window=first_day)"],
            0);
  expect_balanced(csv);
}

// Synthea codes everything in SNOMED CT: nothing is usable without a map, and the report says so.
TEST_F(Golden, SyntheaIsReadAndReportedAsUnmapped) {
  const data::Cohort cohort = read("fhir", "fhir-synthea-r4", "all");
  EXPECT_EQ(cohort.patients(), 0);
  EXPECT_EQ(cohort.visits(), 0);
  expect_balanced(cohort);
  const Json& tables = cohort.accounting()["tables"];
  EXPECT_EQ(tables["Patient"]["read"], 3);
  EXPECT_EQ(tables["Condition"]["dropped"]["SNOMED CT code without a map"],
            tables["Condition"]["read"]);
  EXPECT_EQ(cohort.accounting()["unmapped"]["snomed"]["rows"],
            tables["Condition"]["read"].get<int>() + tables["Procedure"]["read"].get<int>());
  EXPECT_GT(tables["other resources"]["dropped"]["resource type not used"], 0);
}

}  // namespace
}  // namespace theriac::readers
