#include "cpp/core/codes/interactions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "cpp/core/base/random.h"
#include "cpp/core/codes/test_files.h"

namespace theriac::codes {
namespace {

using testing::data_folder;
using ::testing::ElementsAre;
using testing::failure_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using testing::read_column;
using testing::TempFile;

using Edges = std::vector<std::pair<std::int32_t, std::int32_t>>;

// ---- the research table (medication.md sections 3.1 and 12.4) ----

const InteractionTable& twosides() {
  static const InteractionTable table = InteractionTable::from_twosides(
      data_folder() / "ddi/drug-DDI-TOP40.csv", data_folder() / "ddi/drug-atc.csv");
  return table;
}

std::vector<std::string> vocabulary(const std::string& name) {
  std::ifstream file(data_folder() / "ddi/vocab" / (name + ".txt"));
  std::vector<std::string> classes;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) classes.push_back(line);
  }
  return classes;
}

Edges published_edges(const std::string& name) {
  CsvReader reader(open_source(data_folder() / "ddi" / ("ddi_edges_" + name + ".csv")));
  const std::size_t i = reader.column("i"), j = reader.column("j");
  Edges edges;
  while (reader.next()) {
    edges.emplace_back(std::stoi(std::string(reader.field(i))),
                       std::stoi(std::string(reader.field(j))));
  }
  std::sort(edges.begin(), edges.end());
  return edges;
}

TEST(Twosides, AllPairsAreThePublishedOnes) {
  THERIAC_NEED_DATA("ddi/ddi_atc3_pairs.csv");
  const auto a = read_column(data_folder() / "ddi/ddi_atc3_pairs.csv", "atc3_a"),
             b = read_column(data_folder() / "ddi/ddi_atc3_pairs.csv", "atc3_b");
  ASSERT_EQ(twosides().pairs.size(), 606U);
  ASSERT_EQ(a.size(), 606U);
  std::set<std::string> classes;
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(twosides().pairs[i].a, a[i]);
    EXPECT_EQ(twosides().pairs[i].b, b[i]);
    classes.insert(a[i]);
    classes.insert(b[i]);
  }
  EXPECT_EQ(classes.size(), 113U);  // of the 167 classes that the compound table knows
  EXPECT_EQ(twosides().unmapped_rows, 124);
  EXPECT_EQ(twosides().same_class_rows, 42);
}

struct Published {
  const char* name;
  std::size_t classes, edges;
  double density;
};

class TwosidesAmong : public ::testing::TestWithParam<Published> {};

TEST_P(TwosidesAmong, EqualsThePublishedMatrix) {
  const auto& [name, classes, edges, density] = GetParam();
  THERIAC_NEED_DATA("ddi/vocab/" + std::string(name) + ".txt");
  const auto list = vocabulary(name);
  ASSERT_EQ(list.size(), classes);
  const Edges found = twosides().among(list);
  EXPECT_EQ(found.size(), edges);
  EXPECT_NEAR(static_cast<double>(edges) / (static_cast<double>(classes * (classes - 1)) / 2),
              density, 5e-5);
  for (const auto& [a, b] : found) EXPECT_LT(a, b);
  EXPECT_EQ(std::adjacent_find(found.begin(), found.end()), found.end());
  if (std::string_view(name) != "hier_pyhealth_197") {  // its edge list was never published
    EXPECT_EQ(found, published_edges(name));
  }
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, TwosidesAmong,
                         ::testing::Values(Published{"gamenet_micron_151", 151, 467, 0.0412},
                                           Published{"safedrug_112", 112, 337, 0.0542},
                                           Published{"cognet_molerec_131", 131, 448, 0.0526},
                                           Published{"hier_pyhealth_197", 197, 574, 0.0297}));

