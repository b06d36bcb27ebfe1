#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cpp/core/base/input.h"
#include "cpp/core/readers/clinical.h"
#include "cpp/core/readers/fhir_import.h"
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

constexpr const char* kIcd10 = "http://hl7.org/fhir/sid/icd-10-cm";
constexpr const char* kIcd9 = "http://hl7.org/fhir/sid/icd-9-cm";
constexpr const char* kPcs = "http://www.cms.gov/Medicare/Coding/ICD10";
constexpr const char* kAtc = "http://www.whocc.no/atc";
constexpr const char* kNdc = "http://hl7.org/fhir/sid/ndc";
constexpr const char* kRxnorm = "http://www.nlm.nih.gov/research/umls/rxnorm";
constexpr const char* kSnomed = "http://snomed.info/sct";

std::string coding(const std::string& system, const std::string& code) {
  return R"({"system":")" + system + R"(","code":")" + code + R"("})";
}
// Each is one line; `more` is JSON members with a leading comma.
std::string patient(const std::string& id) {
  return R"({"resourceType":"Patient","id":")" + id + "\"}\n";
}
std::string encounter(const std::string& id, const std::string& who, const std::string& start,
                      const std::string& more = "", const std::string& status = "finished") {
  return R"({"resourceType":"Encounter","id":")" + id + R"(","status":")" + status +
         R"(","subject":{"reference":"Patient/)" + who + R"("},"period":{"start":")" + start +
         "\"}" + more + "}\n";
}
std::string link(const std::string& reference) { return R"({"reference":")" + reference + "\"}"; }
std::string condition(const std::string& codings, const std::string& where,
                      const std::string& more = "") {
  return R"({"resourceType":"Condition","code":{"coding":[)" + codings + R"(]},"encounter":)" +
         link(where) + more + "}\n";
}
std::string procedure(const std::string& codings, const std::string& where,
                      const std::string& status = "completed") {
  return R"({"resourceType":"Procedure","status":")" + status + R"(","code":{"coding":[)" +
         codings + R"(]},"encounter":)" + link(where) + "}\n";
}
std::string request(const std::string& codings, const std::string& where,
                    const std::string& more = "", const std::string& status = "active",
                    const std::string& intent = "order") {
  return R"({"resourceType":"MedicationRequest","status":")" + status + R"(","intent":")" + intent +
         R"(","medicationCodeableConcept":{"coding":[)" + codings + R"(]},"encounter":)" +
         link(where) + more + "}\n";
}
// Two visits of one patient, each complete.
std::string base() {
  std::string out = patient("p") + encounter("e1", "p", "2150-03-01T10:00:00-05:00") +
                    encounter("e2", "p", "2150-06-01");
  for (const std::string e : {"Encounter/e1", "Encounter/e2"}) {
    out += condition(coding(kIcd10, "I10"), e) + procedure(coding(kPcs, "0BH17EZ"), e) +
           request(coding(kAtc, "C03CA01"), e);
  }
  return out;
}

class Fhir : public ::testing::Test {
 protected:
  data::Cohort read(const std::string& lines) { return read_as(lines, true); }
  data::Cohort read_bundle(const std::string& text) { return read_as(text, false); }
  data::Cohort read_as(const std::string& bytes, bool lines) {
    FhirImport import(policy_, limits_);
    import.read(memory_source(bytes, "test.ndjson"), lines);
    Job job;
    data::Cohort cohort = import.finish({}, job);
    expect_balanced(cohort);
    return cohort;
  }
  void use_map(const std::string& rows) {
    policy_.maps.codes =
        write(folder_, "map.csv",
              "source_system,source_code,target_system,target_code,priority\n" + rows)
            .string();
  }
  // One error that names the file, the line and, when given, the JSON path.
  void expect_error(const std::string& bytes, bool lines, int line, const std::string& path) {
    const Error error = error_of([&] { read_as(bytes, lines); });
    EXPECT_EQ(error.code(), Code::kDataError) << error.what();
    EXPECT_EQ(detail(error, "file"), "test.ndjson") << error.what();
    EXPECT_EQ(detail(error, "line"), std::to_string(line)) << error.what();
    if (!path.empty()) {
      EXPECT_EQ(detail(error, "json_path"), path) << error.what();
    }
    EXPECT_THAT(error.what(), HasSubstr("test.ndjson, line " + std::to_string(line)));
  }

