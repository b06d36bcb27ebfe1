#include <gmock/gmock.h>

#include <cmath>
#include <map>

#include "cpp/core/data/sequences_io.h"
#include "cpp/core/data/test_sequences.h"

namespace theriac::data {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Sequences lengths(std::initializer_list<int> of_users) {
  SequenceColumns columns;
  Text users;
  for (const int length : of_users) {
    users.push_back("u" + std::to_string(users.size()));
    for (int i = 0; i < length; ++i) columns.ids.push_back(1 + i);
    columns.offsets.push_back(static_cast<std::int64_t>(columns.ids.size()));
  }
  columns.users = Names(std::move(users));
  columns.items = Names(Numbers{10, 20, 30, 40, 50, 60});
  columns.provenance = Json{{"format", "test"}};
  return Sequences(std::move(columns));
}

TEST(SequenceSplit, LeaveOneOut) {
  const SequenceParts parts = split_sequences(lengths({5, 0, 1, 2, 3}), {});
  EXPECT_THAT(written_out(parts.train),
              ElementsAre("u0: 10 20 30", "u2: 10", "u3: 10 20", "u4: 10"));
  EXPECT_THAT(written_out(parts.valid), ElementsAre("u0: 10 20 30 40", "u4: 10 20"));
  EXPECT_THAT(written_out(parts.test), ElementsAre("u0: 10 20 30 40 50", "u4: 10 20 30"));
}

TEST(SequenceSplit, PartsKeepTheVocabularyAndSayWhereTheyComeFrom) {
  const Sequences parent = lengths({4, 1});
  const SequenceParts parts = split_sequences(parent, {});
  for (const Sequences* part : {&parts.train, &parts.valid, &parts.test}) {
    EXPECT_EQ(part->item_names().fingerprint(), parent.item_names().fingerprint());
    EXPECT_EQ(part->provenance().at("format"), "test");
    EXPECT_EQ(part->provenance().at("part_of").at("parent"), parent.fingerprint());
    EXPECT_EQ(part->provenance().at("part_of").at("how"), "leave_one_out");
  }
  EXPECT_EQ(parts.train.provenance().at("part_of").at("part"), "train");
  EXPECT_EQ(parts.valid.provenance().at("part_of").at("part"), "valid");
  EXPECT_EQ(parts.test.provenance().at("part_of").at("part"), "test");
}

// Ten interactions; moments at shares 0.3 and 0.2 are the sixth (time 6) and ninth (time 9).
Sequences timed() {
  SequenceColumns columns;
  columns.users = Names(Text{"a", "b", "c", "d"});
  columns.items = Names(Numbers{1, 2, 3, 4});
  columns.offsets = {0, 4, 6, 7, 10};
  columns.ids = {1, 2, 3, 4, 1, 2, 3, 1, 2, 3};
  columns.times = {1, 5, 6, 9, 2, 10, 7, 3, 4, 8};
  return Sequences(std::move(columns));
}

TEST(SequenceSplit, TwoMomentsDivideTheInteractions) {
  const SequenceParts parts = split_sequences(timed(), {"time", 0.3, 0.2});
  EXPECT_THAT(written_out(parts.train), ElementsAre("a: 1@1 2@5", "b: 1@2", "d: 1@3 2@4"));
  EXPECT_THAT(written_out(parts.valid), ElementsAre("a: 1@1 2@5 3@6", "d: 1@3 2@4 3@8"));
  EXPECT_THAT(written_out(parts.test), ElementsAre("a: 1@1 2@5 3@6 4@9", "b: 1@2 2@10"));
}

TEST(SequenceSplit, SharesOfNothing) {
  const Sequences all = timed();
  SequenceParts parts = split_sequences(all, {"time", 0, 0});
  EXPECT_EQ(parts.train.fingerprint(), all.fingerprint());
  EXPECT_EQ(parts.valid.users() + parts.test.users(), 0);
  parts = split_sequences(all, {"time", 0, 0.5});
  EXPECT_EQ(parts.valid.users(), 0);
  EXPECT_EQ(parts.test.users(), 3);
  parts = split_sequences(all, {"time", 0.5, 0.5});
  EXPECT_EQ(parts.train.users(), 0);
  EXPECT_EQ(parts.valid.users(), 0);  // nobody has a history before the first moment
  for (const char* how : {"leave_one_out", "time"}) {
    parts = split_sequences(Sequences(SequenceColumns{}), {how, 0.1, 0.1});
    EXPECT_EQ(parts.train.users() + parts.valid.users() + parts.test.users(), 0);
  }
}

TEST(SequenceSplit, OptionsAreChecked) {
  expect_error(Code::kInvalidArgument, "option 'how' is 'time', but these sequences have no times",
               [] {
                 split_sequences(lengths({4}), {"time", 0.1, 0.1});
               });
  expect_error(Code::kInvalidArgument, "option 'how' is 'random'", [] {
    split_sequences(timed(), {"random", 0.1, 0.1});
  });
  for (const auto& [valid, test] :
       {std::pair{0.6, 0.5}, {-0.1, 0.1}, {0.1, -0.1}, {std::nan(""), 0.1}, {0.1, std::nan("")}}) {
    expect_error(Code::kInvalidArgument, "together at most 1", [&, v = valid, t = test] {
      split_sequences(timed(), {"time", v, t});
    });
  }
  EXPECT_EQ(SequenceSplitOptions::table().parse(Json::parse(R"({"how":"time"})")).how, "time");
  EXPECT_THROW(SequenceSplitOptions::table().parse(Json::parse(R"({"test":1.0})")), Error);
}

// A part's users are those of the parent in its order, each with a beginning of their sequence.
void expect_beginnings(const Sequences& parent, const Sequences& part, std::size_t shortest) {
  std::int64_t before = -1;
  for (std::int64_t u = 0; u < part.users(); ++u) {
    const std::int64_t v = parent.user_names().find(part.user_names().text(u));
    ASSERT_GT(v, before);
    before = v;
    const auto mine = part.of(u), all = parent.of(v);
    ASSERT_GE(mine.size(), shortest);
    ASSERT_LE(mine.size(), all.size());
    ASSERT_TRUE(std::equal(mine.begin(), mine.end(), all.begin()));
  }
}

TEST(SequenceSplit, LeaveOneOutOfRandomSequences) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Sequences parent = random_sequences(seed, 40, seed % 2 == 0, seed % 3 == 0);
    const SequenceParts parts = split_sequences(parent, {});
    expect_beginnings(parent, parts.train, 1);
    expect_beginnings(parent, parts.valid, 2);
    expect_beginnings(parent, parts.test, 3);
    for (std::int64_t u = 0; u < parent.users(); ++u) {
      const auto all = static_cast<std::int64_t>(parent.of(u).size());
      const auto length = [&, name = parent.user_names().text(u)](const Sequences& part) {
        const std::int64_t v = part.user_names().find(name);
        return v < 0 ? 0 : static_cast<std::int64_t>(part.of(v).size());
      };
      ASSERT_EQ(length(parts.train), all < 3 ? all : all - 2);
      ASSERT_EQ(length(parts.valid), all < 3 ? 0 : all - 1);
      ASSERT_EQ(length(parts.test), all < 3 ? 0 : all);
    }
    EXPECT_EQ(parts.test.timed(), parent.timed());
  }
}

