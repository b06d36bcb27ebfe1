#include "cpp/engine/nn/worker_team.h"

#include <hwy/cache_control.h>
#include <algorithm>
#include <system_error>

namespace theriac::nn {
namespace {

// Some ten microseconds: longer than members of equal work differ, shorter than a sleeping thread
// takes to wake.
constexpr int kSpins = 3000;

}  // namespace

WorkerTeam::WorkerTeam(int members) {
  try {
    while (members_ < members) {
      threads_.emplace_back([this, member = members_] { follow(member); });
      ++members_;
    }
  } catch (const std::system_error&) {  // fewer will do
  }
  complete_.store(true, std::memory_order_release);
  complete_.notify_all();
}

WorkerTeam::~WorkerTeam() {
  ending_ = true;
  barrier();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerTeam::run(const std::function<void(int member)>& work) {
  work_ = &work;
  barrier();
  work(0);
  barrier();
}

void WorkerTeam::follow(int member) {
  complete_.wait(false, std::memory_order_acquire);
  for (;;) {
    barrier();
    if (ending_) return;
    (*work_)(member);
    barrier();
  }
}

void WorkerTeam::barrier() noexcept {
  if (members_ == 1) return;
  const std::uint32_t phase = phase_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members_) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    phase_.notify_all();
    return;
  }
  for (int spin = 0; spin < kSpins; ++spin) {
    if (phase_.load(std::memory_order_acquire) != phase) return;
    hwy::Pause();
  }
  while (phase_.load(std::memory_order_acquire) == phase) {
    phase_.wait(phase, std::memory_order_acquire);
  }
}

std::pair<std::int64_t, std::int64_t> WorkerTeam::share(int member, std::int64_t count,
                                                        std::int64_t grain) const noexcept {
  const std::int64_t grains = (count + grain - 1) / grain;
  const auto edge = [&](std::int64_t before) {
    return std::min(count, grains * before / members_ * grain);
  };
  return {edge(member), edge(member + 1)};
}

}  // namespace theriac::nn
