#include "cpp/core/tensorfile/zip.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cpp/core/base/file.h"
#include "cpp/core/base/test_support.h"
#include "cpp/core/tensorfile/torch_writer_for_test.h"

namespace theriac::tensorfile {
namespace {

using testing::HasSubstr;
using testing_support::detail;
using testing_support::failure_of;
using testing_support::little;
using testing_support::ScratchFolder;
using testing_support::ZipFile;

std::vector<ZipEntry> read(const std::string& bytes, const ZipLimits& limits = {}) {
  return read_zip_directory(MemoryBytes(bytes, "test.zip"), limits);
}

void expect_rejected(const std::string& bytes, const std::string& reason,
                     Code code = Code::kDataError, const ZipLimits& limits = {}) {
  const auto failure = failure_of([&] { read(bytes, limits); });
  ASSERT_TRUE(failure) << "accepted; expected: " << reason;
  EXPECT_EQ(failure->code, code) << failure->message;
  EXPECT_THAT(failure->message, HasSubstr(reason));
  EXPECT_EQ(detail(*failure, "file"), "test.zip");
  EXPECT_NE(detail(*failure, "offset"), "(none)");
}

ZipFile two_entries() {
  ZipFile zip;
  zip.entries.push_back({.name = "top/first", .bytes = "abc"});
  zip.entries.push_back({.name = "top/second", .bytes = "", .padding = 50});
  zip.entries.push_back({.name = "top/third", .bytes = "defgh", .padding = 7});
  return zip;
}

TEST(Zip, FindsEntries) {
  for (const bool wide : {false, true}) {
    for (const std::string comment : {"", "a remark"}) {
      ZipFile zip = two_entries();
      zip.zip64 = wide;
      zip.comment = comment;
      const std::string bytes = zip.bytes();
      const auto entries = read(bytes);
      ASSERT_EQ(entries.size(), 3U);
      EXPECT_EQ(entries[0].name, "top/first");
      EXPECT_EQ(bytes.substr(entries[0].offset, entries[0].size), "abc");
      EXPECT_EQ(entries[1].size, 0U);
      EXPECT_EQ(entries[2].name, "top/third");
      EXPECT_EQ(bytes.substr(entries[2].offset, entries[2].size), "defgh");
    }
  }
  EXPECT_TRUE(read(ZipFile().bytes()).empty());
}

// A comment may hold what looks like another end record.
TEST(Zip, TakesTheLastEndRecord) {
  ZipFile inner, outer = two_entries();
  outer.comment = inner.bytes();
  EXPECT_EQ(read(outer.bytes()).size(), 0U);  // the inner one reaches exactly to the end
  outer.comment += "x";
  EXPECT_EQ(read(outer.bytes()).size(), 3U);
}

TEST(Zip, EveryTruncationIsRejected) {
  for (const bool wide : {false, true}) {
    ZipFile zip = two_entries();
    zip.zip64 = wide;
    const std::string bytes = zip.bytes();
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_TRUE(failure_of([&] { read(bytes.substr(0, size)); })) << size;
    }
  }
}

// Whatever single byte is damaged: an Error or entries inside the file, never anything else.
TEST(Zip, DamagedBytes) {
  for (const bool wide : {false, true}) {
    ZipFile zip = two_entries();
    zip.zip64 = wide;
    const std::string bytes = zip.bytes();
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      for (const char value : {'\0', '\x01', '\x7f', '\xff'}) {
        std::string damaged = bytes;
        damaged[at] = value;
        const auto failure = failure_of([&] {
          for (const ZipEntry& entry : read(damaged)) {
            ASSERT_LE(entry.offset, damaged.size());
            ASSERT_LE(entry.size, damaged.size() - entry.offset);
          }
        });
        if (failure) {
          EXPECT_TRUE(failure->code == Code::kDataError || failure->code == Code::kUnsupported);
        }
      }
    }
  }
}

TEST(Zip, RefusesCompressionAndEncryption) {
  ZipFile zip = two_entries();
  zip.entries[2].method = 8;
  expect_rejected(zip.bytes(), "'top/third' is compressed (method 8, Deflate)", Code::kUnsupported);
  zip = two_entries();
  zip.entries[0].flags = 1;
  expect_rejected(zip.bytes(), "'top/first' is encrypted", Code::kUnsupported);
}