  ScratchFolder folder_;
  data::CohortPolicy policy_;
  FhirLimits limits_;
};

TEST_F(Fhir, ReadsVisitsByWallClock) {
  const data::Cohort cohort = read(base());
  ASSERT_EQ(cohort.visits(), 2);
  EXPECT_EQ(cohort.patient_id(0), "p");
  EXPECT_EQ(cohort.visit(0).id, "e1");
  EXPECT_EQ(data::format_time(cohort.visit(0).time),
            "2150-03-01 10:00:00");  // the offset is dropped
  EXPECT_EQ(codes_of(cohort, 0, Field::kDiagnoses), "icd10cm:I10");
  EXPECT_EQ(codes_of(cohort, 0, Field::kProcedures), "icd10pcs:0BH17EZ");
  EXPECT_EQ(codes_of(cohort, 0, Field::kMedications), "atc:C03C");
}

// The order of resources and files must not matter.
TEST_F(Fhir, ReferencesMayComeBeforeTheirTargets) {
  const std::string forward = base();
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < forward.size();) {
    const std::size_t end = forward.find('\n', at);
    lines.push_back(forward.substr(at, end - at + 1));
    at = end + 1;
  }
  std::string backward;
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) backward += *line;
  EXPECT_EQ(read(backward).fingerprint(), read(forward).fingerprint());
}

TEST_F(Fhir, EveryFormOfReference) {
  const std::string forms[] = {"Encounter/e1", "https://host.example/fhir/Encounter/e1",
                               "Encounter/e1/_history/3",
                               "https://host.example/fhir/Encounter/e1/_history/1"};
  for (const std::string& form : forms) {
    const data::Cohort cohort = read(base() + condition(coding(kIcd10, "E11.9"), form));
    EXPECT_EQ(codes_of(cohort, 0, Field::kDiagnoses), "icd10cm:I10 icd10cm:E119") << form;
  }
}

TEST_F(Fhir, ReferencesThatLeadNowhereAreCounted) {
  const data::Cohort cohort = read(
      base() + condition(coding(kIcd10, "E119"), "Encounter/none") +
      condition(coding(kIcd10, "E119"), "Encounter?identifier=1") +
      condition(coding(kIcd10, "E119"), "urn:uuid:00000000-0000-0000-0000-000000000000") +
      condition(coding(kIcd10, "E119"), "Patient/p") +
      condition(coding(kIcd10, "E119"), "Encounter/e1", R"(,"subject":{"reference":"Patient/q"})") +
      encounter("e3", "q", "2150-01-01"));
  EXPECT_EQ(dropped(cohort, "Condition", "encounter not found"), 4);
  EXPECT_EQ(dropped(cohort, "Condition", "patient not found"), 1);
  EXPECT_EQ(dropped(cohort, "Encounter", "patient not found"), 1);
}

TEST_F(Fhir, AnotherPatientsRecordIsNeverAttached) {
  const data::Cohort cohort = read(
      base() + patient("q") +
      condition(coding(kIcd10, "E119"), "Encounter/e1", R"(,"subject":{"reference":"Patient/q"})"));
  EXPECT_EQ(dropped(cohort, "Condition", "patient differs from the encounter's"), 1);
  EXPECT_EQ(codes_of(cohort, 0, Field::kDiagnoses), "icd10cm:I10");
}

