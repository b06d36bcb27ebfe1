#include "cpp/core/merge/chat_template.h"

#include <gmock/gmock.h>

#include "cpp/core/base/file.h"
#include "cpp/core/base/json.h"
#include "cpp/core/base/test_support.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing_support::failure_of;
using testing_support::ScratchFolder;

TEST(ChatTemplate, BuiltInOnes) {
  for (const char* name : {"alpaca", "chatml", "exaone", "llama3", "mistral"}) {
    EXPECT_THAT(built_in_template(name).value(), HasSubstr("for message in messages")) << name;
  }
  EXPECT_FALSE(built_in_template("auto"));
}

TEST(ChatTemplate, IsFoundWhereverItLies) {
  const ScratchFolder scratch;
  EXPECT_FALSE(chat_template_of(scratch.path()));
  replace_file(scratch / "chat_template.json", R"({"chat_template": "C"})");
  EXPECT_EQ(chat_template_of(scratch.path()), "C");
  replace_file(scratch / "tokenizer_config.json",
               R"({"chat_template": [{"name": "tools", "template": "T"},
                                     {"name": "default", "template": "D"}]})");
  EXPECT_EQ(chat_template_of(scratch.path()), "D");
  replace_file(scratch / "tokenizer_config.json", R"({"chat_template": "S"})");
  EXPECT_EQ(chat_template_of(scratch.path()), "S");
  replace_file(scratch / "chat_template.jinja", "J");
  EXPECT_EQ(chat_template_of(scratch.path()), "J");
  fs::remove(scratch / "chat_template.jinja");
  replace_file(scratch / "tokenizer_config.json", R"({"chat_template": 3})");
  EXPECT_EQ(failure_of([&] { chat_template_of(scratch.path()); }).value().code, Code::kDataError);
}

TEST(ChatTemplate, TheMostFrequentTheFirstOfSeveral) {
  const ScratchFolder scratch;
  std::vector<fs::path> folders;
  for (const char* text : {"x", " y\n", "z", "y", "z ", ""}) {
    folders.push_back(scratch / std::to_string(folders.size()));
    fs::create_directory(folders.back());
    if (*text != '\0') replace_file(folders.back() / "chat_template.jinja", text);
  }
  EXPECT_EQ(most_frequent_template(folders), "y");
  EXPECT_FALSE(most_frequent_template({folders.back()}));
}

TEST(ChatTemplate, IsSetInEveryFileThatHoldsOne) {
  const ScratchFolder scratch;
  EXPECT_FALSE(set_chat_template(scratch.path(), "T"));
  EXPECT_TRUE(fs::is_empty(scratch.path()));
  replace_file(scratch / "tokenizer.json", "{}");
  EXPECT_TRUE(set_chat_template(scratch.path(), "T"));
  EXPECT_EQ(read_file(scratch / "chat_template.jinja"), "T");
  replace_file(scratch / "tokenizer_config.json", "{\"a\": 1.50, \"chat_template\": [1, 2]}");
  EXPECT_TRUE(set_chat_template(scratch.path(), "U\"\n"));
  EXPECT_EQ(read_file(scratch / "chat_template.jinja"), "U\"\n");
  EXPECT_EQ(read_file(scratch / "tokenizer_config.json"),
            "{\"a\": 1.50, \"chat_template\": \"U\\\"\\n\"}");
}

}  // namespace
}  // namespace theriac::merge
