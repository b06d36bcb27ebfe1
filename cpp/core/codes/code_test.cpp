#include "cpp/core/codes/code.h"

#include <gtest/gtest.h>

#include "cpp/core/codes/hierarchy.h"

namespace theriac::codes {
namespace {

TEST(System, NamesRoundTrip) {
  for (int i = 0; i < kSystemCount; ++i) {
    const auto system = static_cast<System>(i);
    EXPECT_EQ(system_from_name(system_name(system)), system) << system_name(system);
  }
}

TEST(System, NamesIgnoreCaseAndDashes) {
  EXPECT_EQ(system_from_name("ICD-9-CM"), System::kIcd9cm);
  EXPECT_EQ(system_from_name("ICD9Proc"), System::kIcd9proc);
  EXPECT_EQ(system_from_name("icd_10_pcs"), System::kIcd10pcs);
  EXPECT_EQ(system_from_name("ICD10PROC"), System::kIcd10pcs);
  EXPECT_EQ(system_from_name("RxNorm"), System::kRxnorm);
  EXPECT_EQ(system_from_name("icd10"), System::kIcd10);
  for (const char* other : {"", "-", "icd", "icd11", "icd10cmx", "icd 10 cm", "loinc"}) {
    EXPECT_EQ(system_from_name(other), std::nullopt) << other;
  }
}

struct UriCase {
  const char* uri;
  System system;
};

class Uri : public ::testing::TestWithParam<UriCase> {};

TEST_P(Uri, IsKnown) {
  const auto& [uri, system] = GetParam();
  EXPECT_EQ(system_from_uri(uri, false), system);
  EXPECT_EQ(system_from_uri(std::string(uri) + "/", false), system);
  EXPECT_EQ(system_from_uri(" " + std::string(uri) + "// ", false), system);
}

INSTANTIATE_TEST_SUITE_P(
    Table, Uri,
    ::testing::Values(
        UriCase{"http://hl7.org/fhir/sid/icd-9-cm", System::kIcd9cm},
        UriCase{"urn:oid:2.16.840.1.113883.6.103", System::kIcd9cm},
        UriCase{"urn:oid:2.16.840.1.113883.6.104", System::kIcd9proc},
        UriCase{"http://hl7.org/fhir/sid/icd-10-cm", System::kIcd10cm},
        UriCase{"urn:oid:2.16.840.1.113883.6.90", System::kIcd10cm},
        UriCase{"http://hl7.org/fhir/sid/icd-10", System::kIcd10},
        UriCase{"http://www.cms.gov/Medicare/Coding/ICD10", System::kIcd10pcs},
        UriCase{"urn:oid:2.16.840.1.113883.6.4", System::kIcd10pcs},
        UriCase{"URN:OID:2.16.840.1.113883.6.4", System::kIcd10pcs},
        UriCase{"http://hl7.org/fhir/sid/icd-10-pcs", System::kIcd10pcs},
        UriCase{"http://snomed.info/sct", System::kSnomed},
        UriCase{"http://www.nlm.nih.gov/research/umls/rxnorm", System::kRxnorm},
        UriCase{"http://hl7.org/fhir/sid/ndc", System::kNdc},
        UriCase{"http://www.whocc.no/atc", System::kAtc},
        UriCase{"http://www.ama-assn.org/go/cpt", System::kCpt},
        UriCase{"http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets", System::kHcpcs},
        UriCase{"https://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets", System::kHcpcs},
        UriCase{"http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-diagnosis-icd9", System::kIcd9cm},
        UriCase{"http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-diagnosis-icd10",
                System::kIcd10cm},
        UriCase{"http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-procedure-icd9",
                System::kIcd9proc},
        UriCase{"http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-procedure-icd10",
                System::kIcd10pcs},
        UriCase{"http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-medication-ndc", System::kNdc}));

TEST(SystemFromUri, ProcedureTurnsTheSharedUriIntoVolumeThree) {
  EXPECT_EQ(system_from_uri("http://hl7.org/fhir/sid/icd-9-cm/", true), System::kIcd9proc);
  EXPECT_EQ(system_from_uri("http://hl7.org/fhir/sid/icd-9-cm", false), System::kIcd9cm);
  EXPECT_EQ(system_from_uri("http://www.cms.gov/Medicare/Coding/ICD10", true), System::kIcd10pcs);
}

TEST(SystemFromUri, OthersAreUnknown) {
  for (const char* uri : {"", "/", "http://", "http://loinc.org", "http://unitsofmeasure.org",
                          "http://hl7.org/fhir/sid/cvx", "hl7.org/fhir/sid/icd-10-cm-extra",
                          "urn:oid:2.16.840.1.113883.6", "ftp://hl7.org/fhir/sid/icd-10-cm"}) {
    EXPECT_EQ(system_from_uri(uri, false), std::nullopt) << uri;
  }
}

TEST(Normalise, TrimsUppersAndDropsDots) {
  EXPECT_EQ(normalise(System::kIcd10cm, "E11.9 "), "E119");
  EXPECT_EQ(normalise(System::kIcd10cm, "s72.001a"), "S72001A");
  EXPECT_EQ(normalise(System::kIcd9cm, "04119  "), "04119");
  EXPECT_EQ(normalise(System::kIcd9cm, "\t428.0\r\n"), "4280");
  EXPECT_EQ(normalise(System::kIcd9cm, "428 ."), "428");
  EXPECT_EQ(normalise(System::kAtc, "c03ca01"), "C03CA01");
  EXPECT_EQ(normalise(System::kRxnorm, " 352320 "), "352320");
  for (const char* empty : {"", " ", ".", " . .. "})
    EXPECT_EQ(normalise(System::kIcd9cm, empty), "");
}

TEST(Normalise, NdcGetsElevenDigitsAndKeepsWhatIsNone) {
  EXPECT_EQ(normalise(System::kNdc, "0002-3229-30"), "00002322930");
  EXPECT_EQ(normalise(System::kNdc, "0"), "");
  EXPECT_EQ(normalise(System::kNdc, " 0023229300x"), "0023229300X");
}

// 352320.0, as a spreadsheet writes the number, must not become the concept 3523200.
TEST(Normalise, NumbersKeepTheirDot) {
  EXPECT_EQ(normalise(System::kRxnorm, "352320.0"), "352320.0");
  EXPECT_EQ(normalise(System::kSnomed, " 73211009.0"), "73211009.0");
  EXPECT_FALSE(has_code_shape(System::kRxnorm, normalise(System::kRxnorm, "352320.0")));
}

TEST(Normalise, LocalCodesKeepCaseAndDots) {
  EXPECT_EQ(normalise(System::kLocal, " Lab.7a "), "Lab.7a");
  EXPECT_EQ(normalise(System::kUnknown, "x.Y"), "x.Y");
}

TEST(Normalise, IsIdempotent) {
  for (int i = 0; i < kSystemCount; ++i) {
    const auto system = static_cast<System>(i);
    for (const char* raw :
         {" e11.9", "0002-3229-30", "428.", ". a .", "V45.82 ", "\xC3\xA9.1", "0"}) {
      const std::string once = normalise(system, raw);
      EXPECT_EQ(normalise(system, once), once) << system_name(system) << " " << raw;
    }
  }
}

TEST(CodeShape, EachSystem) {
  struct Case {
    System system;
    std::vector<const char*> good, bad;
  };
  const std::vector<Case> cases = {
      {System::kIcd9cm,
       {"428", "4280", "25001", "V45", "V4582", "E812", "E8121"},
       {"", "42", "428000", "V4", "E81", "E81212", "A41", "428.0", "V45825"}},
      {System::kIcd9proc, {"38", "389", "3893"}, {"", "3", "38930", "3A", "V1"}},
      {System::kIcd10cm,
       {"I10", "E119", "S72001A", "C7A", "M1A0", "O9A", "QA0", "U071"},
       {"", "I1", "4280", "E11.9", "S72001AA", "e119", "I1C", "IB0", "I10-"}},
      {System::kIcd10pcs, {"0BH17EZ", "3E0G76Z"}, {"", "0BH17E", "0BH17EZZ", "0BI17EZ", "0BO17EZ"}},
      {System::kIcd10, {"I10", "E119", "M0590"}, {"", "I1", "S72001A", "110"}},
      {System::kAtc,
       {"C", "C03", "C03C", "C03CA", "C03CA01"},
       {"", "C0", "CC3", "C03CA0", "E03C", "C034"}},
      {System::kNdc, {"00002322930"}, {"", "0002322930", "0000232293A", "000023229301"}},
      {System::kRxnorm, {"1", "352320"}, {"", "35A", "123456789"}},
      {System::kSnomed, {"73211009", "999999999999999999"}, {"", "12345", "1234567890123456789"}},
      {System::kCpt, {"99213", "0001F", "0042T"}, {"", "9921", "A9213", "9921X"}},
      {System::kHcpcs, {"J1885", "A0425"}, {"", "J188", "Z1885", "99213"}},
      {System::kLocal, {"anything"}, {""}},
      {System::kUnknown, {"anything"}, {""}},
  };
  ASSERT_EQ(cases.size(), static_cast<std::size_t>(kSystemCount));
  for (const Case& c : cases) {
    for (const char* text : c.good)
      EXPECT_TRUE(has_code_shape(c.system, text)) << system_name(c.system) << " " << text;
    for (const char* text : c.bad)
      EXPECT_FALSE(has_code_shape(c.system, text)) << system_name(c.system) << " " << text;
  }
}

}  // namespace
}  // namespace theriac::codes
