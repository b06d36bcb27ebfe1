// Progress and cancellation of long work.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "cpp/core/base/error.h"

namespace theriac {

// Latched request to stop; shared by any number of threads.
class CancelToken {
 public:
  void request() noexcept { requested_.store(true, std::memory_order_release); }
  bool requested() const noexcept { return requested_.load(std::memory_order_acquire); }

 private:
  std::atomic<bool> requested_{false};
};

// What a listener answers: go on, stop, or "the host's own callback failed".
enum class Verdict : std::int32_t { kContinue = 0, kCancel = 1, kCallbackFailed = -7 };

// Called on the thread that runs the job. `metrics_json` is "{}" or one JSON object.
using ProgressListener = std::function<Verdict(std::string_view phase, std::uint64_t done,
                                               std::uint64_t total, std::string_view metrics_json)>;

// Handed down into every long call. Not synchronised: one job, one thread at a time.
class Job {
 public:
  Job() = default;
  Job(ProgressListener listener, std::shared_ptr<const CancelToken> cancel,
      std::chrono::milliseconds interval = std::chrono::milliseconds(100))
      : listener_(std::move(listener)), cancel_(std::move(cancel)), interval_(interval) {}

  // Throws kCancelled when a stop was asked for. Call it at least every 50 ms of work.
  void check() const;
  // check(), then tells the listener, at most once an interval; `total` 0 means unknown.
  // Throws kCancelled or kCallbackFailed as the listener asks.
  void progress(std::string_view phase, std::uint64_t done, std::uint64_t total);
  // The same, never skipped: for the end of an epoch or phase.
  void milestone(std::string_view phase, std::uint64_t done, std::uint64_t total,
                 std::string_view metrics_json = "{}");

 private:
  ProgressListener listener_;
  std::shared_ptr<const CancelToken> cancel_;
  std::chrono::milliseconds interval_{100};
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace theriac
