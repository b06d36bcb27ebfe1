// The one exception type of the project, and its copy that may cross between shared objects.
//
//     throw Error(Code::kDataError, "line 7: 'icd_version' is 11; expected 9 or 10")
//         .at("file", path).at("line", 7);
//
// Inside `cpp/` failures are exceptions of this type. They are translated once at each border:
// to `theriac_error` in `capi/`, and to `Outcome` at the seam between the front library and the
// engine, which no exception crosses.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace theriac {

// Numbers are the ABI's (theriac.h); never renumber.
enum class Code : std::int32_t {
  kOk = 0,
  kCancelled = 1,
  kInvalidArgument = 2,
  kNotFound = 3,
  kAlreadyExists = 4,
  kInvalidState = 5,
  kDataError = 6,
  kIoError = 7,
  kUnsupported = 8,
  kOutOfMemory = 9,
  kDeviceOutOfMemory = 10,
  kDeviceError = 11,
  kNumericError = 12,
  kTimeout = 13,
  kIncompatible = 14,
  kForked = 15,
  kBusy = 16,
  kCallbackFailed = 17,
  kInternal = 99,
};

// "DATA_ERROR" for kDataError, and so on.
std::string_view code_name(Code code) noexcept;

using Details = std::vector<std::pair<std::string, std::string>>;

// A failure as data. Safe to copy; not synchronised.
struct Failure {
  Code code = Code::kOk;
  std::string message;  // one sentence: what was wrong, where, what would be right
  Details details;      // key/value: file, line, column, json_path, option, tensor, ...
  std::string cause;    // message of the underlying failure, or empty
};

class Error : public std::exception {
 public:
  Error(Code code, std::string message) {
    failure_.code = code;
    failure_.message = std::move(message);
  }
  explicit Error(Failure failure) : failure_(std::move(failure)) {}

  Error&& at(std::string key, std::string value) && {
    failure_.details.emplace_back(std::move(key), std::move(value));
    return std::move(*this);
  }
  template <class Number, class = std::enable_if_t<std::is_arithmetic_v<Number>>>
  Error&& at(std::string key, Number value) && {
    return std::move(*this).at(std::move(key), std::to_string(value));
  }
  Error&& caused_by(std::string cause) && {
    failure_.cause = std::move(cause);
    return std::move(*this);
  }

  const char* what() const noexcept override { return failure_.message.c_str(); }
  Code code() const noexcept { return failure_.code; }
  const Failure& failure() const noexcept { return failure_; }

 private:
  Failure failure_;
};

// What a call across the seam returns instead of throwing.
class [[nodiscard]] Outcome {
 public:
  Outcome() = default;
  explicit Outcome(Failure failure) : failure_(std::move(failure)) {}
  bool ok() const noexcept { return failure_.code == Code::kOk; }
  const Failure& failure() const noexcept { return failure_; }
  // Rethrows on this side of the seam.
  void or_throw() && {
    if (!ok()) throw Error(std::move(failure_));
  }

 private:
  Failure failure_;
};

}  // namespace theriac