TEST_F(Fhir, EncounterStatuses) {
  const data::Cohort cohort =
      read(base() + encounter("e3", "p", "2151-01-01", "", "entered-in-error") +
           encounter("e4", "p", "2151-01-01", "", "cancelled") +
           encounter("e5", "p", "2151-01-01", "", "planned") +
           encounter("e6", "p", "2151-01-01", "", "in-progress") +
           encounter("e7", "p", "2151-01-01", "", "Mr. Smith") +
           condition(coding(kIcd10, "E119"), "Encounter/e4"));
  EXPECT_EQ(dropped(cohort, "Encounter", "status entered-in-error"), 1);
  EXPECT_EQ(dropped(cohort, "Encounter", "status cancelled"), 1);
  EXPECT_EQ(dropped(cohort, "Encounter", "status planned"), 1);
  EXPECT_EQ(dropped(cohort, "Encounter", "a status that is not of FHIR R4"), 1);
  EXPECT_EQ(dropped(cohort, "Condition", "encounter not kept"), 1);
  EXPECT_EQ(cohort.accounting()["tables"]["Encounter"]["kept"], 3);
}

TEST_F(Fhir, ConditionVerification) {
  const std::string where = "Encounter/e1";
  const auto verified = [](const std::string& code) {
    return R"(,"verificationStatus":{"coding":[{"code":")" + code + "\"}]}";
  };
  const data::Cohort cohort =
      read(base() + condition(coding(kIcd10, "A1"), where, verified("refuted")) +
           condition(coding(kIcd10, "A2"), where, verified("entered-in-error")) +
           condition(coding(kIcd10, "A3"), where, verified("confirmed")));
  EXPECT_EQ(dropped(cohort, "Condition", "verification status refuted"), 1);
  EXPECT_EQ(dropped(cohort, "Condition", "verification status entered-in-error"), 1);
  EXPECT_EQ(codes_of(cohort, 0, Field::kDiagnoses), "icd10cm:I10 icd10cm:A3");
}

TEST_F(Fhir, ProcedureStatuses) {
  const data::Cohort cohort =
      read(base() + procedure(coding(kPcs, "0A"), "Encounter/e1", "in-progress") +
           procedure(coding(kPcs, "0B"), "Encounter/e1", "not-done") +
           procedure(coding(kPcs, "0C"), "Encounter/e1", "entered-in-error"));
  EXPECT_EQ(dropped(cohort, "Procedure", "status not-done"), 1);
  EXPECT_EQ(dropped(cohort, "Procedure", "status entered-in-error"), 1);
  EXPECT_EQ(codes_of(cohort, 0, Field::kProcedures), "icd10pcs:0BH17EZ icd10pcs:0A");
}

TEST_F(Fhir, RequestStatusIntentAndDoNotPerform) {
  const std::string where = "Encounter/e1", drug = coding(kAtc, "A10BA02");
  const data::Cohort cohort =
      read(base() + request(drug, where, "", "draft") + request(drug, where, "", "cancelled") +
           request(drug, where, "", "entered-in-error") +
           request(drug, where, "", "active", "proposal") +
           request(drug, where, R"(,"doNotPerform":true)") +
           request(coding(kAtc, "B01AA03"), where, R"(,"doNotPerform":false)", "stopped", "plan"));
  EXPECT_EQ(dropped(cohort, "MedicationRequest", "status draft"), 1);
  EXPECT_EQ(dropped(cohort, "MedicationRequest", "status cancelled"), 1);
  EXPECT_EQ(dropped(cohort, "MedicationRequest", "status entered-in-error"), 1);
  EXPECT_EQ(dropped(cohort, "MedicationRequest", "intent other than order or plan"), 1);
  EXPECT_EQ(dropped(cohort, "MedicationRequest", "doNotPerform"), 1);
  EXPECT_EQ(codes_of(cohort, 0, Field::kMedications), "atc:B01A atc:C03C");
}

TEST_F(Fhir, AdministrationsCountAndStatementsDoNot) {
  const std::string drug = R"("medicationCodeableConcept":{"coding":[)" + coding(kAtc, "A10BA02") +
                           R"(]},"context":)" + link("Encounter/e1") + "}\n";
  const data::Cohort cohort =
      read(base() + R"({"resourceType":"MedicationAdministration","status":"completed",)" + drug +
           R"({"resourceType":"MedicationAdministration","status":"not-done",)" + drug +
           R"({"resourceType":"MedicationStatement","status":"active",)" + drug);
  EXPECT_EQ(codes_of(cohort, 0, Field::kMedications), "atc:A10B atc:C03C");
  EXPECT_EQ(dropped(cohort, "MedicationAdministration", "status not-done"), 1);
  EXPECT_EQ(dropped(cohort, "MedicationStatement", "home medication, not of the visit"), 1);
}

