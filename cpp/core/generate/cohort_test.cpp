#include "cpp/core/generate/cohort.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include "cpp/core/base/csv.h"
#include "cpp/core/base/file.h"
#include "cpp/core/base/json.h"
#include "cpp/core/generate/cohort_writer.h"
#include "cpp/core/generate/patient.h"

namespace theriac::generate {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class CohortFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() /
              ("theriac-generate-" + std::to_string(::getpid()) + "-" + info->name());
    fs::create_directories(folder_);
    options_.patients = 30;
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path write(const std::string& name) {
    Job job;
    write_cohort(folder_ / name, options_, job);
    return folder_ / name;
  }

  fs::path folder_;
  CohortOptions options_;
};

// The bytes of a file, uncompressed.
std::string content(const fs::path& path) {
  const auto source = open_source(path);
  std::string text;
  std::string block(1 << 16, '\0');
  while (const std::size_t count = source->read(block)) text.append(block, 0, count);
  return text;
}

std::vector<Json> json_lines(const fs::path& path) {
  std::istringstream lines(content(path));
  std::vector<Json> values;
  for (std::string line; std::getline(lines, line);)
    values.push_back(parse_json(line, path.filename().string()));
  return values;
}

// Relative name -> bytes of every file below a folder.
std::map<std::string, std::string> tree(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) {
      files[fs::relative(entry.path(), folder).string()] = read_file(entry.path());
    }
  }
  return files;
}

std::string undotted(std::string code) {
  std::erase(code, '.');
  return code;
}

TEST_F(CohortFiles, SameOptionsSameBytes) {
  EXPECT_EQ(tree(write("a")), tree(write("b")));
  const auto first = tree(folder_ / "a");
  options_.seed = 2;
  EXPECT_NE(tree(write("c")), first);
  options_.seed = 1;
  options_.hospital = 1;
  EXPECT_NE(tree(write("d")), first);
}

TEST_F(CohortFiles, MorePatientsExtendTheFile) {
  const std::string few = content(write("few") / "Condition.ndjson");
  options_.patients = 45;
  const std::string many = content(write("many") / "Condition.ndjson");
  EXPECT_EQ(many.substr(0, few.size()), few);
  EXPECT_GT(many.size(), few.size());
}

TEST_F(CohortFiles, CompressedFilesHoldTheSameText) {
  write("plain");
  options_.compress = true;
  write("gz");
  for (const std::string name :
       {"Patient", "Encounter", "Condition", "Procedure", "MedicationRequest"}) {
    EXPECT_EQ(content(folder_ / "gz" / (name + ".ndjson.gz")),
              content(folder_ / "plain" / (name + ".ndjson")));
    EXPECT_LT(fs::file_size(folder_ / "gz" / (name + ".ndjson.gz")),
              fs::file_size(folder_ / "plain" / (name + ".ndjson")));
  }
}

TEST_F(CohortFiles, FhirHoldsWhatWasSimulated) {
  const fs::path out = write("fhir");
  std::map<std::string, std::multiset<std::string>> dx, px, drug;
  std::set<std::string> patients, encounters;
  for (const Json& line : json_lines(out / "Patient.ndjson")) patients.insert(line.at("id"));
  for (const Json& line : json_lines(out / "Encounter.ndjson")) {
    EXPECT_EQ(line.at("status"), "finished");
    EXPECT_LT(line.at("period").at("start").get<std::string>(),
              line.at("period").at("end").get<std::string>());
    encounters.insert(line.at("id"));
  }
  const auto collect = [&](const std::string& file, const std::string& field, auto& into) {
    std::set<std::string> systems;
    for (const Json& line : json_lines(out / file)) {
      EXPECT_EQ(line.at("resourceType").get<std::string>() + ".ndjson", file);
      EXPECT_TRUE(
          patients.contains(line.at("subject").at("reference").get<std::string>().substr(8)));
      const std::string encounter =
          line.at("encounter").at("reference").get<std::string>().substr(10);
      EXPECT_TRUE(encounters.contains(encounter));
      EXPECT_FALSE(line.at(field).at("text").get<std::string>().empty());
      if (!line.at(field).contains("coding")) continue;
      const Json& coding = line.at(field).at("coding").at(0);
      systems.insert(coding.at("system"));
      into[encounter].insert(undotted(coding.at("code")));
    }
    return systems;
  };
  using Uris = std::set<std::string>;
  EXPECT_EQ(collect("Condition.ndjson", "code", dx),
            (Uris{"http://hl7.org/fhir/sid/icd-9-cm", "http://hl7.org/fhir/sid/icd-10-cm"}));
  EXPECT_EQ(collect("Procedure.ndjson", "code", px),
            (Uris{"urn:oid:2.16.840.1.113883.6.104", "http://www.cms.gov/Medicare/Coding/ICD10"}));
  EXPECT_EQ(collect("MedicationRequest.ndjson", "medicationCodeableConcept", drug),
            (Uris{"http://www.whocc.no/atc"}));

  const Hospital hospital(options_);
  const auto writer = make_fhir_writer(folder_, options_);
  for (std::int64_t i = 0; i < options_.patients; ++i) {
    const Patient patient = simulate_patient(hospital, i);
    for (const Visit& visit : patient.visits) {
      const std::string id = writer->visit_id(patient, visit);
      std::multiset<std::string> expected_dx, expected_px, expected_drug;
      for (const auto& coded : visit.diagnoses) expected_dx.emplace(coded.code);
      for (const auto& done : visit.procedures) expected_px.emplace(done.code);
      for (const auto& order : visit.orders) {
        const auto atc = drugs()[static_cast<std::size_t>(order.drug)].atc;
        expected_drug.emplace(order.class_only ? atc.substr(0, 5) : atc);
      }
      EXPECT_EQ(dx[id], expected_dx);
      EXPECT_EQ(px[id], expected_px);
      EXPECT_EQ(drug[id], expected_drug);
    }
  }
}

