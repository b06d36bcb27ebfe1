// A few threads that go through the phases of one piece of work together, many thousand times a
// second.
//
// LibTorch's pool spins for milliseconds at each parallel region: on a machine where somebody else
// uses a core, short regions then take many times as long as one thread alone. Here a thread that
// waits spins for some microseconds and then sleeps.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

namespace theriac::nn {

// The caller is member 0. `run` may not be called by two threads at once, nor by a member.
class WorkerTeam {
 public:
  // At least 1 member; fewer than asked where the system has no more threads to give.
  explicit WorkerTeam(int members);
  ~WorkerTeam();
  WorkerTeam(const WorkerTeam&) = delete;
  WorkerTeam& operator=(const WorkerTeam&) = delete;

  int members() const noexcept { return members_; }
  // work(member) on every member; returns when all have. `work` must not throw.
  void run(const std::function<void(int member)>& work);
  // Inside of run: nobody passes before all members have come here. All of them must come equally
  // often.
  void barrier() noexcept;
  // A member's share [first, last) of `count` things, in multiples of `grain`.
  std::pair<std::int64_t, std::int64_t> share(int member, std::int64_t count,
                                              std::int64_t grain) const noexcept;

 private:
  void follow(int member);

  std::vector<std::thread> threads_;
  std::atomic<bool> complete_{false};  // members_ is final
  int members_ = 1;
  const std::function<void(int)>* work_ = nullptr;
  bool ending_ = false;
  std::atomic<int> arrived_{0};
  std::atomic<std::uint32_t> phase_{0};
};

}  // namespace theriac::nn
