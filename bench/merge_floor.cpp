// The time that a merge cannot do without: reads the same ranges of the input files and writes as many bytes as the merge
// writes, in the same pieces, with the same calls, and computes nothing.
//
//     merge_floor OUT PASSES PIECE_BYTES MEGABYTES_OUT IN...      prints seconds
//
// All inputs are read at equal offsets, PASSES times region by region (a region: 64 MiB, about a large tensor's
// share of the page cache); after the last pass the output's part follows. The output is allocated before, and synced as it grows.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cpp/core/merge/background_sync.h"

namespace {

constexpr std::uint64_t kRegion = std::uint64_t{64} << 20;
constexpr std::uint64_t kSyncEvery = std::uint64_t{16} << 20;  // as the merge does

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

struct Plan {
  int output = -1;
  std::vector<int> inputs;
  std::uint64_t passes = 1, piece = 0, in_bytes = 0, out_bytes = 0;
  std::atomic<std::uint64_t> next{0};
  std::unique_ptr<theriac::merge::BackgroundSync> sync;
};

void work(Plan& plan) {
  std::vector<char> memory(static_cast<std::size_t>(plan.piece));
  const std::uint64_t pieces = (kRegion + plan.piece - 1) / plan.piece,
                      a_region = pieces * plan.passes;
  for (;;) {
    const std::uint64_t unit = plan.next++, region = unit / a_region, in_region = unit % a_region;
    const std::uint64_t offset = region * kRegion + in_region % pieces * plan.piece;
    if (region * kRegion >= plan.in_bytes) return;
    if (offset >= plan.in_bytes) continue;
    const std::uint64_t size = std::min(plan.piece, plan.in_bytes - offset);
    for (const int input : plan.inputs) {
      if (::pread(input, memory.data(), size, static_cast<off_t>(offset)) < 0) die("read");
    }
    if (in_region / pieces + 1 < plan.passes || offset >= plan.out_bytes) continue;
    const std::uint64_t write = std::min(size, plan.out_bytes - offset);
    if (::pwrite(plan.output, memory.data(), write, static_cast<off_t>(offset)) < 0) die("write");
    plan.sync->wrote(0, write);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    std::fprintf(stderr, "usage: merge_floor OUT PASSES PIECE_BYTES MEGABYTES_OUT IN...\n");
    return 2;
  }
  Plan plan;
  plan.passes = std::strtoull(argv[2], nullptr, 10);
  plan.piece = std::strtoull(argv[3], nullptr, 10);
  plan.out_bytes = std::strtoull(argv[4], nullptr, 10) * 1000000;
  for (int i = 5; i < argc; ++i) {
    plan.inputs.push_back(::open(argv[i], O_RDONLY | O_CLOEXEC));
    struct stat status {};
    if (plan.inputs.back() < 0 || ::fstat(plan.inputs.back(), &status) != 0) die(argv[i]);
    plan.in_bytes = std::max(plan.in_bytes, static_cast<std::uint64_t>(status.st_size));
  }
  const auto started = std::chrono::steady_clock::now();
  plan.output = ::open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (plan.output < 0) die(argv[1]);
  if (::posix_fallocate(plan.output, 0, static_cast<off_t>(plan.out_bytes)) != 0) die("allocate");
  plan.sync =
      std::make_unique<theriac::merge::BackgroundSync>(std::vector<int>{plan.output}, kSyncEvery);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < std::max(1U, std::thread::hardware_concurrency()); ++i) {
    threads.emplace_back([&plan] { work(plan); });
  }
  for (std::thread& thread : threads) thread.join();
  if (plan.sync->stop()) die("sync");
  if (::fdatasync(plan.output) != 0) die("sync");
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started;
  std::printf("%.3f\n", seconds.count());
  return 0;
}
