#include <gmock/gmock.h>

#include <memory>
#include <sstream>

#include "cpp/core/data/sequences_io.h"
#include "cpp/core/data/test_arrow_producer.h"
#include "cpp/core/data/test_sequences.h"

namespace theriac::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::string exported(const Sequences& sequences, const std::string& table,
                     const std::string& format) {
  std::ostringstream out;
  export_sequence_table(sequences, table, format, out);
  return out.str();
}

Sequences untimed() {
  SequenceColumns columns;
  columns.users = Names(Numbers{7, -1});
  columns.items = Names(Text{"b", "a,c"});
  columns.offsets = {0, 2, 2};
  columns.ids = {2, 1};
  return Sequences(std::move(columns));
}

TEST(SequencesTables, Interactions) {
  EXPECT_EQ(exported(small_sequences(), "interactions", "csv"),
            "user,item,time\n"
            "\"b, \"\"quoted\"\"\",20,1969-12-31 23:58:20\n"
            "\"b, \"\"quoted\"\"\",-5,1970-01-01 00:00:00\n"
            "\"b, \"\"quoted\"\"\",20,1970-01-01 00:00:00\n"
            "Zoë,100,2150-08-07 21:40:00\n"
            "Zoë,-5,2150-08-07 21:40:01\n");
  EXPECT_EQ(exported(untimed(), "interactions", "csv"), "user,item,time\n7,\"a,c\",\n7,b,\n");
  EXPECT_EQ(exported(untimed(), "interactions", "jsonl"),
            "{\"user\":7,\"item\":\"a,c\",\"time\":null}\n"
            "{\"user\":7,\"item\":\"b\",\"time\":null}\n");
}

TEST(SequencesTables, Vocabulary) {
  EXPECT_EQ(exported(small_sequences(), "vocabulary", "csv"), "id,item\n1,-5\n2,20\n3,100\n");
  EXPECT_EQ(exported(untimed(), "vocabulary", "jsonl"),
            "{\"id\":1,\"item\":\"b\"}\n{\"id\":2,\"item\":\"a,c\"}\n");
}

TEST(SequencesTables, OneUserARow) {
  EXPECT_EQ(exported(small_sequences(), "sequences", "jsonl"),
            R"({"user":"b, \"quoted\"","items":[20,-5,20],"times":["1969-12-31 23:58:20",)"
            R"("1970-01-01 00:00:00","1970-01-01 00:00:00"]})"
            "\n"
            R"({"user":"7","items":[],"times":[]})"
            "\n"
            R"({"user":"Zoë","items":[100,-5],"times":["2150-08-07 21:40:00",)"
            R"("2150-08-07 21:40:01"]})"
            "\n");
  EXPECT_EQ(exported(untimed(), "sequences", "jsonl"),
            "{\"user\":7,\"items\":[\"a,c\",\"b\"]}\n{\"user\":-1,\"items\":[]}\n");
  EXPECT_EQ(exported(untimed(), "sequences", "lines"), "7 a,c b\n-1\n");
}

TEST(SequencesTables, LinesHoldNoBlanks) {
  const auto refused = [](const Text& users, const Text& items, const std::string& words) {
    SequenceColumns columns;
    columns.users = Names(users);
    columns.items = Names(items);
    columns.offsets = {0, 0, 2};
    columns.ids = {2, 1};
    const Sequences sequences(std::move(columns));
    std::ostringstream out;
    try {
      export_sequence_table(sequences, "sequences", "lines", out);
      ADD_FAILURE() << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kInvalidArgument);
      EXPECT_THAT(error.what(), HasSubstr(words));
      EXPECT_THAT(error.what(), Not(HasSubstr("secret")));
    }
    EXPECT_EQ(out.str(), "");
  };
  refused({"u", "se cret"}, {"a", "b"}, "the name of user 1 has a blank");
  for (const char* blank : {"\t", "\n", "\r", "\v", "\f", " "}) {
    refused({"u", "v"}, {std::string("secret") + blank, "b"}, "the name of item 0 has a blank");
  }
}

