#include "cpp/core/merge/background_sync.h"

#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace theriac::merge {

BackgroundSync::BackgroundSync(std::vector<int> descriptors, std::uint64_t every)
    : descriptors_(std::move(descriptors)),
      every_(every),
      written_(std::make_unique<std::atomic<bool>[]>(descriptors_.size())) {
  try {
    thread_ = std::thread([this] { work(); });
  } catch (const std::system_error&) {  // who syncs at the end has more to do
  }
}

void BackgroundSync::wrote(std::size_t file, std::uint64_t bytes) noexcept {
  written_[file] = true;
  const std::uint64_t before = bytes_.fetch_add(bytes);
  if (before / every_ == (before + bytes) / every_) return;
  {
    const std::lock_guard lock(mutex_);
  }  // it looks at bytes_ or waits, and is not between the two
  due_.notify_one();
}

std::optional<BackgroundSync::Failure> BackgroundSync::stop() noexcept {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  due_.notify_one();
  if (thread_.joinable()) thread_.join();
  return failure_;
}

void BackgroundSync::work() noexcept {
  std::unique_lock lock(mutex_);
  for (;;) {
    due_.wait(lock, [this] { return stopped_ || bytes_ / every_ != synced_at_ / every_; });
    if (stopped_) return;
    synced_at_ = bytes_;
    lock.unlock();
    std::optional<Failure> failure;
    for (std::size_t file = 0; file < descriptors_.size(); ++file) {
      if (!written_[file].exchange(false)) continue;
      if (::fdatasync(descriptors_[file]) != 0 && !failure) failure = Failure{file, errno};
    }
    ++syncs_;
    lock.lock();
    if (!failure_) failure_ = failure;
  }
}

}  // namespace theriac::merge
