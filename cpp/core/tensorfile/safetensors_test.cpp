#include "cpp/core/tensorfile/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "cpp/core/base/random.h"
#include "cpp/core/base/test_support.h"
#include "cpp/core/tensorfile/sha256_for_test.h"

namespace theriac::tensorfile {
namespace {

using testing::HasSubstr;
using testing_support::detail;
using testing_support::failure_of;
using testing_support::ScratchFolder;
using testing_support::sha256_hex;

std::string from_hex(std::string_view hex) {
  std::string out;
  for (std::size_t i = 0; i + 1 < hex.size();) {
    if (hex[i] == ' ') {
      ++i;
      continue;
    }
    out += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
    i += 2;
  }
  return out;
}

template <class T>
std::string bytes_of(std::initializer_list<T> values) {
  std::string out;
  for (const T value : values) out.append(reinterpret_cast<const char*>(&value), sizeof value);
  return out;
}

// A file of the given header text (not padded) and buffer.
std::string file_of(const std::string& json, const std::string& buffer, std::int64_t length = -1) {
  const auto stated = length < 0 ? json.size() : static_cast<std::uint64_t>(length);
  return bytes_of<std::uint64_t>({stated}) + json + buffer;
}

Header parse(std::string_view bytes, const Limits& limits = {}) {
  return Header::parse(bytes, bytes.size(), limits);
}

void expect_rejected(const std::string& bytes, const std::string& reason,
                     const Limits& limits = {}) {
  const auto failure = failure_of([&] { parse(bytes, limits); });
  ASSERT_TRUE(failure) << "accepted: " << bytes;
  EXPECT_EQ(failure->code, Code::kDataError) << failure->message;
  EXPECT_THAT(failure->message, HasSubstr(reason));
}

void expect_json_rejected(const std::string& json, const std::string& reason,
                          const std::string& buffer = "") {
  expect_rejected(file_of(json, buffer), reason);
}

std::string small_golden() {
  return from_hex(
      "3800000000000000 "
      "7b2277223a7b226474797065223a22463332222c227368617065223a5b325d2c22646174615f6f666673657473"
      "223a5b302c385d7d7d2020 0000803f 000020c0");
}

struct GoldenTensors {
  std::string s = bytes_of<std::int64_t>({7});
  std::string b = bytes_of<float>({1.5F, -2.0F});
  std::string a = from_hex("803f 00bf");  // bfloat16 1.0 and -0.5
  std::vector<TensorToWrite> list() const {
    return {{"a", DType::kBF16, {1, 2}, a},
            {"b", DType::kF32, {2}, b},
            {"e", DType::kF32, {0, 3}, ""},
            {"s", DType::kI64, {}, s}};
  }
};

TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(std::string(1000, 'a')),
            "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3");
}

TEST(Safetensors, WritesTheReferencesBytes) {
  const std::string file = serialise(GoldenTensors().list(), {{"format", "pt"}});
  EXPECT_EQ(file.size(), 284U);
  EXPECT_EQ(file.substr(0, 8), from_hex("0001000000000000"));
  EXPECT_EQ(file.substr(264), from_hex("07000000000000000000c03f000000c0803f00bf"));
  EXPECT_EQ(sha256_hex(file), "adb07c8ed77021cc0b1d277df57fa67ceebb973f5d32db98bc388a5114f86ecc");
}

TEST(Safetensors, ReadsTheReferencesBytes) {
  const Header header = parse(serialise(GoldenTensors().list(), {{"format", "pt"}}));
  EXPECT_EQ(header.buffer_offset, 264U);
  EXPECT_EQ(header.metadata, (std::map<std::string, std::string>{{"format", "pt"}}));
  ASSERT_EQ(header.tensors.size(), 4U);
  std::string names;
  for (const auto& tensor : header.tensors) names += tensor.name;
  EXPECT_EQ(names, "sbea");
  EXPECT_EQ(header.tensors[0].shape, std::vector<std::uint64_t>{});
  EXPECT_EQ(header.tensors[2].shape, (std::vector<std::uint64_t>{0, 3}));
  EXPECT_EQ(header.tensors[3].dtype, DType::kBF16);
  EXPECT_EQ(header.tensors[3].begin, 16U);
  EXPECT_EQ(header.tensors[3].end, 20U);
}