TEST(Zip, RefusesLies) {
  expect_rejected("", "too short");
  expect_rejected(std::string(100, 'x'), "directory is missing");

  ZipFile zip = two_entries();
  zip.entries[2].stated_size = 6;
  expect_rejected(zip.bytes(), "reaches into the directory");
  zip.entries[2].stated_size = 0x7FFFFFFF;
  expect_rejected(zip.bytes(), "reaches into the directory");
  zip.zip64 = true;
  zip.entries[2].stated_size = INT64_MAX;
  expect_rejected(zip.bytes(), "reaches into the directory");

  std::string two_sizes = two_entries().bytes();
  const std::size_t last = two_sizes.rfind("PK\x01\x02");
  two_sizes.replace(last + 20, 4, little<std::uint32_t>(4));
  expect_rejected(two_sizes, "'top/third' is stored but has two sizes, 4 and 5");

  zip = two_entries();
  zip.entries[0].stated_size = 40;
  expect_rejected(zip.bytes(), "'top/first' and 'top/second' overlap");
  zip = two_entries();
  zip.entries[1].stated_header = 0;  // a second entry over the first one's bytes
  zip.entries[1].name = zip.entries[0].name;
  expect_rejected(zip.bytes(), "overlap");

  zip = two_entries();
  zip.entries[1].stated_header = 1;
  expect_rejected(zip.bytes(), "has no local header");
  zip.entries[1].stated_header = 1'000'000;
  expect_rejected(zip.bytes(), "lies outside the file");

  zip = two_entries();
  zip.entries[1].local_name = "top/secund";
  expect_rejected(zip.bytes(), "another name in its local header");
  zip = two_entries();
  zip.entries[1].name = zip.entries[1].local_name = "top/first";
  expect_rejected(zip.bytes(), "'top/first' appears twice");
  zip = two_entries();
  zip.entries[1].name = zip.entries[1].local_name = "";
  expect_rejected(zip.bytes(), "name is empty");
}

TEST(Zip, RefusesWrongEndRecords) {
  const std::string good = two_entries().bytes();
  const auto with = [&](std::size_t from_end, const std::string& bytes) {
    std::string out = good;
    return out.replace(good.size() - from_end, bytes.size(), bytes);
  };
  expect_rejected(with(12, little<std::uint16_t>(2)), "more than stated");
  expect_rejected(with(12, little<std::uint16_t>(4)), "has 3 entries; 4 are stated");
  expect_rejected(with(10, little<std::uint32_t>(0x7FFFFFFF)), "directory lies outside the file");
  expect_rejected(with(6, little<std::uint32_t>(0x7FFFFFFF)), "directory lies outside the file");
  expect_rejected(with(18, little<std::uint16_t>(3)), "in parts", Code::kUnsupported);

  ZipFile wide = two_entries();
  wide.zip64 = true;
  std::string bytes = wide.bytes();
  bytes.replace(bytes.size() - 12, 2, little<std::uint16_t>(2));  // ZIP64 says 3
  expect_rejected(bytes, "two end records disagree");
  bytes = wide.bytes();
  bytes.replace(bytes.size() - 22 - 12, 8, little<std::uint64_t>(UINT64_MAX));
  expect_rejected(bytes, "ZIP64 end record lies outside the file");
}

TEST(Zip, LimitsBind) {
  ZipLimits limits;
  limits.entries = 3;
  EXPECT_EQ(read(two_entries().bytes(), limits).size(), 3U);
  limits.entries = 2;
  expect_rejected(two_entries().bytes(), "at most 2 are accepted", Code::kDataError, limits);
  limits = {};
  limits.directory_bytes = 100;
  expect_rejected(two_entries().bytes(), "at most 100 are accepted", Code::kDataError, limits);
}

TEST(FileBytesTest, ReadsRanges) {
  const ScratchFolder folder;
  replace_file(folder / "x", "0123456789");
  const FileBytes file(folder / "x");
  EXPECT_EQ(file.size(), 10U);
  EXPECT_EQ(file.read(3, std::size_t{4}), "3456");
  EXPECT_EQ(file.read(10, std::size_t{0}), "");
  for (const std::uint64_t offset : {std::uint64_t{7}, std::uint64_t{11}, UINT64_MAX}) {
    const auto failure = failure_of([&] { file.read(offset, std::size_t{4}); });
    ASSERT_TRUE(failure) << offset;
    EXPECT_EQ(failure->code, Code::kDataError);
  }
}

TEST(FileBytesTest, SaysWhatIsWrong) {
  const ScratchFolder folder;
  auto failure = failure_of([&] { FileBytes file(folder / "absent"); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kNotFound);
  EXPECT_NE(detail(*failure, "errno"), "(none)");
  failure = failure_of([&] { FileBytes file(folder.path()); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kInvalidArgument);

  replace_file(folder / "cut", "0123456789");
  const FileBytes file(folder / "cut");
  std::filesystem::resize_file(folder / "cut", 5);
  failure = failure_of([&] { file.read(2, std::size_t{6}); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kDataError);
  EXPECT_THAT(failure->message, HasSubstr("ends after 5 bytes"));
}

}  // namespace
}  // namespace theriac::tensorfile
