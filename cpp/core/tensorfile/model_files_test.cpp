#include "cpp/core/tensorfile/model_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "cpp/core/base/file.h"
#include "cpp/core/base/random.h"
#include "cpp/core/base/test_support.h"
#include "cpp/core/tensorfile/torch_writer_for_test.h"

namespace theriac::tensorfile {
namespace {

namespace pickle = testing_support::pickle;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing_support::detail;
using testing_support::failure_of;
using testing_support::ScratchFolder;
using testing_support::torch_file;

void expect_failure(const std::optional<Failure>& failure, Code code, const std::string& reason) {
  ASSERT_TRUE(failure) << "accepted; expected: " << reason;
  EXPECT_EQ(failure->code, code) << failure->message;
  EXPECT_THAT(failure->message, HasSubstr(reason));
}

void write_tensors(const std::filesystem::path& path, const std::vector<std::string>& names) {
  std::vector<std::string> bytes;
  std::vector<TensorToWrite> tensors;
  for (const std::string& name : names) bytes.push_back((name + "--------").substr(0, 8));
  for (std::size_t i = 0; i < names.size(); ++i) {
    tensors.push_back({names[i], DType::kF32, {2}, bytes[i]});
  }
  write_file(path, tensors);
}

std::vector<std::string> names_of(const ModelFiles& model) {
  std::vector<std::string> names;
  for (const TensorRecord& tensor : model.tensors()) names.push_back(tensor.name);
  return names;
}

std::string small_torch_file(const std::string& name) {
  const auto stored = pickle::storage("FloatStorage", "0", 2);
  return torch_file(pickle::program(pickle::dict({{name, pickle::tensor(stored, 0, {2}, {1})}})),
                    {{"0", "01234567"}});
}

TEST(ModelFiles, OneFile) {
  const ScratchFolder folder;
  write_tensors(folder / "x.safetensors", {"b", "a", "c"});
  const ModelFiles model = ModelFiles::open(folder / "x.safetensors");
  EXPECT_THAT(names_of(model), ElementsAre("a", "b", "c"));
  EXPECT_TRUE(model.config().is_null());
  const TensorRecord& b = model.at("b");
  EXPECT_EQ(b.dtype, DType::kF32);
  EXPECT_THAT(b.shape, ElementsAre(2));
  EXPECT_EQ(b.bytes, 8U);
  EXPECT_TRUE(b.contiguous());
  EXPECT_EQ(model.read(b), "b-------");
  EXPECT_EQ(model.file_name(b), (folder / "x.safetensors").string());
  EXPECT_EQ(read_file(folder / "x.safetensors").substr(b.offset, 8), "b-------");
  std::string part(3, '?');
  model.read(b, 5, std::span<char>(part));
  EXPECT_EQ(part, "---");
  EXPECT_EQ(model.find("d"), nullptr);
  expect_failure(failure_of([&] { model.at("bb"); }), Code::kNotFound, "no tensor 'bb'");
}

TEST(ModelFiles, FolderPrefersSafetensorsAndIndexes) {
  const ScratchFolder folder;
  const auto names = [&] { return names_of(ModelFiles::open(folder.path())); };
  expect_failure(failure_of(names), Code::kNotFound, "holds no model");
  replace_file(folder / "pytorch_model.bin", small_torch_file("single_bin"));
  EXPECT_THAT(names(), ElementsAre("single_bin"));
  replace_file(folder / "part.bin", small_torch_file("indexed_bin"));
  replace_file(folder / "pytorch_model.bin.index.json",
               R"({"weight_map": {"indexed_bin": "part.bin"}})");
  EXPECT_THAT(names(), ElementsAre("indexed_bin"));
  write_tensors(folder / "model.safetensors", {"single"});
  EXPECT_THAT(names(), ElementsAre("single"));
  write_tensors(folder / "model-00001-of-00001.safetensors", {"indexed"});
  replace_file(folder / "model.safetensors.index.json",
               R"({"weight_map": {"indexed": "model-00001-of-00001.safetensors"}})");
  EXPECT_THAT(names(), ElementsAre("indexed"));
  // A file's own path overrules all that.
  EXPECT_THAT(names_of(ModelFiles::open(folder / "pytorch_model.bin")), ElementsAre("single_bin"));
  EXPECT_THAT(names_of(ModelFiles::open(folder / "pytorch_model.bin.index.json")),
              ElementsAre("indexed_bin"));
}

TEST(ModelFiles, Shards) {
  const ScratchFolder folder;
  write_tensors(folder / "one.safetensors", {"a", "stray"});
  write_tensors(folder / "two.safetensors", {"b", "a"});
  replace_file(folder / "model.safetensors.index.json",
               R"({"metadata": {"total_size": 16.5},
                   "weight_map": {"b": "two.safetensors", "a": "one.safetensors"}})");
  const ModelFiles model = ModelFiles::open(folder.path());
  EXPECT_THAT(names_of(model), ElementsAre("a", "b"));
  EXPECT_EQ(model.file_name(model.at("a")), (folder / "one.safetensors").string());
  EXPECT_EQ(model.read(model.at("b")), "b-------");
  ASSERT_EQ(model.warnings().size(), 2U);
  EXPECT_THAT(model.warnings()[0], HasSubstr("holds 1 tensors that the index does not list, such "
                                             "as 'stray'"));
}

TEST(ModelFiles, BrokenShards) {
  const ScratchFolder folder;
  write_tensors(folder / "one.safetensors", {"a"});
  const auto index = folder / "model.safetensors.index.json";
  const auto open = [&] { ModelFiles::open(folder.path()); };
  replace_file(index, R"({"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}})");
  auto failure = failure_of(open);
  expect_failure(failure, Code::kDataError, "has no tensor 'b', which the index says it has");
  EXPECT_EQ(detail(*failure, "tensor"), "b");
  replace_file(index, R"({"weight_map": {"a": "two.safetensors"}})");
  failure = failure_of(open);
  expect_failure(failure, Code::kNotFound, "two.safetensors");
  replace_file(folder / "two.safetensors", "short");
  failure = failure_of(open);
  expect_failure(failure, Code::kDataError, "at least 8 are needed");
  EXPECT_EQ(detail(*failure, "file"), (folder / "two.safetensors").string());
}