TEST(Safetensors, SmallGoldenFile) {
  const std::string golden = small_golden();
  ASSERT_EQ(golden.size(), 72U);
  const std::string values = bytes_of<float>({1.0F, -2.5F});
  EXPECT_EQ(serialise({{"w", DType::kF32, {2}, values}}), golden);
  const Header header = parse(golden);
  ASSERT_EQ(header.tensors.size(), 1U);
  EXPECT_EQ(header.tensors[0].name, "w");
  EXPECT_EQ(header.tensors[0].end, 8U);
}

TEST(Safetensors, RejectsTheVariantsOfTheSmallGoldenFile) {
  const std::string golden = small_golden(), json = golden.substr(8, 56),
                    buffer = golden.substr(64);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = json;
    changed.replace(changed.find(from), from.size(), to);
    return file_of(changed, buffer);
  };
  expect_rejected(file_of(json, buffer, 57),
                  "a NUL at byte 56");  // the header runs into the buffer
  expect_rejected(file_of(json, buffer, 65), "the file ends after 64");
  expect_rejected(file_of(json, buffer, 100'000'001), "at most 100000000");
  expect_rejected(file_of(json, buffer, INT64_MAX), "at most 100000000");
  expect_rejected(with("[0,8]", "[0,4]"), "ask for 8 bytes; data_offsets give 4");
  expect_rejected(with("[0,8]", "[4,12]"), "must begin at 0");
  expect_rejected(with("{\"w\"", " \"w\""), "does not start with '{'");
  expect_rejected(golden.substr(0, 71), "the tensors take 8 bytes; the file has 7");
  expect_rejected(golden + "x", "the tensors take 8 bytes; the file has 9");
  for (std::size_t size = 0; size < golden.size(); ++size) {
    EXPECT_TRUE(failure_of([&] { parse(golden.substr(0, size)); })) << size;
  }
}

const std::string kByte = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";

TEST(Safetensors, RejectsDuplicateKeysOnEveryLevel) {
  expect_json_rejected("{\"w\":" + kByte + ",\"w\":" + kByte + "}", "the name appears twice", "x");
  expect_json_rejected("{\"w\":" + kByte + ",\"\\u0077\":" + kByte + "}", "twice", "x");
  expect_json_rejected(R"({"w":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                       "'dtype' appears twice", "x");
  expect_json_rejected(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"shape":[1]}})",
                       "'shape' appears twice", "x");
  expect_json_rejected(R"({"__metadata__":{"a":"1","a":"2"}})", "'a' appears twice");
  expect_json_rejected(R"({"__metadata__":{},"__metadata__":{}})", "__metadata__ appears twice");
  expect_json_rejected(
      R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"new":{"k":1,"k":2}}})",
      "'k' appears twice", "x");
}

TEST(Safetensors, RejectsHolesAndOverlaps) {
  const auto two = [](const std::string& first, const std::string& second) {
    return "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + first +
           "},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + second + "}}";
  };
  EXPECT_NO_THROW(parse(file_of(two("[4,8]", "[0,4]"), "12345678")));  // any order in the header
  expect_json_rejected(two("[0,4]", "[5,9]"), "must begin at 4", "123456789");
  expect_json_rejected(two("[0,4]", "[3,7]"), "must begin at 4", "1234567");
  expect_json_rejected(two("[0,4]", "[0,4]"), "must begin at 4", "1234");
  expect_json_rejected(two("[0,4]", "[4,3]"), "not end before that", "1234");
  expect_json_rejected(two("[0,4]", "[4,18446744073709551615]"), "data_offsets give", "1234");
}

