#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cpp/core/readers/clinical.h"
#include "cpp/core/readers/test_folder.h"

namespace theriac::readers {
namespace {

using data::Field;
using testing::codes_of;
using testing::detail;
using testing::dropped;
using testing::error_of;
using testing::expect_balanced;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::ScratchFolder;
using testing::write;
using testing::write_gzip;

constexpr const char* kAdmissions =
    "subject_id,hadm_id,admittime,dischtime\n"
    "7,20,2150-03-01 10:00:00,2150-03-04 09:00:00\n"
    "7,10,2151-01-01 10:00:00,2151-01-02 09:00:00\n"
    "8,30,2150-05-01 10:00:00,2150-05-02 09:00:00\n";
constexpr const char* kDiagnoses =
    "subject_id,hadm_id,seq_num,icd_code,icd_version\n"
    "7,20,2,4280 ,9\n"
    "7,20,1,E11.9,10\n"
    "7,10,1,i10,10\n"
    "8,30,1,4019,9\n";
constexpr const char* kProcedures =
    "subject_id,hadm_id,seq_num,chartdate,icd_code,icd_version\n"
    "7,20,1,2150-03-01,3893,9\n"
    "7,10,1,2151-01-01,0BH17EZ,10\n"
    "8,30,1,2150-05-01,3893,9\n";
constexpr const char* kPrescriptions =
    "subject_id,hadm_id,starttime,stoptime,drug,ndc\n"
    "7,20,2150-03-01 12:00:00,,Metformin,00001000101\n"
    "7,20,2150-03-02 12:00:00,,Furosemide,00002000202\n"
    "7,20,2150-03-02 12:00:00,,Furosemide,00002000202\n"
    "7,10,2151-01-01 12:00:00,,Metformin,00001-0001-01\n"
    "8,30,2150-05-01 12:00:00,,Metformin,0001-0001-01\n";
constexpr const char* kNdcAtc =
    "ndc11,atc4\n00001000101,A10BA\n00002000202,C03CA\n00002000202,A01AA\n";

// A small MIMIC-IV folder that a test may spoil.
class Mimic : public ::testing::Test {
 protected:
  Mimic() {
    write(folder_, "admissions.csv", kAdmissions);
    write(folder_, "diagnoses_icd.csv", kDiagnoses);
    write(folder_, "procedures_icd.csv", kProcedures);
    write(folder_, "prescriptions.csv", kPrescriptions);
    policy_.maps.ndc_atc = write(maps_, "ndc_atc.csv", kNdcAtc).string();
  }
  data::Cohort read() {
    Job job;
    return read_mimic_iv(folder_.path(), policy_, job);
  }
  Error failure() {
    return error_of([&] { read(); });
  }
  // The error must name the table's file, the line and the column.
  void expect_error(const std::string& file, int line, const std::string& column) {
    const Error error = failure();
    EXPECT_EQ(error.code(), Code::kDataError) << error.what();
    EXPECT_THAT(detail(error, "file"), HasSubstr(file)) << error.what();
    EXPECT_EQ(detail(error, "line"), std::to_string(line)) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(column));
    EXPECT_THAT(error.what(), HasSubstr(file));
    EXPECT_THAT(error.what(), HasSubstr("line " + std::to_string(line)));
  }

