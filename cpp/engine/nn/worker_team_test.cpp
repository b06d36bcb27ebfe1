#include "cpp/engine/nn/worker_team.h"

#include <gtest/gtest.h>

namespace theriac::nn {
namespace {

TEST(WorkerTeam, EveryMemberWorksOnceARun) {
  for (const int members : {0, 1, 2, 5}) {
    WorkerTeam team(members);
    EXPECT_EQ(team.members(), members < 1 ? 1 : members);
    std::vector<int> calls(static_cast<std::size_t>(team.members()), 0);
    for (int run = 0; run < 300; ++run) {
      team.run([&](int member) { ++calls[static_cast<std::size_t>(member)]; });
    }
    for (const int count : calls) EXPECT_EQ(count, 300);
  }
}

// Neighbours exchange values a phase: what a member wrote before the barrier, all see after it.
TEST(WorkerTeam, NobodyPassesABarrierEarly) {
  constexpr std::size_t kMembers = 4;
  WorkerTeam team(kMembers);
  std::vector<int> values(kMembers, 0);
  std::atomic<int> wrong{0};
  team.run([&](int member) {
    const auto own = static_cast<std::size_t>(member);
    for (int phase = 1; phase <= 2000; ++phase) {
      values[own] = phase;
      team.barrier();
      if (values[(own + 1) % kMembers] != phase) ++wrong;
      team.barrier();
    }
  });
  EXPECT_EQ(wrong.load(), 0);
}

TEST(WorkerTeam, SharesCoverEverythingInWholeGrains) {
  const WorkerTeam team(3);
  for (const std::int64_t count : {0, 1, 5, 6, 17, 18, 100}) {
    std::int64_t next = 0;
    for (int member = 0; member < team.members(); ++member) {
      const auto [first, last] = team.share(member, count, 6);
      EXPECT_EQ(first, next);
      EXPECT_TRUE(last % 6 == 0 || last == count);
      next = last;
    }
    EXPECT_EQ(next, count);
  }
}

}  // namespace
}  // namespace theriac::nn
