// The catch ladder, with exceptions that no exported function can be made to throw.
#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <string>

#include "capi/src/handles.h"

namespace theriac::capi {
namespace {

template <class Body>
theriac_status run(Body body, std::string* message) {
  theriac_error* error = nullptr;
  const theriac_status status = guard("theriac_test", &error, body);
  *message = theriac_error_message(error);
  theriac_error_release(error);
  return status;
}

TEST(GuardTest, SomethingThatIsNoExceptionIsInternal) {
  std::string message;
  EXPECT_EQ(run([] { throw 42; }, &message), THERIAC_INTERNAL);
  EXPECT_EQ(message, "unknown exception");
}

TEST(GuardTest, StandardExceptionsKeepTheirText) {
  std::string message;
  EXPECT_EQ(run([] { throw std::logic_error("a bug"); }, &message), THERIAC_INTERNAL);
  EXPECT_EQ(message, "a bug");
}

TEST(GuardTest, OutOfMemoryNeedsNoMemory) {
  std::string message;
  const auto before = live_objects()->total();
  EXPECT_EQ(run([] { throw std::bad_alloc(); }, &message), THERIAC_OUT_OF_MEMORY);
  EXPECT_EQ(message, "out of memory");
  EXPECT_EQ(live_objects()->total(), before);
}

TEST(GuardTest, OwnErrorsKeepCodeMessageAndDetails) {
  theriac_error* error = nullptr;
  const theriac_status status = guard("theriac_test", &error, [] {
    throw Error(Code::kDataError, "line 3 is short").at("line", 3).caused_by("end of file");
  });
  EXPECT_EQ(status, THERIAC_DATA_ERROR);
  const Json details = Json::parse(theriac_error_details(error));
  EXPECT_EQ(details["name"], "DATA_ERROR");
  EXPECT_EQ(details["line"], "3");
  EXPECT_EQ(details["cause"], "end of file");
  EXPECT_EQ(details["function"], "theriac_test");
  theriac_error_release(error);
  EXPECT_EQ(live_objects()->total(), 0);
}

TEST(GuardTest, AHandleOfAnotherKindIsRefused) {
  theriac_error* error = nullptr;
  theriac_cancel cancel;
  auto* wrong = reinterpret_cast<theriac_bytes*>(&cancel);
  EXPECT_EQ(guard("theriac_test", &error, [&] { need(wrong, "bytes"); }), THERIAC_INVALID_ARGUMENT);
  theriac_error_release(error);
}

TEST(GateTest, ReadersShareAndWritersExclude) {
  Gate gate;
  EXPECT_TRUE(gate.enter_shared());
  EXPECT_TRUE(gate.enter_shared());
  EXPECT_FALSE(gate.enter_exclusive());
  gate.leave_shared();
  gate.leave_shared();
  EXPECT_TRUE(gate.enter_exclusive());
  EXPECT_FALSE(gate.enter_shared());
  EXPECT_FALSE(gate.enter_exclusive());
  gate.leave_exclusive();
  EXPECT_TRUE(gate.enter_shared());
}

}  // namespace
}  // namespace theriac::capi