TEST_F(Fhir, PartsAreMergedIntoTheOutermostEncounter) {
  const data::Cohort cohort = read(
      base() + encounter("ward", "p", "2150-03-02", R"(,"partOf":{"reference":"Encounter/e1"})") +
      encounter("bed", "p", "2150-03-03", R"(,"partOf":{"reference":"Encounter/ward"})") +
      condition(coding(kIcd10, "E119"), "Encounter/bed"));
  ASSERT_EQ(cohort.visits(), 2);
  EXPECT_EQ(codes_of(cohort, 0, Field::kDiagnoses), "icd10cm:I10 icd10cm:E119");
  EXPECT_EQ(cohort.provenance()["warnings"]["encounters merged into the one they are part of"], 2);
}

TEST_F(Fhir, PartsOfLostCancelledForeignOrCircularParentsStandAlone) {
  policy_.require_all_three = false;
  policy_.min_visits = 1;
  const auto part_of = [](const std::string& parent) {
    return R"(,"partOf":{"reference":"Encounter/)" + parent + "\"}";
  };
  std::string lines =
      patient("p") + patient("q") + encounter("off", "p", "2150-01-01", "", "cancelled") +
      encounter("other", "q", "2150-01-01") + encounter("a", "p", "2150-01-01", part_of("none")) +
      encounter("b", "p", "2150-01-02", part_of("off")) +
      encounter("c", "p", "2150-01-03", part_of("other")) +
      encounter("d", "p", "2150-01-04", part_of("f")) +
      encounter("f", "p", "2150-01-05", part_of("d")) +
      encounter("g", "p", "2150-01-06", part_of("g"));
  for (const std::string e : {"other", "a", "b", "c", "d", "f", "g"})
    lines += condition(coding(kIcd10, "I10"), "Encounter/" + e);
  const data::Cohort cohort = read(lines);
  EXPECT_EQ(cohort.visits(), 6);  // other; a, b, c, d with f, g
  EXPECT_EQ(cohort.provenance()["warnings"]["encounters merged into the one they are part of"], 1);
}

TEST_F(Fhir, AVeryLongChainOfParts) {
  std::string lines = base();
  for (int i = 0; i < 20'000; ++i) {
    lines += encounter(
        "c" + std::to_string(i), "p", "2150-03-01",
        R"(,"partOf":{"reference":"Encounter/)" + (i ? "c" + std::to_string(i - 1) : "e1") + "\"}");
  }
  EXPECT_EQ(read(lines + condition(coding(kIcd10, "E119"), "Encounter/c19999")).visits(), 2);
}

TEST_F(Fhir, ProblemListFollowsThePolicy) {
  const std::string item =
      R"({"resourceType":"Condition","id":"x","category":[{"coding":[{"code":"problem-list-item"}]}],"code":{"coding":[)" +
      coding(kIcd10, "E119") + R"(]},"subject":{"reference":"Patient/p"}})" + "\n";
  const std::string loose = R"({"resourceType":"Condition","id":"y","code":{"coding":[)" +
                            coding(kIcd10, "E119") + R"(]},"subject":{"reference":"Patient/p"}})" +
                            "\n";
  EXPECT_EQ(dropped(read(base() + item + loose), "Condition",
                    "problem-list item without an encounter (problem_list=drop)"),
            1);
  policy_.problem_list = "last_visit";
  const data::Cohort cohort = read(item + loose + base());
  EXPECT_EQ(codes_of(cohort, 0, Field::kDiagnoses), "icd10cm:I10");
  EXPECT_EQ(codes_of(cohort, 1, Field::kDiagnoses), "icd10cm:I10 icd10cm:E119");
  EXPECT_EQ(dropped(cohort, "Condition", "no encounter"), 1);
}

