// Syncs files while they are being written, so that the disk's own flush is not all left to the end.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace theriac::merge {

class BackgroundSync {
 public:
  // A system reports a failed write-back to one caller of sync only: whoever syncs afterwards must ask
  // here, too.
  struct Failure {
    std::size_t file = 0;
    int number = 0;  // errno
  };

  // Syncs whenever `every` further bytes are written. `descriptors` must stay open until `stop`. Where
  // no thread can be had nothing is synced.
  BackgroundSync(std::vector<int> descriptors, std::uint64_t every);
  ~BackgroundSync() { stop(); }
  BackgroundSync(const BackgroundSync&) = delete;
  BackgroundSync& operator=(const BackgroundSync&) = delete;

  // `bytes` were written to file number `file`. From any thread.
  void wrote(std::size_t file, std::uint64_t bytes) noexcept;
  // Waits for the sync under way. The first failure, whenever it was.
  std::optional<Failure> stop() noexcept;
  // Syncs that ended.
  std::uint64_t syncs() const noexcept { return syncs_; }

 private:
  void work() noexcept;

  const std::vector<int> descriptors_;
  const std::uint64_t every_;
  const std::unique_ptr<std::atomic<bool>[]> written_;  // since the last sync, one a file
  std::atomic<std::uint64_t> bytes_{0}, syncs_{0};
  std::mutex mutex_;
  std::condition_variable due_;
  std::uint64_t synced_at_ = 0;  // value of bytes_
  bool stopped_ = false;
  std::optional<Failure> failure_;
  std::thread thread_;
};

}  // namespace theriac::merge
