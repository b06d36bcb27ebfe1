#include "cpp/core/codes/hierarchy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "cpp/core/codes/test_files.h"

namespace theriac::codes {
namespace {

using testing::data_folder;
using ::testing::ElementsAre;
using testing::failure_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::read_column;
using testing::TempFile;

using Chain = std::vector<std::string>;

// ---- structural rules ----

struct ChainCase {
  System system;
  const char* code;
  Chain chain;
};

class StructuralChain : public ::testing::TestWithParam<ChainCase> {};

TEST_P(StructuralChain, IsAsClassified) {
  const auto& [system, code, chain] = GetParam();
  const Hierarchy tree = Hierarchy::structural(system);
  EXPECT_EQ(tree.ancestors(code), chain);
  EXPECT_EQ(tree.depth(code), static_cast<int>(chain.size()));
}

INSTANTIATE_TEST_SUITE_P(
    Golden, StructuralChain,
    ::testing::Values(
        ChainCase{System::kIcd9cm, "25001", {"2500", "250", "b:249-259", "c:240-279", "ICD9CM"}},
        ChainCase{System::kIcd9cm, "428.0", {"428", "b:420-429", "c:390-459", "ICD9CM"}},
        ChainCase{System::kIcd9cm, "E8121", {"E812", "b:E810-E819", "c:E000-E999", "ICD9CM"}},
        ChainCase{System::kIcd9cm, "V4582", {"V458", "V45", "b:V40-V49", "c:V01-V91", "ICD9CM"}},
        ChainCase{System::kIcd9cm, "042", {"b:042", "c:001-139", "ICD9CM"}},
        ChainCase{System::kIcd9proc, "3893", {"389", "38", "c:35-39", "ICD9PROC"}},
        ChainCase{System::kIcd10cm,
                  "S72001A",
                  {"S72001", "S7200", "S720", "S72", "b:S70-S79", "c:19", "ICD10CM"}},
        ChainCase{System::kIcd10pcs,
                  "0BH17EZ",
                  {"0BH17E", "0BH17", "0BH1", "0BH", "0B", "0", "ICD10PCS"}},
        ChainCase{System::kAtc, "C03CA01", {"C03CA", "C03C", "C03", "C", "ATC"}}));

INSTANTIATE_TEST_SUITE_P(
    Placeholders, StructuralChain,
    ::testing::Values(
        // X that only fills the way to a seventh character, against X that is part of the code.
        ChainCase{
            System::kIcd10cm, "S0262XA", {"S0262", "S026", "S02", "b:S00-S09", "c:19", "ICD10CM"}},
        ChainCase{System::kIcd10cm, "W000XXA", {"W000", "W00", "b:W00-W19", "c:20", "ICD10CM"}},
        ChainCase{System::kIcd10cm, "W11XXXA", {"W11", "b:W00-W19", "c:20", "ICD10CM"}},
        ChainCase{System::kIcd10cm,
                  "T360X1A",
                  {"T360X1", "T360X", "T360", "T36", "b:T36-T50", "c:19", "ICD10CM"}}));

INSTANTIATE_TEST_SUITE_P(
    LetterCategories, StructuralChain,
    ::testing::Values(ChainCase{System::kIcd10cm, "C7A", {"b:C7A", "c:02", "ICD10CM"}},
                      ChainCase{System::kIcd10cm, "C4A", {"b:C43-C44", "c:02", "ICD10CM"}},
                      ChainCase{System::kIcd10cm, "M1A", {"b:M05-M14", "c:13", "ICD10CM"}},
                      ChainCase{System::kIcd10cm, "O9A", {"b:O94-O9A", "c:15", "ICD10CM"}},
                      ChainCase{System::kIcd10cm, "Z3A", {"b:Z30-Z39", "c:21", "ICD10CM"}},
                      ChainCase{System::kIcd10cm, "I1A0", {"I1A", "b:I10-I16", "c:09", "ICD10CM"}},
                      ChainCase{System::kIcd10cm, "QA0", {"c:17", "ICD10CM"}}));

INSTANTIATE_TEST_SUITE_P(
    NotInAnyList, StructuralChain,
    ::testing::Values(
        // Retired, future and local codes; gaps between blocks; text that is no code at all.
        ChainCase{System::kIcd9proc, "3601", {"360", "36", "c:35-39", "ICD9PROC"}},
        ChainCase{System::kIcd9cm, "0449", {"044", "c:001-139", "ICD9CM"}},
        ChainCase{System::kIcd9cm, "V950", {"V95", "c:V01-V91", "ICD9CM"}},
        ChainCase{System::kIcd9cm, "000", {"ICD9CM"}},
        ChainCase{System::kIcd9cm, "FLU?", {"ICD9CM"}},
        ChainCase{System::kIcd10cm, "U991", {"U99", "c:22", "ICD10CM"}},
        ChainCase{System::kIcd10cm, "b:C00-C75", {"c:02", "ICD10CM"}},
        ChainCase{System::kIcd10cm, "c:02", {"ICD10CM"}},
        ChainCase{System::kIcd10cm, "ICD10CM", {}}, ChainCase{System::kIcd10cm, " ", {}}));

TEST(Structural, HasNoNodesOfItsOwn) {
  const Hierarchy tree = Hierarchy::structural(System::kIcd9cm);
  EXPECT_TRUE(tree.is_structural());
  EXPECT_EQ(tree.system(), System::kIcd9cm);
  EXPECT_EQ(tree.size(), 0U);
  EXPECT_FALSE(tree.listed("4280"));
  EXPECT_EQ(tree.nearest_listed("4280"), std::nullopt);
}

TEST(Structural, OtherSystemsAreUnsupported) {
  for (System system : {System::kIcd10, System::kNdc, System::kRxnorm, System::kSnomed,
                        System::kCpt, System::kHcpcs, System::kLocal, System::kUnknown}) {
    EXPECT_EQ(failure_of([&] { Hierarchy::structural(system); }).code, Code::kUnsupported);
    EXPECT_EQ(failure_of([&] { Hierarchy::closure(system, {"1"}); }).code, Code::kUnsupported);
  }
}

TEST(Structural, FingerprintsTellSystemsApart) {
  const auto print = [](System system) { return Hierarchy::structural(system).fingerprint(); };
  EXPECT_EQ(print(System::kIcd9cm), print(System::kIcd9cm));
  EXPECT_NE(print(System::kIcd9cm), print(System::kIcd9proc));
  EXPECT_NE(print(System::kIcd10pcs), print(System::kAtc));
}

// Any bytes at all: no crash, and a chain that ends at the root.
TEST(Structural, EveryTextHasAChainToTheRoot) {
  const std::vector<std::string> texts = {"b:",       "c:",
                                          "b:-",      "b:zzz",
                                          "c:zzz",    "-",
                                          "E",        "V",
                                          "EEEE",     "XXXXXXX",
                                          "A00XXXX",  std::string(1000, 'A'),
                                          "\xFF\xFE", std::string("\0", 1)};
  for (System system :
       {System::kIcd9cm, System::kIcd9proc, System::kIcd10cm, System::kIcd10pcs, System::kAtc}) {
    const Hierarchy tree = Hierarchy::structural(system);
    const std::string root = tree.ancestors("?").front();
    for (const std::string& text : texts) {
      const Chain chain = tree.ancestors(text);
      ASSERT_FALSE(chain.empty()) << text;
      EXPECT_EQ(chain.back(), root) << text;
      EXPECT_LE(chain.size(), 8U) << text;
    }
  }
}

// ---- agreement of the rules with the official lists ----

struct Agreement {
  std::size_t nodes = 0, equal = 0;
  std::map<std::string, Chain> different;  // by code: the structural chain
};

Agreement compare(const Hierarchy& listed) {
  const Hierarchy rules = Hierarchy::structural(listed.system());
  Agreement result;
  for (std::size_t i = 0; i < listed.size(); ++i) {
    ++result.nodes;
    const std::string& node = listed.node(i);
    Chain chain = rules.ancestors(node);
    if (chain == listed.ancestors(node))
      ++result.equal;
    else
      result.different.emplace(node, std::move(chain));
  }
  return result;
}

// Read once: the trees are immutable.
const Hierarchy& official(System system) {
  static std::map<System, Hierarchy> trees;
  const auto found = trees.find(system);
  if (found != trees.end()) return found->second;
  return trees
      .emplace(system,
               Hierarchy::from_csv(system, data_folder() / system_name(system) / "nodes.csv.gz"))
      .first->second;
}

TEST(Agreement, Icd9Diagnoses) {
  THERIAC_NEED_DATA("icd9cm/nodes.csv.gz");
  const Agreement result = compare(official(System::kIcd9cm));
  EXPECT_EQ(result.nodes, 17737U);
  EXPECT_EQ(result.equal, 17737U);
}

TEST(Agreement, Icd9Procedures) {
  THERIAC_NEED_DATA("icd9proc/nodes.csv.gz");
  const Agreement result = compare(official(System::kIcd9proc));
  EXPECT_EQ(result.nodes, 4670U);
  EXPECT_EQ(result.equal, 4670U);
}

// One node differs. The list has H54512A (low vision, with its category of impairment at the end)
// directly below H5451, without the intermediate H54512; nothing in the code says so.
TEST(Agreement, Icd10Diagnoses) {
  THERIAC_NEED_DATA("icd10cm/nodes.csv.gz");
  const Hierarchy& listed = official(System::kIcd10cm);
  const Agreement result = compare(listed);
  EXPECT_EQ(result.nodes, 95677U);
  EXPECT_EQ(result.equal, 95676U);
  ASSERT_EQ(result.different.size(), 1U);
  EXPECT_EQ(result.different.begin()->first, "H54512A");
  EXPECT_EQ(result.different.begin()->second.front(), "H54512");
  EXPECT_EQ(listed.ancestors("H54512A").front(), "H5451");
}

// The title table of MIMIC-IV holds every ICD-10-PCS code, and the three-character tables they are
// from.
TEST(Agreement, Icd10ProceduresAreStrictPrefixes) {
  THERIAC_NEED_DATA("mimic-iv-demo/hosp/d_icd_procedures.csv.gz");
  CsvReader reader(open_source(data_folder() / "mimic-iv-demo/hosp/d_icd_procedures.csv.gz"));
  const std::size_t code = reader.column("icd_code"), version = reader.column("icd_version");
  const Hierarchy rules = Hierarchy::structural(System::kIcd10pcs);
  std::size_t full = 0, tables = 0;
  while (reader.next()) {
    if (reader.field(version) != "10") continue;
    const std::string text(reader.field(code));
    ++(has_code_shape(System::kIcd10pcs, text) ? full : tables);
    Chain prefixes;
    for (std::size_t length = text.size() - 1; length > 0; --length)
      prefixes.push_back(text.substr(0, length));
    prefixes.push_back("ICD10PCS");
    ASSERT_EQ(rules.ancestors(text), prefixes);
  }
  EXPECT_EQ(full + tables, 81369U);
  EXPECT_EQ(full, 80489U);
}

TEST(Agreement, Atc) {
  THERIAC_NEED_DATA("nc-restricted/atc_nodes.csv.gz");
  const auto path = data_folder() / "nc-restricted/atc_nodes.csv.gz";
  const std::vector<std::string> codes = read_column(path, "code"),
                                 parents = read_column(path, "parent");
  const Hierarchy rules = Hierarchy::structural(System::kAtc);
  ASSERT_EQ(codes.size(), 6996U);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    ASSERT_EQ(rules.ancestors(codes[i]).front(), parents[i].empty() ? "ATC" : parents[i])
        << codes[i];
  }
}

// ---- official lists ----

TEST(Listed, NearestListedOfRetiredAndNewCodes) {
  THERIAC_NEED_DATA("icd10cm/nodes.csv.gz");
  THERIAC_NEED_DATA("icd9proc/nodes.csv.gz");
  const Hierarchy& procedures = official(System::kIcd9proc);
  EXPECT_EQ(procedures.nearest_listed("3601"), "360");
  EXPECT_EQ(procedures.nearest_listed("3605"), "360");
  EXPECT_EQ(procedures.nearest_listed("38.93"), "3893");
  const Hierarchy& diagnoses = official(System::kIcd10cm);
  EXPECT_EQ(diagnoses.nearest_listed("S0262XA"), "S0262");
  EXPECT_EQ(diagnoses.nearest_listed("S030XXA"), "S030");
  EXPECT_EQ(diagnoses.nearest_listed("T814XXA"), "T814");
  EXPECT_EQ(diagnoses.nearest_listed("T8359XA"), "T8359");
  EXPECT_THAT(diagnoses.ancestors("T8359XA"),
              ElementsAre("T8359", "T835", "T83", "b:T80-T88", "c:19", "ICD10CM"));
  EXPECT_EQ(diagnoses.depth("T8359XA"), 6);
}

TEST(Listed, TitlesAndDepths) {
  THERIAC_NEED_DATA("icd9cm/nodes.csv.gz");
  const Hierarchy& tree = official(System::kIcd9cm);
  EXPECT_EQ(tree.depth("ICD9CM"), 0);
  EXPECT_EQ(tree.depth("c:390-459"), 1);
  EXPECT_EQ(tree.depth("b:420-429"), 2);
  EXPECT_EQ(tree.depth("428.0"), 4);
  EXPECT_THAT(tree.title(tree.find("c:390-459").value()), HasSubstr("Circulatory"));
  EXPECT_EQ(tree.parent_index(tree.find("ICD9CM").value()), -1);
}

// A small list with dotted codes, the root last and a parent after its child.
constexpr std::string_view kSmall =
    "code,parent,name\n"
    "428.0,428,\"Failure, unspecified\"\n"
    "428,b:420-429,Heart failure\n"
    "b:420-429,c:390-459,\n"
    "c:390-459,ICD9CM,Circulatory\n"
    "c:460-519,ICD9CM,Respiratory\n"
    "ICD9CM,,Root\n";

TEST(Listed, KeepsFileOrderAndNormalises) {
  const TempFile file("nodes.csv", kSmall);
  const Hierarchy tree = Hierarchy::from_csv(System::kIcd9cm, file.path());
  ASSERT_EQ(tree.size(), 6U);
  EXPECT_FALSE(tree.is_structural());
  EXPECT_EQ(tree.node(0), "4280");
  EXPECT_EQ(tree.title(0), "Failure, unspecified");
  EXPECT_EQ(tree.parent_index(0), 1);
  EXPECT_EQ(tree.parent_index(5), -1);
  EXPECT_THAT(tree.ancestors("4280"), ElementsAre("428", "b:420-429", "c:390-459", "ICD9CM"));
}

TEST(Listed, NearestFallsBackToBlockThenChapterThenNothing) {
  const TempFile file("nodes.csv", kSmall);
  const Hierarchy tree = Hierarchy::from_csv(System::kIcd9cm, file.path());
  EXPECT_EQ(tree.nearest_listed("42823"), "428");
  EXPECT_EQ(tree.nearest_listed("4271"), "b:420-429");
  EXPECT_EQ(tree.nearest_listed("4109"), "c:390-459");
  EXPECT_EQ(tree.nearest_listed("4660"), "c:460-519");
  EXPECT_EQ(tree.nearest_listed("2500"), std::nullopt);
  EXPECT_EQ(tree.nearest_listed("garbage"), std::nullopt);
  EXPECT_EQ(tree.nearest_listed(""), std::nullopt);
  EXPECT_THAT(tree.ancestors("4271"), ElementsAre("b:420-429", "c:390-459", "ICD9CM"));
  EXPECT_THAT(tree.ancestors("2500"), ElementsAre("ICD9CM"));
  EXPECT_THAT(tree.ancestors("garbage"), ElementsAre("ICD9CM"));
  EXPECT_THAT(tree.ancestors(""), IsEmpty());
}

// Cutting characters off a SNOMED or local code gives an unrelated code.
TEST(Listed, OtherSystemsHaveNoNearest) {
  const TempFile file("nodes.csv", "code,parent\nroot,\nabc,root\n");
  const Hierarchy tree = Hierarchy::from_csv(System::kLocal, file.path());
  EXPECT_EQ(tree.nearest_listed("abc"), "abc");
  EXPECT_EQ(tree.nearest_listed("abcd"), std::nullopt);
  EXPECT_THAT(tree.ancestors("abcd"), ElementsAre("root"));
}

TEST(Listed, FingerprintSeesNodesAndParents) {
  const auto print = [](std::string_view table) {
    const TempFile file("nodes.csv", table);
    return Hierarchy::from_csv(System::kIcd9cm, file.path()).fingerprint();
  };
  const std::string base = print("code,parent\nR,\n001,R\n002,R\n003,002\n");
  EXPECT_EQ(print("code,parent,name\nR,,x\n001,R,x\n002,R,x\n003,002,x\n"), base);
  EXPECT_NE(print("code,parent\nR,\n001,R\n002,R\n003,001\n"), base);
  EXPECT_NE(print("code,parent\nR,\n001,R\n002,R\n004,002\n"), base);
}

struct HostileCase {
  const char* table;
  const char* line;      // that the message must name; empty: none
  const char* fragment;  // of the message
};

class HostileTable : public ::testing::TestWithParam<HostileCase> {};

TEST_P(HostileTable, IsOneClearError) {
  const auto& [table, line, fragment] = GetParam();
  const TempFile file("hostile.csv", table);
  const Failure failure = failure_of([&] { Hierarchy::from_csv(System::kIcd9cm, file.path()); });
  EXPECT_EQ(failure.code, Code::kDataError);
  EXPECT_THAT(failure.message, HasSubstr("hostile.csv"));
  EXPECT_THAT(failure.message, HasSubstr(fragment));
  EXPECT_THAT(failure.message, HasSubstr(line));
}

INSTANTIATE_TEST_SUITE_P(
    Csv, HostileTable,
    ::testing::Values(
        HostileCase{"code,parent\nR,\n001,002\n002,003\n003,001\n", "line 3", "own ancestor"},
        HostileCase{"code,parent\nR,\n001,001\n", "line 3", "own ancestor"},
        HostileCase{"code,parent\n001,002\n002,001\n", "line 2", "own ancestor"},
        HostileCase{"code,parent\nR,\n001,R\n0011,009\n", "line 4", "'009'"},
        HostileCase{"code,parent\nR,\n0011,R\n001.1,R\n", "line 4", "already on line 3"},
        HostileCase{"code,parent\nR,\n001,\n", "line 3", "second root"},
        HostileCase{"code,parent\nR,\n ,R\n", "line 3", "empty"},
        HostileCase{"code,parent\n", "", "no codes"}, HostileCase{"code,above\nR,\n", "", "parent"},
        HostileCase{"id,parent\nR,\n", "", "code"}, HostileCase{"code,parent\nR\n", "line 2", ""},
        HostileCase{"code,parent\nR,\n\"001,R\n", "line 3", ""}));

TEST(Listed, DeepChainsNeedNoStack) {
  std::string table = "code,parent\nn0,\n";
  constexpr int kDeep = 50000;
  for (int i = 1; i < kDeep; ++i)
    table += "n" + std::to_string(i) + ",n" + std::to_string(i - 1) + "\n";
  const TempFile file("deep.csv", table);
  const Hierarchy tree = Hierarchy::from_csv(System::kLocal, file.path());
  EXPECT_EQ(tree.depth("n" + std::to_string(kDeep - 1)), kDeep - 1);
}

TEST(Listed, MissingFile) {
  EXPECT_EQ(failure_of([] { Hierarchy::from_csv(System::kIcd9cm, "no/such/file.csv"); }).code,
            Code::kNotFound);
}

// ---- CMS order files ----

std::string order_line(int number, const std::string& code, int flag, const std::string& title) {
  char head[32];
  std::snprintf(head, sizeof head, "%05d %-7s %d ", number, code.c_str(), flag);
  std::string short_title = title.substr(0, 60);
  short_title.resize(60, ' ');
  return head + short_title + " " + title + "\n";
}

TEST(OrderFile, ParentsAreListedPrefixesThenBlocksAndChapters) {
  const std::string table =
      order_line(1, "A00", 0, "Cholera") + order_line(2, "A000", 1, "Cholera, classical") +
      order_line(
          3, "S0262", 0,
          "Fracture of the lower jaw, a title beyond the sixty characters of the short one") +
      order_line(4, "S0262XA", 1, "Initial encounter") + order_line(5, "QA0", 1, "No block");
  const TempFile file("order.txt", table);
  const Hierarchy tree = Hierarchy::from_order_file(System::kIcd10cm, file.path());
  EXPECT_THAT(tree.ancestors("A000"), ElementsAre("A00", "b:A00-A09", "c:01", "ICD10CM"));
  EXPECT_THAT(tree.ancestors("S0262XA"), ElementsAre("S0262", "b:S00-S09", "c:19", "ICD10CM"));
  EXPECT_THAT(tree.ancestors("QA0"), ElementsAre("c:17", "ICD10CM"));
  EXPECT_EQ(tree.node(0), "ICD10CM");
  EXPECT_EQ(tree.size(), 5U + 1U + 2U + 3U);  // codes, root, blocks, chapters
  EXPECT_EQ(tree.title(tree.find("S0262").value()).size(), 79U);
  EXPECT_FALSE(tree.listed("S02"));
}

TEST(OrderFile, AListIsToldFromATableByItsContent) {
  const TempFile order("order.txt", order_line(1, "A00", 0, "Cholera"));
  EXPECT_TRUE(Hierarchy::from_list(System::kIcd10cm, order.path()).listed("A00"));
  const TempFile table("list.csv", "code,parent\nICD10CM,\nA00,ICD10CM\n");
  EXPECT_EQ(Hierarchy::from_list(System::kIcd10cm, table.path()).size(), 2U);
}

TEST(OrderFile, ProceduresHangUnderSectionAndBodySystem) {
  const TempFile file("order.txt", order_line(1, "0BH", 0, "Insertion") + "\r\n" +
                                       order_line(2, "0BH17EZ", 1, "Insertion of airway"));
  const Hierarchy tree = Hierarchy::from_order_file(System::kIcd10pcs, file.path());
  EXPECT_THAT(tree.ancestors("0BH17EZ"), ElementsAre("0BH", "0B", "0", "ICD10PCS"));
  EXPECT_EQ(tree.size(), 5U);
  EXPECT_EQ(tree.nearest_listed("0BH13DZ"), "0BH");
}

// The official table is made into an order file and read back: the same tree.
TEST(OrderFile, RebuildsTheOfficialTree) {
  THERIAC_NEED_DATA("icd10cm/nodes.csv.gz");
  const Hierarchy& listed = official(System::kIcd10cm);
  std::string table;
  for (std::size_t i = 0; i < listed.size(); ++i) {
    const std::string& node = listed.node(i);
    if (node.size() > 7 || node == "ICD10CM" || node.find(':') != std::string::npos) continue;
    table += order_line(static_cast<int>(i), node, 1, listed.title(i));
  }
  const TempFile file("order.txt", table);
  const Hierarchy tree = Hierarchy::from_order_file(System::kIcd10cm, file.path());
  for (std::size_t i = 0; i < tree.size(); ++i) {
    ASSERT_EQ(tree.ancestors(tree.node(i)), listed.ancestors(tree.node(i))) << tree.node(i);
  }
  // Twelve official blocks only hold other blocks (C00-C96, V00-X58, ...); no code needs them.
  std::size_t inner_only = 0;
  for (std::size_t i = 0; i < listed.size(); ++i) inner_only += tree.listed(listed.node(i)) ? 0 : 1;
  EXPECT_EQ(tree.size() + inner_only, listed.size());
  EXPECT_EQ(inner_only, 12U);
}

TEST(OrderFile, HostileLines) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"code,parent\n", "line 1"},
      {order_line(1, "A00", 0, "x") + order_line(2, "A000", 7, "x"), "line 2"},
      {order_line(1, "A00", 0, "x") + order_line(2, "A-0", 1, "x"), "line 2"},
      {order_line(1, "A00", 0, "x") + order_line(2, "A00", 1, "x"), "line 2"},
      {"00001 A00", "line 1"},
      {std::string("00001 A00     0 \0x", 18), "line 1"},
      {std::string(1 << 17, 'x'), "line 1"},
      {"", "no codes"},
  };
  for (const auto& [table, fragment] : cases) {
    const TempFile file("order.txt", table);
    const Failure failure =
        failure_of([&] { Hierarchy::from_order_file(System::kIcd10cm, file.path()); });
    EXPECT_EQ(failure.code, Code::kDataError);
    EXPECT_THAT(failure.message, HasSubstr("order.txt"));
    EXPECT_THAT(failure.message, HasSubstr(fragment));
  }
}

