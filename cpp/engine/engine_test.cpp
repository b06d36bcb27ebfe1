#include "cpp/core/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "cpp/engine/registry.h"

extern "C" theriac::Engine* theriac_engine_open(const char* build_id);

namespace theriac {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

Engine& engine() { return *theriac_engine_open(THERIAC_BUILD_ID); }

TEST(Engine, OpensForItsOwnBuildOnly) {
  EXPECT_NE(theriac_engine_open(THERIAC_BUILD_ID), nullptr);
  EXPECT_EQ(theriac_engine_open(THERIAC_BUILD_ID), theriac_engine_open(THERIAC_BUILD_ID));
  EXPECT_EQ(theriac_engine_open("theriac-0.0.0"), nullptr);
  EXPECT_EQ(theriac_engine_open(nullptr), nullptr);
}

TEST(Engine, SaysWhatItRunsOn) {
  std::string text;
  ASSERT_TRUE(engine().info(text).ok());
  const Json info = parse_json(text, "info");
  EXPECT_THAT(info["libtorch"].get<std::string>(), testing::StartsWith("2."));
  EXPECT_EQ(info["devices"][0], "cpu");
  EXPECT_GE(info["threads"].get<int>(), 1);
  EXPECT_FALSE(info["cpu"].get<std::string>().empty());
}

TEST(Engine, ListsMethodsAndDocumentsWithSchemas) {
  std::string text;
  const Outcome outcome = engine().methods(text);
  ASSERT_TRUE(outcome.ok()) << outcome.failure().message;
  std::vector<std::string> names;
  for (const Json& item : parse_json(text, "methods")) {
    names.push_back(item["name"].get<std::string>());
    EXPECT_TRUE(item["schema"].is_object()) << names.back();
  }
  std::vector<std::string> registered;
  for (const MethodEntry& entry : methods()) registered.push_back(entry.name);
  EXPECT_TRUE(std::is_sorted(registered.begin(), registered.end()));
  EXPECT_THAT(registered, testing::IsSupersetOf({"code_tree", "gamenet"}));
  EXPECT_THAT(names, testing::IsSupersetOf(registered));
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

TEST(Engine, NamesTheNearestMethod) {
  std::unique_ptr<Model> model;
  const Outcome outcome = engine().create_model("gamnet", "{}", {}, model);
  EXPECT_EQ(outcome.failure().code, Code::kNotFound);
  EXPECT_THAT(outcome.failure().message, HasSubstr("'gamenet'"));
  EXPECT_EQ(model, nullptr);
}

TEST(Engine, OptionsAreAnObject) {
  std::unique_ptr<Model> model;
  for (const char* options : {"[1]", "7", "{\"a\": ", "{\"a\": 1, \"a\": 2}"}) {
    EXPECT_EQ(engine().create_model("gamenet", options, {}, model).failure().code,
              Code::kInvalidArgument)
        << options;
  }
}

TEST(Engine, LoadRefusesWhatItDoesNotKnow) {
  const std::string path = (fs::path(testing::TempDir()) / "theriac_engine_unknown").string();
  std::unique_ptr<Model> model;
  fs::remove_all(path);
  EXPECT_EQ(engine().load_model(path, "{}", {}, model).failure().code, Code::kNotFound);
  train::ModelDirectory directory;
  directory.config = Json{{"method", "oracle"}};
  train::save_model_directory(path, directory, true);
  const Outcome outcome = engine().load_model(path, "{}", {}, model);
  EXPECT_EQ(outcome.failure().code, Code::kNotFound);
  EXPECT_THAT(outcome.failure().message, HasSubstr("'oracle'"));
}

}  // namespace
}  // namespace theriac