TEST(Twosides, PermutingTheVocabularyPermutesTheEdges) {
  THERIAC_NEED_DATA("ddi/vocab/safedrug_112.txt");
  const auto list = vocabulary("safedrug_112");
  std::vector<std::size_t> order(list.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  Random(7, "permutation").shuffle(order);
  std::vector<std::string> permuted;
  for (std::size_t from : order) permuted.push_back(list[from]);
  Edges back;
  for (const auto& [a, b] : twosides().among(permuted)) {
    back.emplace_back(std::minmax(static_cast<std::int32_t>(order[static_cast<std::size_t>(a)]),
                                  static_cast<std::int32_t>(order[static_cast<std::size_t>(b)])));
  }
  std::sort(back.begin(), back.end());
  EXPECT_EQ(back, twosides().among(list));
}

TEST(Twosides, SmallConstruction) {
  const TempFile pairs("pairs.csv", "STITCH 1,STITCH 2\nC1,C2\nC2,C1\nC1,C3\nC1,C9\nC4,C4\n");
  const TempFile atc("atc.csv",
                     "C1,A10AB01,B01AA03\nC2,B01AA03\r\nC3,C03CA01\nC3,C03CB01\n\nC4,N02BA01\n");
  const InteractionTable table = InteractionTable::from_twosides(pairs.path(), atc.path());
  ASSERT_EQ(table.pairs.size(), 3U);
  EXPECT_EQ(table.pairs[0].a + table.pairs[0].b, "A10AB01A");
  EXPECT_EQ(table.pairs[1].a + table.pairs[1].b, "A10AC03C");
  EXPECT_EQ(table.pairs[2].a + table.pairs[2].b, "B01AC03C");
  EXPECT_EQ(table.unmapped_rows, 1);
  EXPECT_EQ(table.same_class_rows, 1);
  EXPECT_FALSE(table.version.empty());
}

TEST(Twosides, HostileTables) {
  const TempFile pairs("pairs.csv", "STITCH 1,STITCH 2\nC1,C2\n");
  const TempFile bare("bare.csv", "C1,A10AB01\nC2\n"), odd("odd.csv", "C1,A10AB01,C03\n");
  const TempFile other("other.csv", "a,b\nC1,C2\n"), good("good.csv", "C1,A10AB01\n");
  const auto message = [](const auto& left, const auto& right) {
    const Failure failure =
        failure_of([&] { InteractionTable::from_twosides(left.path(), right.path()); });
    EXPECT_EQ(failure.code, Code::kDataError);
    return failure.message;
  };
  EXPECT_THAT(message(pairs, bare), ::testing::AllOf(HasSubstr("bare.csv"), HasSubstr("line 2")));
  EXPECT_THAT(message(pairs, odd),
              ::testing::AllOf(HasSubstr("odd.csv"), HasSubstr("line 1"), HasSubstr("'C03'")));
  EXPECT_THAT(message(other, good),
              ::testing::AllOf(HasSubstr("other.csv"), HasSubstr("STITCH 1")));
}

// ---- a host's table (section 10.4) ----

TEST(HostTable, LongForm) {
  const TempFile file("ddi.csv",
                      "system_a,code_a,system_b,code_b,severity,source,version\n"
                      "atc,M04AA01,ATC,C03DA01,moderate,formulary,v3\n"
                      "http://www.whocc.no/atc,C03D,atc,m04a,major,formulary,v3\n"
                      "atc,C03D,atc,M04A,minor,label,v3\n"
                      "atc,B01AA03,atc,B01AB01,major,label,v3\n"
                      "atc,N02BA01,atc,B01AA03,,,\n");
  const InteractionTable table = InteractionTable::from_csv(file.path());
  ASSERT_EQ(table.pairs.size(), 2U);
  EXPECT_EQ(table.pairs[0].a, "B01A");
  EXPECT_EQ(table.pairs[0].b, "N02B");
  EXPECT_EQ(table.pairs[0].severity, "");
  EXPECT_EQ(table.pairs[1].a, "C03D");
  EXPECT_EQ(table.pairs[1].severity, "major");
  EXPECT_EQ(table.same_class_rows, 1);
  EXPECT_EQ(table.source, "formulary; label");
  EXPECT_EQ(table.version, "v3");
  EXPECT_THAT(table.among({"M04A", "A01A", "C03D"}), ElementsAre(Pair(0, 2)));
  EXPECT_THAT(table.among({"M04A"}), IsEmpty());
  EXPECT_THAT(table.among({}), IsEmpty());
}

TEST(HostTable, ShortFormHasItsFingerprintAsVersion) {
  const auto read = [](std::string_view text) {
    const TempFile file("ddi.csv", text);
    return InteractionTable::from_csv(file.path());
  };
  const InteractionTable table = read("atc3_a,atc3_b\nM04A,C03D\nA01A,B03B\n");
  ASSERT_EQ(table.pairs.size(), 2U);
  EXPECT_EQ(table.pairs[1].a, "C03D");
  EXPECT_EQ(table.version.size(), 32U);
  EXPECT_EQ(table.version, read("atc3_b,atc3_a\nB03B,A01A\nM04A,C03D\nC03D,M04A\n").version);
  EXPECT_NE(table.version, read("atc3_a,atc3_b\nM04A,C03D\n").version);
}

TEST(HostTable, ResearchPairsReadBackAsThemselves) {
  THERIAC_NEED_DATA("ddi/ddi_atc3_pairs.csv");
  const InteractionTable table =
      InteractionTable::from_csv(data_folder() / "ddi/ddi_atc3_pairs.csv");
  EXPECT_EQ(table.pairs.size(), 606U);
  EXPECT_EQ(table.version, twosides().version);
}

TEST(HostTable, IngredientsNeedAMapAndUnmappedOnesAreCounted) {
  const TempFile file("ddi.csv",
                      "system_a,code_a,system_b,code_b,severity\n"
                      "rxnorm,11,rxnorm,22,major\n"
                      "rxnorm,11,rxnorm,99,major\n"
                      "rxnorm,11,atc,A10AB01,minor\n");
  const Failure failure = failure_of([&] { InteractionTable::from_csv(file.path()); });
  EXPECT_EQ(failure.code, Code::kDataError);
  EXPECT_THAT(failure.message, ::testing::AllOf(HasSubstr("line 2"), HasSubstr("rxcui_atc")));

  const TempFile rxcui("rxcui.csv", "rxcui,atc4\n11,B01AA\n22,N02BA\n22,M01AE\n");
  MapOptions options;
  options.rxcui_atc = rxcui.path().string();
  const InteractionTable table = InteractionTable::from_csv(file.path(), CodeMaps::load(options));
  EXPECT_EQ(table.unmapped_rows, 1);
  EXPECT_THAT(table.among({"B01A", "N02B", "M01A", "A10A"}),
              ElementsAre(Pair(0, 1), Pair(0, 2), Pair(0, 3)));
}

TEST(HostTable, HostileTables) {
  const std::vector<std::tuple<const char*, const char*, const char*>> cases = {
      {"atc3_a,other\nM04A,C03D\n", "", "system_b"},
      {"system_a,code_a,system_b\natc,M04A,atc\n", "", "code_b"},
      {"atc3_a,atc3_b\nM04A,C03D\nM04,C03D\n", "line 3", "'M04'"},
      {"atc3_a,atc3_b\nM04A,\n", "line 2", "''"},
      {"system_a,code_a,system_b,code_b\natc,M04A,icd11,C03D\n", "line 2", "'icd11'"},
      {"system_a,code_a,system_b,code_b\natc,M04A,rxnorm,1x\n", "line 2", "'1x'"},
      {"atc3_a,atc3_b\nM04A,C03D,extra\n", "line 2", ""},
  };
  for (const auto& [text, line, fragment] : cases) {
    const TempFile file("hostile.csv", text);
    const Failure failure = failure_of([&] { InteractionTable::from_csv(file.path()); });
    EXPECT_EQ(failure.code, Code::kDataError);
    EXPECT_THAT(failure.message,
                ::testing::AllOf(HasSubstr("hostile.csv"), HasSubstr(line), HasSubstr(fragment)));
  }
}

TEST(HostTable, ClassListMustBeDistinct) {
  InteractionTable table;
  table.pairs = {{"A01A", "B01A", ""}};
  EXPECT_EQ(failure_of([&] {
              table.among({"A01A", "B01A", "A01A"});
            }).code,
            Code::kInvalidArgument);
}

TEST(HostTable, ManyVersionsAreNotAllShown) {
  std::string text = "atc3_a,atc3_b,version\n";
  for (int i = 0; i < 20; ++i) text += "A01A,B01A,v" + std::to_string(i) + "\n";
  const TempFile file("ddi.csv", text);
  const std::string version = InteractionTable::from_csv(file.path()).version;
  EXPECT_THAT(version, ::testing::StartsWith("v0; v1; "));
  EXPECT_THAT(version, ::testing::EndsWith("; v7; ..."));
}

TEST(Severity, Ranks) {
  EXPECT_EQ(severity_rank("Contraindicated"), 4);
  EXPECT_EQ(severity_rank(" MAJOR "), 3);
  EXPECT_EQ(severity_rank("moderate"), 2);
  EXPECT_EQ(severity_rank("minor"), 1);
  EXPECT_EQ(severity_rank(""), 0);
  EXPECT_EQ(severity_rank("unheard of"), 0);
}

}  // namespace
}  // namespace theriac::codes
