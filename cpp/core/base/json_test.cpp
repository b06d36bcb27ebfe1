#include "cpp/core/base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cpp/core/base/test_support.h"
#include "cpp/core/base/utf8.h"

namespace theriac {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing_support::detail;
using testing_support::failure_of;

Failure rejected(const std::string& text, JsonLimits limits = {}) {
  const auto failure =
      failure_of([&] { parse_json(text, "config", Code::kInvalidArgument, limits); });
  if (!failure) {
    ADD_FAILURE() << "accepted: " << text;
    return {};
  }
  EXPECT_EQ(failure->code, Code::kInvalidArgument);
  EXPECT_EQ(detail(*failure, "file"), "config");
  return *failure;
}

void expect_rejected_at(const std::string& text, int line, int column, const std::string& reason) {
  const Failure failure = rejected(text);
  EXPECT_EQ(detail(failure, "line"), std::to_string(line)) << failure.message;
  EXPECT_EQ(detail(failure, "column"), std::to_string(column)) << failure.message;
  EXPECT_THAT(failure.message, HasSubstr(reason));
}

TEST(Json, KeepsTypesAndTheOrderOfKeys) {
  const Json json =
      parse_json(R"({"z":1,"a":[true,null,-2,1.5,"x"],"m":{"k":18446744073709551615}})", "config");
  EXPECT_EQ(dump_json(json),
            R"({"z":1,"a":[true,null,-2,1.5,"x"],"m":{"k":18446744073709551615}})");
  EXPECT_TRUE(json["m"]["k"].is_number_unsigned());
  EXPECT_TRUE(json["a"][2].is_number_integer());
  EXPECT_TRUE(json["a"][3].is_number_float());
}

TEST(Json, AcceptsScalarsAtTheTopAndAByteOrderMark) {
  EXPECT_EQ(parse_json("42", "config"), Json(42));
  EXPECT_EQ(parse_json("\xef\xbb\xbf{}", "config"), Json::object());
}

TEST(Json, NamesLineAndColumnOfASyntaxError) {
  expect_rejected_at("{\n  \"a\": 1,\n  \"b\": ,\n}", 3, 8, "unexpected ','");
  expect_rejected_at("", 1, 1, "unexpected end of input");
  expect_rejected_at("{\"a\":1} x", 1, 9, "expected end of input");
  expect_rejected_at("[1,]", 1, 4, "unexpected ']'");
  rejected("{\"a\" 1}");
  rejected("[NaN]");
  rejected("{'a':1}");
  rejected("[01]");
  rejected("\"\\ud800\"");
}

TEST(Json, CountsColumnsInCharacters) {
  expect_rejected_at("[\"\xc3\xa9\xc3\xa9\", x]", 1, 8, "invalid literal");
}

TEST(Json, NeverQuotesTheTextItCouldNotRead) {
  const Failure failure = rejected(R"({"name": "Jane Miller)");
  EXPECT_THAT(failure.message, Not(HasSubstr("Jane")));
  EXPECT_THAT(failure.message, HasSubstr("missing closing quote"));
}

TEST(Json, RejectsDuplicateKeysWhereTheSecondStands) {
  expect_rejected_at("{\"a\":1,\n \"b\":{\"a\":2}, \"a\":3}", 2, 15, "'a' appears twice");
  expect_rejected_at(R"({"q\"":1,"q\"":2})", 1, 10, "appears twice");
  expect_rejected_at(R"({"a":1,"\u0061":2})", 1, 8,
                     "appears twice");  // the same key, written otherwise
}

TEST(Json, RejectsDuplicateKeysInLargeObjects) {
  std::string text = "{";
  for (int i = 0; i < 100; ++i) text += "\"k" + std::to_string(i) + "\":0,";
  EXPECT_EQ(parse_json(text + "\"k100\":0}", "config").size(), 101U);
  EXPECT_THAT(rejected(text + "\"k57\":0}").message, HasSubstr("'k57' appears twice"));
}

