#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <set>

#include "cpp/core/data/sequences_io.h"
#include "cpp/core/data/test_sequences.h"

namespace theriac::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

struct Row {
  std::string user, item;
  std::int64_t time = kNoTime;
};

SequencePolicy policy_of(const std::string& repeats, std::int64_t user_core = 1,
                         std::int64_t item_core = 1) {
  SequencePolicy policy;
  policy.repeats = repeats;
  policy.user_core = user_core;
  policy.item_core = item_core;
  return policy;
}

Sequences built(const std::vector<Row>& rows, const SequencePolicy& policy = {}) {
  SequenceBuilder builder(policy);
  for (const Row& row : rows) builder.add(row.user, row.item, row.time);
  return std::move(builder).finish("rows", Json{{"format", "test"}});
}

Json books(const Sequences& sequences) { return sequences.accounting().at("tables").at("rows"); }

TEST(SequenceBuilder, SortsWithinUsersAndKeepsTheOrderOfTies) {
  const Sequences sequences = built({{"u", "9", 30},
                                     {"a", "10", 5},
                                     {"u", "10", 10},
                                     {"u", "-1", 30},
                                     {"a", "9", 5},
                                     {"u", "9", 10},
                                     {"u", "3", -7}});
  EXPECT_THAT(written_out(sequences), ElementsAre("u: 3@-7 10@10 9@10 9@30 -1@30", "a: 10@5 9@5"));
  EXPECT_THAT(sequences.item_names().numbers(), ElementsAre(-1, 3, 9, 10));
  EXPECT_THAT(sequences.of(1), ElementsAre(4, 3));
  EXPECT_EQ(books(sequences).dump(), R"({"read":7,"kept":7,"dropped":{}})");
  EXPECT_EQ(sequences.provenance().at("format"), "test");
  EXPECT_EQ(sequences.provenance().at("policy").at("repeats"), "keep");
}

TEST(SequenceBuilder, WithoutTimesTheOrderGivenStays) {
  const Sequences sequences = built({{"2", "b"}, {"10", "a"}, {"2", "a"}, {"2", "b"}});
  EXPECT_THAT(written_out(sequences), ElementsAre("2: b a b", "10: a"));
  EXPECT_FALSE(sequences.timed());
  EXPECT_TRUE(sequences.user_names().numeric());
  EXPECT_FALSE(sequences.item_names().numeric());
}

TEST(SequenceBuilder, NothingGivesNothing) {
  const Sequences sequences = built({}, policy_of("first", 2, 2));
  EXPECT_EQ(sequences.users(), 0);
  EXPECT_EQ(sequences.items(), 0);
  EXPECT_EQ(sequences.interactions(), 0);
  EXPECT_EQ(books(sequences).dump(), R"({"read":0,"kept":0,"dropped":{}})");
}

TEST(SequenceBuilder, RepeatsStayOrGo) {
  const std::vector<Row> rows = {{"u", "a", 4}, {"u", "b", 2}, {"v", "a", 9},
                                 {"u", "a", 1}, {"u", "b", 3}, {"u", "c", 9}};
  EXPECT_THAT(written_out(built(rows)), ElementsAre("u: a@1 b@2 b@3 a@4 c@9", "v: a@9"));
  const Sequences first = built(rows, policy_of("first"));
  EXPECT_THAT(written_out(first), ElementsAre("u: a@1 b@2 c@9", "v: a@9"));
  EXPECT_THAT(written_out(built(rows, policy_of("last"))), ElementsAre("u: b@3 a@4 c@9", "v: a@9"));
  EXPECT_EQ(books(first).dump(), R"({"read":6,"kept":4,"dropped":{"repeated item":2}})");
}

// User c goes first, with one interaction; then item z, which c had; that leaves b with one too few.
TEST(SequenceBuilder, CoresAreSettledInTurns) {
  const std::vector<Row> rows = {{"c", "z"}, {"b", "z"}, {"b", "x"}, {"a", "x"},
                                 {"a", "y"}, {"d", "x"}, {"d", "y"}};
  const Sequences sequences = built(rows, policy_of("keep", 2, 2));
  EXPECT_THAT(written_out(sequences), ElementsAre("a: x y", "d: x y"));
  EXPECT_THAT(sequences.item_names().texts(), ElementsAre("x", "y"));
  EXPECT_EQ(books(sequences).dump(),
            R"({"read":7,"kept":4,"dropped":{"item below item_core":1,"user below user_core":2}})");
  EXPECT_THAT(written_out(built(rows, policy_of("keep", 2, 1))),
              ElementsAre("b: z x", "a: x y", "d: x y"));
  EXPECT_THAT(written_out(built(rows, policy_of("keep", 1, 3))),
              ElementsAre("b: x", "a: x", "d: x"));
  EXPECT_EQ(built(rows, policy_of("keep", 3, 1)).items(), 0);
}

