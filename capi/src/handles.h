// What is behind the opaque handles, and the guard that every exported function runs in.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "cpp/core/augment/augmenter.h"
#include "cpp/core/base/error.h"
#include "cpp/core/base/job.h"
#include "cpp/core/base/json.h"
#include "cpp/core/base/runtime.h"
#include "cpp/core/engine.h"
#include "cpp/core/load_engine.h"
#include "theriac/theriac.h"

namespace theriac::capi {

// Counters of the process, shared with the engine. Never destroyed: handles may be released at
// exit.
const std::shared_ptr<LiveObjects>& live_objects();

// First word of every handle, checked on entry: a handle of another kind, or one that was released,
// is an argument error instead of a crash where that can be told.
enum class Tag : std::uint32_t {
  kContext = 0x7468637eU,
  kDataset = 0x7468647eU,
  kModel = 0x74686d7eU,
  kSession = 0x7468737eU,
  kResult = 0x7468727eU,
  kBytes = 0x7468627eU,
  kError = 0x7468657eU,
  kCancel = 0x74686e7eU,
  kMerger = 0x7468677eU,
  kAugmenter = 0x7468617eU,
  kReleased = 0xdeadbeefU,
};

template <Tag kTag, Kind kKind>
struct Handle {
  Handle() { live_objects()->born(kKind); }
  ~Handle() {
    tag = Tag::kReleased;
    live_objects()->died(kKind);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  bool valid() const noexcept { return tag == kTag; }

  volatile Tag tag = kTag;  // volatile: the store in the destructor is what a later check reads
  std::atomic<std::int64_t> owners{1};
};

// Many readers or one writer, never waiting: the second party gets BUSY.
class Gate {
 public:
  bool enter_shared() noexcept {
    std::int32_t users = users_.load(std::memory_order_relaxed);
    do {
      if (users < 0) return false;
    } while (!users_.compare_exchange_weak(users, users + 1, std::memory_order_acquire,
                                           std::memory_order_relaxed));
    return true;
  }
  void leave_shared() noexcept { users_.fetch_sub(1, std::memory_order_release); }
  bool enter_exclusive() noexcept {
    std::int32_t idle = 0;
    return users_.compare_exchange_strong(idle, -1, std::memory_order_acquire,
                                          std::memory_order_relaxed);
  }
  void leave_exclusive() noexcept { users_.store(0, std::memory_order_release); }

 private:
  std::atomic<std::int32_t> users_{0};
};

class Exclusive {
 public:
  Exclusive(Gate& gate, const char* handle) : gate_(gate) {
    if (!gate_.enter_exclusive()) {
      throw Error(Code::kBusy,
                  std::string("this ") + handle + " is in use by another call; one call at a time");
    }
  }
  ~Exclusive() { gate_.leave_exclusive(); }
  Exclusive(const Exclusive&) = delete;
  Exclusive& operator=(const Exclusive&) = delete;

