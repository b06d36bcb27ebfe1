#include "cpp/core/base/byte_count.h"

#include <gtest/gtest.h>

#include "cpp/core/base/error.h"

namespace theriac {
namespace {

TEST(ByteCount, TakesUnits) {
  EXPECT_EQ(parse_byte_count("5B"), 5'000'000'000U);
  EXPECT_EQ(parse_byte_count("5g"), 5'000'000'000U);
  EXPECT_EQ(parse_byte_count("500M"), 500'000'000U);
  EXPECT_EQ(parse_byte_count("2k"), 2000U);
  EXPECT_EQ(parse_byte_count("17"), 17U);
}

TEST(ByteCount, RefusesWhatIsNoSize) {
  for (const char* bad :
       {"", "B", "5X", "5BB", "-1", "0", "1.5B", "99999999999999999999", "99999999999B"}) {
    try {
      parse_byte_count(bad);
      FAIL() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kInvalidArgument) << bad;
    }
  }
}

}  // namespace
}  // namespace theriac
