#include "cpp/core/merge/output_model.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <csignal>

#include "cpp/core/base/file.h"
#include "cpp/core/base/test_support.h"

namespace theriac::merge {
namespace {

using tensorfile::DType;
using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::failure_of;
using testing_support::ScratchFolder;

std::vector<OutputTensor> tensors() {
  return {{"b", DType::kBF16, {3, 2}},
          {"z", DType::kF32, {2}},
          {"a\"q", DType::kBF16, {1}},
          {"s", DType::kI64, {}},
          {"e", DType::kF32, {0, 3}}};
}

// "a" and the like, as many as a tensor has bytes.
std::string filling(const OutputTensor& tensor) {
  return std::string(static_cast<std::size_t>(tensor.bytes), tensor.name[0]);
}

TEST(OutputModel, FilesAreThoseOfTheFormatsWriter) {
  const ScratchFolder scratch;
  const OutputLayout layout = lay_out(tensors(), 1000);
  ASSERT_EQ(layout.shards.size(), 1U);
  EXPECT_EQ(layout.shards[0].file, "model.safetensors");
  EXPECT_EQ(layout.tensor_bytes, 12U + 8 + 2 + 8);
  EXPECT_EQ(layout.file_bytes(), layout.shards[0].bytes);
  OutputFiles files = OutputFiles::create(scratch.path(), layout);
  std::vector<tensorfile::TensorToWrite> wanted;
  std::vector<std::string> bytes;
  for (const OutputTensor& tensor : layout.tensors) bytes.push_back(filling(tensor));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    files.write(i, 0, bytes[i]);
    wanted.push_back(
        {layout.tensors[i].name, layout.tensors[i].dtype, layout.tensors[i].shape, bytes[i]});
  }
  EXPECT_FALSE(std::filesystem::exists(scratch / "model.safetensors"));
  files.sync();
  files.finish();
  EXPECT_EQ(read_file(scratch / "model.safetensors"),
            tensorfile::serialise(wanted, {{"format", "pt"}}));
}

TEST(OutputModel, ShardsStartWhereTheLimitWouldBePassed) {
  const auto shards = [](std::uint64_t limit) {
    std::vector<std::size_t> out;
    for (const OutputTensor& tensor : lay_out(tensors(), limit).tensors)
      out.push_back(tensor.shard);
    return out;
  };
  EXPECT_THAT(shards(30), ElementsAre(0, 0, 0, 0, 0));
  EXPECT_THAT(shards(29), ElementsAre(0, 0, 0, 1, 1));
  EXPECT_THAT(shards(20), ElementsAre(0, 0, 1, 1, 1));
  EXPECT_THAT(shards(10), ElementsAre(0, 1, 1, 2, 2));  // the first is larger than a shard
  EXPECT_THAT(shards(1), ElementsAre(0, 1, 2, 3, 4));   // an empty one never fits beside
  const OutputLayout layout = lay_out(tensors(), 20);
  EXPECT_EQ(layout.shards[1].file, "model-00002-of-00002.safetensors");
  const Json index = parse_json(index_json(layout), "index");
  EXPECT_EQ(index.at("metadata").at("total_size"), 30);
  EXPECT_EQ(index.at("weight_map").at("a\"q"), "model-00002-of-00002.safetensors");
  EXPECT_EQ(index.at("weight_map").size(), 5U);
}

TEST(OutputModel, RefusesWhatTheFormatCannotHold) {
  EXPECT_TRUE(failure_of([] { lay_out({{"a", DType::kF32, {}}, {"a", DType::kF32, {}}}, 10); }));
  EXPECT_TRUE(failure_of([] { lay_out({{"", DType::kF32, {}}}, 10); }));
  EXPECT_TRUE(failure_of([] { lay_out({{"__metadata__", DType::kF32, {}}}, 10); }));
  const std::uint64_t big = std::uint64_t{1} << 40;
  EXPECT_TRUE(failure_of([&] { lay_out({{"a", DType::kF32, {big, big}}}, 10); }));
}

TEST(OutputModel, ConfigKeepsItsText) {
  const std::string text =
      "{\n  \"x\": 1e-6, \"torch_dtype\" : \"float32\",\n\t\"text_config\": {\"layers\": [1, "
      "{\"a\": "
      "\"}\\\"\"}], \"n\": 2},\n  \"dtype_of\": null\n}\n";
  EXPECT_EQ(edited_config(text, "c", {}, ""), text);
  const std::string edited =
      edited_config(text, "c", {{"text_config.n", 12}, {"nowhere.n", 3}}, "bfloat16");
  std::string wanted = text;
  wanted.replace(wanted.find("\"float32\""), 9, "\"bfloat16\"");
  wanted.replace(wanted.find("\"n\": 2"), 6, "\"n\": 12");
  EXPECT_EQ(edited, wanted);
  EXPECT_EQ(edited_config("{\"a\":1}", "c", {{"b", false}}, ""), "{\"a\":1,\n  \"b\": false}");
  EXPECT_EQ(parse_json(edited_config("{}", "c", {}, "float16"), "c"),
            (Json{{"torch_dtype", "float16"}}));
  const std::string parts = R"({"dtype": "float32", "vision_config": {"dtype": "float32"}})";
  EXPECT_EQ(edited_config(parts, "c", {}, "float16"),
            R"({"dtype": "float16", "vision_config": {"dtype": "float16"}})");
}

TEST(OutputModel, TargetsThatAreReplacedOnlyWhenAsked) {
  const ScratchFolder scratch;
  const auto code = [&](const std::string& name, bool overwrite) {
    const auto failure = failure_of([&] { check_target(scratch / name, overwrite); });
    return failure ? failure->code : Code::kOk;
  };
  EXPECT_EQ(code("new", false), Code::kOk);
  std::filesystem::create_directories(scratch / "empty");
  EXPECT_EQ(code("empty", false), Code::kAlreadyExists);
  EXPECT_EQ(code("empty", true), Code::kOk);
  std::filesystem::create_directories(scratch / "photos");
  replace_file(scratch / "photos" / "cat.jpg", "x");
  EXPECT_EQ(code("photos", true), Code::kAlreadyExists);
  replace_file(scratch / "photos" / "config.json", "{}");
  EXPECT_EQ(code("photos", true), Code::kOk);
  replace_file(scratch / "file", "x");
  EXPECT_EQ(code("file", true), Code::kInvalidArgument);
  EXPECT_EQ(staging_folder(scratch / "out/"), scratch / ".out.merging");
  EXPECT_TRUE(failure_of([] { staging_folder(".."); }));
}

TEST(OutputModel, PublishReplacesAndRemovesTheOld) {
  const ScratchFolder scratch;
  for (const char* content : {"1", "2"}) {
    std::filesystem::create_directories(scratch / ".out.merging");
    replace_file(scratch / ".out.merging" / "config.json", content);
    publish(scratch / ".out.merging", scratch / "out", true);
    EXPECT_EQ(read_file(scratch / "out" / "config.json"), content);
    EXPECT_FALSE(std::filesystem::exists(scratch / ".out.merging"));
  }
  std::filesystem::create_directories(scratch / ".out.merging");
  const auto failure =
      failure_of([&] { publish(scratch / ".out.merging", scratch / "out", false); });
  EXPECT_EQ(failure.value().code, Code::kAlreadyExists);
  EXPECT_TRUE(std::filesystem::exists(scratch / ".out.merging"));
}

// A file size limit stands in for a full disk.
TEST(OutputModel, NoRoomIsOneErrorAndLeavesNothing) {
  const ScratchFolder scratch;
  struct rlimit old {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small {
    4096, old.rlim_max
  };
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const OutputLayout layout =
      lay_out({{"a", DType::kF32, {1}}, {"b", DType::kF32, {100'000}}}, 100);
  const auto failure = failure_of([&] { OutputFiles::create(scratch.path(), layout); });
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kIoError);
  EXPECT_THAT(failure->message, HasSubstr("no room for the output"));
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
}

TEST(OutputModel, ReopenChecksSizes) {
  const ScratchFolder scratch;
  const OutputLayout layout = lay_out(tensors(), 20);
  { OutputFiles::create(scratch.path(), layout).write(0, 2, "xyz"); }
  {
    const OutputFiles files = OutputFiles::reopen(scratch.path(), layout);
    std::string bytes(4, '\0');
    files.read(0, 1, std::span<char>(bytes));
    EXPECT_EQ(bytes, std::string("\0xyz", 4));
  }
  const std::string part = layout.shards[1].file + ".part";
  std::filesystem::rename(scratch / part, scratch / layout.shards[1].file);  // stopped at the end
  { OutputFiles::reopen(scratch.path(), layout); }
  std::filesystem::resize_file(scratch / part, 5);
  EXPECT_EQ(failure_of([&] { OutputFiles::reopen(scratch.path(), layout); }).value().code,
            Code::kDataError);
  std::filesystem::remove(scratch / part);
  EXPECT_TRUE(failure_of([&] { OutputFiles::reopen(scratch.path(), layout); }));
}

}  // namespace
}  // namespace theriac::merge
