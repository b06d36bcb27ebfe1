#include "cpp/engine/clinical/relation_table.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "cpp/core/base/file.h"
#include "cpp/core/tensorfile/safetensors.h"

namespace theriac::clinical {
namespace {

using codes::Hierarchy;
using codes::System;

constexpr char kVectors[] = "tables/relation.icd9cm.safetensors";
constexpr char kNodes[] = "tables/relation.icd9cm.nodes.csv";

TreeOptions small_options() {
  TreeOptions options;
  options.dim = 8;
  options.epochs = 2;
  return options;
}

Hierarchy diagnoses() {
  return Hierarchy::closure(System::kIcd9cm, {"4280", "4281", "25001", "E8121"});
}

std::shared_ptr<const RelationTable> make_table(const Hierarchy& tree) {
  Job job;
  return pretrain(tree, small_options(), 3, job);
}

// A folder that is removed with its content.
class Folder {
 public:
  Folder()
      : path_(std::filesystem::temp_directory_path() / ("relation-" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }
  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      found.push_back(entry.path());
    return found;
  }

 private:
  std::filesystem::path path_;
};

TEST(RelationTable, FilesComeBackToTheBit) {
  const RelationTables tables = {
      make_table(diagnoses()), make_table(Hierarchy::closure(System::kIcd9proc, {"3893", "0011"}))};
  const auto files = relation_files(tables);
  EXPECT_EQ(files.size(), 4U);
  const RelationTables back = relation_tables(files);
  ASSERT_EQ(back.size(), 2U);
  for (const auto& table : tables) {
    const RelationTable* found = find_table(back, table->system);
    ASSERT_NE(found, nullptr);
    EXPECT_TRUE(at::equal(found->vectors, table->vectors));
    EXPECT_EQ(found->key, table->key);
    EXPECT_EQ(found->record, table->record);
    EXPECT_EQ(found->tree.fingerprint(), table->tree.fingerprint());
    EXPECT_EQ(found->tree.title(0), table->tree.title(0));
  }
  EXPECT_EQ(relation_files(back), files);
  EXPECT_EQ(find_table(back, System::kIcd10cm), nullptr);
  EXPECT_TRUE(relation_tables({{"vocab.diagnoses.txt", "x"}}).empty());
}

TEST(RelationTable, RecordsHowItWasMade) {
  const auto table = make_table(diagnoses());
  EXPECT_EQ(table->record["seed"], 3);
  EXPECT_EQ(table->record["options"]["dim"], 8);
  EXPECT_EQ(table->record["losses"].size(), 2U);
  const TreeQuality quality = measure(*table);
  EXPECT_DOUBLE_EQ(table->record["quality"]["link_auc"].get<double>(), quality.link_auc);
}

TEST(RelationTable, KeyNamesEveryInput) {
  const Hierarchy tree = diagnoses();
  const std::string key = relation_key(tree, small_options(), 3);
  EXPECT_EQ(key, relation_key(diagnoses(), small_options(), 3));
  EXPECT_NE(key, relation_key(tree, small_options(), 4));
  EXPECT_NE(key, relation_key(Hierarchy::closure(System::kIcd9cm, {"4280"}), small_options(), 3));
  for (const auto& change : std::vector<std::function<void(TreeOptions&)>>{
           [](TreeOptions& o) { o.dim = 9; }, [](TreeOptions& o) { o.epochs = 3; },
           [](TreeOptions& o) { o.batch_size = 4; }, [](TreeOptions& o) { o.learning_rate = 0.1; },
           [](TreeOptions& o) { o.dropout = 0.1; }}) {
    TreeOptions options = small_options();
    change(options);
    EXPECT_NE(key, relation_key(tree, options, 3));
  }
}

TEST(RelationTable, TwoTablesOfOneSystemAreRefused) {
  const auto table = make_table(diagnoses());
  EXPECT_THROW(relation_files({table, table}), Error);
}

// One bad thing at a time; every one of them must be noticed.
TEST(RelationTable, DamagedFilesAreDataErrors) {
  using Files = std::map<std::string, std::string>;
  const Files good = relation_files({make_table(diagnoses())});
  const std::string other_nodes =
      relation_files(
          {make_table(Hierarchy::closure(System::kIcd9cm, {"4280", "4281", "25001", "E8122"}))})
          .at(kNodes);
  const std::vector<std::pair<std::string, std::function<void(Files&)>>> damages = {
      {"no nodes", [](Files& f) { f.erase(kNodes); }},
      {"empty nodes", [](Files& f) { f[kNodes].clear(); }},
      {"nodes of another tree", [&](Files& f) { f[kNodes] = other_nodes; }},
      {"one node less",
       [](Files& f) { f[kNodes].resize(f[kNodes].rfind('\n', f[kNodes].size() - 2) + 1); }},
      {"garbage nodes", [](Files& f) { f[kNodes] = std::string(100, '\0'); }},
      {"empty vectors", [](Files& f) { f[kVectors].clear(); }},
      {"cut vectors", [](Files& f) { f[kVectors].resize(f[kVectors].size() - 1); }},
      {"changed value", [](Files& f) { f[kVectors].back() ^= 1; }},
      {"another system's name",
       [](Files& f) {
         f["tables/relation.icd10cm.safetensors"] = f[kVectors];
         f["tables/relation.icd10cm.nodes.csv"] = f[kNodes];
       }},
      {"no system's name", [](Files& f) { f["tables/relation.x.safetensors"] = f[kVectors]; }},
      {"other tensor",
       [](Files& f) {
         const std::string bytes(16, '\0');
         f[kVectors] = tensorfile::serialise({{"relation", tensorfile::DType::kF32, {4}, bytes}});
       }},
      {"no metadata", [](Files& f) {
         const auto rows =
             static_cast<std::uint64_t>(std::count(f[kNodes].begin(), f[kNodes].end(), '\n') - 1);
         const std::string bytes(rows * 4, '\0');
         f[kVectors] =
             tensorfile::serialise({{"relation", tensorfile::DType::kF32, {rows, 1}, bytes}});
       }}};
  EXPECT_EQ(relation_tables(good).size(), 1U);
  for (const auto& [what, damage] : damages) {
    Files files = good;
    damage(files);
    try {
      relation_tables(files);
      ADD_FAILURE() << "took " << what;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kDataError) << what << ": " << error.what();
    }
  }
}

TEST(PretrainOrLoad, UsesTheFileOfTheSameInputs) {
  const Folder folder;
  const Hierarchy tree = diagnoses();
  int epochs = 0;
  Job job(
      [&](std::string_view, std::uint64_t, std::uint64_t, std::string_view metrics) {
        epochs += metrics != "{}";
        return Verdict::kContinue;
      },
      nullptr);
  const auto first = pretrain_or_load(tree, small_options(), 3, folder.path(), job);
  EXPECT_EQ(epochs, 2);
  const auto second = pretrain_or_load(tree, small_options(), 3, folder.path(), job);
  EXPECT_EQ(epochs, 2);  // nothing was trained
  EXPECT_TRUE(at::equal(first->vectors, second->vectors));
  EXPECT_EQ(first->record, second->record);
  const auto other_seed = pretrain_or_load(tree, small_options(), 4, folder.path(), job);
  EXPECT_EQ(epochs, 4);
  EXPECT_FALSE(at::equal(first->vectors, other_seed->vectors));
  EXPECT_EQ(folder.files().size(), 2U);
}

TEST(PretrainOrLoad, ReplacesADamagedFile) {
  const Folder folder;
  Job job;
  const auto first = pretrain_or_load(diagnoses(), small_options(), 3, folder.path(), job);
  ASSERT_EQ(folder.files().size(), 1U);
  std::string bytes = read_file(folder.files()[0]);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  replace_file(folder.files()[0], bytes);
  const auto second = pretrain_or_load(diagnoses(), small_options(), 3, folder.path(), job);
  EXPECT_TRUE(at::equal(first->vectors, second->vectors));
  EXPECT_NE(read_file(folder.files()[0]), bytes);
}

}  // namespace
}  // namespace theriac::clinical
