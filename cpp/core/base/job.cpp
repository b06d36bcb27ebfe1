#include "cpp/core/base/job.h"

namespace theriac {
namespace {

void obey(Verdict verdict, std::string_view phase) {
  if (verdict == Verdict::kContinue) return;
  if (verdict == Verdict::kCancel) {
    throw Error(Code::kCancelled,
                "cancelled by the progress callback during '" + std::string(phase) + "'")
        .at("phase", std::string(phase));
  }
  throw Error(Code::kCallbackFailed,
              "the progress callback failed during '" + std::string(phase) + "'")
      .at("phase", std::string(phase));
}

}  // namespace

void Job::check() const {
  if (cancel_ && cancel_->requested()) throw Error(Code::kCancelled, "cancelled on request");
}

void Job::progress(std::string_view phase, std::uint64_t done, std::uint64_t total) {
  check();
  if (!listener_) return;
  const auto now = std::chrono::steady_clock::now();
  const bool told_before = last_ != std::chrono::steady_clock::time_point{};
  if (told_before && now - last_ < interval_) return;
  last_ = now;
  obey(listener_(phase, done, total, "{}"), phase);
}

void Job::milestone(std::string_view phase, std::uint64_t done, std::uint64_t total,
                    std::string_view metrics_json) {
  check();
  if (!listener_) return;
  last_ = std::chrono::steady_clock::now();
  obey(listener_(phase, done, total, metrics_json), phase);
}

}  // namespace theriac
