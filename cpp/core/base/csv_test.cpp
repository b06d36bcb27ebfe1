#include "cpp/core/base/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cpp/core/base/random.h"
#include "cpp/core/base/test_support.h"

namespace theriac {
namespace {

using testing::HasSubstr;
using testing_support::detail;
using testing_support::failure_of;
using Row = std::vector<std::string>;
using Table = std::vector<Row>;

// Hands out the text a few bytes at a time, to bring every border of the buffer into play.
class DripSource final : public ByteSource {
 public:
  DripSource(std::string text, std::size_t step) : text_(std::move(text)), step_(step) {}
  std::size_t read(std::span<char> into) override {
    const std::size_t size = std::min({into.size(), step_, text_.size() - at_});
    std::copy_n(text_.begin() + static_cast<std::ptrdiff_t>(at_), size, into.begin());
    at_ += size;
    return size;
  }
  const std::string& name() const override { return name_; }

 private:
  std::string text_, name_ = "t.csv";
  std::size_t step_, at_ = 0;
};

Table read_table(CsvReader& reader) {
  Table table{reader.header()};
  while (reader.next()) {
    Row row;
    for (std::size_t i = 0; i < reader.header().size(); ++i) row.emplace_back(reader.field(i));
    table.push_back(std::move(row));
  }
  EXPECT_FALSE(reader.next());
  return table;
}

Table read_table(const std::string& text, char delimiter = ',', CsvLimits limits = {},
                 CsvQuotes quotes = CsvQuotes::kDouble) {
  CsvReader reader(memory_source(text, "t.csv"), delimiter, limits, quotes);
  return read_table(reader);
}

void expect_rejected(const std::string& text, const std::string& line, const std::string& column,
                     const std::string& reason, CsvLimits limits = {}) {
  const auto failure = failure_of([&] { read_table(text, ',', limits); });
  ASSERT_TRUE(failure) << text;
  EXPECT_EQ(failure->code, Code::kDataError);
  EXPECT_EQ(detail(*failure, "file"), "t.csv");
  EXPECT_EQ(detail(*failure, "line"), line) << failure->message;
  EXPECT_EQ(detail(*failure, "column"), column) << failure->message;
  EXPECT_THAT(failure->message, HasSubstr(reason));
  EXPECT_THAT(failure->message, HasSubstr("t.csv, line " + line));
}

TEST(Csv, ReadsPlainRecords) {
  const Table expected{{"a", "b"}, {"1", "2"}, {"", "x y"}};
  EXPECT_EQ(read_table("a,b\n1,2\n,x y\n"), expected);
  EXPECT_EQ(read_table("a,b\n1,2\n,x y"), expected);  // the last line end is optional
  EXPECT_EQ(read_table("a,b\r\n1,2\r\n,x y\r\n"), expected);
  EXPECT_EQ(read_table("\xef\xbb\xbf"
                       "a,b\n1,2\n,x y\n"),
            expected);
  EXPECT_EQ(read_table("a\tb\n1\t2\n\tx y\n", '\t'), expected);
  EXPECT_EQ(read_table(" a ,\tb\n1,2\n,x y\n"), expected);  // names are trimmed
  EXPECT_EQ(read_table("a,b"), (Table{{"a", "b"}}));
}

TEST(Csv, ReadsQuotedFields) {
  EXPECT_EQ(
      read_table(
          "\"a\",b\n\"x,y\",\"say \"\"hi\"\"\"\n\"two\nlines\",\"\"\n\"\"\"\",\"a\r\nb\"\r\n"),
      (Table{{"a", "b"}, {"x,y", "say \"hi\""}, {"two\nlines", ""}, {"\"", "a\r\nb"}}));
  EXPECT_EQ(read_table("a,b\n1,\"2\""), (Table{{"a", "b"}, {"1", "2"}}));
  EXPECT_EQ(read_table("a,b\n1,\"a\rb\"\n"),
            (Table{{"a", "b"}, {"1", "a\rb"}}));  // quoted, so it is text
  EXPECT_EQ(read_table("a,b\n5\" pipe,x\"y\n"), (Table{{"a", "b"}, {"5\" pipe", "x\"y"}}));
}

TEST(Csv, QuotesCanBeOrdinaryCharacters) {
  EXPECT_EQ(read_table("a\tb\n\"x\t5\" y\n", '\t', {}, CsvQuotes::kNone),
            (Table{{"a", "b"}, {"\"x", "5\" y"}}));
}

TEST(Csv, NamesTheLineOfARecordsStart) {
  CsvReader reader(memory_source("a,b\n\"1\n2\",\"3\n\n4\"\n\n5,6\n", "t.csv"));
  ASSERT_TRUE(reader.next());
  EXPECT_EQ(reader.line(), 2U);
  ASSERT_TRUE(reader.next());
  EXPECT_EQ(reader.line(), 7U);
  EXPECT_EQ(reader.field(0), "5");
  EXPECT_FALSE(reader.next());
}

TEST(Csv, EmptyLinesAreRecordsOfOneColumnTablesOnly) {
  EXPECT_EQ(read_table("a,b\n\n1,2\n\r\n\n"), (Table{{"a", "b"}, {"1", "2"}}));
  EXPECT_EQ(read_table("a\n\nx\n"), (Table{{"a"}, {""}, {"x"}}));
}

TEST(Csv, ColumnsAreFoundWithoutRegardToCase) {
  CsvReader reader(memory_source("SUBJECT_ID,Hadm_Id\n1,2\n", "t.csv"));
  EXPECT_EQ(reader.column("subject_id"), 0U);
  EXPECT_EQ(reader.find_column("HADM_ID"), 1);
  EXPECT_EQ(reader.find_column("icd"), -1);
  const auto failure = failure_of([&] { reader.column("hadmid"); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kDataError);
  EXPECT_THAT(failure->message,
              HasSubstr("no column 'hadmid'; the columns are 'SUBJECT_ID', 'Hadm_Id'"));
  EXPECT_THAT(failure->message, HasSubstr("the nearest is 'Hadm_Id'"));
}

TEST(Csv, ErrorsAboutAFieldNameFileLineAndColumn) {
  CsvReader reader(memory_source("id,age\n1,old\n", "t.csv"));
  ASSERT_TRUE(reader.next());
  const Error error = reader.error(1, "not a number");
  EXPECT_EQ(error.code(), Code::kDataError);
  EXPECT_STREQ(error.what(), "t.csv, line 2, column 'age': not a number");
  EXPECT_EQ(detail(error.failure(), "column"), "age");
  EXPECT_EQ(failure_of([&] { reader.field(2); })->code, Code::kInternal);
}

TEST(Csv, RaggedRecordsAreErrors) {
  expect_rejected("a,b\n1,2\n1\n", "3", "(none)", "1 fields; the header has 2");
  expect_rejected("a,b\n1,2,3\n", "2", "(none)", "3 fields; the header has 2");
  expect_rejected("a\n1,\n", "2", "(none)", "2 fields; the header has 1");
}

TEST(Csv, OldMacintoshLineEndsAreOneClearError) {
  expect_rejected("a,b\r1,2\r3,4\r", "1", "2",
                  "bare carriage return; lines must end with LF or CRLF");
  std::string large = "a,b\r";
  for (int i = 0; i < 300000; ++i) large += "1,2\r";
  expect_rejected(large, "1", "2", "bare carriage return");
  expect_rejected("a,b\n1\r,2\n", "2", "a", "bare carriage return");
  expect_rejected("a,b\n1,\"2\"\r3\n", "2", "b", "bare carriage return");
  expect_rejected("a,b\n1,2\r", "2", "b", "bare carriage return");
}

TEST(Csv, DamagedQuotesAreErrors) {
  expect_rejected("a,b\n1,\"2\n3,4\n", "2", "b", "never closed");
  expect_rejected("a,b\n1,\"", "2", "b", "never closed");
  expect_rejected("a,b\n\"1\"x,2\n", "2", "a", "text follows a closing quote");
}

TEST(Csv, BytesThatAreNoTextAreErrors) {
  expect_rejected(std::string("a,b\n1,\0\n", 8), "2", "b", "NUL");
  expect_rejected("a,b\n1,2\n\xff,2\n", "3", "a", "not valid UTF-8");
  expect_rejected("a,b\n1,\"\xc3\"\n", "2", "b", "not valid UTF-8");
  expect_rejected(
      "\xff\xfe"
      "a",
      "1", "(none)", "UTF-16");
  EXPECT_EQ(read_table("a,b\n\xc3\xa9,\"\xe2\x82\xac\"\n"),
            (Table{{"a", "b"}, {"\xc3\xa9", "\xe2\x82\xac"}}));
}

TEST(Csv, TheHeaderMustNameEveryColumnOnce) {
  expect_rejected("", "1", "(none)", "empty");
  expect_rejected("\n1\n", "1", "(none)", "header line is empty");
  expect_rejected("a,b,A\n", "1", "A", "twice");
  EXPECT_EQ(read_table(",a,\n1,2,3\n").size(), 2U);  // columns without a name are harmless
}

TEST(Csv, LimitsBind) {
  CsvLimits limits;
  limits.field_bytes = 4;
  limits.columns = 2;
  EXPECT_EQ(read_table("a,b\n1234,\"12\"\"4\"\n", ',', limits),
            (Table{{"a", "b"}, {"1234", "12\"4"}}));
  expect_rejected("a,b\n12345,2\n", "2", "a", "longer than 4 bytes", limits);
  expect_rejected("a,b\n1,\"12345\"\n", "2", "b", "longer than 4 bytes", limits);
  expect_rejected("a,b\n1,\"12" + std::string(100, 'x'), "2", "b", "longer than 4 bytes", limits);
  expect_rejected("a,b,c\n", "1", "(none)", "more than 2 columns", limits);
  expect_rejected("a,b\n1,\"2\",3\n", "2", "(none)", "more than 2 columns", limits);
}

TEST(Csv, AQuoteThatIsNeverClosedDoesNotSwallowTheFile) {
  std::string text = "a,b\n\"";
  for (int i = 0; i < 300000; ++i) text += "1,2,3,4,5\n";
  expect_rejected(text, "2", "a", "a quote that is never closed may be the cause");
}

// A reader of five lines that looks at one character after another: slow, and easy to believe.
Table reference(const std::string& text) {
  Table table;
  Row row;
  std::string field;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '"' && i + 1 < text.size() && text[i + 1] == '"') {
      field += text[++i];
    } else if (c == '"' && (quoted || field.empty())) {
      quoted = !quoted;
    } else if (!quoted && (c == ',' || c == '\n')) {
      row.push_back(std::exchange(field, {}));
      if (c == '\n') table.push_back(std::exchange(row, {}));
    } else if (quoted || c != '\r') {
      field += c;
    }
  }
  return table;
}

std::string random_field(Random& random) {
  const std::string_view pieces[] = {
      "a", "12345", ",", "\"", "\n", "\r\n", "\xc3\xa9", " ", "long text without marks"};
  std::string out;
  for (std::uint64_t n = random.below(6); n > 0; --n)
    out += pieces[random.below(std::size(pieces))];
  return out;
}

TEST(Csv, AgreesWithASimpleReaderAtEveryBufferBorder) {
  for (std::uint64_t trial = 0; trial < 200; ++trial) {
    Random random(1, "csv", trial);
    std::string text = "a,b,c\n";
    Table written{{"a", "b", "c"}};
    for (std::uint64_t rows = random.below(30); rows > 0; --rows) {
      written.push_back({random_field(random), random_field(random), random_field(random)});
      const Row& row = written.back();
      const bool crlf = random.chance(0.5);
      text += csv_field(row[0]) + "," + csv_field(row[1]) + "," + csv_field(row[2]) +
              (crlf ? "\r\n" : "\n");
    }
    ASSERT_EQ(reference(text), written);
    CsvLimits limits;
    limits.buffer_bytes = 16 + random.below(64);
    CsvReader reader(std::make_unique<DripSource>(text, 1 + random.below(40)), ',', limits);
    ASSERT_EQ(read_table(reader), written) << text;
  }
}

TEST(Csv, RecordsMayCrossTheBufferAndOutgrowIt) {
  CsvLimits limits;
  limits.field_bytes = std::size_t{2} << 20;
  Table written{{"a", "b"}};
  std::string text = "a,b\n";
  for (std::size_t i = 0; i < 40; ++i) {
    const std::string filler(i * 2503, static_cast<char>('a' + i % 26));
    written.push_back({filler, i % 2 == 0 ? "q\"" + filler : "plain"});
    text += csv_field(written.back()[0]) + "," + csv_field(written.back()[1]) + "\n";
  }
  written.push_back({std::string(1500000, 'z'), "\n" + std::string(700000, '\"')});
  text += csv_field(written.back()[0]) + "," + csv_field(written.back()[1]) + "\n";
  CsvReader reader(std::make_unique<DripSource>(text, 65521), ',', limits);
  EXPECT_EQ(read_table(reader), written);
}

TEST(CsvField, QuotesWhenNeeded) {
  EXPECT_EQ(csv_field("plain text"), "plain text");
  EXPECT_EQ(csv_field(""), "");
  EXPECT_EQ(csv_field("a,b"), "\"a,b\"");
  EXPECT_EQ(csv_field("a\"b"), "\"a\"\"b\"");
  EXPECT_EQ(csv_field("a\nb\r"), "\"a\nb\r\"");
}

}  // namespace
}  // namespace theriac
