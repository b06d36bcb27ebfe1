// What the front library and the engine share in one process: log sink, live-object counters,
// thread budget. Owned by the front, handed through the seam; there is no mutable global in the
// core.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

namespace theriac {

enum class LogLevel : std::int32_t { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3 };

// May be called from any thread at once. Never carries patient data.
using LogSink =
    std::function<void(LogLevel level, std::string_view component, std::string_view message)>;

enum class Kind : std::int32_t {
  kContext,
  kDataset,
  kModel,
  kSession,
  kResult,
  kBytes,
  kError,
  kCancel,
  kAugmenter,
  kMerger,
  kCount
};

// Counters of objects that live, for leak tests of every binding. Lock-free.
class LiveObjects {
 public:
  void born(Kind kind) noexcept {
    counts_[static_cast<std::size_t>(kind)].fetch_add(1, std::memory_order_relaxed);
  }
  void died(Kind kind) noexcept {
    counts_[static_cast<std::size_t>(kind)].fetch_sub(1, std::memory_order_relaxed);
  }
  std::int64_t count(Kind kind) const noexcept {
    return counts_[static_cast<std::size_t>(kind)].load();
  }
  std::int64_t total() const noexcept {
    std::int64_t sum = 0;
    for (const auto& c : counts_) sum += c.load();
    return sum;
  }

 private:
  std::array<std::atomic<std::int64_t>, static_cast<std::size_t>(Kind::kCount)> counts_{};
};

// Cores this process may use: hardware, affinity mask and cgroup quota, the smallest of them.
int available_cores();

struct Runtime {
  std::shared_ptr<const LogSink> log;  // may be null: silence is the default
  std::shared_ptr<LiveObjects> live;
  int threads = 1;  // budget of one job; handed to LibTorch
  void say(LogLevel level, std::string_view component, std::string_view message) const {
    if (log && *log) (*log)(level, component, message);
  }
};

}  // namespace theriac