TEST_F(Fhir, EncounterDiagnosisAttachesAConditionWithoutEncounter) {
  const std::string loose = R"({"resourceType":"Condition","id":"y","code":{"coding":[)" +
                            coding(kIcd10, "E119") + "]}}\n";
  const std::string lines =
      loose + patient("p") +
      encounter("e1", "p", "2150-03-01",
                R"(,"diagnosis":[{"condition":{"reference":"Condition/y"}}])");
  policy_.require_all_three = false;
  policy_.min_visits = 1;
  EXPECT_EQ(codes_of(read(lines), 0, Field::kDiagnoses), "icd10cm:E119");
}

TEST_F(Fhir, PrefersTheBestCodeSystemOfAConcept) {
  use_map("snomed,44054006,icd10cm,E11.9,1\n");
  const std::string e1 = "Encounter/e1";
  const data::Cohort cohort =
      read(base() + condition(coding(kSnomed, "44054006") + "," + coding(kIcd9, "250.00"), e1) +
           condition(coding(kIcd9, "428.0") + "," + coding(kIcd10, "I50.9 "), e1) +
           condition(coding(kSnomed, "44054006"), e1));
  EXPECT_EQ(codes_of(cohort, 0, Field::kDiagnoses),
            "icd10cm:I10 icd9cm:25000 icd10cm:I509 icd10cm:E119");
}

TEST_F(Fhir, IcdNineUriOfAProcedureIsVolumeThree) {
  const data::Cohort cohort = read(base() + procedure(coding(kIcd9, "38.93"), "Encounter/e1"));
  EXPECT_EQ(codes_of(cohort, 0, Field::kProcedures), "icd10pcs:0BH17EZ icd9proc:3893");
}

TEST_F(Fhir, CodesWithoutAPlaceAreCountedNeverGuessed) {
  const std::string e1 = "Encounter/e1";
  const data::Cohort cohort = read(
      base() + R"({"resourceType":"Condition","code":{"text":"diabetes"},"encounter":)" + link(e1) +
      "}\n" + R"({"resourceType":"Condition","encounter":)" + link(e1) + "}\n" +
      condition(coding(kSnomed, "44054006"), e1) +
      condition(coding("http://local.example", "E119"), e1) + condition(R"({"code":"E119"})", e1) +
      procedure(coding("http://www.ama-assn.org/go/cpt", "99213"), e1) +
      procedure(coding("http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets/", "G0008"), e1) +
      request(coding(kNdc, "0001000101"), e1) + request(coding(kNdc, "0001-0001-01"), e1) +
      request(coding(kRxnorm, "1"), e1));
  EXPECT_EQ(dropped(cohort, "Condition", "text only, no code"), 2);
  EXPECT_EQ(dropped(cohort, "Condition", "SNOMED CT code without a map"), 1);
  EXPECT_EQ(dropped(cohort, "Condition", "unknown code system"), 2);
  EXPECT_EQ(dropped(cohort, "Procedure", "CPT or HCPCS code without a map"), 2);
  EXPECT_EQ(dropped(cohort, "MedicationRequest", "ambiguous NDC of 10 digits without hyphens"), 1);
  EXPECT_EQ(dropped(cohort, "MedicationRequest", "no medication class known for the code"), 2);
  const Json& unmapped = cohort.accounting()["unmapped"];
  EXPECT_EQ(unmapped["snomed"]["top"][0]["code"], "44054006");
  EXPECT_EQ(unmapped["ndc"]["top"][0]["code"], "00001000101");
  EXPECT_EQ(unmapped["rxnorm"]["rows"], 1);
}

TEST_F(Fhir, DrugsPreferTheCodingThatHasAClass) {
  policy_.maps.rxcui_atc = write(folder_, "rxcui.csv", "rxcui,atc4\n6809,A10BA\n").string();
  const std::string e1 = "Encounter/e1";
  const data::Cohort cohort =
      read(base() + request(coding(kNdc, "00001000101") + "," + coding(kRxnorm, "6809"), e1) +
           request(coding(kRxnorm, "1") + "," + coding(kAtc, "B01AA03"), e1));
  EXPECT_EQ(codes_of(cohort, 0, Field::kMedications), "atc:A10B atc:B01A atc:C03C");
}

