#include "cpp/core/readers/sequences.h"

#include <cstdlib>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cpp/core/base/csv.h"
#include "cpp/core/base/file.h"
#include "cpp/core/readers/test_folder.h"

namespace theriac::readers {
namespace {

namespace fs = std::filesystem;
using data::SequencePolicy;
using data::Sequences;
using testing::detail;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::ScratchFolder;
using testing::write;
using testing::write_gzip;

const std::string kByteOrderMark = "\xEF\xBB\xBF";

Sequences read(std::string_view bytes, const SequencePolicy& policy = {}) {
  Job job;
  return read_sequences_bytes(bytes, "rows.txt", policy, job);
}

Sequences read_file(const fs::path& file, const SequencePolicy& policy = {}) {
  Job job;
  return read_sequences(file, policy, job);
}

SequencePolicy layout(const std::string& name) {
  SequencePolicy policy;
  policy.layout = name;
  return policy;
}

// "7: a b; 8: c", with "@time" behind an item where times are known.
std::string shown(const Sequences& sequences) {
  std::string out;
  std::size_t row = 0;
  for (std::int64_t user = 0; user < sequences.users(); ++user) {
    out += (user == 0 ? "" : "; ") + sequences.user_names().text(user) + ":";
    for (const std::int32_t id : sequences.of(user)) {
      out += " " + sequences.item_names().text(id - 1);
      if (sequences.timed()) out += "@" + std::to_string(sequences.columns().times[row]);
      ++row;
    }
  }
  return out;
}

std::int64_t dropped(const Sequences& sequences, const std::string& reason) {
  const Json& table = sequences.accounting()["tables"]["interactions"];
  return table["dropped"].contains(reason) ? table["dropped"][reason].get<std::int64_t>() : 0;
}

// The error names the file and the line.
Error failure_at(int line, std::string_view bytes, const SequencePolicy& policy = {}) {
  Error error = error_of([&] { read(bytes, policy); });
  EXPECT_EQ(error.code(), Code::kDataError) << error.what();
  EXPECT_EQ(detail(error, "file"), "rows.txt");
  EXPECT_EQ(detail(error, "line"), std::to_string(line)) << error.what();
  EXPECT_THAT(error.what(), HasSubstr("rows.txt, line " + std::to_string(line)));
  return error;
}

Error column_failure(int line, const std::string& column, std::string_view bytes,
                     const SequencePolicy& policy = {}) {
  Error error = failure_at(line, bytes, policy);
  EXPECT_EQ(detail(error, "column"), column) << error.what();
  EXPECT_THAT(error.what(), HasSubstr("'" + column + "'"));
  return error;
}

// ---- lines ----

TEST(Lines, WordsBetweenAnyBlanks) {
  EXPECT_EQ(shown(read("1 30 20 10\n2 20 30\n")), "1: 30 20 10; 2: 20 30");
  EXPECT_EQ(shown(read("1\t30\t20\t10\n2\t20\t30\n")), "1: 30 20 10; 2: 20 30");
  EXPECT_EQ(shown(read("  1 \t 30   20\t\t10 \n\t2 20 \t30\t\n")), "1: 30 20 10; 2: 20 30");
  EXPECT_EQ(shown(read("ann tea cup\nbob cup\n")), "ann: tea cup; bob: cup");
}

TEST(Lines, ItemsAreNumberedInOrderAndUsersStayAsTheyCome) {
  const Sequences sequences = read("9 30 4\n1 4 200\n");
  EXPECT_EQ(sequences.user_names().text(0), "9");
  EXPECT_EQ(sequences.items(), 3);
  EXPECT_EQ(sequences.item_names().text(0), "4");
  EXPECT_EQ(sequences.item_names().text(2), "200");
  EXPECT_FALSE(sequences.timed());
}

TEST(Lines, LineEndsAndByteOrderMark) {
  for (const std::string& text :
       {std::string("1 5 6\n2 6\n"), std::string("1 5 6\n2 6"), std::string("1 5 6\r\n2 6\r\n"),
        std::string("1 5 6\r\n2 6\n"), kByteOrderMark + "1 5 6\n2 6\n",
        std::string("\n\n1 5 6\n \t\n\r\n2 6\n\n")}) {
    EXPECT_EQ(shown(read(text)), "1: 5 6; 2: 6");
  }
  const std::string later = kByteOrderMark + "2";  // where it is a part of the name
  EXPECT_EQ(read("1 5\n" + later + " 6\n").user_names().text(1), later);
}

TEST(Lines, RepeatedItemsAreThePolicysBusiness) {
  EXPECT_EQ(shown(read("1 5 6 5\n")), "1: 5 6 5");
  SequencePolicy policy;
  policy.repeats = "first";
  EXPECT_EQ(shown(read("1 5 6 5\n", policy)), "1: 5 6");
}

TEST(Lines, AUserWithoutItemsIsCounted) {
  const Sequences sequences = read("1 5 6\n2\n3 6\n4 \t\n");
  EXPECT_EQ(shown(sequences), "1: 5 6; 3: 6");
  EXPECT_EQ(dropped(sequences, "user without items"), 2);
  const Json& table = sequences.accounting()["tables"]["interactions"];
  EXPECT_EQ(table["kept"], 3);
  EXPECT_EQ(table["read"], 5);
}

TEST(Lines, AUserOnTwoLinesIsAnError) {
  const Error error = failure_at(4, "ann 5 6\n\nbob 6\nann 7\n");
  EXPECT_THAT(error.what(), HasSubstr("of line 1"));
  EXPECT_THAT(error.what(), Not(HasSubstr("ann")));
  failure_at(2, "ann\nann 7\n");
  failure_at(2, "ann 7\nann\n");
}

TEST(Lines, OddBytesAreErrors) {
  EXPECT_THAT(failure_at(2, std::string_view("1 5\n2 6\0 7\n", 11)).what(), HasSubstr("NUL"));
  EXPECT_THAT(failure_at(2, "1 5\n2 \xff\n").what(), HasSubstr("UTF-8"));
  EXPECT_THAT(failure_at(1, "1 5\r2 6\n").what(), HasSubstr("carriage return"));
  EXPECT_THAT(failure_at(2, "1 5\n2 6\r").what(), HasSubstr("carriage return"));
  EXPECT_THAT(failure_at(1, std::string_view("\xff\xfe"
                                             "1\0 \0"
                                             "5\0",
                                             8))
                  .what(),
              HasSubstr("UTF-16"));
}

TEST(Lines, NamesHaveALimit) {
  const std::string longest(data::Names::kNameLimit, 'x');
  EXPECT_EQ(read(longest + " 5\n1 " + longest).users(), 2);
  const Error user = failure_at(2, "1 5\n" + longest + "y 5\n");
  const Error item = failure_at(1, "1 5 " + longest + "y\n");
  EXPECT_THAT(user.what(), HasSubstr("4096"));
  EXPECT_THAT(item.what(), HasSubstr("item 2"));
  EXPECT_THAT(item.what(), Not(HasSubstr("xx")));
}

// A line over many blocks, and lines that end on and around the borders of blocks.
TEST(Lines, MayBeLong) {
  std::string text;
  std::int64_t items = 0, user = 0;
  for (const std::size_t length : {700'000, 5, 262'144, 262'143, 262'145, 40, 524'288}) {
    std::string line = "u" + std::to_string(++user);
    for (; line.size() + 2 <= length; ++items) line += " 7";
    text += line + "\n";
  }
  const Sequences sequences = read(text);
  EXPECT_EQ(sequences.users(), user);
  EXPECT_EQ(sequences.interactions(), items);
  EXPECT_EQ(sequences.items(), 1);
}

TEST(Lines, HaveALimit) {
  constexpr std::size_t kLimit = std::size_t{64} << 20;
  std::string text(kLimit + 1, ' ');
  text.replace(0, 3, "1 5");
  EXPECT_THAT(failure_at(1, text).what(), HasSubstr("67108864"));
  text.back() = '\n';
  EXPECT_EQ(shown(read(text + "2 6\n")), "1: 5; 2: 6");
}

// ---- tables ----

TEST(Tables, OneInteractionARow) {
  EXPECT_EQ(shown(read("user,item\nann,5\nbob,5\nann,3\n")), "ann: 5 3; bob: 5");
  EXPECT_EQ(shown(read(kByteOrderMark + "Item,x,USER\r\n5,,ann\r\n5,,bob\r\n3,,ann")),
            "ann: 5 3; bob: 5");
  EXPECT_EQ(shown(read("user,item\n\n ann ,\"5\"\n\"ann\",\t3\n")), "ann: 5 3");
}

TEST(Tables, TimesOrderAUsersItems) {
  EXPECT_EQ(shown(read("user,item,time\na,5,300\nb,5,7\na,3,200\na,4,300\n")),
            "a: 3@200 5@300 4@300; b: 5@7");
  EXPECT_EQ(shown(read("user,item,time\na,5,2020-01-02\na,3,2020-01-01T12:30:00Z\na,4,-5\n")),
            "a: 4@-5 3@1577881800 5@1577923200");
}

TEST(Tables, TimesMayBeUnknown) {
  for (const char* text : {"user,item\na,5\na,3\n", "user,item,time\na,5,\na,3, \n",
                           "user,item,when\na,5,9\na,3,8\n"}) {
    EXPECT_FALSE(read(text).timed());
    EXPECT_EQ(shown(read(text)), "a: 5 3");
  }
  SequencePolicy policy;
  policy.time = "";
  EXPECT_EQ(shown(read("user,item,time\na,5,9\na,3,8\n", policy)), "a: 5 3");
}

TEST(Tables, TimesAreKnownInAllRowsOrInNone) {
  const Error empty = column_failure(4, "time", "user,item,time\n,5,\na,5,9\na,3,\n");
  EXPECT_THAT(empty.what(), HasSubstr("line 3"));
  const Error known = column_failure(3, "time", "user,item,time\na,5,\na,3,8\n");
  EXPECT_THAT(known.what(), HasSubstr("line 2"));
}

TEST(Tables, TimesThatAreNoneAreErrors) {
  for (const char* time : {"soon", "2020-13-01", "1.5e9", "1577881800.0", "+5", "--5", "-"}) {
    const Error error =
        column_failure(2, "time", "user,item,time\na,5," + std::string(time) + "\n");
    EXPECT_THAT(error.what(), HasSubstr("whole seconds"));
    EXPECT_THAT(error.what(), Not(HasSubstr("soon")));
  }
}

TEST(Tables, MillisecondsAreErrors) {
  for (const char* time : {"1577881800000", "-1577881800000", "100000000001", "-100000000001",
                           "99999999999999999999999", "-9223372036854775809"}) {
    const Error error =
        column_failure(2, "time", "user,item,time\na,5," + std::string(time) + "\n");
    EXPECT_THAT(error.what(), HasSubstr("seconds are expected")) << time;
  }
  EXPECT_EQ(shown(read("user,item,time\na,5,100000000000\n")), "a: 5@100000000000");
  column_failure(2, "time", "user,item,time\na,5,-70000000000\n");  // before the year 1
}

TEST(Tables, RowsWithoutUserOrItemAreCounted) {
  const Sequences sequences = read("user,item,time\n,5,x\na,5,3\na, ,\n \t,3,4\n,,\n");
  EXPECT_EQ(shown(sequences), "a: 5@3");
  EXPECT_EQ(dropped(sequences, "no user"), 3);
  EXPECT_EQ(dropped(sequences, "no item"), 1);
  EXPECT_EQ(sequences.accounting()["tables"]["interactions"]["read"], 5);
}

TEST(Tables, ColumnsAndDelimiterAreThePolicys) {
  SequencePolicy policy;
  policy.user = "Reviewer";
  policy.item = "asin";
  policy.time = "unix";
  policy.delimiter = "tab";
  EXPECT_EQ(shown(read("asin\tREVIEWER\tunix\nB0,1\tann\t8\nB1\tann\t7\n", policy)),
            "ann: B1@7 B0,1@8");
  policy.delimiter = ";";
  EXPECT_EQ(shown(read("asin;reviewer;unix\nB0;ann;8\n", policy)), "ann: B0@8");
  policy.delimiter = " ";
  EXPECT_EQ(shown(read("asin reviewer unix\nB0 ann 8\n", policy)), "ann: B0@8");
}

TEST(Tables, AMissingColumnIsAnErrorThatQuotesNoRow) {
  SequencePolicy policy = layout("csv");
  Error error = column_failure(1, "item", "user,items,secret\na,5,1\n", policy);
  EXPECT_EQ(detail(error, "option"), "item");
  EXPECT_THAT(error.what(), HasSubstr("nearest is 'items'"));
  EXPECT_THAT(error.what(), Not(HasSubstr("secret")));
  policy.time = "when";
  error = column_failure(1, "when", "user,item,time\na,5,1\n", policy);
  EXPECT_EQ(detail(error, "option"), "time");
}

TEST(Tables, NamesHaveALimit) {
  const std::string longest(data::Names::kNameLimit, 'x');
  EXPECT_EQ(read("user,item\n" + longest + "," + longest + "\n").users(), 1);
  column_failure(2, "user", "user,item\n" + longest + "y,5\n");
  const Error error = column_failure(3, "item", "user,item\na,5\na," + longest + "y\n");
  EXPECT_THAT(error.what(), Not(HasSubstr("xx")));
}

TEST(Tables, OddRowsAreErrors) {
  failure_at(3, "user,item\na,5\nb\n", layout("csv"));
  failure_at(2, "user,item\na,\"5\n");
  failure_at(2, std::string_view("user,item\na,\0\n", 14));
  failure_at(2, "user,item\n\xff,5\n");
}

TEST(Tables, OddDelimitersAreRefused) {
  for (const char* delimiter : {"", "ab", "\"", "\n", "\r", "\xc3\xa4", "\xe4"}) {
    SequencePolicy policy;
    policy.delimiter = delimiter;
    const Error error = error_of([&] { read("user,item\na,5\n", policy); });
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    EXPECT_EQ(detail(error, "option"), "delimiter");
    policy.layout = "lines";  // which has none
    EXPECT_EQ(shown(read("a 5\n", policy)), "a: 5");
  }
}

// ---- either ----

TEST(Layout, FollowsFromTheFirstLine) {
  const auto format = [](std::string_view bytes, const SequencePolicy& policy = {}) {
    return read(bytes, policy).provenance()["format"].get<std::string>();
  };
  EXPECT_EQ(format("user,item\na,5\n"), "csv");
  EXPECT_EQ(format("\xEF\xBB\xBF\"Item\", User ,\" Time\"\r\na,5,1\r\n"), "csv");
  EXPECT_EQ(format("user item\na 5\n"), "lines");       // the user "user"
  EXPECT_EQ(format("user,items x\na,5 y\n"), "lines");  // "items" is not the column
  EXPECT_EQ(format("users,item x\na,5 y\n"), "lines");
  EXPECT_EQ(format("1 5\nuser,item 6\n"), "lines");
  EXPECT_EQ(format("\nuser,item x\n"), "lines");
  SequencePolicy tabs;
  tabs.delimiter = "tab";
  EXPECT_EQ(format("user\titem\na\t5\n", tabs), "csv");
  EXPECT_EQ(format("user\titem\na\t5\n"), "lines");
  EXPECT_EQ(format("user,item x\n", layout("lines")), "lines");
  EXPECT_EQ(error_of([] { read("1 5\n", layout("xml")); }).code(), Code::kInvalidArgument);
}

TEST(Layout, TheFirstLineMayBeLong) {
  std::string header = "user";
  for (int i = 0; i < 3'000; ++i)
    header += ",a rather long name of a column, number " + std::to_string(i);
  EXPECT_THAT(failure_at(1, header + ",item\n").what(), HasSubstr("columns"));  // it was no line
  EXPECT_EQ(shown(read("1 " + std::string(4'000'000, ' ') + "5\n2 5\n")), "1: 5; 2: 5");
}

TEST(AnyLayout, WithoutInteractionsIsAnError) {
  for (const char* text :
       {"", "\n", "\xEF\xBB\xBF", "1\n2\n", "user,item\n", "user,item\n,5\na,\n"}) {
    const Error error = error_of([&] { read(text); });
    EXPECT_EQ(error.code(), Code::kDataError);
    EXPECT_THAT(error.what(), HasSubstr("no interaction"));
    EXPECT_EQ(detail(error, "file"), "rows.txt");
  }
  // A table under other names looks like lines: the message says what would have been seen.
  EXPECT_THAT(error_of([] { read("uid,iid\n7,5\n"); }).what(), HasSubstr("'user' and 'item'"));
}

TEST(AnyLayout, ThePolicyIsApplied) {
  SequencePolicy policy;
  policy.user_core = 2;
  EXPECT_EQ(shown(read("1 5 6\n2 5\n", policy)), "1: 5 6");
  policy.repeats = "none";
  EXPECT_EQ(error_of([&] { read("1 5\n", policy); }).code(), Code::kInvalidArgument);
}

TEST(AnyLayout, ProvenanceNamesTheFileWithoutItsFolder) {
  const ScratchFolder folder;
  const Json lines = read_file(write(folder, "log.txt", "1 5\n")).provenance();
  EXPECT_EQ(lines["format"], "lines");
  EXPECT_EQ(lines["files"], Json({"log.txt"}));
  EXPECT_EQ(lines["policy"]["layout"], "auto");
  EXPECT_EQ(read("user,item\n1,5\n").provenance()["files"], Json({"rows.txt"}));
}

TEST(AnyLayout, FilesMayBePacked) {
  const ScratchFolder folder;
  EXPECT_EQ(shown(read_file(write(folder, "plain", "1 5\n2 6\n"))), "1: 5; 2: 6");
  EXPECT_EQ(shown(read_file(write_gzip(folder, "packed", "1 5\n2 6\n"))), "1: 5; 2: 6");
  const fs::path table = write_gzip(folder, "table", "user,item,time\n1,5,3\n1,4,2\n");
  EXPECT_EQ(shown(read_file(table)), "1: 4@2 5@3");
  EXPECT_EQ(shown(read(theriac::read_file(table))), "1: 4@2 5@3");
  testing::cut(table, 4);
  EXPECT_EQ(error_of([&] { read_file(table); }).code(), Code::kDataError);
  EXPECT_EQ(error_of([&] { read_file(folder / "none"); }).code(), Code::kNotFound);
}

TEST(AnyLayout, ErrorsNameThePathAsGiven) {
  const ScratchFolder folder;
  const fs::path file = write(folder, "log.txt", "1 5\n1 6\n");
  EXPECT_EQ(detail(error_of([&] { read_file(file); }), "file"), file.string());
}

// Asked to stop when the first `block` bytes have been read, and before the fault that is in them.
void expect_stop(const std::string& text, std::uint64_t block) {
  const auto cancel = std::make_shared<CancelToken>();
  const auto listener = [&](std::string_view, std::uint64_t done, std::uint64_t, std::string_view) {
    if (done >= block) cancel->request();
    return Verdict::kContinue;
  };
  Job going, stopped(listener, cancel, std::chrono::milliseconds(0));
  const auto code = [&](Job& job) {
    return error_of([&] { read_sequences_bytes(text, "rows.txt", {}, job); }).code();
  };
  EXPECT_EQ(code(going), Code::kDataError);
  EXPECT_EQ(code(stopped), Code::kCancelled);
}

TEST(AnyLayout, CancelStopsTheImportWithinABlock) {
  std::string lines, table = "user,item\n";
  for (int i = 0; i < 4'200; ++i) {
    lines += std::to_string(i) + " 5\n";
    table += std::to_string(i) + ",5\n";
  }
  expect_stop(lines + "0 5\n", lines.size());
  table += "0\n";
  const std::size_t block = CsvLimits().buffer_bytes;
  while (table.size() < 2 * block) table += "1,5\n";
  expect_stop(table, block);
}

TEST(AnyLayout, ProgressEndsAtTheTotal) {
  const ScratchFolder folder;
  const std::string text = "user,item\n1,5\n2,5\n";
  const fs::path file = write(folder, "log.csv", text);
  for (const bool bytes : {false, true}) {
    std::uint64_t last_done = 0, last_total = 0;
    Job job(
        [&](std::string_view phase, std::uint64_t done, std::uint64_t total, std::string_view) {
          EXPECT_EQ(phase, "reading");
          std::tie(last_done, last_total) = std::pair(done, total);
          return Verdict::kContinue;
        },
        nullptr, std::chrono::milliseconds(0));
    bytes ? read_sequences_bytes(text, "log.csv", {}, job) : read_sequences(file, {}, job);
    EXPECT_EQ(last_total, text.size());
    EXPECT_EQ(last_done, last_total);
  }
}

TEST(AnyLayout, ExportedTablesReadBackTheSame) {
  const Sequences timed = read("user,item,time\nb,7,30\na,5,20\nb,9,10\n");
  std::stringstream rows;
  export_sequence_table(timed, "interactions", "csv", rows);
  EXPECT_EQ(read(rows.str()).fingerprint(), timed.fingerprint());
  const Sequences untimed = read("b 9 7\na 5\n");
  std::stringstream lines;
  export_sequence_table(untimed, "sequences", "lines", lines);
  EXPECT_EQ(read(lines.str()).fingerprint(), untimed.fingerprint());
}

// ---- the files of sequential-tta.md section 1.1 ----

struct PublicFile {
  const char* name;
  std::int64_t users;
  std::int32_t items;
  std::int64_t interactions;
  std::size_t longest;
};

class PublicFiles : public ::testing::TestWithParam<PublicFile> {
 protected:
  static fs::path folder() {
    const char* given = std::getenv("THERIAC_DATA_DIR");
    return (given ? fs::path(given) : fs::path(THERIAC_SOURCE_DIR) / ".." / "shared" / "data") /
           "tta4sr";
  }
};

TEST_P(PublicFiles, AreAsTheTableSays) {
  const PublicFile& expected = GetParam();
  const fs::path file = folder() / expected.name;
  if (!fs::exists(file)) GTEST_SKIP() << "no " << file << "; set THERIAC_DATA_DIR";
  const Sequences sequences = read_file(file);
  EXPECT_EQ(sequences.users(), expected.users);
  EXPECT_EQ(sequences.items(), expected.items);
  EXPECT_EQ(sequences.interactions(), expected.interactions);
  std::size_t longest = 0;
  for (std::int64_t user = 0; user < sequences.users(); ++user) {
    longest = std::max(longest, sequences.of(user).size());
    ASSERT_EQ(sequences.user_names().number(user), user + 1);
  }
  EXPECT_EQ(longest, expected.longest);
  for (std::int64_t item = 0; item < sequences.items(); ++item)
    ASSERT_EQ(sequences.item_names().number(item), item + 1) << "ids are the file's numbers";
}

INSTANTIATE_TEST_SUITE_P(
    Tta4sr, PublicFiles,
    ::testing::Values(PublicFile{"Beauty.txt", 22'363, 12'101, 198'502, 204},
                      PublicFile{"Beauty_coserec_order.txt", 22'363, 12'101, 198'502, 204},
                      PublicFile{"Sports.txt", 35'598, 18'357, 296'337, 296},
                      PublicFile{"Home.txt", 66'519, 28'237, 551'682, 277},
                      PublicFile{"Toys_and_Games.txt", 19'412, 11'924, 167'597, 550}),
    [](const auto& file) {
      std::string name = file.param.name;
      return name.substr(0, name.find('.'));
    });

}  // namespace
}  // namespace theriac::readers
