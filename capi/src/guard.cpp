// The border between exceptions and status codes.
#include <pthread.h>

#include <new>

#include "capi/src/handles.h"

namespace theriac::capi {
namespace {

std::atomic<bool> forked_child{false};

void register_fork_hook() {
  static const int once = pthread_atfork(nullptr, nullptr, [] { forked_child.store(true); });
  static_cast<void>(once);
}

// Made before it is needed and never destroyed, so that reporting "out of memory" can not fail.
theriac_error* out_of_memory() noexcept {
  static auto* const error =
      new theriac_error(Failure{Code::kOutOfMemory, "out of memory", {}, {}}, "", false);
  return error;
}
theriac_error* const kReady = out_of_memory();

theriac_status report(theriac_error** slot, const char* function, Failure failure) noexcept {
  const auto code = static_cast<theriac_status>(failure.code);
  if (slot == nullptr) return code;
  try {
    *slot = new theriac_error(std::move(failure), function, true);
  } catch (...) {
    *slot = out_of_memory();
  }
  return code;
}

}  // namespace

const std::shared_ptr<LiveObjects>& live_objects() {
  static auto* const counters = new std::shared_ptr<LiveObjects>(std::make_shared<LiveObjects>());
  return *counters;
}

bool in_forked_child() noexcept {
  register_fork_hook();
  return forked_child.load(std::memory_order_relaxed);
}

void refuse_forked_child() {
  throw Error(Code::kForked,
              "Theriac was used before fork(); threads and devices do not survive it. Start the "
              "child as a new process "
              "(spawn, forkserver) instead");
}

theriac_status translate(const char* function, theriac_error** error) noexcept {
  try {
    throw;
  } catch (const Error& e) {
    try {
      return report(error, function, e.failure());
    } catch (...) {
      if (error != nullptr) *error = out_of_memory();
      return static_cast<theriac_status>(e.code());
    }
  } catch (const std::bad_alloc&) {
    if (error != nullptr) *error = out_of_memory();
    return THERIAC_OUT_OF_MEMORY;
  } catch (const std::exception& e) {
    try {
      return report(error, function, Failure{Code::kInternal, e.what(), {}, {}});
    } catch (...) {
      if (error != nullptr) *error = out_of_memory();
      return THERIAC_INTERNAL;
    }
  } catch (...) {
    try {
      return report(error, function, Failure{Code::kInternal, "unknown exception", {}, {}});
    } catch (...) {
      if (error != nullptr) *error = out_of_memory();
      return THERIAC_INTERNAL;
    }
  }
}

void refuse_null(const char* argument) {
  throw Error(Code::kInvalidArgument, std::string(argument) + " must not be NULL")
      .at("argument", argument);
}

void refuse_tag(const char* argument) {
  throw Error(Code::kInvalidArgument,
              std::string(argument) +
                  " is not a live handle of the expected kind (released, or of another type)")
      .at("argument", argument);
}

std::string_view text(const char* data, std::size_t length, const char* argument) {
  if (data == nullptr && length != 0) refuse_null(argument);
  return data == nullptr ? std::string_view() : std::string_view(data, length);
}

Json options(const char* data, std::size_t length, const char* argument) {
  const std::string_view document = text(data, length, argument);
  if (document.find_first_not_of(" \t\r\n") == std::string_view::npos) return Json::object();
  Json value = parse_json(document, argument);
  if (!value.is_object()) {
    throw Error(Code::kInvalidArgument,
                std::string(argument) + " must be a JSON object, not " + value.type_name())
        .at("argument", argument);
  }
  return value;
}

namespace {

bool covers(const theriac_callbacks& callbacks, std::size_t end) {
  return callbacks.struct_size >= end;
}

}  // namespace

Job make_job(const theriac_callbacks* callbacks) {
  if (callbacks == nullptr) return {};
  ProgressListener listener;
  std::shared_ptr<const CancelToken> cancel;
  if (covers(*callbacks, offsetof(theriac_callbacks, user) + sizeof(void*)) &&
      callbacks->progress != nullptr) {
    listener = [function = callbacks->progress, user = callbacks->user](
                   std::string_view phase, std::uint64_t done, std::uint64_t total,
                   std::string_view metrics) {
      const std::int32_t answer =
          function(std::string(phase).c_str(), done, total, std::string(metrics).c_str(), user);
      if (answer == 0) return Verdict::kContinue;
      return answer == -7 ? Verdict::kCallbackFailed : Verdict::kCancel;
    };
  }
  if (covers(*callbacks, offsetof(theriac_callbacks, cancel) + sizeof(void*)) &&
      callbacks->cancel != nullptr) {
    cancel = need(callbacks->cancel, "callbacks.cancel").token;
  }
  return Job(std::move(listener), std::move(cancel));
}

}  // namespace theriac::capi

theriac_error::theriac_error(theriac::Failure why, const char* where, bool counted_in)
    : counted(counted_in), failure(std::move(why)) {
  theriac::Json json;
  json["code"] = static_cast<std::int32_t>(failure.code);
  json["name"] = theriac::code_name(failure.code);
  json["message"] = failure.message;
  json["function"] = where;
  if (!failure.cause.empty()) json["cause"] = failure.cause;
  for (const auto& [key, value] : failure.details) json[key] = value;
  details = theriac::dump_json(json);
  if (counted) theriac::capi::live_objects()->born(theriac::Kind::kError);
}

theriac_error::~theriac_error() {
  if (counted) theriac::capi::live_objects()->died(theriac::Kind::kError);
}

using theriac::capi::guard;
using theriac::capi::need;

theriac_status theriac_error_code(const theriac_error* error) noexcept {
  return error == nullptr ? THERIAC_OK : static_cast<theriac_status>(error->failure.code);
}
const char* theriac_error_message(const theriac_error* error) noexcept {
  return error == nullptr ? "" : error->failure.message.c_str();
}
const char* theriac_error_details(const theriac_error* error) noexcept {
  return error == nullptr ? "{}" : error->details.c_str();
}
void theriac_error_release(theriac_error* error) noexcept {
  if (error != nullptr && error->counted) delete error;
}

const char* theriac_bytes_data(const theriac_bytes* bytes) noexcept {
  return bytes == nullptr ? "" : bytes->text.c_str();
}
size_t theriac_bytes_size(const theriac_bytes* bytes) noexcept {
  return bytes == nullptr ? 0 : bytes->text.size();
}
void theriac_bytes_release(theriac_bytes* bytes) noexcept { theriac::capi::release(bytes); }

theriac_status theriac_cancel_create(theriac_cancel** out, theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_cancel_create", error, [&] {
    theriac_cancel*& target = theriac::capi::need_out(out, "out");
    target = new theriac_cancel;
  });
}
void theriac_cancel_request(theriac_cancel* cancel) noexcept {
  if (cancel != nullptr && cancel->valid()) cancel->token->request();
}
int32_t theriac_cancel_requested(const theriac_cancel* cancel) noexcept {
  return cancel != nullptr && cancel->valid() && cancel->token->requested() ? 1 : 0;
}
void theriac_cancel_release(theriac_cancel* cancel) noexcept { theriac::capi::release(cancel); }