TEST(Safetensors, RejectsEntriesThatAreNoTensors) {
  const auto entry = [](const std::string& body) { return "{\"w\":" + body + "}"; };
  for (const char* value : {"1", "-1", "1.5", "null", "true", "\"x\"", "[]", "[{}]"}) {
    expect_json_rejected(entry(value), "the entry is");
    expect_json_rejected("{\"__metadata__\":" + std::string(value) + "}", "__metadata__ is");
    if (value != std::string("\"x\"")) {
      expect_json_rejected("{\"__metadata__\":{\"k\":" + std::string(value) + "}}",
                           "expected a string");
      expect_json_rejected(entry("{\"dtype\":" + std::string(value) + "}"), "dtype is");
    }
    if (value != std::string("[]")) {
      expect_json_rejected(entry("{\"shape\":" + std::string(value) + "}"), "shape holds");
      expect_json_rejected(entry("{\"data_offsets\":" + std::string(value) + "}"),
                           "data_offsets holds");
    }
  }
  expect_json_rejected(entry("{}"), "lacks 'dtype'");
  expect_json_rejected(entry(R"({"dtype":"U8","data_offsets":[0,1]})"), "lacks 'shape'", "x");
  expect_json_rejected(entry(R"({"dtype":"U8","shape":[1]})"), "lacks 'data_offsets'", "x");
  expect_json_rejected(entry(R"({"dtype":"u8","shape":[1],"data_offsets":[0,1]})"),
                       "unknown dtype 'u8'", "x");
  expect_json_rejected(entry(R"({"dtype":"U8","shape":[-1],"data_offsets":[0,1]})"),
                       "a negative number", "x");
  expect_json_rejected(entry(R"({"dtype":"U8","shape":[1.0],"data_offsets":[0,1]})"),
                       "no 64-bit unsigned", "x");
  expect_json_rejected(entry(R"({"dtype":"U8","shape":[[1]],"data_offsets":[0,1]})"),
                       "shape holds a list", "x");
  expect_json_rejected(entry(R"({"dtype":"U8","shape":["1"],"data_offsets":[0,1]})"),
                       "shape holds a string", "x");
  expect_json_rejected(entry(R"({"dtype":"U8","shape":[1],"data_offsets":[0]})"), "two numbers",
                       "x");
  expect_json_rejected(entry(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1,1]})"),
                       "more than two", "x");
  expect_json_rejected(
      entry(R"({"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551616]})"), "no 64-bit",
      "x");
}

TEST(Safetensors, SkipsFieldsItDoesNotKnow) {
  const Header header =
      parse(file_of(R"({"w":{"new":{"a":[1,2]},"dtype":"U8","list":[[1],"x",null],"shape":[1],)"
                    R"("flag":true,"data_offsets":[0,1]}})",
                    "x"));
  ASSERT_EQ(header.tensors.size(), 1U);
  EXPECT_EQ(header.tensors[0].shape, std::vector<std::uint64_t>{1});
}

TEST(Safetensors, RejectsTextThatIsNoJson) {
  for (const char* json : {"{", "{}}", "{\"a\"}", "{,}", "{\"a\":", "{} x", "{'a':1}"}) {
    expect_json_rejected(json, "malformed JSON");
  }
  expect_json_rejected("", "does not start");
  expect_json_rejected("[]", "does not start");
  expect_json_rejected(" {}", "does not start");
  expect_json_rejected("\xef\xbb\xbf{}", "does not start");
  expect_json_rejected("{\"\xff\":1}", "UTF-8");
  expect_json_rejected(std::string("{}\0\0", 4), "NUL");
  EXPECT_EQ(parse(file_of("{}      ", "")).tensors.size(), 0U);
  expect_json_rejected("{}", "the tensors take 0 bytes; the file has 1", "x");
}

TEST(Safetensors, ShapesMustNotOverflow) {
  const auto shaped = [](const std::string& dtype, const std::string& shape,
                         const std::string& offsets) {
    return "{\"w\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
           ",\"data_offsets\":" + offsets + "}}";
  };
  expect_json_rejected(shaped("F32", "[4294967296,4294967296]", "[0,0]"), "overflows");
  expect_json_rejected(shaped("F32", "[9007199254740992,512]", "[0,0]"), "overflows");
  expect_json_rejected(shaped("U8", "[9007199254740993]", "[0,0]"), "beyond 2^53");
  expect_json_rejected(shaped("U8", "[0,4294967296,4294967296,4294967296]", "[0,0]"), "overflows");
  EXPECT_NO_THROW(parse(file_of(shaped("U8", "[0,4294967296]", "[0,0]"), "")));
  EXPECT_NO_THROW(parse(file_of(shaped("F4", "[4]", "[0,2]"), "xx")));
  expect_json_rejected(shaped("F4", "[3]", "[0,2]"), "ends inside a byte", "xx");
  EXPECT_NO_THROW(parse(file_of(shaped("F6_E2M3", "[4]", "[0,3]"), "xxx")));
  expect_json_rejected(shaped("F6_E3M2", "[1]", "[0,1]"), "ends inside a byte", "x");
}