TEST_F(CohortFiles, FhirCodesCarryTheirDots) {
  const std::string conditions = content(write("fhir") / "Condition.ndjson");
  EXPECT_THAT(conditions, HasSubstr("\"code\":\"401.9\""));
  EXPECT_THAT(conditions, HasSubstr("\"code\":\"E78.5\""));
  EXPECT_THAT(conditions, HasSubstr("\"code\":\"I10\""));
  const std::string procedures = content(folder_ / "fhir" / "Procedure.ndjson");
  EXPECT_THAT(procedures, HasSubstr("\"code\":\"88.72\""));
  EXPECT_THAT(procedures, HasSubstr("\"code\":\"B245ZZZ\""));
}

TEST_F(CohortFiles, GroundTruthExplainsEveryClass) {
  const fs::path out = write("fhir");
  std::map<std::string, std::set<std::string>> written;
  for (const Json& line : json_lines(out / "MedicationRequest.ndjson")) {
    const Json& concept_ = line.at("medicationCodeableConcept");
    if (!concept_.contains("coding")) continue;
    const std::string code = concept_.at("coding").at(0).at("code");
    written[line.at("encounter").at("reference").get<std::string>().substr(10)].insert(
        code.substr(0, 4));
  }
  std::size_t visits = 0;
  for (const Json& line : json_lines(out / "ground_truth.jsonl")) {
    for (const Json& visit : line.at("visits")) {
      ++visits;
      std::set<std::string> explained;
      for (const auto& [atc3, reasons] : visit.at("classes").items()) {
        EXPECT_FALSE(reasons.empty());
        explained.insert(atc3);
      }
      EXPECT_EQ(explained, written[visit.at("id")]);
      EXPECT_FALSE(visit.at("conditions").empty());
    }
  }
  EXPECT_EQ(visits, json_lines(out / "Encounter.ndjson").size());
}

// Records of a table: each a map from column to text.
std::vector<std::map<std::string, std::string>> records(const fs::path& path) {
  CsvReader reader(open_source(path));
  std::vector<std::map<std::string, std::string>> rows;
  while (reader.next()) {
    auto& row = rows.emplace_back();
    for (std::size_t c = 0; c < reader.header().size(); ++c)
      row[reader.header()[c]] = reader.field(c);
  }
  return rows;
}