TEST_F(Fhir, MedicationByReferenceAndContained) {
  const auto by_reference = [](const std::string& reference, const std::string& more = "") {
    return R"({"resourceType":"MedicationRequest","status":"active","intent":"order","encounter":{"reference":"Encounter/e1"},)"
           R"("medicationReference":{"reference":")" +
           reference + "\"}" + more + "}\n";
  };
  const std::string code = R"("code":{"coding":[)" + coding(kAtc, "A10BA02") + "]}";
  const std::string contained =
      R"(,"contained":[{"resourceType":"Medication","id":"m","code":{"coding":[)" +
      coding(kAtc, "B01AA03") + "]}}]";
  const data::Cohort cohort =
      read(base() + by_reference("Medication/metformin") +
           R"({"resourceType":"Medication","id":"metformin",)" + code + "}\n" +
           by_reference("#m", contained) + by_reference("#absent", contained) +
           by_reference("Medication/none") +
           R"({"resourceType":"Medication","id":"wrong","status":"entered-in-error",)" + code +
           "}\n" + by_reference("Medication/wrong") +
           R"({"resourceType":"Medication","id":"text","code":{"text":"x"}})" + "\n" +
           by_reference("Medication/text"));
  EXPECT_EQ(codes_of(cohort, 0, Field::kMedications), "atc:A10B atc:B01A atc:C03C");
  EXPECT_EQ(dropped(cohort, "MedicationRequest", "medication not found"), 2);
  EXPECT_EQ(dropped(cohort, "MedicationRequest", "status entered-in-error"), 1);
  EXPECT_EQ(dropped(cohort, "MedicationRequest", "text only, no code"), 1);
}

TEST_F(Fhir, FirstDayWindow) {
  policy_.med_window = "first_day";
  const std::string e1 = "Encounter/e1";
  const data::Cohort cohort =
      read(patient("p") + encounter("e1", "p", "2150-03-01") + encounter("e2", "p", "2150-06-01") +
           condition(coding(kIcd10, "I10"), e1) + condition(coding(kIcd10, "I10"), "Encounter/e2") +
           procedure(coding(kPcs, "0A"), e1) + procedure(coding(kPcs, "0A"), "Encounter/e2") +
           request(coding(kAtc, "A10BA02"), e1, R"(,"authoredOn":"2150-03-02T23:59:59Z")") +
           request(coding(kAtc, "B01AA03"), e1, R"(,"authoredOn":"2150-03-03")") +
           request(coding(kAtc, "C03CA01"), e1) +
           request(coding(kAtc, "A10BA02"), "Encounter/e2", R"(,"authoredOn":"2150-06-02")"));
  EXPECT_EQ(codes_of(cohort, 0, Field::kMedications), "atc:A10B");
  EXPECT_EQ(dropped(cohort, "MedicationRequest", "no date (med_window=first_day)"), 1);
}

std::string bundle(const std::string& lines) {
  std::string out = "{\"resourceType\":\"Bundle\",\"type\":\"collection\",\"entry\":[\n";
  for (std::size_t at = 0; at < lines.size();) {
    const std::size_t end = lines.find('\n', at);
    out += (at ? ",\n" : "") + std::string("{\"resource\":") + lines.substr(at, end - at) + "}";
    at = end + 1;
  }
  return out + "\n]}\n";
}

TEST_F(Fhir, BundlesOfEveryLayoutGiveTheSameCohort) {
  const data::Cohort cohort = read(base());
  EXPECT_EQ(read_bundle(bundle(base())).fingerprint(), cohort.fingerprint());
  EXPECT_EQ(read_bundle("\xEF\xBB\xBF" + bundle(base())).fingerprint(), cohort.fingerprint());
  std::string one_line = bundle(base());
  std::erase(one_line, '\n');
  EXPECT_EQ(read(one_line + "\n").fingerprint(), cohort.fingerprint());
  EXPECT_EQ(read_bundle(base()).fingerprint(),
            cohort.fingerprint());  // lines in a file that is called .json
  std::string escaped = bundle(base());
  escaped.replace(escaped.find("\"entry\""), 7, "\"entr\\u0079\"");
  EXPECT_EQ(read_bundle(escaped).fingerprint(), cohort.fingerprint());
}