TEST(Safetensors, LimitsBind) {
  const std::string golden = small_golden();
  Limits limits;
  limits.header_bytes = 56;
  EXPECT_NO_THROW(parse(golden, limits));
  limits.header_bytes = 55;
  expect_rejected(golden, "at most 55", limits);
  limits = {};
  limits.tensors = 0;
  expect_rejected(golden, "more than 0 tensors", limits);
  limits = {};
  limits.rank = 0;
  expect_rejected(golden, "more than 0 dimensions", limits);
  limits = {};
  limits.depth = 2;
  expect_rejected(golden, "deeper than 2", limits);
  limits = {};
  limits.name_bytes = 3;
  expect_rejected(file_of("{\"abcd\":" + kByte + "}", "x"), "the name is longer than 3 bytes",
                  limits);
  expect_json_rejected("{\"w\":{\"new\":[[[1]]]}}", "deeper than 4");
  expect_json_rejected("{\"w\":{\"new\":" + std::string(3'000'000, '['), "deeper than 4");
  std::string many = "{\"w\":{";
  for (int i = 0; i < 100; ++i) many += "\"k" + std::to_string(i) + "\":1,";
  expect_json_rejected(many + "\"x\":1}}", "more than 64 keys");
}

TEST(Safetensors, NeedsTheWholeHeader) {
  const std::string golden = small_golden();
  EXPECT_EQ(Header::parse(std::string_view(golden).substr(0, 64), golden.size()).tensors.size(),
            1U);
  const auto failure =
      failure_of([&] { Header::parse(std::string_view(golden).substr(0, 63), golden.size()); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kInvalidArgument);
}

TEST(Safetensors, ElementTypesHaveNamesAndSizes) {
  for (int i = 0; i <= static_cast<int>(DType::kU64); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(dtype_from_name(dtype_name(dtype)), dtype);
  }
  EXPECT_EQ(dtype_from_name("F33"), std::nullopt);
  EXPECT_EQ(dtype_bits(DType::kF4), 4);
  EXPECT_EQ(dtype_bits(DType::kF6E3M2), 6);
  EXPECT_EQ(dtype_bits(DType::kBool), 8);
  EXPECT_EQ(dtype_bits(DType::kBF16), 16);
  EXPECT_EQ(dtype_bits(DType::kU32), 32);
  EXPECT_EQ(dtype_bits(DType::kC64), 64);
  EXPECT_LT(DType::kF8E5M2, DType::kF8E4M3);
  EXPECT_LT(DType::kI16, DType::kU16);
}

TEST(SafetensorsFile, WritesAndMaps) {
  const ScratchFolder folder;
  const GoldenTensors golden;
  write_file(folder / "m.safetensors", golden.list(), {{"format", "pt"}});
  EXPECT_EQ(read_file(folder / "m.safetensors"), serialise(golden.list(), {{"format", "pt"}}));
  const File file(folder / "m.safetensors");
  EXPECT_EQ(file.bytes(file.at("s")), golden.s);
  EXPECT_EQ(file.bytes(file.at("b")), golden.b);
  EXPECT_EQ(file.bytes(file.at("a")), golden.a);
  EXPECT_EQ(file.bytes(file.at("e")), "");
  EXPECT_EQ(file.find("z"), nullptr);
  const auto failure = failure_of([&] { file.at("layer.wieght"); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kNotFound);
}

TEST(SafetensorsFile, NamesTheNearestTensorAndTheFile) {
  const ScratchFolder folder;
  write_file(folder / "m.safetensors", {{"encoder.weight", DType::kU8, {1}, "x"}});
  const auto failure = failure_of([&] { File(folder / "m.safetensors").at("encoder.wieght"); });
  ASSERT_TRUE(failure);
  EXPECT_THAT(failure->message, HasSubstr("the nearest is 'encoder.weight'"));
  EXPECT_EQ(detail(*failure, "tensor"), "encoder.wieght");
  replace_file(folder / "bad", "not a tensor file");
  const auto bad = failure_of([&] { File file(folder / "bad"); });
  ASSERT_TRUE(bad);
  EXPECT_EQ(bad->code, Code::kDataError);
  EXPECT_EQ(detail(*bad, "file"), (folder / "bad").string());
  EXPECT_EQ(failure_of([&] { File file(folder / "none"); })->code, Code::kNotFound);
}

TEST(SafetensorsWriter, RefusesWhatItCouldNotRead) {
  const auto refused = [](std::vector<TensorToWrite> tensors,
                          std::map<std::string, std::string> metadata = {}) {
    const auto failure = failure_of([&] { serialise(std::move(tensors), metadata); });
    return failure ? failure->code : Code::kOk;
  };
  EXPECT_EQ(refused({{"w", DType::kU8, {1}, "x"}}), Code::kOk);
  EXPECT_EQ(refused({{"w", DType::kU8, {1}, "x"}, {"w", DType::kF32, {0}, ""}}),
            Code::kInvalidArgument);
  EXPECT_EQ(refused({{"", DType::kU8, {1}, "x"}}), Code::kInvalidArgument);
  EXPECT_EQ(refused({{"__metadata__", DType::kU8, {1}, "x"}}), Code::kInvalidArgument);
  EXPECT_EQ(refused({{"\xff", DType::kU8, {1}, "x"}}), Code::kInvalidArgument);
  EXPECT_EQ(refused({{std::string(5000, 'n'), DType::kU8, {1}, "x"}}), Code::kInvalidArgument);
  EXPECT_EQ(refused({{"w", DType::kU8, {2}, "x"}}), Code::kInvalidArgument);
  EXPECT_EQ(refused({{"w", DType::kF4, {1}, "x"}}), Code::kInvalidArgument);
  EXPECT_EQ(refused({{"w", DType::kU8, std::vector<std::uint64_t>(17, 1), "x"}}),
            Code::kInvalidArgument);
  EXPECT_EQ(refused({{"w", DType::kU8, {std::uint64_t{1} << 60, 0}, ""}}), Code::kInvalidArgument);
  EXPECT_EQ(refused({}, {{"k", "\xff"}}), Code::kInvalidArgument);
  EXPECT_EQ(refused({}), Code::kOk);
}

TEST(SafetensorsWriter, AFailedWriteLeavesTheOldFile) {
  const ScratchFolder folder;
  replace_file(folder / "m", "old");
  EXPECT_THROW(write_file(folder / "m", {{"w", DType::kU8, {2}, "x"}}), Error);
  EXPECT_EQ(read_file(folder / "m"), "old");
}

TEST(Safetensors, RandomFilesReadBackAsWritten) {
  for (std::uint64_t trial = 0; trial < 100; ++trial) {
    Random random(1, "safetensors", trial);
    std::vector<std::string> buffers(random.below(20));
    std::vector<TensorToWrite> tensors;
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      TensorToWrite tensor;
      tensor.name = "n\"\n\xc3\xa9." + std::to_string(i);
      do {
        tensor.dtype =
            static_cast<DType>(random.below(static_cast<std::uint64_t>(DType::kU64) + 1));
        tensor.shape.assign(random.below(4), 0);
        for (auto& dimension : tensor.shape) dimension = random.below(5);
        std::uint64_t bits = static_cast<std::uint64_t>(dtype_bits(tensor.dtype));
        for (const auto dimension : tensor.shape) bits *= dimension;
        if (bits % 8 != 0) continue;
        buffers[i].assign(bits / 8, static_cast<char>(i));
        break;
      } while (true);
      tensor.bytes = buffers[i];
      tensors.push_back(tensor);
    }
    random.shuffle(tensors);
    const std::map<std::string, std::string> metadata{{"a", "\x01 quote\""}, {"b", ""}};
    const std::string file = serialise(tensors, metadata);
    const Header header = parse(file);
    EXPECT_EQ(header.buffer_offset % 8, 0U);
    EXPECT_EQ(header.metadata, metadata);
    ASSERT_EQ(header.tensors.size(), tensors.size());
    for (const TensorInfo& read : header.tensors) {
      const auto written = std::find_if(tensors.begin(), tensors.end(),
                                        [&](const auto& t) { return t.name == read.name; });
      ASSERT_NE(written, tensors.end());
      EXPECT_EQ(read.dtype, written->dtype);
      EXPECT_EQ(read.shape, written->shape);
      EXPECT_EQ(file.substr(header.buffer_offset + read.begin, read.end - read.begin),
                written->bytes);
      const auto element =
          std::max<std::uint64_t>(1, static_cast<std::uint64_t>(dtype_bits(read.dtype)) / 8);
      EXPECT_EQ(read.begin % element, 0U);  // the order of types aligns every tensor
    }
  }
}

}  // namespace
}  // namespace theriac::tensorfile
