#include "cpp/core/merge/yaml.h"

#include <gmock/gmock.h>

#include <cmath>
#include <string>

#include "cpp/core/base/random.h"
#include "cpp/core/base/test_support.h"

namespace theriac::merge {
namespace {

using testing::HasSubstr;
using testing_support::detail;
using testing_support::failure_of;

YamlNode one(std::string_view text) {
  const auto documents = parse_yaml(text, "a.yml");
  EXPECT_EQ(documents.size(), 1U);
  return documents.at(0).root;
}

Failure refused(std::string_view text, const YamlLimits& limits = {}) {
  const auto failure = failure_of([&] { parse_yaml(text, "a.yml", limits); });
  EXPECT_TRUE(failure.has_value()) << text.substr(0, 200);
  return failure.value_or(Failure{});
}

TEST(Yaml, ReadsTheThreeShapesInOrder) {
  const YamlNode root = one("b: [1, 'x', ~]\na:\n  c: |\n    two\n    lines\n");
  ASSERT_TRUE(root.is_map());
  ASSERT_EQ(root.members().size(), 2U);
  EXPECT_EQ(root.members()[0].key, "b");
  EXPECT_EQ(root.members()[1].key, "a");
  const YamlNode& list = *root.find("b");
  ASSERT_EQ(list.items().size(), 3U);
  EXPECT_EQ(list.items()[0].text(), "1");
  EXPECT_FALSE(list.items()[0].quoted());
  EXPECT_TRUE(list.items()[1].quoted());
  EXPECT_TRUE(list.items()[2].is_null());
  EXPECT_EQ(root.find("a")->find("c")->text(), "two\nlines\n");
  EXPECT_TRUE(root.find("a")->find("c")->quoted());
  EXPECT_EQ(root.find("nothing"), nullptr);
  EXPECT_EQ(list.find("b"), nullptr);
}

TEST(Yaml, MarksCountCharacters) {
  const YamlNode root = one("\xEF\xBB\xBF# note\nк: {é: 1, b: 2}\n");
  const YamlNode& inner = root.members()[0].value;
  EXPECT_EQ(root.members()[0].mark.line, 2U);
  EXPECT_EQ(root.members()[0].mark.column, 1U);
  EXPECT_EQ(inner.members()[1].mark.line, 2U);
  EXPECT_EQ(inner.members()[1].mark.column, 11U);
  EXPECT_EQ(inner.members()[1].value.mark().column, 14U);
}

TEST(Yaml, DocumentsKeepTheirText) {
  const std::string text = "# first\na: 1\n---\n# second\nb: 2\n---\nc: 3\n";
  const auto documents = parse_yaml(text, "a.yml");
  ASSERT_EQ(documents.size(), 3U);
  EXPECT_EQ(documents[0].text, "# first\na: 1\n");
  EXPECT_EQ(documents[1].text, "---\n# second\nb: 2\n");
  EXPECT_EQ(documents[2].text, "---\nc: 3\n");
  EXPECT_EQ(documents[1].root.mark().line, 5U);
  EXPECT_EQ(parse_yaml("a: 1\n...\nb: 2\n", "a.yml").size(), 2U);
  EXPECT_TRUE(parse_yaml("", "a.yml").empty());
  EXPECT_TRUE(parse_yaml("# nothing\n", "a.yml").empty());
}

TEST(Yaml, AliasesAndMergeKeys) {
  const YamlNode root =
      one("d: &d {x: 1, y: 2}\ne: &e {y: 5, z: 6}\na: *d\nb: {<<: *d, y: 3}\nc: {<<: [*d, *e]}\n"
          "f: {'<<': 1}\n");
  EXPECT_EQ(root.find("a")->find("y")->text(), "2");
  EXPECT_EQ(root.find("b")->find("x")->text(), "1");
  EXPECT_EQ(root.find("b")->find("y")->text(), "3");
  EXPECT_EQ(root.find("b")->members().size(), 2U);
  EXPECT_EQ(root.find("c")->find("y")->text(), "2");
  EXPECT_EQ(root.find("c")->find("z")->text(), "6");
  EXPECT_EQ(root.find("f")->find("<<")->text(), "1");
  EXPECT_THAT(refused("a: {<<: 3}").message, HasSubstr("expected a map or a list of maps"));
}

TEST(Yaml, RefusesWhatItCannotPlace) {
  const Failure twice = refused("a: 1\nb:\n  c: 1\n  c: 2\n");
  EXPECT_EQ(twice.code, Code::kInvalidArgument);
  EXPECT_THAT(twice.message, HasSubstr("a.yml: line 4, column 3: the key 'c' appears twice"));
  EXPECT_EQ(detail(twice, "line"), "4");
  EXPECT_EQ(detail(twice, "column"), "3");
  EXPECT_THAT(refused("[a]: 1").message, HasSubstr("a key must be text; this one is a list"));
  EXPECT_THAT(refused("? {a: b}\n: 1").message, HasSubstr("a key must be text"));
  EXPECT_THAT(refused("a: [1, 2").message, HasSubstr("not valid YAML"));
  EXPECT_THAT(refused("a: *nowhere").message, HasSubstr("line 1, column 4"));
  EXPECT_THAT(refused("a: &a [1, *a]").message, HasSubstr("alias inside the value"));
  EXPECT_THAT(refused("a: !!python/object x").message, HasSubstr("tag"));
  EXPECT_THAT(refused("[a] b").message, HasSubstr("belongs to no value"));
  EXPECT_THAT(refused("{a: 1} }").message, HasSubstr("line 1"));
  EXPECT_THAT(refused("a: \xC3(").message, HasSubstr("not valid UTF-8"));
  EXPECT_THAT(refused(std::string_view("a: 1\0", 5)).message, HasSubstr("control character"));
  EXPECT_THAT(refused("a: 1\n\x04 b").message, HasSubstr("line 2, column 1: a control"));
}

// A document that yaml-cpp cannot get past must not be read for ever.
TEST(Yaml, StrayTokensEnd) {
  for (const char* text : {"a: 1\n]", "]",
                           "}",       ",",
                           "a: b: c", "- a\nb: c",
                           ": :",     "? ",
                           "- - -",   "a: 1\n b: 2\n",
                           "&a &b c", "[,]",
                           "{,}",     "%YAML 3\n---\na",
                           "--- ---", "|",
                           ">\n",     "'",
                           "\"\\q\"", "a\n: b",
                           "!",       "*",
                           "&",       "- ]",
                           "@a"}) {
    // Whatever the verdict, it comes.
    failure_of([&] { parse_yaml(text, "a.yml"); });
  }
  EXPECT_TRUE(failure_of([] { parse_yaml("]", "a.yml"); }).has_value());
  EXPECT_TRUE(failure_of([] { parse_yaml("a: b: c", "a.yml"); }).has_value());
}

TEST(Yaml, DepthIsLimited) {
  const auto nested = [](std::size_t n, const char* open, const char* close) {
    std::string text;
    for (std::size_t i = 0; i < n; ++i) text += open;
    for (std::size_t i = 0; i < n; ++i) text += close;
    return text;
  };
  EXPECT_NO_THROW(parse_yaml(nested(64, "[", "]"), "a.yml"));
  EXPECT_THAT(refused(nested(65, "[", "]")).message, HasSubstr("deeper than 64"));
  EXPECT_THAT(refused(nested(10'000, "[", "]")).message, HasSubstr("deeper than 64"));
  EXPECT_THAT(refused(nested(10'000, "{a: ", "}")).message, HasSubstr("deeper than 64"));
  EXPECT_THAT(refused(nested(10'000, "- ", "")).message, HasSubstr("deeper than 64"));
  EXPECT_THAT(refused(nested(10'000, "? ", "")).message, HasSubstr("deeper than 64"));
  EXPECT_TRUE(failure_of([&] { parse_yaml(nested(100'000, "[", ""), "a.yml"); }).has_value());
  EXPECT_TRUE(failure_of([&] { parse_yaml(nested(100'000, "{", ""), "a.yml"); }).has_value());
  // Aliases add the depth of what they stand for.
  std::string chain = "a0: &a0 [1]\n";
  for (int i = 1; i < 80; ++i) {
    chain += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) +
             "]\n";
  }
  EXPECT_THAT(refused(chain).message, HasSubstr("deeper than 64"));
}

TEST(Yaml, AliasBombsAreRefused) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 20; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
    for (int j = 1; j < 10; ++j) bomb += ", " + before;
    bomb += "]\n";
  }
  EXPECT_THAT(refused(bomb).message, HasSubstr("more than 1000000 values"));
  std::string merges = "a0: &a0 {k0: x, j0: x}\n";
  for (int i = 1; i < 60; ++i) {
    const std::string n = std::to_string(i), m = std::to_string(i - 1);
    merges += "a" + n + ": &a" + n + " {<<: *a" + m + ", l" + n + ": *a" + m + ", k" + n + ": *a" +
              m + "}\n";
  }
  EXPECT_THAT(refused(merges).message, HasSubstr("more than 1000000 values"));
}

TEST(Yaml, LimitsBind) {
  YamlLimits limits;
  limits.nodes = 4;
  EXPECT_NO_THROW(parse_yaml("[1, 2, 3]", "a.yml", limits));
  EXPECT_THAT(refused("[1, 2, 3, 4]", limits).message, HasSubstr("more than 4 values"));
  limits = {};
  limits.bytes = 8;
  EXPECT_NO_THROW(parse_yaml("a: 12345", "a.yml", limits));
  EXPECT_THAT(refused("a: 123456", limits).message, HasSubstr("9 bytes; at most 8"));
  limits = {};
  limits.documents = 2;
  EXPECT_NO_THROW(parse_yaml("---\na\n---\nb", "a.yml", limits));
  EXPECT_THAT(refused("---\na\n---\nb\n---\nc", limits).message, HasSubstr("more than 2"));
}

TEST(Yaml, FlagsFollowYaml11) {
  for (const char* word : {"yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"}) {
    EXPECT_EQ(yaml_flag(word, false), true) << word;
    EXPECT_EQ(yaml_flag(word, true), std::nullopt) << word;
  }
  for (const char* word : {"no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"}) {
    EXPECT_EQ(yaml_flag(word, false), false) << word;
  }
  for (const char* word : {"", "y", "n", "yEs", "1", "truth"}) {
    EXPECT_EQ(yaml_flag(word, false), std::nullopt) << word;
  }
}

TEST(Yaml, NumbersFollowYaml11AndPython) {
  const auto number = [](const char* text) { return yaml_number(text, false).value_or(-99); };
  EXPECT_EQ(number("0.5"), 0.5);
  EXPECT_EQ(number("1e-3"), 1e-3);
  EXPECT_EQ(number("1E3"), 1e3);
  EXPECT_EQ(number("+.5"), 0.5);
  EXPECT_EQ(number("5."), 5);
  EXPECT_EQ(number("-2"), -2);
  EXPECT_EQ(number("1_000"), 1000);
  EXPECT_EQ(number("1_000.2_5"), 1000.25);
  EXPECT_EQ(number("0x1f"), 31);
  EXPECT_EQ(number("0b101"), 5);
  EXPECT_EQ(number("017"), 15);
  EXPECT_EQ(number("0"), 0);
  EXPECT_EQ(number("1e999"), INFINITY);
  EXPECT_EQ(number("-1e999"), -INFINITY);
  EXPECT_EQ(number("1e-999"), 0);
  EXPECT_EQ(number("-.Inf"), -INFINITY);
  EXPECT_TRUE(std::isnan(number(".NaN")));
  EXPECT_EQ(yaml_number("017", true), 17);
  EXPECT_EQ(yaml_number(" 0.25 ", true), 0.25);
  for (const char* text : {"", " ", "_1", "1_", "1__0", "a", "1a", "0x", "0xg", "--1", "+-1", "1e",
                           ".", "e5", "1,5", "nan(1)", "true", "1 2", "0x1p3"}) {
    EXPECT_EQ(yaml_number(text, false), std::nullopt) << text;
  }
  EXPECT_EQ(yaml_number("0x1f", true), std::nullopt);
}

TEST(Yaml, IntegersAreWhole) {
  EXPECT_EQ(yaml_integer("16", false), 16);
  EXPECT_EQ(yaml_integer("-3", false), -3);
  EXPECT_EQ(yaml_integer("1e3", false), 1000);
  for (const char* text : {"1.5", "nan", "inf", "1e300", "x", ""}) {
    EXPECT_EQ(yaml_integer(text, false), std::nullopt) << text;
  }
}

// Random tokens are read or refused, in bounded time, and what is read obeys the limits.
TEST(Yaml, TokenSoup) {
  const std::vector<std::string> tokens{
      "a",    "'b'",   "1",     ": ",   ":",      "- ",  "? ",         "[",  "]",      "{",
      "}",    ", ",    "\n",    "\n  ", "\n    ", "&x ", "*x",         "!",  "!!str ", "|\n",
      ">-\n", "---\n", "...\n", "#c\n", "<<: ",   "\"",  "%TAG ! !\n", "\t", "~",      "\xC3\xA9"};
  Random random(5, "soup");
  int good = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string text;
    const auto length = random.below(14);
    for (std::uint64_t i = 0; i < length; ++i) text += tokens[random.below(tokens.size())];
    YamlLimits limits;
    limits.documents = 8;
    limits.nodes = 64;
    const auto failure = failure_of([&] {
      const auto documents = parse_yaml(text, "a.yml", limits);
      std::string whole;
      for (const auto& document : documents) whole += document.text;
      // The documents' texts are the text, none of it twice.
      if (!documents.empty()) {
        ASSERT_EQ(whole, text);
      }
    });
    good += failure ? 0 : 1;
  }
  EXPECT_GT(good, 1000);
  EXPECT_LT(good, 19'000);
}

// Cutting and changing a good text never crashes; every refusal has a place.
TEST(Yaml, MutationsAreReadOrRefused) {
  const std::string good =
      "name: &n a\nb: [1, {c: *n}, 'q']\nd:\n  - e: |\n      f\n    g: \"h\"\n---\nx: {<<: {y: "
      "z}}\n";
  ASSERT_NO_THROW(parse_yaml(good, "a.yml"));
  std::size_t refused_count = 0;
  const std::string inserts = "[]{}:-?&*!|>'\"#%@`,\n \t\x7F\x04\xFF";
  for (std::size_t i = 0; i <= good.size(); ++i) {
    for (std::size_t j = 0; j < inserts.size(); ++j) {
      std::string text = good.substr(0, i) + inserts[j] + (j % 2 == 0 ? good.substr(i) : "");
      const auto failure = failure_of([&] { parse_yaml(text, "a.yml"); });
      if (!failure) continue;
      ++refused_count;
      ASSERT_NE(detail(*failure, "line"), "(none)") << failure->message;
    }
  }
  EXPECT_GT(refused_count, good.size());
}

}  // namespace
}  // namespace theriac::merge