TEST(SequencesTables, UnknownTablesAndFormatsNameTheNearest) {
  const auto refused = [](const std::string& table, const std::string& format,
                          const std::string& words) {
    expect_error(Code::kInvalidArgument, words,
                 [&] { exported(small_sequences(), table, format); });
  };
  refused("interaction", "csv",
          "has no table 'interaction'; expected interactions, sequences or vocabulary (nearest: "
          "interactions)");
  refused("visits", "csv", "a data set of sequences has no table 'visits'");
  refused("interactions", "cvs",
          "unknown format 'cvs'; expected csv, jsonl or arrow (nearest: csv)");
  refused("interactions", "lines", "unknown format 'lines'");
  refused("sequences", "line", "expected lines or jsonl (nearest: lines)");
  refused("sequences", "csv", "format 'csv' does not hold; expected format lines or jsonl");
  refused("sequences", "arrow", "or table interactions");
  ArrowArrayStream stream{};
  const auto owned = std::make_shared<const Sequences>(small_sequences());
  expect_error(Code::kInvalidArgument, "expected interactions or vocabulary",
               [&] { export_sequences_stream(owned, "sequences", &stream); });
  expect_error(Code::kInvalidArgument, "has no table 'codes'",
               [&] { export_sequences_stream(owned, "codes", &stream); });
  expect_error(Code::kInvalidArgument, "needs sequences and a stream",
               [&] { export_sequences_stream(nullptr, "vocabulary", &stream); });
  expect_error(Code::kInvalidArgument, "needs sequences and a stream",
               [&] { export_sequences_stream(owned, "vocabulary", nullptr); });
  EXPECT_EQ(stream.release, nullptr);
}

TEST(SequencesTables, AFailedStreamIsAnError) {
  std::ostringstream out;
  out.setstate(std::ios::badbit);
  expect_error(Code::kIoError, "table 'sequences'",
               [&] { export_sequence_table(untimed(), "sequences", "lines", out); });
}

// ---- Arrow ----

Text formats_of(const Sequences& sequences, const std::string& table) {
  ArrowArrayStream stream{};
  export_sequences_stream(std::make_shared<const Sequences>(sequences), table, &stream);
  ArrowSchema schema{};
  EXPECT_EQ(stream.get_schema(&stream, &schema), 0);
  Text formats;
  for (std::int64_t i = 0; i < schema.n_children; ++i) {
    formats.push_back(std::string(schema.children[i]->name) + ":" + schema.children[i]->format);
  }
  schema.release(&schema);
  stream.release(&stream);
  return formats;
}

TEST(SequencesTables, ArrowTypesAreThoseOfTheNames) {
  EXPECT_THAT(formats_of(small_sequences(), "interactions"),
              ElementsAre("user:u", "item:l", "time:tss:"));
  EXPECT_THAT(formats_of(untimed(), "interactions"), ElementsAre("user:l", "item:u", "time:tss:"));
  EXPECT_THAT(formats_of(small_sequences(), "vocabulary"), ElementsAre("id:i", "item:l"));
  EXPECT_THAT(formats_of(untimed(), "vocabulary"), ElementsAre("id:i", "item:u"));
}

TEST(SequencesTables, ArrowStreamFilesHaveTheSameRows) {
  const std::string file = exported(small_sequences(), "interactions", "arrow");
  EXPECT_EQ(file.substr(0, 4), "\xff\xff\xff\xff");
  EXPECT_THAT(file, HasSubstr("b, \"quoted\"b, \"quoted\"b, \"quoted\"Zo\xc3\xabZo\xc3\xab"));
  EXPECT_THAT(exported(untimed(), "vocabulary", "arrow"), HasSubstr("ba,c"));
}

Sequences there_and_back(const Sequences& sequences) {
  ArrowArrayStream stream{};
  export_sequences_stream(std::make_shared<const Sequences>(sequences), "interactions", &stream);
  Sequences back = import_sequences_stream(&stream, SequencePolicy{});
  EXPECT_EQ(stream.release, nullptr);
  return back;
}

// What users do is kept; who does nothing and what nobody takes is not in the table.
TEST(SequencesTables, ArrowThereAndBack) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const Sequences before = random_sequences(seed, 60, seed % 2 == 0, seed % 3 == 0);
    const Sequences after = there_and_back(before);
    Text lines = written_out(before);
    std::erase_if(lines, [](const std::string& line) { return line.ends_with(":"); });
    EXPECT_EQ(written_out(after), lines);
    EXPECT_EQ(after.user_names().numeric(), before.user_names().numeric());
    EXPECT_EQ(after.accounting().at("tables").at("arrow interactions").at("kept"),
              before.interactions());
  }
  EXPECT_EQ(there_and_back(Sequences(SequenceColumns{})).users(), 0);
}

TEST(SequencesTables, LongTablesComeInBatches) {
  constexpr int kRows = 140'000;
  SequenceColumns columns;
  Numbers users, items;
  for (int i = 0; i < kRows / 2; ++i) users.push_back(i);
  for (int i = 0; i < 100; ++i) items.push_back(i);
  columns.users = Names(std::move(users));
  columns.items = Names(std::move(items));
  for (int i = 0; i < kRows; ++i) {
    columns.ids.push_back(1 + i % 100);
    if (i % 2 == 1) columns.offsets.push_back(i + 1);
  }
  const Sequences before(std::move(columns));
  const Sequences after = there_and_back(before);
  EXPECT_EQ(after.fingerprint(), before.fingerprint());
}