// Nothing that a part learns from or answers with happened after what it is asked for.
TEST(SequenceSplit, TimesOfRandomSequences) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Sequences parent = random_sequences(seed, 60, true);
    const SequenceParts parts = split_sequences(parent, {"time", 0.2, 0.2});
    expect_beginnings(parent, parts.train, 1);
    expect_beginnings(parent, parts.valid, 2);
    expect_beginnings(parent, parts.test, 2);
    std::int64_t latest_train = kFirstTime, first_answer = kLastTime, latest_valid = kFirstTime;
    for (const std::int64_t time : parts.train.columns().times) {
      latest_train = std::max(latest_train, time);
    }
    const auto answers = [](const Sequences& part) {
      std::vector<std::int64_t> times;
      for (std::size_t u = 1; u < part.columns().offsets.size(); ++u) {
        times.push_back(
            part.columns().times[static_cast<std::size_t>(part.columns().offsets[u] - 1)]);
      }
      return times;
    };
    for (const std::int64_t time : answers(parts.valid)) {
      first_answer = std::min(first_answer, time);
      latest_valid = std::max(latest_valid, time);
    }
    EXPECT_LT(latest_train, first_answer);
    for (const std::int64_t time : answers(parts.test)) EXPECT_GT(time, latest_valid);
    EXPECT_GT(parts.valid.users(), 0);
    EXPECT_GT(parts.test.users(), 0);
  }
}

}  // namespace
}  // namespace theriac::data
