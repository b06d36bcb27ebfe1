#include "cpp/core/merge/inputs.h"

#include <gmock/gmock.h>

#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/adapter_for_test.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::HasSubstr;
using testing_support::failure_of;
using testing_support::ScratchFolder;

class Inputs : public testing::Test {
 protected:
  Inputs() { options_.working_folder = scratch_.path(); }
  std::vector<InputModel> open(const std::vector<std::string>& names) {
    std::vector<ModelReference> references;
    for (const auto& name : names) references.push_back(parse_model_reference(name));
    Job job;
    return open_inputs(references, options_, job);
  }
  void write(const std::string& name, std::uint64_t seed = 1) {
    toy::write_model(scratch_ / name, toy::decoder_specs(), seed);
  }

  ScratchFolder scratch_;
  InputOptions options_;
};

TEST_F(Inputs, AdaptersOnOneBase) {
  write("base");
  std::vector<toy::Spec> lora;
  toy::add_module(lora, "lm_head", 10, 6, 2);
  toy::write_adapter(scratch_ / "x", lora, 2, R"({"r": 2})");
  toy::write_adapter(scratch_ / "y", lora, 3, R"({"r": 2})");
  const auto models = open({"base", "base+x", "base+y"});
  ASSERT_EQ(models.size(), 3U);
  EXPECT_EQ(models[0].inputs.size(), 1U);
  ASSERT_EQ(models[1].inputs.size(), 3U);  // and the adapter's weights and configuration
  EXPECT_THAT(models[1].inputs[2].path, HasSubstr("adapter_config.json"));
  const auto at = [&](std::size_t i) {
    return models[i].files.read(models[i].files.at("lm_head.weight"));
  };
  EXPECT_NE(at(1), at(0));
  EXPECT_NE(at(1), at(2));
  EXPECT_THAT(failure_of([&] { open({"base+z"}); }).value().message,
              HasSubstr("there is no model"));
  EXPECT_THAT(failure_of([&] { open({"x"}); }).value().message, HasSubstr("write BASE+x"));
}

TEST_F(Inputs, ModelsOfTheHubInItsCache) {
  const fs::path model = scratch_ / "hub/models--org--net";
  write("hub/models--org--net/snapshots/abc123", 7);
  fs::create_directories(model / "refs/pr");
  replace_file(model / "refs" / "main", "abc123\n");
  replace_file(model / "refs" / "pr" / "1", "abc123");
  EXPECT_EQ(failure_of([&] { open({"org/net"}); }).value().code, Code::kNotFound);
  options_.hub_cache = scratch_ / "hub";
  for (const char* name : {"org/net", "org/net@main", "org/net@abc123", "org/net@pr/1"}) {
    EXPECT_EQ(open({name})[0].files.folder(), model / "snapshots" / "abc123") << name;
  }
  for (const char* name : {"org/net@other", "org/other", "org/net@../../x", "../net", "org/.."}) {
    EXPECT_EQ(failure_of([&] { open({name}); }).value().code, Code::kNotFound) << name;
  }
  // A reference file comes from anywhere, too.
  replace_file(model / "refs" / "main", "../../../base");
  EXPECT_EQ(open({"org/net"})[0].files.folder(), model / "snapshots" / "abc123");  // the only one
  write("hub/models--org--net/snapshots/def", 8);
  EXPECT_EQ(failure_of([&] { open({"org/net"}); }).value().code, Code::kNotFound);
}

TEST_F(Inputs, LocalModelsComeFirst) {
  write("org/net");
  options_.hub_cache = scratch_ / "hub";
  const auto models = open({"org/net@v1"});
  EXPECT_EQ(models[0].files.folder(), scratch_ / "org/net");
  EXPECT_THAT(models[0].files.warnings(), Contains(HasSubstr("not checked")));
}

}  // namespace
}  // namespace theriac::merge