// A host's batches, or its columns as one.
struct Host {
  HostCounts counts;
  Sequences read(std::vector<HostBatch> batches, const SequencePolicy& policy = {}) {
    HostStream host;
    host.schema = batches.front().columns;
    host.batches = std::move(batches);
    host.counts = &counts;
    ArrowArrayStream stream{};
    HostStream::hand_out(std::move(host), &stream);
    return import_sequences_stream(&stream, policy);
  }
  Sequences read(std::vector<HostColumn> columns, const SequencePolicy& policy = {}) {
    return read(std::vector<HostBatch>{batch_of(std::move(columns))}, policy);
  }
  static HostBatch batch_of(std::vector<HostColumn> columns) {
    HostBatch batch;
    batch.rows = columns.front().rows;
    batch.columns = std::move(columns);
    return batch;
  }
  ~Host() { EXPECT_EQ(counts.streams, 1); }
};

TEST(SequencesTables, ImportReadsTextIntegersAndDictionaries) {
  EXPECT_THAT(written_out(Host().read({integer_column("item", {3, 1, 2}),
                                       text_column("user", {"a", "b", "a"}),
                                       integer_column("time", {9, 8, 7}, {}, "tss:")})),
              ElementsAre("a: 2@7 3@9", "b: 1@8"));
  const HostColumn users = dictionary_column(text_column("user", {"x", "y"}), {1, 0, 1});
  EXPECT_THAT(written_out(Host().read({users, text_column("item", {"q", "r", "s"}, {}, "U")})),
              ElementsAre("y: q s", "x: r"));
}

TEST(SequencesTables, ImportFindsColumnsByThePolicysNames) {
  SequencePolicy policy;
  policy.user = "reviewer", policy.item = "asin", policy.time = "when", policy.repeats = "first";
  const Sequences sequences =
      Host().read({text_column("reviewer", {"a", "a", "a"}), integer_column("asin", {5, 5, 6}),
                   text_column("when", {"2020-01-02", "2020-01-01", "2020-01-03"}),
                   text_column("time", {"no", "no", "no"})},
                  policy);
  EXPECT_THAT(written_out(sequences), ElementsAre("a: 5@1577836800 6@1578009600"));
  EXPECT_EQ(sequences.provenance().at("format"), "arrow");
  EXPECT_EQ(sequences.provenance().at("policy").at("item"), "asin");
  expect_error(Code::kDataError, "has no column 'user'; nearest: 'users'", [] {
    Host().read({text_column("users", {"a"}), text_column("item", {"a"})});
  });
  expect_error(Code::kDataError, "has no column 'when'", [&] {
    Host().read({text_column("reviewer", {"a"}), text_column("asin", {"a"})}, policy);
  });
  expect_error(Code::kDataError, "has no column 'item'",
               [] { Host().read(std::vector<HostColumn>{text_column("user", {"a"})}); });
  expect_error(Code::kDataError, "two columns 'user'", [] {
    Host().read(
        {text_column("user", {"a"}), text_column("user", {"a"}), text_column("item", {"a"})});
  });
}

TEST(SequencesTables, ImportCountsWhatItDrops) {
  const Sequences sequences =
      Host().read({text_column("user", {"a", std::nullopt, "b", "", "a"}),
                   text_column("item", {"x", "y", std::nullopt, std::nullopt, ""})});
  EXPECT_THAT(written_out(sequences), ElementsAre("a: x"));
  EXPECT_EQ(sequences.accounting().at("tables").at("arrow interactions").dump(),
            R"({"read":5,"kept":1,"dropped":{"no item":2,"no user":2}})");
}

TEST(SequencesTables, ImportDropsRowsThatAreNullAsAWhole) {
  HostBatch batch =
      Host::batch_of({text_column("user", {"a", "b", "a"}), integer_column("item", {1, 2, 3})});
  batch.validity = {0b101};
  batch.null_count = 1;
  const Sequences sequences = Host().read(std::vector<HostBatch>{batch});
  EXPECT_THAT(written_out(sequences), ElementsAre("a: 1 3"));
  EXPECT_EQ(sequences.accounting().at("tables").at("arrow interactions").dump(),
            R"({"read":3,"kept":2,"dropped":{"null row":1}})");
}