TEST_F(Fhir, BundleLinksByUrnUuid) {
  const std::string p = "urn:uuid:11111111-1111-1111-1111-111111111111",
                    e = "urn:uuid:22222222-2222-2222-2222-222222222222";
  policy_.require_all_three = false;
  policy_.min_visits = 1;
  const data::Cohort cohort = read_bundle(
      R"({"resourceType":"Bundle","type":"transaction","entry":[{"fullUrl":")" + p +
      R"(","resource":{"resourceType":"Patient"}},)" + R"({"fullUrl":")" + e +
      R"(","resource":{"resourceType":"Encounter","id":"v","status":"finished","subject":{"reference":")" +
      p + R"("}}},{"resource":)" + condition(coding(kIcd10, "I10"), e) +
      R"(},{"request":{"method":"DELETE"}}]})");
  ASSERT_EQ(cohort.visits(), 1);
  EXPECT_EQ(cohort.patient_id(0), p);
  EXPECT_EQ(cohort.visit(0).id, "v");
  EXPECT_EQ(cohort.visit(0).time, data::kNoTime);
  EXPECT_EQ(codes_of(cohort, 0, Field::kDiagnoses), "icd10cm:I10");
}

TEST_F(Fhir, RepeatedResourcesCountOnceAndConflictsAreErrors) {
  const data::Cohort cohort = read(base() + patient("p") + encounter("e2", "p", "2150-06-01"));
  EXPECT_EQ(cohort.visits(), 2);
  EXPECT_EQ(dropped(cohort, "Patient", "repeated resource"), 1);
  EXPECT_EQ(dropped(cohort, "Encounter", "repeated resource"), 1);
  expect_error(base() + encounter("e2", "p", "2150-07-01"), true, 10, "Encounter.id");
}

TEST_F(Fhir, DatesInTheWrongOrderAreReportedNotFatal) {
  const data::Cohort cohort = read(
      base() +
      R"({"resourceType":"Encounter","id":"z","status":"finished","subject":{"reference":"Patient/p"},)"
      R"("period":{"start":"2150-06-02","end":"2150-06-01"}})"
      "\n");
  EXPECT_EQ(cohort.provenance()["warnings"]["encounters that end before they start"], 1);
}

TEST_F(Fhir, MalformedTextNamesFileAndLine) {
  expect_error(base() + "{\"resourceType\":\"Patient\",}\n", true, 10, "");
  expect_error(base() + "{\"resourceType\":\"Patient\"} x\n", true, 10, "");
  expect_error(
      "{\"resourceType\":\"Patient\",\"id\":\"p\"}\r{\"resourceType\":\"Patient\",\"id\":\"q\"}\r",
      true, 1, "");
  expect_error("[]\n", true, 1, "");
  expect_error("[]\n", false, 1, "");
  expect_error("{\"a\":1}\n", true, 1, "");
  expect_error(base() + "{\"resourceType\":\"Patient\",\"id\":\"caf\xE9\"}\n", true, 10, "");
  expect_error(base() + std::string("{\"resourceType\":\"Pat\0ient\"}\n", 27), true, 10, "");
  expect_error(
      "{\"resourceType\":\"Bundle\",\"entry\":[\n{\"resource\":{\"resourceType\":\"Patient\","
      "\"id\":\"p\"}},\n{\"resource\":{]}]}",
      false, 3, "Bundle.entry[1]");
  expect_error("{\"resourceType\":\"Bundle\",\"entry\":[]", false, 1, "");
}

