// Exceptions to outcomes, the only place that knows the c10 family:
//
//     theriac::Error                               as it is
//     c10::Error about host memory                 OUT_OF_MEMORY
//     c10::OutOfMemoryError, "CUDA error: out of memory", CUBLAS_STATUS_ALLOC_FAILED
//                                                  DEVICE_OUT_OF_MEMORY
//     c10::DistError, text of a CUDA library       DEVICE_ERROR
//     c10::IndexError, ValueError, TypeError       INVALID_ARGUMENT
//     c10::NotImplementedError                     UNSUPPORTED
//     c10::EnforceFiniteError                      DATA_ERROR
//     c10::LinAlgError                             NUMERIC_ERROR
//     c10::Error                                   INTERNAL, with LibTorch's backtrace in the
//     details std::bad_alloc                               OUT_OF_MEMORY std::exception, anything
//     else                INTERNAL
//
// Text is looked at before type because LibTorch reports host and device memory, and every CUDA
// library, through types that differ between its versions.
#include <array>
#include <exception>
#include <memory>
#include <mutex>
#include <new>

#include "cpp/engine/tensor/tensor.h"

namespace theriac::tensor {
namespace {

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

template <std::size_t N>
bool contains_any(std::string_view text, const std::array<std::string_view, N>& parts) {
  for (const std::string_view part : parts) {
    if (contains(text, part)) return true;
  }
  return false;
}

constexpr std::array<std::string_view, 1> kHostMemory = {"DefaultCPUAllocator"};
constexpr std::array<std::string_view, 3> kDeviceMemory = {
    "CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED"};
constexpr std::array<std::string_view, 7> kDevice = {
    "CUDA error",       "CUDA driver error", "CUBLAS_STATUS_", "CUSPARSE_STATUS_",
    "CUSOLVER_STATUS_", "cuDNN error",       "NCCL error"};

Code code_of(const c10::Error& error) {
  const std::string_view text = error.what_without_backtrace();
  if (contains_any(text, kHostMemory)) return Code::kOutOfMemory;
  if (contains_any(text, kDeviceMemory)) return Code::kDeviceOutOfMemory;
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error)) return Code::kDeviceOutOfMemory;
  if (contains_any(text, kDevice)) return Code::kDeviceError;
  if (dynamic_cast<const c10::DistError*>(&error)) return Code::kDeviceError;
  if (dynamic_cast<const c10::IndexError*>(&error)) return Code::kInvalidArgument;
  if (dynamic_cast<const c10::ValueError*>(&error)) return Code::kInvalidArgument;
  if (dynamic_cast<const c10::TypeError*>(&error)) return Code::kInvalidArgument;
  if (dynamic_cast<const c10::NotImplementedError*>(&error)) return Code::kUnsupported;
  if (dynamic_cast<const c10::EnforceFiniteError*>(&error)) return Code::kDataError;
  if (dynamic_cast<const c10::LinAlgError*>(&error)) return Code::kNumericError;
  return Code::kInternal;
}

Failure failure_of(const c10::Error& error) {
  Failure failure;
  failure.code = code_of(error);
  failure.message = "LibTorch: " + std::string(error.what_without_backtrace());
  failure.details.emplace_back("libtorch", error.what());
  return failure;
}

Failure internal_failure(std::string message) {
  Failure failure;
  failure.code = Code::kInternal;
  failure.message = std::move(message);
  return failure;
}

// Short enough to need no memory: there is none.
Failure out_of_memory() noexcept {
  Failure failure;
  failure.code = Code::kOutOfMemory;
  failure.message = "out of memory";
  return failure;
}

// LibTorch's warnings to the log of the front library. Weak: the log belongs to the front.
class WarningRouter : public c10::WarningHandler {
 public:
  void remember(const std::shared_ptr<const LogSink>& sink) {
    const std::lock_guard<std::mutex> lock(mutex_);
    sink_ = sink;
  }

  void process(const c10::Warning& warning) override {
    std::shared_ptr<const LogSink> sink;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      sink = sink_.lock();
    }
    if (sink && *sink) (*sink)(LogLevel::kWarning, "libtorch", warning.msg());
  }

 private:
  std::mutex mutex_;
  std::weak_ptr<const LogSink> sink_;
};

// One a process and never destroyed: a thread may still be in LibTorch at exit.
WarningRouter& warning_router() {
  static auto* const router = new WarningRouter;
  return *router;
}

Failure describe_current() {
  try {
    throw;
  } catch (const Error& error) {
    return error.failure();
  } catch (const c10::Error& error) {
    return failure_of(error);
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const std::exception& error) {
    return internal_failure(error.what());
  } catch (...) {
    return internal_failure("unknown exception");
  }
}

}  // namespace

Failure current_failure() noexcept {
  try {
    return describe_current();
  } catch (...) {  // describing it ran out of memory
    return out_of_memory();
  }
}

void route_warnings(const Runtime& runtime) { warning_router().remember(runtime.log); }

Outcome internal::guarded(void (*call)(void*), void* body) noexcept {
  try {
    const c10::WarningUtils::WarningHandlerGuard routed(&warning_router());  // per thread
    call(body);
    return Outcome();
  } catch (...) {
    return Outcome(current_failure());
  }
}

}  // namespace theriac::tensor
