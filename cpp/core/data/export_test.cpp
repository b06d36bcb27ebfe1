#include <gmock/gmock.h>

#include <cstdlib>
#include <sstream>

#include "cpp/core/base/error.h"
#include "cpp/core/base/input.h"
#include "cpp/core/data/cohort_io.h"
#include "cpp/core/data/test_cohorts.h"

namespace theriac::data {
namespace {

std::string exported(const Cohort& cohort, const std::string& table, const std::string& format) {
  std::ostringstream out;
  export_table(cohort, table, format, out);
  return out.str();
}

TEST(Export, PatientsAsJsonLines) {
  EXPECT_EQ(
      exported(small_cohort(), "patients", "jsonl"),
      R"({"patient":"7","visits":[{"id":"71","admit":"2150-08-07 21:40:00","dx":[["9","4280"],["9","25001"]],"px":[["9","3893"]],"atc3":["A02B","C03C"]},)"
      R"({"id":"72","admit":"2151-01-02 00:00:00","dx":[["10","I5021"]],"px":[],"atc3":["A02B"]}]})"
      "\n"
      R"({"patient":"b, \"quoted\"","visits":[{"id":"1","admit":"","dx":[["9","4280"]],"px":[["local","X9"]],"atc3":["N02B"]}]})"
      "\n");
}

TEST(Export, TablesAsCsv) {
  EXPECT_EQ(exported(small_cohort(), "patients", "csv"),
            "patient,visits\n7,2\n\"b, \"\"quoted\"\"\",1\n");
  EXPECT_EQ(exported(small_cohort(), "visits", "csv"),
            "patient,visit,time\n7,71,2150-08-07 21:40:00\n7,72,2151-01-02 00:00:00\n"
            "\"b, \"\"quoted\"\"\",1,\n");
  EXPECT_EQ(exported(small_cohort(), "codes", "csv"),
            "patient,visit,time,field,system,code\n"
            "7,71,2150-08-07 21:40:00,diagnoses,icd9cm,4280\n"
            "7,71,2150-08-07 21:40:00,diagnoses,icd9cm,25001\n"
            "7,71,2150-08-07 21:40:00,procedures,icd9proc,3893\n"
            "7,71,2150-08-07 21:40:00,medications,atc,C03C\n"
            "7,71,2150-08-07 21:40:00,medications,atc,A02B\n"
            "7,72,2151-01-02 00:00:00,diagnoses,icd10cm,I5021\n"
            "7,72,2151-01-02 00:00:00,medications,atc,A02B\n"
            "\"b, \"\"quoted\"\"\",1,,diagnoses,icd9cm,4280\n"
            "\"b, \"\"quoted\"\"\",1,,procedures,local,X9\n"
            "\"b, \"\"quoted\"\"\",1,,medications,atc,N02B\n");
  EXPECT_EQ(exported(small_cohort(), "vocabulary", "csv"),
            "field,id,system,code\ndiagnoses,0,icd9cm,25001\ndiagnoses,1,icd9cm,4280\n"
            "diagnoses,2,icd10cm,I5021\nprocedures,0,icd9proc,3893\nprocedures,1,local,X9\n"
            "medications,0,atc,A02B\nmedications,1,atc,C03C\nmedications,2,atc,N02B\n");
}

TEST(Export, TablesAsJsonLines) {
  EXPECT_EQ(exported(small_cohort(), "visits", "jsonl"),
            R"({"patient":"7","visit":"71","time":"2150-08-07 21:40:00"})"
            "\n"
            R"({"patient":"7","visit":"72","time":"2151-01-02 00:00:00"})"
            "\n"
            R"({"patient":"b, \"quoted\"","visit":"1","time":null})"
            "\n");
  EXPECT_THAT(
      exported(small_cohort(), "vocabulary", "jsonl"),
      testing::StartsWith(R"({"field":"diagnoses","id":0,"system":"icd9cm","code":"25001"})"));
}

TEST(Export, EmptyCohort) {
  const Cohort empty = CohortBuilder().finish();
  for (const std::string& table : table_names()) EXPECT_EQ(exported(empty, table, "jsonl"), "");
  EXPECT_EQ(exported(empty, "codes", "csv"), "patient,visit,time,field,system,code\n");
}