// ---- closure ----

TEST(Closure, HoldsCodesAndAncestorsSorted) {
  const Hierarchy tree =
      Hierarchy::closure(System::kIcd9cm, {"4280", "427.31", "4280", "V4582", "", "local!"});
  Chain nodes;
  for (std::size_t i = 0; i < tree.size(); ++i) nodes.push_back(tree.node(i));
  EXPECT_THAT(nodes,
              ElementsAre("ICD9CM", "c:390-459", "c:V01-V91", "b:420-429", "b:V40-V49", "427",
                          "4273", "42731", "428", "4280", "LOCAL!", "V45", "V458", "V4582"));
  EXPECT_EQ(tree.parent_index(0), -1);
  EXPECT_THAT(tree.ancestors("42731"),
              ElementsAre("4273", "427", "b:420-429", "c:390-459", "ICD9CM"));
  EXPECT_THAT(tree.ancestors("LOCAL!"), ElementsAre("ICD9CM"));
  EXPECT_EQ(tree.title(tree.find("c:390-459").value()), "Diseases of the circulatory system");
  EXPECT_EQ(tree.nearest_listed("4289"), "428");
}

TEST(Closure, DoesNotDependOnTheOrderGiven) {
  const Hierarchy a = Hierarchy::closure(System::kIcd10cm, {"E119", "I10", "S72001A"});
  const Hierarchy b = Hierarchy::closure(System::kIcd10cm, {"S72001A", "I10", "E119", "I10"});
  EXPECT_EQ(a.fingerprint(), b.fingerprint());
  EXPECT_NE(a.fingerprint(), Hierarchy::closure(System::kIcd10cm, {"E119", "I10"}).fingerprint());
}

TEST(Closure, OfNothingIsTheRoot) {
  const Hierarchy tree = Hierarchy::closure(System::kAtc, {});
  ASSERT_EQ(tree.size(), 1U);
  EXPECT_EQ(tree.node(0), "ATC");
}

TEST(Hierarchy, DefaultIsEmpty) {
  const Hierarchy none;
  EXPECT_EQ(none.size(), 0U);
  EXPECT_THAT(none.ancestors("4280"), IsEmpty());
  EXPECT_EQ(none.nearest_listed("4280"), std::nullopt);
}

}  // namespace
}  // namespace theriac::codes
