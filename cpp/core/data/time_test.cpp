#include <gmock/gmock.h>

#include "cpp/core/base/error.h"
#include "cpp/core/base/random.h"
#include "cpp/core/data/cohort.h"

namespace theriac::data {
namespace {

TEST(Time, KnownInstants) {
  EXPECT_EQ(parse_time("1970-01-01 00:00:00"), 0);
  EXPECT_EQ(parse_time("2000-03-01"), 951'868'800);
  EXPECT_EQ(parse_time("1969-12-31 23:59:59"), -1);
  EXPECT_EQ(parse_time("2150-08-07 21:40:00"), 5'699'194'800);
  EXPECT_EQ(parse_time("0001-01-01"), kFirstTime);
  EXPECT_EQ(parse_time("9999-12-31T23:59:59"), kLastTime);
}

TEST(Time, PartialDatesAndZones) {
  EXPECT_EQ(parse_time("2150"), parse_time("2150-01-01 00:00:00"));
  EXPECT_EQ(parse_time("2150-08"), parse_time("2150-08-01 00:00:00"));
  const std::int64_t wall = parse_time("2150-08-07 21:40:05");
  for (const char* text :
       {"2150-08-07T21:40:05", "2150-08-07T21:40:05Z", "2150-08-07T21:40:05.123456",
        "2150-08-07T21:40:05.1-05:00", "2150-08-07 21:40:05+14:00", "2150-08-07 21:40:05+0530",
        "2150-08-07 21:40:05+05"}) {
    EXPECT_EQ(parse_time(text), wall) << text;
  }
  EXPECT_EQ(parse_time("2150-08-07T21:40"), wall - 5);
  EXPECT_EQ(parse_time("2016-12-31T23:59:60Z"), parse_time("2016-12-31 23:59:59"));
}

TEST(Time, LeapYears) {
  EXPECT_EQ(parse_time("2000-02-29") + 86'400, parse_time("2000-03-01"));
  EXPECT_EQ(parse_time("2024-02-29") + 86'400, parse_time("2024-03-01"));
  EXPECT_EQ(parse_time("1900-02-28") + 86'400, parse_time("1900-03-01"));
  EXPECT_THROW(parse_time("1900-02-29"), Error);
  EXPECT_THROW(parse_time("2023-02-29"), Error);
  EXPECT_THROW(parse_time("2100-02-29"), Error);
}

TEST(Time, RefusesEverythingElse) {
  for (const char* text : {"",
                           " ",
                           "215",
                           "21500",
                           "2150-",
                           "2150-8",
                           "2150-13",
                           "2150-00-01",
                           "2150-04-31",
                           "2150-08-00",
                           "2150-08-07 ",
                           "2150-08-07 24:00:00",
                           "2150-08-07 21",
                           "2150-08-07 21:60",
                           "2150-08-07 21:4",
                           "2150-08-07 21:40:61",
                           "2150-08-07 21:40:00.",
                           "2150-08-07 21:40:00 ",
                           "2150-08-07X21:40:00",
                           "2150-08-07 21:40:00+15:00",
                           "2150-08-07 21:40:00+05:60",
                           "2150-08-07 21:40:00+5",
                           "0000-01-01",
                           "-150-01-01",
                           "2150/08/07",
                           "2150T10:00",
                           "2150-08T10:00",
                           "08/07/2150",
                           "2150-08-07 21:40:00ZZ",
                           "+150",
                           "2150-08-07\n"}) {
    EXPECT_THROW(parse_time(text), Error) << text;
  }
}

TEST(Time, ErrorNamesThePartAndNeverTheText) {
  try {
    parse_time("2150-13-31");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kDataError);
    EXPECT_THAT(error.what(), testing::HasSubstr("month"));
    EXPECT_THAT(error.what(), testing::Not(testing::HasSubstr("2150")));
  }
}

TEST(Time, FormatIsTheInverse) {
  EXPECT_EQ(format_time(kNoTime), "");
  EXPECT_EQ(format_time(-1), "1969-12-31 23:59:59");
  EXPECT_EQ(format_time(kFirstTime), "0001-01-01 00:00:00");
  EXPECT_EQ(format_time(kLastTime), "9999-12-31 23:59:59");
  EXPECT_THROW(format_time(kLastTime + 1), Error);
  EXPECT_THROW(format_time(kFirstTime - 1), Error);
  Random random(1, "times");
  for (int i = 0; i < 20'000; ++i) {
    const auto range = static_cast<std::uint64_t>(kLastTime - kFirstTime + 1);
    const std::int64_t time = kFirstTime + static_cast<std::int64_t>(random.below(range));
    ASSERT_EQ(parse_time(format_time(time)), time);
  }
}

}  // namespace
}  // namespace theriac::data
