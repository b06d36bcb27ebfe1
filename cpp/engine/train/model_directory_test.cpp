#include "cpp/engine/train/model_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "cpp/core/base/file.h"

namespace theriac::train {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

ModelDirectory example() {
  ModelDirectory directory;
  directory.config = Json{{"method", "gamenet"}, {"options", {{"dim", 8}}}};
  directory.tensors = {{"layer.weight", at::arange(6, at::kFloat).reshape({2, 3})}};
  directory.files = {{"vocab.diagnoses.txt", "E11.9\nI10\n"},
                     {"tables/interactions.csv", "a,b\nA02B,C09A\n"}};
  return directory;
}

std::string saved(const std::string& name) {
  const fs::path path = fs::path(testing::TempDir()) / ("theriac_model_" + name);
  fs::remove_all(path);
  save_model_directory(path.string(), example(), false);
  return path.string();
}

Failure failure_of(const std::function<void()>& body) { return tensor::guarded(body).failure(); }

void edit_config(const std::string& path, const std::function<void(Json&)>& edit) {
  const fs::path file = fs::path(path) / "config.json";
  Json config = parse_json(read_file(file), "config");
  edit(config);
  replace_file(file, dump_json(config));
}

TEST(ModelDirectory, RoundTrip) {
  const std::string path = saved("round");
  const ModelDirectory read = load_model_directory(path);
  EXPECT_EQ(read.config["method"], "gamenet");
  EXPECT_EQ(read.config["options"]["dim"], 8);
  EXPECT_EQ(read.config["format"], kModelFormat);
  EXPECT_EQ(read.files, example().files);
  ASSERT_EQ(read.tensors.size(), 1U);
  EXPECT_TRUE(read.tensors[0].second.equal(example().tensors[0].second));
  EXPECT_EQ(read.file("vocab.diagnoses.txt"), "E11.9\nI10\n");
  EXPECT_EQ(failure_of([&] { read.file("vocab.none.txt"); }).code, Code::kDataError);
}

TEST(ModelDirectory, ReplacesOnlyWhenTold) {
  const std::string path = saved("overwrite");
  EXPECT_EQ(failure_of([&] { save_model_directory(path, example(), false); }).code,
            Code::kAlreadyExists);
  ModelDirectory other = example();
  other.files.erase("tables/interactions.csv");
  save_model_directory(path, other, true);
  EXPECT_FALSE(fs::exists(fs::path(path) / "tables"));
  EXPECT_EQ(load_model_directory(path).files.size(), 1U);
}

TEST(ModelDirectory, RefusesAnotherVocabulary) {
  const std::string path = saved("vocabulary");
  replace_file(fs::path(path) / "vocab.diagnoses.txt", "I10\nE11.9\n");
  const Failure failure = failure_of([&] { load_model_directory(path); });
  EXPECT_EQ(failure.code, Code::kIncompatible);
  EXPECT_THAT(failure.message, HasSubstr("vocab.diagnoses.txt"));
}

TEST(ModelDirectory, RefusesANewerFormat) {
  const std::string path = saved("format");
  edit_config(path, [](Json& config) { config["format"] = kModelFormat + 1; });
  const Failure failure = failure_of([&] { load_model_directory(path); });
  EXPECT_EQ(failure.code, Code::kIncompatible);
  EXPECT_THAT(failure.message, HasSubstr("format 2"));
}

TEST(ModelDirectory, SaysWhatIsMissing) {
  EXPECT_EQ(failure_of([] { load_model_directory("/nowhere/at/all"); }).code, Code::kNotFound);
  for (const char* name : {"vocab.diagnoses.txt", "tables/interactions.csv", "model.safetensors"}) {
    const std::string path = saved("missing");
    fs::remove(fs::path(path) / name);
    const Failure failure = failure_of([&] { load_model_directory(path); });
    EXPECT_EQ(failure.code, Code::kDataError) << name;
    EXPECT_THAT(failure.message, HasSubstr(name));
  }
}

TEST(ModelDirectory, RefusesMalformedConfigs) {
  const std::vector<std::function<void(Json&)>> edits = {
      [](Json& config) { config = Json::array(); },
      [](Json& config) { config.erase("format"); },
      [](Json& config) { config["format"] = "1"; },
      [](Json& config) { config.erase("method"); },
      [](Json& config) { config["method"] = 7; },
      [](Json& config) { config.erase("files"); },
      [](Json& config) { config["files"] = Json::array({"a"}); },
      [](Json& config) { config["files"]["vocab.diagnoses.txt"] = 7; },
      [](Json& config) { config["files"]["../../etc/passwd"] = "0"; },
      [](Json& config) { config["files"]["/etc/passwd"] = "0"; },
      [](Json& config) { config["files"]["a/b/c"] = "0"; },
      [](Json& config) { config["files"]["model.safetensors"] = "0"; },
      [](Json& config) { config["files"][""] = "0"; },
  };
  for (std::size_t i = 0; i < edits.size(); ++i) {
    const std::string path = saved("malformed");
    edit_config(path, edits[i]);
    EXPECT_EQ(failure_of([&] { load_model_directory(path); }).code, Code::kDataError) << i;
  }
  const std::string path = saved("malformed");
  replace_file(fs::path(path) / "config.json", "{\"method\": ");
  EXPECT_EQ(failure_of([&] { load_model_directory(path); }).code, Code::kDataError);
}

TEST(ModelDirectory, KeepsToItsLimits) {
  const std::string path = saved("limits");
  const auto code = [&](const ModelDirectoryLimits& limits) {
    return failure_of([&] { load_model_directory(path, limits); }).code;
  };
  EXPECT_EQ(code({.config_bytes = 10}), Code::kDataError);
  EXPECT_EQ(code({.file_bytes = 12}), Code::kDataError);
  EXPECT_EQ(code({.total_bytes = 20}), Code::kDataError);
  EXPECT_EQ(code({.files = 1}), Code::kDataError);
  EXPECT_EQ(code({}), Code::kOk);
}

TEST(ModelDirectory, RefusesFileNamesThatLeaveIt) {
  const std::string path = (fs::path(testing::TempDir()) / "theriac_model_names").string();
  for (const char* name :
       {"", "../x", "/x", "a/b/c", "a//b", ".hidden", "config.json", "a b", "x/.."}) {
    ModelDirectory directory = example();
    directory.files[name] = "x";
    EXPECT_EQ(failure_of([&] { save_model_directory(path, directory, true); }).code,
              Code::kInvalidArgument)
        << name;
  }
}

}  // namespace
}  // namespace theriac::train