TEST(SequencesTables, ImportCountsRowsOverBatches) {
  const auto batch = [](const char* last_time) {
    return Host::batch_of({text_column("user", {"a", "a"}), integer_column("item", {1, 2}),
                           text_column("time", {"2020", last_time})});
  };
  EXPECT_THAT(written_out(Host().read({batch("2020"), batch("2019")})),
              ElementsAre("a: 2@1546300800 1@1577836800 2@1577836800 1@1577836800"));
  expect_error(Code::kDataError, "'time', row 3", [&] {
    Host().read({batch("2020"), batch("never")});
  });
}

TEST(SequencesTables, ImportNamesTheRowOfWhatItRefuses) {
  const auto refused = [](const std::string& words, std::vector<HostColumn> columns) {
    try {
      Host().read(std::move(columns));
      ADD_FAILURE() << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kDataError);
      EXPECT_THAT(error.what(), HasSubstr(words));
      EXPECT_THAT(error.what(), Not(HasSubstr("secret")));
    }
  };
  const HostColumn users = text_column("user", {"secret", std::nullopt, "secret"});
  const HostColumn items = integer_column("item", {1, 2, 3});
  refused("the time of interaction 2 is unknown, but",
          {users, items, integer_column("time", {5, 5, std::nullopt})});
  refused("'time', row 2: the time is outside",
          {users, items, integer_column("time", {5, 5, INT64_MAX})});
  refused("'time', row 2", {users, items, text_column("time", {"2020", "2020", "secret"})});
  refused("'item', row 2: the text is not UTF-8",
          {users, text_column("item", {"1", "2", "secret\xff"})});
  refused("the item of interaction 2 has 5000 bytes",
          {users, text_column("item", {"1", "2", std::string(5'000, 's')})});
  refused("'item' is not an identifier", {users, integer_column("item", {1, 2, 3}, {}, "tss:")});
}

TEST(SequencesTables, ImportRefusesUnusableStreams) {
  expect_error(Code::kInvalidArgument, "null or was released",
               [] { import_sequences_stream(nullptr, {}); });
  ArrowArrayStream released{};
  expect_error(Code::kInvalidArgument, "null or was released",
               [&] { import_sequences_stream(&released, {}); });
  SequencePolicy policy;
  policy.repeats = "some";
  expect_error(Code::kInvalidArgument, "option 'repeats'", [&] {
    Host().read({text_column("user", {"a"}), text_column("item", {"a"})}, policy);
  });
}

TEST(SequencesTables, ImportCanBeCancelled) {
  const auto cancel = std::make_shared<CancelToken>();
  cancel->request();
  Job job(nullptr, cancel);
  ArrowArrayStream stream{};
  export_sequences_stream(std::make_shared<const Sequences>(small_sequences()), "interactions",
                          &stream);
  expect_error(Code::kCancelled, "", [&] { import_sequences_stream(&stream, {}, &job); });
  EXPECT_EQ(stream.release, nullptr);
}

// ---- describe ----

TEST(SequencesTables, Description) {
  const Sequences sequences = small_sequences();
  const Json json = describe(sequences);
  EXPECT_EQ(json.at("kind"), "sequences");
  EXPECT_EQ(json.at("users"), 3);
  EXPECT_EQ(json.at("items"), 3);
  EXPECT_EQ(json.at("interactions"), 5);
  EXPECT_EQ(json.at("timed"), true);
  EXPECT_NEAR(json.at("length").at("mean").get<double>(), 5.0 / 3, 1e-12);
  EXPECT_EQ(json.at("length").at("median"), 2.0);
  EXPECT_EQ(json.at("length").at("max"), 3);
  EXPECT_NEAR(json.at("density").get<double>(), 5.0 / 9, 1e-12);
  EXPECT_EQ(json.at("accounting"), sequences.accounting());
  EXPECT_EQ(json.at("provenance"), sequences.provenance());
  EXPECT_EQ(json.at("fingerprint"), sequences.fingerprint());
  EXPECT_EQ(describe(untimed()).at("length").at("median"), 1.0);
  SequenceColumns even;
  even.users = Names(Numbers{1, 2, 3, 4});
  even.items = Names(Numbers{1});
  even.offsets = {0, 9, 9, 12, 13};  // 0, 1, 3 and 9 items
  even.ids.assign(13, 1);
  EXPECT_EQ(describe(Sequences(std::move(even))).at("length").at("median"), 2.0);
  const Json nothing = describe(Sequences(SequenceColumns{}));
  EXPECT_EQ(nothing.at("length").dump(), R"({"mean":0.0,"median":0.0,"max":0})");
  EXPECT_EQ(nothing.at("density"), 0.0);
}

}  // namespace
}  // namespace theriac::data
