#include "cpp/core/data/sequences.h"

#include <gmock/gmock.h>

#include <limits>
#include <map>

#include "cpp/core/data/test_sequences.h"

namespace theriac::data {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::Not;

constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kGreatest = std::numeric_limits<std::int64_t>::max();

TEST(Names, AreIntegersOnlyWhenEachIsWrittenAsOne) {
  const Text canonical = {"7", "-3", "0", std::to_string(kLeast), std::to_string(kGreatest)};
  const Names integers(canonical);
  EXPECT_TRUE(integers.numeric());
  EXPECT_THAT(integers.numbers(), ElementsAre(7, -3, 0, kLeast, kGreatest));
  EXPECT_TRUE(integers.texts().empty());
  for (const char* other : {"07", "+7", "7 ", " 7", "-0", "-", "--1", "-07", "1.0", "1e3", "0x1",
                            "9223372036854775808", "-9223372036854775809", "７", "x"}) {
    Text texts = canonical;
    texts.emplace_back(other);
    const Names names(texts);
    EXPECT_FALSE(names.numeric()) << other;
    EXPECT_THAT(names.texts(), ElementsAreArray(texts));
    EXPECT_TRUE(names.numbers().empty());
  }
  EXPECT_TRUE(Names().numeric());
  EXPECT_TRUE(Names(Text{}).numeric());
  EXPECT_EQ(Names(Text{}).size(), 0);
}

TEST(Names, KeepTheirOrderOrAreSorted) {
  const Names given(Text{"10", "9", "-2"});
  EXPECT_EQ(given.text(0), "10");
  EXPECT_THAT(Names::sorted({"10", "9", "-2"}).numbers(), ElementsAre(-2, 9, 10));
  EXPECT_THAT(Names::sorted({"b", "10", "é", "9", "B"}).texts(),
              ElementsAre("10", "9", "B", "b", "é"));
  EXPECT_EQ(Names::sorted({}).size(), 0);
  expect_error(Code::kDataError, "position 1 repeats", [] { Names::sorted({"a", "a"}); });
  expect_error(Code::kDataError, "position 1 repeats", [] { Names::sorted({"4", "4"}); });
}

TEST(Names, AreFoundByTextAndNumber) {
  const Names integers(Numbers{5, -5, kLeast});
  EXPECT_EQ(integers.find(std::int64_t{-5}), 1);
  EXPECT_EQ(integers.find("-5"), 1);
  EXPECT_EQ(integers.find(std::to_string(kLeast)), 2);
  EXPECT_EQ(integers.find(std::int64_t{6}), -1);
  for (const char* absent : {"05", "+5", "", "5 ", "x"}) EXPECT_EQ(integers.find(absent), -1);
  const Names texts(Text{"05", "5"});
  EXPECT_EQ(texts.find("5"), 1);
  EXPECT_EQ(texts.find("05"), 0);
  EXPECT_EQ(texts.find(std::int64_t{5}), -1);
  EXPECT_EQ(texts.find("6"), -1);
  EXPECT_EQ(Names().find("6"), -1);
  EXPECT_EQ(Names().find(std::int64_t{6}), -1);
}

TEST(Names, PositionsAreChecked) {
  const Names integers(Numbers{5}), texts(Text{"a"});
  EXPECT_EQ(integers.number(0), 5);
  EXPECT_EQ(texts.text(0), "a");
  for (const std::int64_t outside : {std::int64_t{-1}, std::int64_t{1}, kLeast, kGreatest}) {
    const std::string words = "outside the list of 1";
    expect_error(Code::kInvalidArgument, words, [&] { integers.number(outside); });
    expect_error(Code::kInvalidArgument, words, [&] { integers.text(outside); });
    expect_error(Code::kInvalidArgument, words, [&] { texts.text(outside); });
  }
  expect_error(Code::kInvalidArgument, "not integers", [&] { texts.number(0); });
}

TEST(Names, BadOnesAreNamedByPositionAndNotQuoted) {
  const auto refused = [](const std::string& name, const std::string& words) {
    try {
      Names(Text{"secret", name});
      ADD_FAILURE() << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kDataError);
      EXPECT_THAT(error.what(), testing::HasSubstr("position 1 " + words));
      EXPECT_THAT(error.what(), Not(testing::HasSubstr("secret")));
    }
  };
  refused("secret", "repeats an earlier one");
  refused("", "is empty");
  refused("secret\xff", "is not UTF-8");
  refused(std::string(Names::kNameLimit + 1, 's'), "has 4097 bytes; expected at most 4096");
  EXPECT_EQ(Names(Text{std::string(Names::kNameLimit, 's')}).size(), 1);
  expect_error(Code::kDataError, "position 2 repeats", [] { Names(Numbers{1, 2, 1}); });
}

TEST(Names, FingerprintIsOfContentAndOrder) {
  EXPECT_EQ(Names(Numbers{1, -2}).fingerprint(), Names(Text{"1", "-2"}).fingerprint());
  EXPECT_NE(Names(Numbers{1, -2}).fingerprint(), Names(Numbers{-2, 1}).fingerprint());
  EXPECT_NE(Names(Text{"ab", "c"}).fingerprint(), Names(Text{"a", "bc"}).fingerprint());
  EXPECT_NE(Names().fingerprint(), Names(Numbers{0}).fingerprint());
}