TEST_F(Fhir, FieldsOfTheWrongShapeNameTheirPath) {
  expect_error(R"({"resourceType":"Condition","code":{"coding":[{"code":5}]}})", true, 1,
               "Condition.code.coding[0].code");
  expect_error(R"({"resourceType":"Condition","code":"I10"})", true, 1, "Condition.code");
  expect_error(R"({"resourceType":"Condition","category":{}})", true, 1, "Condition.category");
  expect_error(R"({"resourceType":"Encounter","id":"e","period":{"start":2150}})", true, 1,
               "Encounter.period.start");
  expect_error(
      R"({"resourceType":"Encounter","id":"e","status":"finished","period":{"start":"yesterday"}})",
      true, 1, "Encounter.period.start");
  expect_error(R"({"resourceType":"Encounter","id":"e","status":"finished","status":"cancelled"})",
               true, 1, "status");
  expect_error(R"({"resourceType":"MedicationRequest","doNotPerform":"yes"})", true, 1,
               "MedicationRequest.doNotPerform");
  expect_error(
      R"({"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":1}}]})", true,
      1, "Bundle.entry[0].resource.id");
  expect_error(
      R"({"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":1}}]})",
      false, 1, "Bundle.entry[0].resource.id");
}

TEST_F(Fhir, ErrorsDoNotQuoteThePatient) {
  const Error error = error_of([&] { read(encounter("Smith", "p", "12.07.1950")); });
  EXPECT_THAT(error.what(), Not(HasSubstr("Smith")));
  EXPECT_THAT(error.what(), Not(HasSubstr("1950")));
}

TEST_F(Fhir, DeepNestingIsAnErrorNotACrash) {
  for (const bool lines : {true, false}) {
    const std::string deep = "{\"resourceType\":\"Patient\",\"x\":" + std::string(1'000'000, '[') +
                             std::string(1'000'000, ']') + "}";
    const Error error = error_of([&] { read_as(base() + deep + "\n", lines); });
    EXPECT_EQ(error.code(), Code::kDataError);
    EXPECT_THAT(error.what(), HasSubstr("256 levels"));
    EXPECT_EQ(detail(error, "line"), "10");
  }
}

TEST_F(Fhir, AStringBeyondTheLimit) {
  const std::string huge = "{\"resourceType\":\"Patient\",\"id\":\"" +
                           std::string(limits_.resource_bytes, 'x') + "\"}\n";
  expect_error(base() + huge, true, 10, "");
  expect_error(base() + huge, false, 10, "");
}

TEST_F(Fhir, LongCodesAreCountedNotKept) {
  const data::Cohort cohort =
      read(base() + condition(coding(kIcd10, std::string(1000, 'x')), "Encounter/e1"));
  EXPECT_EQ(dropped(cohort, "Condition", "malformed code"), 1);
}

TEST_F(Fhir, FoldersOfFilesPlainAndGzip) {
  write_gzip(folder_, "a.ndjson.gz", base());
  write(folder_, "b.json", bundle(patient("q")));
  write(folder_, "notes.txt", "not FHIR");
  Job job;
  const data::Cohort cohort = read_fhir(folder_.path(), policy_, job);
  EXPECT_EQ(cohort.visits(), 2);
  EXPECT_EQ(cohort.provenance()["files"].size(), 2U);
  EXPECT_EQ(read_fhir(folder_ / "a.ndjson.gz", policy_, job).fingerprint(), cohort.fingerprint());
}

TEST_F(Fhir, TruncatedGzipAndMissingFiles) {
  Job job;
  EXPECT_EQ(error_of([&] { read_fhir(folder_.path(), policy_, job); }).code(), Code::kNotFound);
  EXPECT_EQ(error_of([&] { read_fhir(folder_ / "none.json", policy_, job); }).code(),
            Code::kNotFound);
  testing::cut(write_gzip(folder_, "a.ndjson.gz", base()), 6);
  const Error error = error_of([&] { read_fhir(folder_.path(), policy_, job); });
  EXPECT_EQ(error.code(), Code::kDataError);
  EXPECT_THAT(error.what(), HasSubstr("a.ndjson.gz"));
}

}  // namespace
}  // namespace theriac::readers