TEST(Export, NamesTheNearest) {
  const auto message = [](const char* table, const char* format) -> std::string {
    try {
      exported(small_cohort(), table, format);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kInvalidArgument);
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message("patient", "csv"), testing::HasSubstr("nearest: patients"));
  EXPECT_THAT(message("codes", "json"), testing::HasSubstr("nearest: jsonl"));
}

TEST(Export, FailedWritesAreErrors) {
  std::ostringstream out;
  out.setstate(std::ios::badbit);
  EXPECT_THROW(export_table(small_cohort(), "codes", "csv", out), Error);
}

// ---- the golden files of medication.md section 12.6 ----

std::filesystem::path data_folder() {
  if (const char* set = std::getenv("THERIAC_DATA_DIR")) return set;
  return std::filesystem::path(THERIAC_SOURCE_DIR) / ".." / "shared" / "data";
}

std::string unpacked(const std::filesystem::path& file) {
  const auto source = open_source(file);
  std::string text;
  char block[65'536];
  while (const std::size_t got = source->read(block)) text.append(block, got);
  return text;
}

std::vector<codes::MedicalCode> coded(const Json& set, codes::System nine, codes::System ten) {
  std::vector<codes::MedicalCode> codes;
  for (const Json& code : set)
    codes.push_back({code[0] == "9" ? nine : ten, code[1].get<std::string>()});
  return codes;
}

Cohort cohort_of(const std::string& lines) {
  CohortBuilder builder;
  std::istringstream in(lines);
  for (std::string line; std::getline(in, line);) {
    const Json patient = Json::parse(line);
    builder.begin_patient(patient.at("patient"));
    for (const Json& visit : patient.at("visits")) {
      std::vector<codes::MedicalCode> medications;
      for (const Json& code : visit.at("atc3")) medications.push_back(atc(code));
      std::reverse(medications.begin(), medications.end());  // export sorts them
      builder.add_visit(visit.at("id"), parse_time(visit.at("admit").get<std::string>()),
                        coded(visit.at("dx"), codes::System::kIcd9cm, codes::System::kIcd10cm),
                        coded(visit.at("px"), codes::System::kIcd9proc, codes::System::kIcd10pcs),
                        medications);
    }
  }
  return std::move(builder).finish();
}

struct Golden {
  const char* name;
  std::int64_t patients, visits;
  std::int32_t dx, px, atc3;
  double medications;  // per visit
};

class Fixture : public testing::TestWithParam<Golden> {};

TEST_P(Fixture, ExportsToTheSameBytes) {
  const auto file = data_folder() / "clinical" / "fixtures" / GetParam().name;
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "no golden files under " << data_folder();
  const std::string lines = unpacked(file);
  const Cohort cohort = cohort_of(lines);
  EXPECT_TRUE(exported(cohort, "patients", "jsonl") == lines);
  EXPECT_EQ(cohort.patients(), GetParam().patients);
  EXPECT_EQ(cohort.visits(), GetParam().visits);
  EXPECT_EQ(cohort.vocabulary(Field::kDiagnoses).size(), GetParam().dx);
  EXPECT_EQ(cohort.vocabulary(Field::kProcedures).size(), GetParam().px);
  EXPECT_EQ(cohort.vocabulary(Field::kMedications).size(), GetParam().atc3);
  EXPECT_NEAR(static_cast<double>(cohort.ids(Field::kMedications).size()) /
                  static_cast<double>(cohort.visits()),
              GetParam().medications, 5e-4);
}

INSTANTIATE_TEST_SUITE_P(
    MedicationSpec, Fixture,
    testing::Values(Golden{"mimic-iii-demo.single.jsonl.gz", 11, 36, 227, 57, 86, 19.889},
                    Golden{"mimic-iv-demo.single.jsonl.gz", 38, 132, 994, 257, 100, 18.295},
                    Golden{"mimic-iv-demo.multi.jsonl.gz", 38, 132, 994, 257, 136, 33.568}));

}  // namespace
}  // namespace theriac::data
