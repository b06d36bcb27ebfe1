#include "cpp/core/merge/json_text.h"

#include <gtest/gtest.h>

#include "cpp/core/base/json.h"

namespace theriac::merge {
namespace {

TEST(JsonTextEdits, SetKeepsTheRest) {
  JsonText text("{\"a\": 1e-6,\n \"b\" : {\"c\": [1, {\"x\": \"},\\\"\"}]}}");
  EXPECT_TRUE(text.set({"b", "c"}, "2"));
  EXPECT_TRUE(text.set({"n"}, "3"));
  EXPECT_FALSE(text.set({"a", "q"}, "4"));
  EXPECT_FALSE(text.set({"z", "q"}, "4"));
  EXPECT_EQ(text.text(), "{\"a\": 1e-6,\n \"b\" : {\"c\": 2},\n  \"n\": 3}");
}

TEST(JsonTextEdits, AppendsToArraysAndObjects) {
  JsonText text("{\"a\": [1, [2], \"]\" ], \"e\": [ ], \"o\": {\"k\": {\"}\": []}\n}, \"n\": 1}");
  EXPECT_TRUE(text.append({"a"}, "5, 6"));
  EXPECT_TRUE(text.append({"e"}, "7"));
  EXPECT_TRUE(text.append({"o"}, "\"x\": 8"));
  EXPECT_TRUE(text.append({}, "\"last\": 9"));
  EXPECT_FALSE(text.append({"n"}, "1"));
  EXPECT_FALSE(text.append({"q"}, "1"));
  const Json json = parse_json(text.text(), "text");
  EXPECT_EQ(dump_json(json),
            R"({"a":[1,[2],"]",5,6],"e":[7],"o":{"k":{"}":[]},"x":8},"n":1,"last":9})");
}

}  // namespace
}  // namespace theriac::merge