TEST(ModelFiles, IndexRules) {
  const auto parse = [](const std::string& text, const ModelLimits& limits = {}) {
    return failure_of([&] { parse_index(text, "index", ".safetensors", limits); });
  };
  const auto shards = parse_index(
      R"({"weight_map": {"b": "y.safetensors", "a": "x.safetensors", "c": "y.safetensors"}})",
      "index", ".safetensors");
  ASSERT_EQ(shards.size(), 2U);
  EXPECT_THAT(shards.at("y.safetensors"), ElementsAre("b", "c"));
  EXPECT_THAT(parse_index(R"({"weight_map": {}})", "index", ".bin"), IsEmpty());

  for (const std::string text : {"[]", "{}", "3", R"({"weight_map": ["a"]})"}) {
    expect_failure(parse(text), Code::kDataError, "no object 'weight_map'");
  }
  expect_failure(parse(R"({"weight_map": {"a": 1}})"), Code::kDataError, "'a' is no string");
  expect_failure(parse(R"({"weight_map": {"a": "x.safetensors", "a": "x.safetensors"}})"),
                 Code::kDataError, "appears twice");
  expect_failure(parse("{\"weight_map\""), Code::kDataError, "index");
  for (const std::string name :
       {"../x.safetensors", "/x.safetensors", "a/x.safetensors", "a\\\\x.safetensors",
        "..safetensors", ".safetensors", "", ".", "..", "x.bin", "x", "x\\u0000.safetensors",
        ".hidden.safetensors"}) {
    expect_failure(parse(R"({"weight_map": {"a": ")" + name + "\"}}"), Code::kDataError,
                   "expected a plain file name");
  }
  expect_failure(parse(R"({"weight_map": {"a": ")" + std::string(300, 'x') + ".safetensors\"}}"),
                 Code::kDataError, "expected a plain file name");

  const std::string three =
      R"({"weight_map": {"b": "y.safetensors", "a": "x.safetensors", "c": "y.safetensors"}})";
  ModelLimits limits;
  limits.tensors = 2;
  expect_failure(parse(three, limits), Code::kDataError, "lists 3 tensors; at most 2");
  limits = {};
  limits.shards = 1;
  expect_failure(parse(three, limits), Code::kDataError, "more than 1 files");
  limits = {};
  limits.index_bytes = 20;
  EXPECT_TRUE(parse(three, limits));
}

TEST(ModelFiles, ReadsSideFiles) {
  const ScratchFolder folder;
  write_tensors(folder / "model.safetensors", {"a"});
  EXPECT_TRUE(ModelFiles::open(folder.path()).config().is_null());
  replace_file(folder / "config.json", R"({"model_type": "tiny"})");
  replace_file(folder / "vocab.txt", "x");
  replace_file(folder / "tokenizer.json", "{}");
  replace_file(folder / "training_args.bin", "x");
  const ModelFiles model = ModelFiles::open(folder.path());
  EXPECT_EQ(model.config().at("model_type"), "tiny");
  EXPECT_THAT(model.side_files(), ElementsAre("tokenizer.json", "vocab.txt"));
  replace_file(folder / "config.json", "{");
  expect_failure(failure_of([&] { ModelFiles::open(folder.path()); }), Code::kDataError,
                 "config.json");
}