TEST_F(CohortFiles, MimicTablesJoinAndDrugsMap) {
  options_.format = "mimic-iv";
  const fs::path out = write("mimic");
  std::map<std::string, std::string> patient_of;  // hadm_id -> subject_id
  std::set<std::string> patients;
  for (const auto& row : records(out / "hosp/patients.csv")) patients.insert(row.at("subject_id"));
  EXPECT_EQ(patients.size(), 30U);
  for (const auto& row : records(out / "hosp/admissions.csv")) {
    EXPECT_TRUE(patients.contains(row.at("subject_id")));
    EXPECT_LT(row.at("admittime"), row.at("dischtime"));
    EXPECT_TRUE(patient_of.emplace(row.at("hadm_id"), row.at("subject_id")).second);
  }
  for (const std::string name : {"diagnoses_icd", "procedures_icd"}) {
    for (const auto& row : records(out / "hosp" / (name + ".csv"))) {
      EXPECT_EQ(patient_of.at(row.at("hadm_id")), row.at("subject_id"));
      EXPECT_TRUE(row.at("icd_version") == "9" || row.at("icd_version") == "10");
      EXPECT_EQ(row.at("icd_code").find('.'), std::string::npos);
    }
  }
  std::map<std::string, std::string> atc_of;
  for (const auto& row : records(out / "ndc_atc.csv")) {
    EXPECT_EQ(row.at("atc5").substr(0, 5), row.at("atc4"));
    EXPECT_TRUE(atc_of.emplace(row.at("ndc11"), row.at("atc5")).second);
  }
  std::map<std::string, std::multiset<std::string>> ordered;
  std::size_t uncoded = 0;
  for (const auto& row : records(out / "hosp/prescriptions.csv")) {
    EXPECT_EQ(patient_of.at(row.at("hadm_id")), row.at("subject_id"));
    EXPECT_LE(row.at("starttime"), row.at("stoptime"));
    EXPECT_FALSE(row.at("drug").empty());
    if (row.at("ndc") == "0") {
      ++uncoded;
      continue;
    }
    EXPECT_EQ(row.at("ndc").size(), 11U);
    ordered[row.at("hadm_id")].insert(atc_of.at(row.at("ndc")));
  }
  EXPECT_GT(uncoded, 0U);

  const Hospital hospital(options_);
  const auto writer = make_mimic_iv_writer(folder_, options_);
  for (std::int64_t i = 0; i < options_.patients; ++i) {
    const Patient patient = simulate_patient(hospital, i);
    for (const Visit& visit : patient.visits) {
      std::multiset<std::string> expected;
      for (const auto& order : visit.orders)
        expected.emplace(drugs()[static_cast<std::size_t>(order.drug)].atc);
      EXPECT_EQ(ordered[writer->visit_id(patient, visit)], expected);
    }
  }
}

TEST_F(CohortFiles, VisitIdsDoNotFollowTime) {
  options_.patients = 60;
  const Hospital hospital(options_);
  std::size_t out_of_order = 0;
  for (std::int64_t i = 0; i < options_.patients; ++i) {
    const Patient patient = simulate_patient(hospital, i);
    std::set<int> tags;
    int last = -1;
    for (const Visit& visit : patient.visits) {
      const int tag = visit_tag(patient, visit);
      EXPECT_TRUE(tags.insert(tag).second);
      out_of_order += tag < last ? 1 : 0;
      last = tag;
    }
  }
  EXPECT_GT(out_of_order, 5U);
}

TEST_F(CohortFiles, ReplacesItsOwnFolderButNobodyElses) {
  write("mine");
  options_.seed = 5;
  EXPECT_NO_THROW(write("mine"));
  fs::create_directories(folder_ / "empty");
  EXPECT_NO_THROW(write("empty"));
  replace_file(folder_ / "theirs.txt", "x");
  fs::create_directories(folder_ / "theirs");
  replace_file(folder_ / "theirs" / "thesis.txt", "x");
  try {
    write("theirs");
    FAIL() << "overwrote a foreign folder";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kAlreadyExists);
  }
  EXPECT_EQ(read_file(folder_ / "theirs" / "thesis.txt"), "x");
}

TEST_F(CohortFiles, CancelLeavesNothing) {
  const auto cancel = std::make_shared<CancelToken>();
  std::uint64_t reported = 0;
  Job job(
      [&](std::string_view, std::uint64_t done, std::uint64_t, std::string_view) {
        reported = done;
        return done >= 3 ? Verdict::kCancel : Verdict::kContinue;
      },
      cancel, std::chrono::milliseconds(0));
  try {
    write_cohort(folder_ / "stopped", options_, job);
    FAIL() << "did not stop";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kCancelled);
  }
  EXPECT_LT(reported, 30U);
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST(CohortOptionsTable, RefusesWhatMakesNoSense) {
  const auto& table = CohortOptions::table();
  EXPECT_THROW(table.parse(Json{{"patients", 0}}), Error);
  EXPECT_THROW(table.parse(Json{{"format", "hl7v2"}}), Error);
  EXPECT_THROW(table.parse(Json{{"icd_version", 11}}), Error);
  EXPECT_THROW(table.parse(Json{{"late_leaf_share", 1.5}}), Error);
  EXPECT_THROW(table.parse(Json{{"pateints", 5}}), Error);
  EXPECT_EQ(table.parse(Json{{"patients", 5}, {"icd_version", "9"}}).patients, 5);
}

TEST_F(CohortFiles, UnknownFormatIsAnArgumentError) {
  options_.format = "hl7v2";
  try {
    write("x");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr("mimic-iv"));
  }
}

}  // namespace
}  // namespace theriac::generate