TEST(SequenceBuilder, UsersGoBeforeItems) {
  const Sequences sequences = built({{"u", "a"}}, policy_of("keep", 2, 2));
  EXPECT_EQ(books(sequences).at("dropped").dump(), R"({"user below user_core":1})");
}

// Names that are left decide whether all are integers.
TEST(SequenceBuilder, NamesAreThoseThatAreLeft) {
  const Sequences sequences =
      built({{"x", "q"}, {"1", "5"}, {"1", "4"}, {"2", "4"}, {"2", "5"}}, policy_of("keep", 2, 2));
  EXPECT_THAT(sequences.item_names().numbers(), ElementsAre(4, 5));
  EXPECT_THAT(sequences.user_names().numbers(), ElementsAre(1, 2));
  EXPECT_THAT(sequences.of(0), ElementsAre(2, 1));
}

// A path of users and items that comes apart from its ends, one at a turn.
TEST(SequenceBuilder, ManyTurnsCostNoMoreThanFew) {
  constexpr int kLinks = 50'000;
  SequenceBuilder builder(policy_of("keep", 2, 2));
  for (int i = 0; i < kLinks; ++i) {
    builder.add(std::to_string(i), std::to_string(i), kNoTime);
    builder.add(std::to_string(i), std::to_string(i + 1), kNoTime);
  }
  const Sequences sequences = std::move(builder).finish("rows", Json::object());
  EXPECT_EQ(sequences.users(), 0);
  EXPECT_EQ(books(sequences).at("dropped").at("user below user_core"), kLinks);
}

// The same by its definition: look at everything again until nothing changes.
std::vector<Row> by_definition(std::vector<Row> rows, const SequencePolicy& policy) {
  std::stable_sort(rows.begin(), rows.end(), [](auto& a, auto& b) { return a.time < b.time; });
  if (policy.repeats == "last") std::reverse(rows.begin(), rows.end());
  if (policy.repeats != "keep") {
    std::set<std::pair<std::string, std::string>> seen;
    std::erase_if(rows, [&](const Row& r) { return !seen.emplace(r.user, r.item).second; });
  }
  if (policy.repeats == "last") std::reverse(rows.begin(), rows.end());
  for (std::size_t before = rows.size() + 1; before != rows.size();) {
    before = rows.size();
    std::map<std::string, std::int64_t> users, items;
    for (const Row& row : rows) ++users[row.user];
    std::erase_if(rows, [&](const Row& r) { return users[r.user] < policy.user_core; });
    for (const Row& row : rows) ++items[row.item];
    std::erase_if(rows, [&](const Row& r) { return items[r.item] < policy.item_core; });
  }
  return rows;
}

Text lines_of(const std::vector<Row>& order, const std::vector<Row>& rows) {
  std::map<std::string, std::string> lines;
  for (const Row& row : rows) {
    lines[row.user] += " " + row.item + (row.time == kNoTime ? "" : "@" + std::to_string(row.time));
  }
  Text out;
  for (const Row& row : order) {  // users by their first interaction
    const auto line = lines.extract(row.user);
    if (!line.empty()) out.push_back(row.user + ":" + line.mapped());
  }
  return out;
}

TEST(SequenceBuilder, AgreesWithTheDefinition) {
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE(round);
    Random random(5, "builder", static_cast<std::uint64_t>(round));
    const bool timed = random.chance(0.7);
    std::vector<Row> rows(random.below(60));
    for (Row& row : rows) {
      row = {"u" + std::to_string(random.below(12)), std::to_string(random.below(15)),
             timed ? static_cast<std::int64_t>(random.below(10)) - 5 : kNoTime};
    }
    constexpr const char* kRepeats[] = {"keep", "first", "last"};
    const SequencePolicy policy =
        policy_of(kRepeats[random.below(3)], 1 + static_cast<std::int64_t>(random.below(4)),
                  1 + static_cast<std::int64_t>(random.below(4)));
    const Sequences sequences = built(rows, policy);
    const std::vector<Row> expected = by_definition(rows, policy);
    ASSERT_EQ(written_out(sequences), lines_of(rows, expected));
    const Json account = books(sequences);
    std::int64_t sum = account.at("kept").get<std::int64_t>();
    EXPECT_EQ(sum, static_cast<std::int64_t>(expected.size()));
    for (const auto& [reason, n] : account.at("dropped").items()) {
      EXPECT_GT(n.get<std::int64_t>(), 0) << reason;
      sum += n.get<std::int64_t>();
    }
    EXPECT_EQ(sum, account.at("read"));
    EXPECT_EQ(sum, static_cast<std::int64_t>(rows.size()));
    ASSERT_TRUE(std::is_sorted(sequences.item_names().numbers().begin(),
                               sequences.item_names().numbers().end()));
  }
}

