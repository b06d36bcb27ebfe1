#include "cpp/core/base/error.h"

namespace theriac {

std::string_view code_name(Code code) noexcept {
  switch (code) {
    case Code::kOk:
      return "OK";
    case Code::kCancelled:
      return "CANCELLED";
    case Code::kInvalidArgument:
      return "INVALID_ARGUMENT";
    case Code::kNotFound:
      return "NOT_FOUND";
    case Code::kAlreadyExists:
      return "ALREADY_EXISTS";
    case Code::kInvalidState:
      return "INVALID_STATE";
    case Code::kDataError:
      return "DATA_ERROR";
    case Code::kIoError:
      return "IO_ERROR";
    case Code::kUnsupported:
      return "UNSUPPORTED";
    case Code::kOutOfMemory:
      return "OUT_OF_MEMORY";
    case Code::kDeviceOutOfMemory:
      return "DEVICE_OUT_OF_MEMORY";
    case Code::kDeviceError:
      return "DEVICE_ERROR";
    case Code::kNumericError:
      return "NUMERIC_ERROR";
    case Code::kTimeout:
      return "TIMEOUT";
    case Code::kIncompatible:
      return "INCOMPATIBLE";
    case Code::kForked:
      return "FORKED";
    case Code::kBusy:
      return "BUSY";
    case Code::kCallbackFailed:
      return "CALLBACK_FAILED";
    case Code::kInternal:
      return "INTERNAL";
  }
  return "UNKNOWN";
}

}  // namespace theriac