TEST(ModelFiles, RefusesOtherFiles) {
  const ScratchFolder folder;
  replace_file(folder / "x.txt", "x");
  replace_file(folder / "x.index.json", "{}");
  expect_failure(failure_of([&] { ModelFiles::open(folder / "x.txt"); }), Code::kInvalidArgument,
                 "no file of tensors");
  expect_failure(failure_of([&] { ModelFiles::open(folder / "x.index.json"); }),
                 Code::kInvalidArgument, "no index of tensor files");
  expect_failure(failure_of([&] { ModelFiles::open(folder / "absent.bin"); }), Code::kNotFound,
                 "absent.bin");
  ModelLimits limits;
  limits.tensors = 1;
  write_tensors(folder / "two.safetensors", {"a", "b"});
  expect_failure(failure_of([&] { ModelFiles::open(folder / "two.safetensors", limits); }),
                 Code::kDataError, "holds 2 tensors; at most 1");
}

TEST(ModelFiles, ReadErrorsNameTheTensor) {
  const ScratchFolder folder;
  write_tensors(folder / "x.safetensors", {"a"});
  const ModelFiles model = ModelFiles::open(folder / "x.safetensors");
  const TensorRecord& a = model.at("a");
  std::string into(8, '?');
  for (const std::uint64_t first : {std::uint64_t{1}, std::uint64_t{9}, UINT64_MAX}) {
    expect_failure(failure_of([&] { model.read(a, first, std::span<char>(into)); }),
                   Code::kInvalidArgument, "tensor 'a' has 8 bytes");
  }
  std::filesystem::resize_file(folder / "x.safetensors", a.offset + 3);
  expect_failure(failure_of([&] { model.read(a); }), Code::kDataError, "tensor 'a': ");
}

// A view's dense bytes by the definition: element (i, j, ...) is at first + sum of index * stride.
std::string gathered(const std::string& stored, std::uint64_t first,
                     const std::vector<std::uint64_t>& shape,
                     const std::vector<std::uint64_t>& strides) {
  std::string out;
  const std::uint64_t count =
      std::accumulate(shape.begin(), shape.end(), std::uint64_t{1}, std::multiplies<>());
  for (std::uint64_t element = 0; element < count; ++element) {
    std::uint64_t left = element, position = first;
    for (std::size_t i = shape.size(); i-- > 0; left /= shape[i]) {
      position += left % shape[i] * strides[i];
    }
    out += stored.substr(2 * position, 2);
  }
  return out;
}

TEST(ModelFiles, GathersStridedTensors) {
  const ScratchFolder folder;
  std::string stored;
  Random random(3, "gather");
  for (int i = 0; i < 200; ++i) stored += static_cast<char>(random());  // 100 halves
  struct View {
    std::int64_t first;
    pickle::Sizes shape, strides;
  };
  const std::vector<View> views{{0, {10, 10}, {1, 10}},      // transposed
                                {21, {3, 4}, {10, 2}},       // a window
                                {5, {2, 3, 4}, {0, 4, 1}},   // repeated
                                {99, {4}, {0}},              // one element
                                {0, {2, 3, 4}, {1, 20, 3}},  // permuted
                                {7, {5, 1, 2}, {9, 50, 3}}};
  std::vector<std::pair<std::string, std::string>> entries;
  for (std::size_t i = 0; i < views.size(); ++i) {
    const auto from = pickle::storage("HalfStorage", "0", 100);
    entries.emplace_back(std::to_string(i),
                         pickle::tensor(from, views[i].first, views[i].shape, views[i].strides));
  }
  replace_file(folder / "x.pt",
               torch_file(pickle::program(pickle::dict(entries)), {{"0", stored}}));
  const ModelFiles model = ModelFiles::open(folder / "x.pt");
  for (std::size_t i = 0; i < views.size(); ++i) {
    const TensorRecord& tensor = model.at(std::to_string(i));
    EXPECT_FALSE(tensor.contiguous()) << i;
    const std::vector<std::uint64_t> strides(views[i].strides.begin(), views[i].strides.end());
    const std::string expected =
        gathered(stored, static_cast<std::uint64_t>(views[i].first), tensor.shape, strides);
    ASSERT_EQ(model.read(tensor), expected) << i;
    for (std::uint64_t first = 0; first <= tensor.bytes; ++first) {
      for (std::uint64_t size = 0; size <= tensor.bytes - first; size += 1 + size / 4) {
        std::string part(size, '?');
        model.read(tensor, first, std::span<char>(part));
        ASSERT_EQ(part, expected.substr(first, size)) << i << ", " << first << ", " << size;
      }
    }
  }
}

TEST(ModelFiles, ThreadsReadTogether) {
  const ScratchFolder folder;
  const std::vector<std::string> names{"a", "b", "c", "d", "e"};
  write_tensors(folder / "x.safetensors", names);
  const ModelFiles model = ModelFiles::open(folder / "x.safetensors");
  std::vector<std::thread> threads;
  std::vector<std::size_t> wrong(4);
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        for (const auto& name : names) wrong[t] += model.read(model.at(name)) != name + "-------";
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

}  // namespace
}  // namespace theriac::tensorfile