TEST(SequenceBuilder, DroppedRowsAreCounted) {
  SequenceBuilder builder{SequencePolicy{}};
  builder.drop("no item");
  builder.add("u", "a", kNoTime);
  builder.drop("no item");
  builder.drop("no user");
  const Sequences sequences = std::move(builder).finish("rows", Json::object());
  EXPECT_EQ(sequences.accounting().dump(),
            R"({"tables":{"rows":{"read":4,"kept":1,"dropped":{"no item":2,"no user":1}}}})");
}

TEST(SequenceBuilder, BadRowsAreRefusedUnquotedAndLeaveNoTrace) {
  SequenceBuilder builder{SequencePolicy{}};
  const auto refused = [&](const std::string& user, const std::string& item, std::int64_t time,
                           const std::string& words) {
    try {
      builder.add(user, item, time);
      ADD_FAILURE() << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kDataError);
      EXPECT_THAT(error.what(), HasSubstr(words));
      EXPECT_THAT(error.what(), Not(HasSubstr("secret")));
    }
  };
  refused("", "secret", 0, "the user of interaction 0 is empty");
  builder.add("secret", "x", 7);
  refused("secret", "", 0, "the item of interaction 1 is empty");
  refused("secret1", "", 0, "the item of interaction 1 is empty");
  refused("secret\xc0", "x", 0, "the user of interaction 1 is not UTF-8");
  refused("secret", "secret\xff", 0, "the item of interaction 1 is not UTF-8");
  refused(std::string(4097, 's'), "x", 0, "the user of interaction 1 has 4097 bytes");
  refused("secret", std::string(4097, 's'), 0, "the item of interaction 1 has 4097 bytes");
  refused("secret2", "secret3", kNoTime, "the time of interaction 1 is unknown, but");
  refused("secret2", "secret3", kLastTime + 1, "the time of interaction 1 is outside");
  refused("secret2", "secret3", kFirstTime - 1, "the time of interaction 1 is outside");
  builder.add("secret", "y", 3);
  const Sequences sequences = std::move(builder).finish("rows", Json::object());
  EXPECT_THAT(written_out(sequences), ElementsAre("secret: y@3 x@7"));
  EXPECT_EQ(sequences.items(), 2);
  EXPECT_EQ(books(sequences).at("read"), 2);

  SequenceBuilder untimed{SequencePolicy{}};
  untimed.add("u", "x", kNoTime);
  expect_error(Code::kDataError, "is known, but those before have none",
               [&] { untimed.add("u", "x", 5); });
}

TEST(SequenceBuilder, PolicyIsChecked) {
  const SequencePolicy policy = SequencePolicy::table().parse(
      Json::parse(R"({"repeats":"last","user_core":5,"item_core":3,"time":"when"})"));
  EXPECT_EQ(policy.repeats, "last");
  EXPECT_EQ(policy.user_core, 5);
  EXPECT_EQ(policy.time, "when");
  EXPECT_EQ(SequencePolicy::table().effective_json(policy).at("layout"), "auto");
  EXPECT_THROW(SequencePolicy::table().parse(Json::parse(R"({"user_core":0})")), Error);
  EXPECT_THROW(SequencePolicy::table().parse(Json::parse(R"({"layout":"json"})")), Error);
  const auto refused = [](const SequencePolicy& bad, const std::string& words) {
    expect_error(Code::kInvalidArgument, words, [&] { SequenceBuilder{bad}; });
  };
  refused(policy_of("some"), "option 'repeats' is 'some'");
  refused(policy_of("keep", 0, 1), "option 'user_core' is 0");
  refused(policy_of("keep", 1, -3), "option 'item_core' is -3");
}

}  // namespace
}  // namespace theriac::data