TEST(Json, ReadsAnObjectOfManyKeysInLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 30000; ++i) text += "\"" + std::to_string(i) + "\":0,";
  text += "\"end\":0}";  // comparing every pair would show
  EXPECT_EQ(parse_json(text, "config").size(), 30001U);
}

TEST(Json, LimitsDepthWithoutRecursion) {
  const auto nested = [](std::size_t n) { return std::string(n, '[') + std::string(n, ']'); };
  EXPECT_NO_THROW(parse_json(nested(64), "config"));
  EXPECT_THAT(rejected(nested(65)).message, HasSubstr("deeper than 64"));
  EXPECT_EQ(detail(rejected(nested(65)), "column"), "65");
  rejected(std::string(5'000'000, '['));
  JsonLimits flat;
  flat.depth = 1;
  EXPECT_NO_THROW(parse_json("{\"a\":1}", "config", Code::kInvalidArgument, flat));
  rejected("{\"a\":{}}", flat);
}

TEST(Json, LimitsSize) {
  JsonLimits small;
  small.bytes = 4;
  EXPECT_NO_THROW(parse_json("[12]", "config", Code::kInvalidArgument, small));
  EXPECT_THAT(rejected("[123]", small).message, HasSubstr("at most 4"));
}

TEST(Json, RejectsBadUtf8AndNul) {
  expect_rejected_at("{\"a\":\n\"x\xff\"}", 2, 3, "UTF-8");
  // The parser would stop at the NUL and accept what stands before it.
  expect_rejected_at(std::string("{}\0garbage", 10), 1, 3, "NUL");
}

TEST(Json, RejectsNumbersBeyondADouble) {
  EXPECT_THAT(rejected("[1e999]").message, HasSubstr("too large"));
}

TEST(Json, UsesTheCodeAskedFor) {
  const auto failure = failure_of([] { parse_json("{", "a.json", Code::kDataError); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kDataError);
}

TEST(Json, DumpsReplaceWhatJsonCannotSay) {
  EXPECT_EQ(dump_json(Json("a\xff")), "\"a\xef\xbf\xbd\"");
  EXPECT_EQ(dump_json(Json(std::nan(""))), "null");
  EXPECT_EQ(dump_json(Json(std::numeric_limits<double>::infinity())), "null");
  EXPECT_EQ(dump_json(Json{{"a", 1}}, 2), "{\n  \"a\": 1\n}");
  EXPECT_EQ(dump_json(Json(0.1)), "0.1");
}

struct Utf8Case {
  std::string text;
  std::size_t bad;  // npos: well-formed
};

TEST(Utf8, FollowsTheTableOfWellFormedSequences) {
  constexpr auto kFine = std::string_view::npos;
  const Utf8Case cases[] = {
      {"", kFine},
      {"plain text longer than eight bytes", kFine},
      {"\xc2\x80", kFine},
      {"\xdf\xbf", kFine},
      {"\xe0\xa0\x80", kFine},
      {"\xed\x9f\xbf", kFine},
      {"\xef\xbf\xbf", kFine},
      {"\xf0\x90\x80\x80", kFine},
      {"\xf4\x8f\xbf\xbf", kFine},
      {"12345678\x80", 8},      // a continuation byte alone
      {"a\xc0\x80", 1},         // overlong NUL
      {"a\xc1\xbf", 1},         // overlong
      {"\xe0\x9f\xbf", 0},      // overlong
      {"\xed\xa0\x80", 0},      // surrogate
      {"\xf0\x8f\xbf\xbf", 0},  // overlong
      {"\xf4\x90\x80\x80", 0},  // above U+10FFFF
      {"\xf5\x80\x80\x80", 0},
      {"\xc3", 0},  // cut off
      {"ab\xe2\x82", 2},
      {"\xe2\x28\xa1", 0},
      {"\xf0\x9f\x98\x41", 0},
  };
  for (const auto& one : cases) EXPECT_EQ(find_invalid_utf8(one.text), one.bad) << one.text;
}

}  // namespace
}  // namespace theriac
