#include "cpp/core/base/input.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "cpp/core/base/file.h"
#include "cpp/core/base/test_support.h"

namespace theriac {
namespace {

using testing::HasSubstr;
using testing_support::detail;
using testing_support::failure_of;
using testing_support::ScratchFolder;

std::string gzip(const std::string& text) {
  z_stream stream{};
  if (deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, MAX_WBITS + 16, 8,
                   Z_DEFAULT_STRATEGY) != Z_OK)
    return "";
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  return out;
}

std::string drain(ByteSource& source, std::size_t step = 1000) {
  std::string out, part(step, '\0');
  while (const std::size_t got = source.read(part)) out.append(part, 0, got);
  EXPECT_EQ(source.read(part), 0U);  // the end stays the end
  return out;
}

std::string read_all(std::string_view bytes, InputLimits limits = {}, std::size_t step = 1000) {
  return drain(*memory_source(bytes, "m", limits), step);
}

std::string noise(std::size_t size) {
  std::string out(size, '\0');
  std::uint32_t state = 1;
  for (char& c : out) c = static_cast<char>((state = state * 1664525U + 1013904223U) >> 24);
  return out;
}

void expect_rejected(const std::string& bytes, const std::string& reason, InputLimits limits = {}) {
  const auto failure = failure_of([&] { read_all(bytes, limits); });
  ASSERT_TRUE(failure) << reason;
  EXPECT_EQ(failure->code, Code::kDataError);
  EXPECT_THAT(failure->message, HasSubstr(reason));
  EXPECT_THAT(failure->message, HasSubstr("'m'"));
}

TEST(Input, PlainBytesPassThrough) {
  const std::string bytes = noise(5000);
  for (const std::size_t step : {std::size_t{1}, std::size_t{7}, std::size_t{100000}}) {
    EXPECT_EQ(read_all(bytes, {}, step), bytes);
  }
  EXPECT_EQ(read_all(""), "");
  EXPECT_EQ(read_all("\x1f"), "\x1f");  // half of the gzip mark
}

TEST(Input, GzipIsKnownByItsContent) {
  const std::string text = noise(600000) + std::string(300000, 'a');
  for (const std::size_t step : {std::size_t{13}, std::size_t{1000000}}) {
    EXPECT_EQ(read_all(gzip(text), {}, step), text);
  }
  EXPECT_EQ(read_all(gzip("")), "");
}

TEST(Input, FilesAreReadByContentNotByName) {
  const ScratchFolder folder;
  replace_file(folder / "plain.gz", "plain");
  replace_file(folder / "packed.csv", gzip("packed"));
  EXPECT_EQ(drain(*open_source(folder / "plain.gz")), "plain");
  EXPECT_EQ(drain(*open_source(folder / "packed.csv")), "packed");
  EXPECT_EQ(open_source(folder / "plain.gz")->name(), (folder / "plain.gz").string());
  EXPECT_EQ(failure_of([&] { open_source(folder / "none"); })->code, Code::kNotFound);
  EXPECT_EQ(failure_of([&] { open_source(folder.path()); })->code, Code::kIoError);
}

TEST(Input, MembersFollowEachOther) {
  const std::string first = noise(300000), second = "second";
  EXPECT_EQ(read_all(gzip(first) + gzip("") + gzip(second) + gzip("")), first + second);
  EXPECT_EQ(read_all(gzip(second) + std::string(1000, '\0')), second);  // padding of a tape block
}

TEST(Input, GarbageAfterTheStreamIsAnError) {
  expect_rejected(gzip("a") + "x",
                  "follow the gzip stream at offset " + std::to_string(gzip("a").size()));
  expect_rejected(gzip("a") + std::string(3, '\0') + gzip("b"), "no gzip member follow");
  expect_rejected(gzip("a") + "\x1f", "truncated");
}

TEST(Input, EveryTruncationIsAnError) {
  const std::string packed = gzip("some text that is packed");
  for (std::size_t size = 2; size < packed.size(); ++size) {
    const std::string cut = packed.substr(0, size);
    expect_rejected(cut, "truncated gzip stream after " + std::to_string(size) + " bytes");
  }
}

TEST(Input, ChecksumsAreChecked) {
  std::string packed = gzip("some text");
  std::string wrong_sum = packed, wrong_length = packed, wrong_block = packed;
  wrong_sum[packed.size() - 8] = static_cast<char>(wrong_sum[packed.size() - 8] ^ 1);
  wrong_length[packed.size() - 4] = static_cast<char>(wrong_length[packed.size() - 4] ^ 1);
  wrong_block[10] = '\x07';  // a reserved block type
  expect_rejected(wrong_sum, "checksum mismatch");
  expect_rejected(wrong_length, "checksum mismatch");
  expect_rejected(wrong_block, "damaged gzip stream");
}

TEST(Input, LimitsBindAfterDecompression) {
  InputLimits limits;
  limits.bytes = 1000;
  EXPECT_EQ(read_all(std::string(1000, 'a'), limits).size(), 1000U);
  expect_rejected(std::string(1001, 'a'), "limit of 1000 bytes", limits);
  expect_rejected(gzip(std::string(1001, 'a')), "limit of 1000 bytes", limits);
}

TEST(Input, ABombIsStoppedByItsExpansion) {
  const std::string bomb = gzip(std::string(std::size_t{66} << 20, '\0'));
  InputLimits limits;
  limits.expansion = 100;
  const auto source = memory_source(bomb, "m", limits);
  std::string part(1 << 20, '\0');
  std::uint64_t delivered = 0;
  const auto failure = failure_of([&] {
    while (const std::size_t got = source->read(part)) delivered += got;
  });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kDataError);
  EXPECT_THAT(failure->message, HasSubstr("more than 100 times"));
  EXPECT_LE(delivered, std::uint64_t{65} << 20);
}

}  // namespace
}  // namespace theriac