  ScratchFolder folder_, maps_;
  data::CohortPolicy policy_;
};

TEST_F(Mimic, ReadsVisitsInTimeOrderWithCodesInSequence) {
  const data::Cohort cohort = read();
  ASSERT_EQ(cohort.patients(), 1);  // patient 8 has one visit
  EXPECT_EQ(cohort.patient_id(0), "7");
  ASSERT_EQ(cohort.visits(), 2);
  EXPECT_EQ(cohort.visit(0).id, "20");
  EXPECT_EQ(data::format_time(cohort.visit(0).time), "2150-03-01 10:00:00");
  EXPECT_EQ(codes_of(cohort, 0, Field::kDiagnoses), "icd10cm:E119 icd9cm:4280");
  EXPECT_EQ(codes_of(cohort, 0, Field::kProcedures), "icd9proc:3893");
  EXPECT_EQ(codes_of(cohort, 0, Field::kMedications), "atc:A01A atc:A10B atc:C03C");
  EXPECT_EQ(codes_of(cohort, 1, Field::kDiagnoses), "icd10cm:I10");
  EXPECT_EQ(codes_of(cohort, 1, Field::kProcedures), "icd10pcs:0BH17EZ");
  EXPECT_EQ(codes_of(cohort, 1, Field::kMedications), "atc:A10B");
  expect_balanced(cohort);
}

TEST_F(Mimic, FirstClassOnlyUnderMedMapFirst) {
  policy_.med_map = "first";
  EXPECT_EQ(codes_of(read(), 0, Field::kMedications), "atc:A01A atc:A10B");
}

TEST_F(Mimic, FirstDayWindowKeepsTheFirstDayWithAnyPrescription) {
  policy_.med_window = "first_day";
  const data::Cohort cohort = read();
  EXPECT_EQ(codes_of(cohort, 0, Field::kMedications), "atc:A10B");
  EXPECT_EQ(dropped(cohort, "prescriptions", "after the first day (med_window=first_day)"), 2);
  expect_balanced(cohort);
}

// The first day counts drugs that no map knows: the window comes before the map (medication.md
// 2.1).
TEST_F(Mimic, FirstDayIsDecidedBeforeTheMap) {
  policy_.med_window = "first_day";
  policy_.require_all_three = false;
  write(folder_, "prescriptions.csv",
        "subject_id,hadm_id,starttime,stoptime,drug,ndc\n"
        "7,20,2150-03-01,,Unknown,00009000909\n7,20,2150-03-02,,Metformin,00001000101\n"
        "7,20,,,Metformin,00001000101\n");
  const data::Cohort cohort = read();
  EXPECT_EQ(codes_of(cohort, 0, Field::kMedications), "");
  EXPECT_EQ(dropped(cohort, "prescriptions", "no date (med_window=first_day)"), 1);
  EXPECT_EQ(dropped(cohort, "prescriptions", "no medication class known for the code"), 1);
}

TEST_F(Mimic, UpperCaseNamesAndGzip) {
  const data::Cohort plain = read();
  ScratchFolder other;
  write_gzip(other, "ADMISSIONS.csv.gz", kAdmissions);
  write_gzip(other, "Diagnoses_ICD.CSV.gz", kDiagnoses);
  std::string upper = kProcedures;
  for (std::size_t i = 0; upper[i] != '\n'; ++i)
    upper[i] = static_cast<char>(std::toupper(upper[i]));
  write(other, "PROCEDURES_ICD.CSV", upper);
  write_gzip(other, "prescriptions.csv.gz", kPrescriptions);
  Job job;
  EXPECT_EQ(read_mimic_iv(other.path(), policy_, job).fingerprint(), plain.fingerprint());
}

TEST_F(Mimic, ByteOrderMarkCrlfAndQuotedNewlineAreRead) {
  const data::Cohort plain = read();
  std::string crlf;
  for (const char* c = kAdmissions; *c; ++c)
    crlf += *c == '\n' ? std::string("\r\n") : std::string(1, *c);
  write(folder_, "admissions.csv", "\xEF\xBB\xBF" + crlf);
  write(folder_, "prescriptions.csv",
        std::string(kPrescriptions) + "8,30,2150-05-01,,\"Metformin\nER\",0\n");
  const data::Cohort cohort = read();
  EXPECT_EQ(cohort.fingerprint(), plain.fingerprint());
  EXPECT_EQ(dropped(cohort, "prescriptions", "no NDC"), 1);
}

TEST_F(Mimic, LineNumbersCountQuotedNewlines) {
  write(folder_, "prescriptions.csv",
        "subject_id,hadm_id,starttime,stoptime,drug,ndc\n7,20,,,\"a\nb\",0\n7,x,,,c,0\n");
  expect_error("prescriptions.csv", 4, "hadm_id");
}

TEST_F(Mimic, NdcFormsAreNormalisedOrCounted) {
  write(folder_, "prescriptions.csv",
        "subject_id,hadm_id,starttime,stoptime,drug,ndc\n"
        "7,20,,,a,0001-0001-01\n"  // 4-4-2
        "7,20,,,b,00003-003-03\n"  // 5-3-2: 00003-0003-03, not in the map
        "7,20,,,c,0001000101\n"    // ten digits: three readings
        "7,20,,,d,12-34\n"
        "7,20,,,e,\n"
        "7,20,,,f,0\n"
        "7,10,,,g,00001000101\n");
  const data::Cohort cohort = read();
  EXPECT_EQ(codes_of(cohort, 0, Field::kMedications), "atc:A10B");
  EXPECT_EQ(dropped(cohort, "prescriptions", "ambiguous NDC of 10 digits without hyphens"), 1);
  EXPECT_EQ(dropped(cohort, "prescriptions", "malformed NDC"), 1);
  EXPECT_EQ(dropped(cohort, "prescriptions", "no NDC"), 2);
  EXPECT_EQ(dropped(cohort, "prescriptions", "no medication class known for the code"), 1);
  EXPECT_EQ(cohort.accounting()["unmapped"]["ndc"]["top"][0]["code"], "00003000303");
  expect_balanced(cohort);
}

TEST_F(Mimic, UnmappedDrugsAreReportedByCodeAndName) {
  write(folder_, "prescriptions.csv",
        std::string(kPrescriptions) + "7,20,,,Heparin,00009000909\n7,10,,,Heparin,00009000909\n");
  const data::Cohort cohort = read();
  const Json& unmapped = cohort.accounting()["unmapped"];
  EXPECT_EQ(unmapped["ndc"]["rows"], 2);
  EXPECT_EQ(unmapped["ndc"]["top"][0]["code"], "00009000909");
  EXPECT_EQ(unmapped["drug name"]["top"][0]["code"], "Heparin");
  EXPECT_EQ(unmapped["drug name"]["top"][0]["rows"], 2);
}

TEST_F(Mimic, RowsThatBelongToNoVisitAreCounted) {
  write(folder_, "diagnoses_icd.csv",
        std::string(kDiagnoses) + "7,,1,4280,9\n7,99,1,4280,9\n8,20,1,4280,9\n7,20,3, ,9\n");
  const data::Cohort cohort = read();
  EXPECT_EQ(dropped(cohort, "diagnoses_icd", "no admission id"), 1);
  EXPECT_EQ(dropped(cohort, "diagnoses_icd", "admission not in the admissions table"), 1);
  EXPECT_EQ(dropped(cohort, "diagnoses_icd", "patient differs from the admission's"), 1);
  EXPECT_EQ(dropped(cohort, "diagnoses_icd", "no code"), 1);
  expect_balanced(cohort);
}

TEST_F(Mimic, DatesInTheWrongOrderAreReportedNotFatal) {
  write(folder_, "admissions.csv",
        "subject_id,hadm_id,admittime,dischtime\n7,20,2150-03-05,2150-03-04\n7,10,2151-01-01,\n"
        "8,30,,2150-05-02\n");
  const data::Cohort cohort = read();
  EXPECT_EQ(cohort.visits(), 2);
  EXPECT_EQ(cohort.provenance()["warnings"]["admissions that end before they start"], 1);
  EXPECT_EQ(cohort.provenance()["warnings"]["admissions without a start"], 1);
}

TEST_F(Mimic, DuplicateAdmissionId) {
  write(folder_, "admissions.csv", std::string(kAdmissions) + "9,20,2150-03-01,2150-03-02\n");
  expect_error("admissions.csv", 5, "hadm_id");
  EXPECT_THAT(failure().what(), HasSubstr("line 2"));
}

TEST_F(Mimic, NegativeAndTextualIds) {
  write(folder_, "admissions.csv",
        "subject_id,hadm_id,admittime,dischtime\n-7,20,2150-03-01,2150-03-02\n");
  expect_error("admissions.csv", 2, "subject_id");
  EXPECT_THAT(failure().what(), HasSubstr("negative"));
  write(folder_, "admissions.csv",
        "subject_id,hadm_id,admittime,dischtime\n7,20.0,2150-03-01,2150-03-02\n");
  expect_error("admissions.csv", 2, "hadm_id");
  write(folder_, "admissions.csv",
        "subject_id,hadm_id,admittime,dischtime\n7,99999999999999999999,2150-03-01,\n");
  expect_error("admissions.csv", 2, "hadm_id");
}

TEST_F(Mimic, ErrorsDoNotQuoteThePatient) {
  write(folder_, "admissions.csv",
        "subject_id,hadm_id,admittime,dischtime\nSmith-1950,20,2150-03-01,\n");
  EXPECT_THAT(failure().what(), Not(HasSubstr("Smith")));
  write(folder_, "admissions.csv", "subject_id,hadm_id,admittime,dischtime\n7,20,12.07.1950,\n");
  expect_error("admissions.csv", 2, "admittime");
  EXPECT_THAT(failure().what(), Not(HasSubstr("1950")));
}

TEST_F(Mimic, UnknownIcdVersion) {
  write(folder_, "diagnoses_icd.csv", std::string(kDiagnoses) + "7,20,3,4280,11\n");
  expect_error("diagnoses_icd.csv", 6, "icd_version");
}

TEST_F(Mimic, MissingColumn) {
  write(folder_, "diagnoses_icd.csv", "subject_id,hadm_id,seq_num,icd_cod,icd_version\n");
  const Error error = failure();
  EXPECT_EQ(error.code(), Code::kDataError);
  EXPECT_THAT(error.what(), HasSubstr("icd_code"));
  EXPECT_THAT(detail(error, "file"), HasSubstr("diagnoses_icd.csv"));
}

TEST_F(Mimic, MimicIiiTablesUnderTheOtherFormatAreNamed) {
  write(folder_, "diagnoses_icd.csv",
        "row_id,subject_id,hadm_id,seq_num,icd9_code\n1,7,20,1,4280\n");
  const Error error = failure();
  EXPECT_EQ(error.code(), Code::kDataError);
  EXPECT_THAT(error.what(), HasSubstr("mimic-iii"));
}

TEST_F(Mimic, CarriageReturnsAloneAreNoLineEnds) {
  std::string text = kDiagnoses;
  for (char& c : text) c = c == '\n' ? '\r' : c;
  write(folder_, "diagnoses_icd.csv", text);
  const Error error = failure();
  EXPECT_EQ(error.code(), Code::kDataError);
  EXPECT_THAT(error.what(), HasSubstr("diagnoses_icd.csv"));
}

TEST_F(Mimic, TruncatedGzip) {
  std::filesystem::remove(folder_.path() / "diagnoses_icd.csv");
  testing::cut(write_gzip(folder_, "diagnoses_icd.csv.gz", kDiagnoses), 6);
  const Error error = failure();
  EXPECT_EQ(error.code(), Code::kDataError);
  EXPECT_THAT(error.what(), HasSubstr("diagnoses_icd.csv.gz"));
}

TEST_F(Mimic, InvalidUtf8) {
  write(folder_, "prescriptions.csv", std::string(kPrescriptions) + "7,20,,,caf\xE9,0\n");
  expect_error("prescriptions.csv", 7, "drug");
}

TEST_F(Mimic, TooManyFields) {
  write(folder_, "prescriptions.csv", std::string(kPrescriptions) + "7,20,,,a,0,1\n");
  const Error error = failure();
  EXPECT_EQ(error.code(), Code::kDataError);
  EXPECT_EQ(detail(error, "line"), "7");
}

TEST_F(Mimic, MissingAndDoubleTables) {
  write_gzip(folder_, "admissions.csv.gz", kAdmissions);
  EXPECT_EQ(failure().code(), Code::kInvalidArgument);
  std::filesystem::remove(folder_.path() / "admissions.csv.gz");
  std::filesystem::remove(folder_.path() / "prescriptions.csv");
  const Error error = failure();
  EXPECT_EQ(error.code(), Code::kNotFound);
  EXPECT_THAT(error.what(), HasSubstr("prescriptions"));
  Job job;
  EXPECT_EQ(error_of([&] { read_mimic_iv(folder_.path() / "nowhere", policy_, job); }).code(),
            Code::kNotFound);
}

TEST_F(Mimic, EmptyTablesGiveAnEmptyCohort) {
  write(folder_, "admissions.csv", "subject_id,hadm_id,admittime,dischtime\n");
  const data::Cohort cohort = read();
  EXPECT_EQ(cohort.patients(), 0);
  EXPECT_EQ(dropped(cohort, "diagnoses_icd", "admission not in the admissions table"), 4);
}

TEST_F(Mimic, CancelStopsTheImport) {
  const auto cancel = std::make_shared<CancelToken>();
  cancel->request();
  Job job({}, cancel);
  EXPECT_EQ(error_of([&] { read_mimic_iv(folder_.path(), policy_, job); }).code(),
            Code::kCancelled);
}

TEST_F(Mimic, ProgressEndsAtTheTotal) {
  std::uint64_t last_done = 0, last_total = 0;
  Job job(
      [&](std::string_view phase, std::uint64_t done, std::uint64_t total, std::string_view) {
        if (phase == "reading") std::tie(last_done, last_total) = std::pair(done, total);
        return Verdict::kContinue;
      },
      nullptr, std::chrono::milliseconds(0));
  read_mimic_iv(folder_.path(), policy_, job);
  EXPECT_GT(last_total, 0U);
  EXPECT_EQ(last_done, last_total);
}

TEST(ReadCohort, UnknownFormatNamesTheNearest) {
  Job job;
  const Error error = error_of([&] { read_cohort("mimic-v", "x", {}, job); });
  EXPECT_EQ(error.code(), Code::kInvalidArgument);
  EXPECT_THAT(error.what(), HasSubstr("mimic-iv"));
}

}  // namespace
}  // namespace theriac::readers