TEST(Names, EveryOneIsFoundAlsoInCopies) {
  for (const bool text : {false, true}) {
    Random random(3, "names", text ? 1 : 0);
    std::map<std::string, std::int64_t> expected;
    Text texts;
    for (int i = 0; i < 5'000; ++i) {
      std::string name =
          std::to_string(static_cast<std::int64_t>(random.bits64()) >> random.below(64));
      if (text) name += "x";
      if (expected.emplace(name, texts.size()).second) texts.push_back(name);
    }
    Names original(texts);
    const Names copy = original, moved = std::move(original);
    for (const auto& [name, position] : expected) {
      ASSERT_EQ(copy.find(name), position);
      ASSERT_EQ(moved.find(name), position);
      ASSERT_EQ(moved.text(position), name);
      ASSERT_EQ(copy.find(name + "9" + (text ? "" : "x")), -1);
    }
  }
}

TEST(Sequences, HoldUsersInOrder) {
  const Sequences sequences = small_sequences();
  EXPECT_EQ(sequences.users(), 3);
  EXPECT_EQ(sequences.items(), 3);
  EXPECT_EQ(sequences.interactions(), 5);
  EXPECT_TRUE(sequences.timed());
  EXPECT_THAT(sequences.of(0), ElementsAre(2, 1, 2));
  EXPECT_TRUE(sequences.of(1).empty());
  EXPECT_THAT(sequences.of(2), ElementsAre(3, 1));
  EXPECT_EQ(sequences.provenance().at("format"), "test");
  EXPECT_EQ(Sequences(SequenceColumns{}).users(), 0);
  EXPECT_FALSE(Sequences(SequenceColumns{}).timed());
}

TEST(Sequences, ColumnsThatContradictEachOtherAreRefused) {
  using Columns = SequenceColumns;
  const auto refused = [](const std::string& words, auto change) {
    Columns columns = small_columns();
    change(columns);
    expect_error(Code::kDataError, words, [&] { Sequences{std::move(columns)}; });
  };
  refused("'offsets' has 3 entries; expected 4", [](Columns& c) { c.offsets = {0, 3, 5}; });
  refused("'offsets' has 0 entries", [](Columns& c) { c.offsets.clear(); });
  refused("'offsets' does not run from 0 to 5", [](Columns& c) { c.offsets[0] = 1; });
  refused("'offsets' does not run from 0 to 5", [](Columns& c) { c.offsets[3] = 6; });
  refused("'offsets' falls at entry 2", [](Columns& c) { c.offsets[1] = 4; });
  refused("'offsets' falls at entry 1", [](Columns& c) { c.offsets[1] = -1; });
  refused("'offsets' falls at entry 2", [](Columns& c) { c.offsets[1] = kGreatest; });
  refused("'ids' has an id outside 1 to 3 at entry 4", [](Columns& c) { c.ids[4] = 0; });
  refused("'ids' has an id outside 1 to 3 at entry 0", [](Columns& c) { c.ids[0] = 4; });
  refused("'ids' has an id outside 1 to 3 at entry 0", [](Columns& c) { c.ids[0] = -1; });
  refused("'times' has 4 entries; expected none or 5", [](Columns& c) { c.times.pop_back(); });
  refused("'times' has 6 entries", [](Columns& c) { c.times.push_back(kLastTime); });
  refused("'times' is unknown or outside", [](Columns& c) { c.times[0] = kNoTime; });
  refused("years 1 to 9999 at entry 4", [](Columns& c) { c.times[4] = kLastTime + 1; });
  refused("years 1 to 9999 at entry 0", [](Columns& c) { c.times[0] = kFirstTime - 1; });
  refused("'times' falls within user 0 at entry 2", [](Columns& c) { c.times[2] = -1; });
  refused("'times' falls within user 2 at entry 4", [](Columns& c) { c.times[4] = 0; });
  Columns edges = small_columns();
  edges.times = {kFirstTime, kFirstTime, kLastTime, kFirstTime, kLastTime};  // users apart
  EXPECT_EQ(Sequences(std::move(edges)).interactions(), 5);
}

TEST(Sequences, FingerprintIsOfTheContentAlone) {
  const std::string fingerprint = small_sequences().fingerprint();
  EXPECT_EQ(fingerprint.size(), 32U);
  const auto changed = [](auto change) {
    SequenceColumns columns = small_columns();
    change(columns);
    return Sequences(std::move(columns)).fingerprint();
  };
  EXPECT_EQ(changed([](auto& c) { c.accounting = c.provenance = Json::object(); }), fingerprint);
  EXPECT_NE(changed([](auto& c) { c.users = Names(Text{"a", "7", "Zoë"}); }), fingerprint);
  EXPECT_NE(changed([](auto& c) { c.items = Names(Numbers{-5, 20, 101}); }), fingerprint);
  EXPECT_NE(changed([](auto& c) { c.offsets[1] = 2; }), fingerprint);
  EXPECT_NE(changed([](auto& c) { c.ids[0] = 1; }), fingerprint);
  EXPECT_NE(changed([](auto& c) { c.times[0] = -101; }), fingerprint);
  EXPECT_NE(changed([](auto& c) { c.times.clear(); }), fingerprint);
}

}  // namespace
}  // namespace theriac::data
