#include "cpp/core/tensorfile/torch_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cpp/core/base/test_support.h"
#include "cpp/core/tensorfile/torch_writer_for_test.h"

namespace theriac::tensorfile {
namespace {

using namespace testing_support::pickle;  // NOLINT: the test reads as a pickle
using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::detail;
using testing_support::failure_of;
using testing_support::torch_archive;
using testing_support::ZipFile;

TorchTensors read(const std::string& bytes, const PickleLimits& limits = {}) {
  return read_torch_file(MemoryBytes(bytes, "test.bin"), limits);
}

void expect_rejected(const std::string& bytes, const std::string& reason,
                     Code code = Code::kDataError) {
  const auto failure = failure_of([&] { read(bytes); });
  ASSERT_TRUE(failure) << "accepted; expected: " << reason;
  EXPECT_EQ(failure->code, code) << failure->message;
  EXPECT_THAT(failure->message, HasSubstr(reason));
  EXPECT_EQ(detail(*failure, "file"), "test.bin");
}

const std::string kSix = "0123456789abcdefghijklmn";  // six floats

std::string two_views() {
  const std::string six = storage("FloatStorage", "0", 6);
  return program(dict({{"w", tensor(six, 0, {2, 3}, {3, 1})},
                       {"t", tensor(six, 1, {3, 1}, {2, 77})},
                       {"row", tensor(six, 3, {1, 3}, {99, 1})},
                       {"none", tensor(six, 6, {0, 4}, {1, 9})},
                       {"epoch", integer(1)}}));
}

TEST(TorchFile, LocatesTensors) {
  const std::string bytes = torch_archive(two_views(), {{"0", kSix}}).bytes();
  const TorchTensors found = read(bytes);
  const std::size_t data = bytes.find(kSix);
  ASSERT_EQ(found.tensors.size(), 4U);
  EXPECT_THAT(found.ignored, ElementsAre("epoch"));
  EXPECT_EQ(found.tensors[0].offset, data);
  EXPECT_EQ(found.tensors[0].bytes, 24U);
  EXPECT_TRUE(found.tensors[0].contiguous());
  EXPECT_EQ(found.tensors[1].offset, data + 4);
  EXPECT_EQ(found.tensors[1].bytes, 12U);
  EXPECT_THAT(found.tensors[1].strides, ElementsAre(2, 77));
  EXPECT_EQ(found.tensors[2].offset, data + 12);
  EXPECT_TRUE(found.tensors[2].contiguous());  // a dimension of one has no stride to speak of
  EXPECT_TRUE(found.tensors[3].contiguous());
  EXPECT_EQ(found.tensors[3].bytes, 0U);
}

TEST(TorchFile, ByteOrder) {
  EXPECT_EQ(read(torch_archive(two_views(), {{"0", kSix}}, "").bytes()).tensors.size(), 4U);
  expect_rejected(torch_archive(two_views(), {{"0", kSix}}, "big").bytes(), "byte order is 'big'",
                  Code::kUnsupported);
  expect_rejected(torch_archive(two_views(), {{"0", kSix}}, "middle-out").bytes(),
                  "byte order is 'middle-out'");
}

TEST(TorchFile, StoragesMustBeThere) {
  expect_rejected(torch_archive(two_views(), {{"1", kSix}}).bytes(),
                  "tensor 'w': the archive has no storage '0'");
  expect_rejected(torch_archive(two_views(), {{"0", kSix.substr(1)}}).bytes(),
                  "storage '0' has 23 bytes; expected 6 elements of 4 bytes");
  const auto huge = storage("FloatStorage", "0", std::int64_t{1} << 53);
  expect_rejected(
      torch_archive(program(dict({{"w", tensor(huge, 0, {1}, {1})}})), {{"0", kSix}}).bytes(),
      "expected 9007199254740992 elements");
}

TEST(TorchFile, OtherKindsOfFile) {
  expect_rejected("", "it is no ZIP archive");
  expect_rejected(std::string(1000, 'x'), "it is no ZIP archive");
  const std::string old("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
  expect_rejected(old, "PyTorch before 1.6", Code::kUnsupported);
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  expect_rejected(tar, "PyTorch before 1.6", Code::kUnsupported);
  ZipFile script = torch_archive(two_views(), {{"0", kSix}});
  script.entries.push_back({.name = "weights/code/__torch__.py", .bytes = "x"});
  expect_rejected(script.bytes(), "TorchScript", Code::kUnsupported);
  ZipFile other;
  other.entries.push_back({.name = "readme", .bytes = "x"});
  expect_rejected(other.bytes(), "has 0 entries named <top>/data.pkl");
  ZipFile two = torch_archive(two_views(), {{"0", kSix}});
  two.entries.push_back({.name = "again/data.pkl", .bytes = two_views()});
  expect_rejected(two.bytes(), "has 2 entries named <top>/data.pkl");
  ZipFile packed = torch_archive(two_views(), {{"0", kSix}});
  packed.entries[0].method = 8;
  expect_rejected(packed.bytes(), "Deflate", Code::kUnsupported);
}

TEST(TorchFile, ErrorsOfThePickleNameTheFile) {
  const std::string hostile =
      program(dict({{"w", call(global("os", "system"), tuple({text("id")}))}}));
  expect_rejected(torch_archive(hostile, {}).bytes(),
                  "entry 'weights/data.pkl': pickle, byte 10: the global 'os.system' is refused");
  PickleLimits limits;
  limits.bytes = 10;
  const std::string bytes = torch_archive(two_views(), {{"0", kSix}}).bytes();
  const auto failure = failure_of([&] { read(bytes, limits); });
  ASSERT_TRUE(failure);
  EXPECT_THAT(failure->message, HasSubstr("at most 10 are accepted"));
}

// Whatever byte is damaged: an Error, or tensors that lie inside the file.
TEST(TorchFile, DamagedBytes) {
  const std::string good = torch_archive(two_views(), {{"0", kSix}}).bytes();
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (const char change : {'\x01', '\x10', '\x80', '\xff'}) {
      std::string damaged = good;
      damaged[at] = static_cast<char>(damaged[at] ^ change);
      const auto failure = failure_of([&] {
        for (const TensorRecord& tensor : read(damaged).tensors) {
          ASSERT_LE(tensor.offset, damaged.size());
          if (!tensor.contiguous()) continue;
          ASSERT_LE(tensor.bytes, damaged.size() - tensor.offset);
        }
      });
      if (failure) {
        EXPECT_NE(failure->code, Code::kInternal);
      }
    }
  }
}

}  // namespace
}  // namespace theriac::tensorfile
