#include "cpp/core/base/error.h"

#include <gtest/gtest.h>

#include <set>

namespace theriac {
namespace {

TEST(Error, CarriesCodeSentenceDetailsAndCause) {
  const Error error =
      Error(Code::kDataError, "line 7: bad").at("file", "a.csv").at("line", 7).caused_by("why");
  EXPECT_EQ(error.code(), Code::kDataError);
  EXPECT_STREQ(error.what(), "line 7: bad");
  const Details expected{{"file", "a.csv"}, {"line", "7"}};
  EXPECT_EQ(error.failure().details, expected);
  EXPECT_EQ(error.failure().cause, "why");
}

TEST(Error, NumbersAreTheOnesOfTheAbi) {
  EXPECT_EQ(static_cast<int>(Code::kCancelled), 1);
  EXPECT_EQ(static_cast<int>(Code::kCallbackFailed), 17);
  EXPECT_EQ(static_cast<int>(Code::kInternal), 99);
}

TEST(Error, EveryCodeHasItsOwnName) {
  std::set<std::string_view> names;
  for (int number = 0; number <= 17; ++number) names.insert(code_name(static_cast<Code>(number)));
  names.insert(code_name(Code::kInternal));
  EXPECT_EQ(names.size(), 19U);
  EXPECT_EQ(names.count("UNKNOWN"), 0U);
  EXPECT_EQ(code_name(Code::kDataError), "DATA_ERROR");
  EXPECT_EQ(code_name(static_cast<Code>(55)), "UNKNOWN");
}

TEST(Outcome, CarriesAFailureAcrossAndRethrows) {
  EXPECT_TRUE(Outcome().ok());
  EXPECT_NO_THROW(Outcome().or_throw());
  Failure failure;
  failure.code = Code::kBusy;
  failure.message = "busy";
  Outcome outcome(failure);
  EXPECT_FALSE(outcome.ok());
  try {
    std::move(outcome).or_throw();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kBusy);
    EXPECT_STREQ(error.what(), "busy");
  }
}

}  // namespace
}  // namespace theriac