 private:
  Gate& gate_;
};

class Shared {
 public:
  Shared(Gate& gate, const char* handle) : gate_(gate) {
    if (!gate_.enter_shared()) {
      throw Error(Code::kBusy, std::string("this ") + handle + " is being changed by another call");
    }
  }
  ~Shared() { gate_.leave_shared(); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

 private:
  Gate& gate_;
};

}  // namespace theriac::capi

struct theriac_error {
  explicit theriac_error(theriac::Failure why, const char* where, bool counted);
  ~theriac_error();
  theriac::capi::Tag tag = theriac::capi::Tag::kError;
  bool counted;  // false for the immortal out-of-memory error
  theriac::Failure failure;
  std::string details;
};

struct theriac_bytes : theriac::capi::Handle<theriac::capi::Tag::kBytes, theriac::Kind::kBytes> {
  explicit theriac_bytes(std::string value) : text(std::move(value)) {}
  std::string text;
};

struct theriac_cancel : theriac::capi::Handle<theriac::capi::Tag::kCancel, theriac::Kind::kCancel> {
  std::shared_ptr<theriac::CancelToken> token = std::make_shared<theriac::CancelToken>();
};

struct theriac_context
    : theriac::capi::Handle<theriac::capi::Tag::kContext, theriac::Kind::kContext> {
  theriac::ContextSettings settings;
  theriac::EngineLocation location;
  theriac::Json options;
};

struct theriac_dataset
    : theriac::capi::Handle<theriac::capi::Tag::kDataset, theriac::Kind::kDataset> {
  explicit theriac_dataset(theriac::Dataset made) : dataset(std::move(made)) {}
  theriac::Dataset dataset;
};

struct theriac_augmenter
    : theriac::capi::Handle<theriac::capi::Tag::kAugmenter, theriac::Kind::kAugmenter> {
  explicit theriac_augmenter(theriac::augment::Augmenter made)
      : shared(std::make_shared<const theriac::augment::Augmenter>(std::move(made))) {}
  std::shared_ptr<const theriac::augment::Augmenter> shared;  // sessions keep it alive
};

namespace theriac::capi {
struct SharedModel {
  std::unique_ptr<Model> model;
  mutable Gate gate;
};
}  // namespace theriac::capi

struct theriac_model : theriac::capi::Handle<theriac::capi::Tag::kModel, theriac::Kind::kModel> {
  std::shared_ptr<theriac::capi::SharedModel> shared =
      std::make_shared<theriac::capi::SharedModel>();
};

struct theriac_session
    : theriac::capi::Handle<theriac::capi::Tag::kSession, theriac::Kind::kSession> {
  std::shared_ptr<theriac::capi::SharedModel> shared;  // keeps the model alive
  std::unique_ptr<theriac::Session> session;           // destroyed before it
  theriac::capi::Gate gate;
};

struct theriac_result : theriac::capi::Handle<theriac::capi::Tag::kResult, theriac::Kind::kResult> {
  std::string json;
};

namespace theriac::capi {

// Why `function` can not run at all in this process (a child of fork()), or nothing.
void refuse_forked_child();
bool in_forked_child() noexcept;

// The catch ladder, once: turns the exception in flight into a status and an error object.
theriac_status translate(const char* function, theriac_error** error) noexcept;

// Every exported function that can fail: `body` throws, the caller gets a status.
template <class Body>
theriac_status guard(const char* function, theriac_error** error, Body&& body) noexcept {
  if (error != nullptr) *error = nullptr;
  try {
    if (in_forked_child()) refuse_forked_child();
    body();
    return THERIAC_OK;
  } catch (...) {
    return translate(function, error);
  }
}

[[noreturn]] void refuse_null(const char* argument);
[[noreturn]] void refuse_tag(const char* argument);

// A live handle of the right kind, or an argument error naming the argument.
template <class H>
H& need(H* handle, const char* argument) {
  if (handle == nullptr) refuse_null(argument);
  if (!handle->valid()) refuse_tag(argument);
  return *handle;
}
template <class T>
T& need_out(T* out, const char* argument) {
  if (out == nullptr) refuse_null(argument);
  return *out;
}
// Text with a length; NULL is fine when the length is 0.
std::string_view text(const char* data, std::size_t length, const char* argument);
// A configuration document: NULL or blank means {}.
Json options(const char* data, std::size_t length, const char* argument);
// A job that reports to the host's callbacks.
Job make_job(const theriac_callbacks* callbacks);

template <class H>
H* retain(H* handle) noexcept {
  if (handle != nullptr && handle->valid()) handle->owners.fetch_add(1, std::memory_order_relaxed);
  return handle;
}
template <class H>
void release(H* handle) noexcept {
  if (handle == nullptr || !handle->valid()) return;
  if (handle->owners.fetch_sub(1, std::memory_order_acq_rel) == 1) delete handle;
}

inline theriac_bytes* make_bytes(std::string value) { return new theriac_bytes(std::move(value)); }

// The engine of a context, loaded on first need.
Engine& engine_of(const theriac_context& context);
// Log receiver, live objects and thread budget of the process.
Runtime process_runtime(int threads);

}  // namespace theriac::capi
