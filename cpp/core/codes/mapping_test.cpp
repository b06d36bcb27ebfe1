#include "cpp/core/codes/mapping.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "cpp/core/codes/test_files.h"

namespace theriac::codes {
namespace {

using testing::data_folder;
using ::testing::ElementsAre;
using testing::failure_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::TempFile;

std::vector<std::string> ndc(const CodeMaps& maps, const char* text) {
  return maps.atc3({System::kNdc, normalise(System::kNdc, text)});
}

TEST(MapOptions, TableHasTheFourPaths) {
  const MapOptions options = MapOptions::table().parse(
      Json{{"ndc_rxcui", "a"}, {"rxcui_atc", "b"}, {"ndc_atc", "c"}, {"codes", "d"}});
  EXPECT_EQ(options.ndc_rxcui + options.rxcui_atc + options.ndc_atc + options.codes, "abcd");
  EXPECT_EQ(failure_of([] {
              MapOptions::table().parse(Json{{"rxcui", "a"}});
            }).code,
            Code::kInvalidArgument);
}

TEST(CodeMaps, EmptyMapsOnlyTruncateAtc) {
  const CodeMaps maps = CodeMaps::load({});
  EXPECT_THAT(maps.atc3({System::kAtc, "C03CA01"}), ElementsAre("C03C"));
  EXPECT_THAT(maps.atc3({System::kAtc, "C03C"}), ElementsAre("C03C"));
  for (const char* coarse : {"C03", "C", "", "nonsense"})
    EXPECT_THAT(maps.atc3({System::kAtc, coarse}), IsEmpty());
  EXPECT_THAT(maps.atc3({System::kRxnorm, "352320"}), IsEmpty());
  EXPECT_THAT(maps.atc3({System::kSnomed, "73211009"}), IsEmpty());
  EXPECT_FALSE(maps.has_code_map());
  EXPECT_FALSE(maps.has_medication_map());
  EXPECT_THAT(maps.versions(), IsEmpty());
}

TEST(CodeMaps, NdcGoesOverRxnormAndFallsBack) {
  const TempFile rxcui("rxcui.csv", "rxcui,atc4\n11,N06BA\n11,C03CA\n11,N06BB\n22,A10AB\n33,\n");
  const TempFile over(
      "over.csv",
      "ndc11,rxcui\n00002322930,11\n0002-3235-60,22\n00000000003,33\n00000000004,44\n"
      "00000000005,11\n00000000005,22\n");
  const TempFile direct(
      "direct.csv",
      "ndc11,atc5\n00002322930,B01AA03\n00000000003,B01AA03\n00000000004,b01ab01\n"
      "00000000006,J01CA04\n");
  MapOptions options;
  options.rxcui_atc = rxcui.path().string();
  options.ndc_rxcui = over.path().string();
  options.ndc_atc = direct.path().string();
  const CodeMaps maps = CodeMaps::load(options);
  EXPECT_THAT(maps.atc3({System::kRxnorm, "11"}), ElementsAre("C03C", "N06B"));
  EXPECT_THAT(ndc(maps, "00002322930"),
              ElementsAre("C03C", "N06B"));  // no fallback where RxNorm answers
  EXPECT_THAT(ndc(maps, "0002-3235-60"), ElementsAre("A10A"));
  EXPECT_THAT(ndc(maps, "00000000003"), ElementsAre("B01A"));  // RXCUI without a class
  EXPECT_THAT(ndc(maps, "00000000004"), ElementsAre("B01A"));  // RXCUI unknown
  EXPECT_THAT(ndc(maps, "00000000005"), ElementsAre("A10A", "C03C", "N06B"));
  EXPECT_THAT(ndc(maps, "00000000006"), ElementsAre("J01C"));
  EXPECT_THAT(ndc(maps, "00000000007"), IsEmpty());
  EXPECT_EQ(maps.versions().size(), 3U);
}

TEST(CodeMaps, ViewAndCopyAgree) {
  const TempFile rxcui("rxcui.csv", "rxcui,atc\n11,N06BA09\n11,C03CA01\n");
  MapOptions options;
  options.rxcui_atc = rxcui.path().string();
  const CodeMaps maps = CodeMaps::load(options);
  std::string scratch;
  for (const MedicalCode& code :
       {MedicalCode{System::kRxnorm, "11"}, MedicalCode{System::kRxnorm, "12"},
        MedicalCode{System::kAtc, "A10AB01"}, MedicalCode{System::kLocal, "x"}}) {
    const auto view = maps.atc3(code, scratch);
    EXPECT_EQ(std::vector<std::string>(view.begin(), view.end()), maps.atc3(code));
  }
}

TEST(CodeMaps, VersionsFollowContent) {
  const auto version = [](std::string_view table) {
    const TempFile file("t.csv", table);
    MapOptions options;
    options.rxcui_atc = file.path().string();
    const CodeMaps maps = CodeMaps::load(options);
    EXPECT_EQ(maps.versions().size(), 1U);
    EXPECT_EQ(maps.versions().front().first, "rxcui_atc");
    return maps.versions().front().second;
  };
  EXPECT_EQ(version("rxcui,atc4\n1,C03CA\n"), version("\xEF\xBB\xBFrxcui,atc4\r\n1,C03CA\r\n"));
  EXPECT_NE(version("rxcui,atc4\n1,C03CA\n"), version("rxcui,atc4\n1,C03CB\n"));
}

TEST(CodeMaps, TargetsByPriority) {
  const TempFile file("codes.csv",
                      "source_system,source_code,target_system,target_code,priority\n"
                      "snomed,73211009,icd10cm,E14,5\n"
                      "http://snomed.info/sct,73211009,http://hl7.org/fhir/sid/icd-10-cm,E11.9,1\n"
                      "SNOMED,73211009,ICD-10-CM,E119,3\n"
                      "snomed,73211009,icd10cm,E10.9,5\n"
                      "snomed,44054006,icd10cm,,1\n"
                      "icd9cm,250.00,icd10cm,E119,\n");
  MapOptions options;
  options.codes = file.path().string();
  const CodeMaps maps = CodeMaps::load(options);
  EXPECT_TRUE(maps.has_code_map());
  const auto icd10 = [](const char* text) { return MedicalCode{System::kIcd10cm, text}; };
  EXPECT_THAT(maps.targets({System::kSnomed, "73211009"}),
              ElementsAre(icd10("E119"), icd10("E14"), icd10("E109")));
  EXPECT_THAT(maps.targets({System::kIcd9cm, "25000"}), ElementsAre(icd10("E119")));
  EXPECT_THAT(maps.targets({System::kSnomed, "44054006"}), IsEmpty());
  EXPECT_THAT(maps.targets({System::kLocal, "73211009"}), IsEmpty());
}

TEST(CodeMaps, PriorityIsOptional) {
  const TempFile file("codes.csv",
                      "source_system,source_code,target_system,target_code\nlocal,Ab,atc,C03C\n");
  MapOptions options;
  options.codes = file.path().string();
  EXPECT_THAT(CodeMaps::load(options).targets({System::kLocal, "Ab"}),
              ElementsAre(MedicalCode{System::kAtc, "C03C"}));
}

struct HostileMap {
  std::string MapOptions::*option;
  const char* table;
  const char* line;
  const char* fragment;
};

class HostileMaps : public ::testing::TestWithParam<HostileMap> {};

TEST_P(HostileMaps, AreOneClearError) {
  const auto& [option, table, line, fragment] = GetParam();
  const TempFile file("hostile.csv", table);
  MapOptions options;
  options.*option = file.path().string();
  const Failure failure = failure_of([&] { CodeMaps::load(options); });
  EXPECT_EQ(failure.code, Code::kDataError);
  EXPECT_THAT(failure.message, HasSubstr("hostile.csv"));
  EXPECT_THAT(failure.message, HasSubstr(line));
  EXPECT_THAT(failure.message, HasSubstr(fragment));
}

INSTANTIATE_TEST_SUITE_P(
    Tables, HostileMaps,
    ::testing::Values(
        HostileMap{&MapOptions::rxcui_atc, "rxcui,class\n1,C03C\n", "", "atc4"},
        HostileMap{&MapOptions::rxcui_atc, "id,atc4\n1,C03C\n", "", "rxcui"},
        HostileMap{&MapOptions::rxcui_atc, "rxcui,atc4\n1,C03CA\n2,C03\n", "line 3", "'C03'"},
        HostileMap{&MapOptions::rxcui_atc, "rxcui,atc4\n1,X03CA\n", "line 2", "'X03CA'"},
        HostileMap{&MapOptions::rxcui_atc, "rxcui,atc4\n1.0,C03CA\n", "line 2", "'1.0'"},
        HostileMap{&MapOptions::rxcui_atc, "rxcui,atc4\n1\n", "line 2", ""},
        HostileMap{&MapOptions::ndc_rxcui, "ndc11,rxcui\n0002322930,1\n", "line 2", "'0002322930'"},
        HostileMap{&MapOptions::ndc_rxcui, "ndc11,rxcui\n00002322930,x\n", "line 2", "'x'"},
        HostileMap{&MapOptions::ndc_rxcui, "ndc,rxcui\n00002322930,1\n", "", "ndc11"},
        HostileMap{&MapOptions::ndc_atc, "ndc11,atc4\nnonsense,C03CA\n", "line 2", "'nonsense'"},
        HostileMap{&MapOptions::codes,
                   "source_system,source_code,target_system,target_code\nicd11,1,atc,C03C\n",
                   "line 2", "'icd11'"},
        HostileMap{
            &MapOptions::codes,
            "source_system,source_code,target_system,target_code,priority\nlocal,1,atc,C03C,high\n",
            "line 2", "'high'"},
        HostileMap{&MapOptions::codes, "source_system,source_code,target_code\n", "",
                   "target_system"}));

TEST(CodeMaps, RowsThatCanNeverBeFoundAreCounted) {
  const TempFile direct("direct.csv",
                        "ndc11,atc4\nidx,C03CA\n0002322930,C03CA\n00002322930,C03CA\n,C03CA\n");
  MapOptions options;
  options.ndc_atc = direct.path().string();
  const CodeMaps maps = CodeMaps::load(options);
  EXPECT_THAT(maps.skipped_rows(), ElementsAre(::testing::Pair("ndc_atc", 2)));
  EXPECT_THAT(ndc(maps, "00002322930"), ElementsAre("C03C"));
}

TEST(CodeMaps, MissingFile) {
  MapOptions options;
  options.ndc_atc = "no/such/table.csv";
  EXPECT_EQ(failure_of([&] { CodeMaps::load(options); }).code, Code::kNotFound);
}

// ---- the research tables on the open demos (medication.md sections 9.2 and 12.6) ----

CodeMaps research_maps() {
  MapOptions options;
  options.ndc_rxcui = (data_folder() / "rxnorm/ndc_rxcui.csv").string();
  options.rxcui_atc = (data_folder() / "nc-restricted/rxcui_atc.csv").string();
  options.ndc_atc = (data_folder() / "nc-restricted/ndc_atc.csv").string();
  return CodeMaps::load(options);
}

struct Coverage {
  std::size_t with_ndc = 0, mapped = 0;
  std::set<std::string> classes, first_classes;
};

Coverage coverage_of(const std::filesystem::path& prescriptions) {
  const CodeMaps maps = research_maps();
  CsvReader reader(open_source(prescriptions));
  const std::size_t column = reader.column("ndc");
  Coverage out;
  std::string scratch;
  while (reader.next()) {
    const MedicalCode code{System::kNdc, normalise(System::kNdc, reader.field(column))};
    if (code.text.empty()) continue;
    ++out.with_ndc;
    const auto classes = maps.atc3(code, scratch);
    if (classes.empty()) continue;
    ++out.mapped;
    out.first_classes.insert(classes.front());
    out.classes.insert(classes.begin(), classes.end());
  }
  return out;
}

TEST(ResearchMaps, CoverMimic3Demo) {
  THERIAC_NEED_DATA("nc-restricted/rxcui_atc.csv");
  THERIAC_NEED_DATA("mimic-iii-demo/PRESCRIPTIONS.csv.gz");
  const Coverage coverage = coverage_of(data_folder() / "mimic-iii-demo/PRESCRIPTIONS.csv.gz");
  EXPECT_EQ(coverage.with_ndc, 8920U);
  EXPECT_EQ(coverage.mapped, 7238U);
}

// The published NDC table ends with the counter of the dictionary it was made from.
TEST(ResearchMaps, HaveOneUselessRow) {
  THERIAC_NEED_DATA("nc-restricted/rxcui_atc.csv");
  const CodeMaps maps = research_maps();
  EXPECT_THAT(maps.skipped_rows(),
              ElementsAre(::testing::Pair("rxcui_atc", 0), ::testing::Pair("ndc_rxcui", 1),
                          ::testing::Pair("ndc_atc", 0)));
}

TEST(ResearchMaps, CoverMimic4Demo) {
  THERIAC_NEED_DATA("nc-restricted/rxcui_atc.csv");
  THERIAC_NEED_DATA("mimic-iv-demo/hosp/prescriptions.csv.gz");
  const Coverage coverage = coverage_of(data_folder() / "mimic-iv-demo/hosp/prescriptions.csv.gz");
  EXPECT_EQ(coverage.with_ndc, 15456U);
  EXPECT_EQ(coverage.mapped, 12684U);
}

// First class wins, so aspirin becomes a mouth preparation: known, and never to be shown as such.
TEST(ResearchMaps, AspirinComesFirstAsA01A) {
  THERIAC_NEED_DATA("nc-restricted/rxcui_atc.csv");
  const CodeMaps maps = research_maps();
  const auto classes = maps.atc3({System::kRxnorm, "243670"});  // aspirin 81 mg oral tablet
  ASSERT_FALSE(classes.empty());
  EXPECT_EQ(classes.front(), "A01A");
}

}  // namespace
}  // namespace theriac::codes
