#include "cpp/core/base/runtime.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>

#include "cpp/core/base/cgroup.h"
#include "cpp/core/base/test_support.h"

namespace theriac {
namespace {

namespace fs = std::filesystem;
using internal::cgroup_quota;
using testing_support::ScratchFolder;

void put(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

TEST(Cores, AreAtLeastOneAndAtMostTheMachines) {
  EXPECT_GE(available_cores(), 1);
  EXPECT_LE(available_cores(), static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)));
}

TEST(Cores, FollowTheAffinityMask) {
  int seen = 0;
  std::thread([&] {  // the mask belongs to the thread
    cpu_set_t mine;
    CPU_ZERO(&mine);
    sched_getaffinity(0, sizeof mine, &mine);
    int first = 0;
    while (!CPU_ISSET(first, &mine)) ++first;
    CPU_ZERO(&mine);
    CPU_SET(first, &mine);
    sched_setaffinity(0, sizeof mine, &mine);
    seen = available_cores();
  })
      .join();
  EXPECT_EQ(seen, 1);
}

TEST(Cgroup, VersionTwoTakesTheSmallestOnTheWay) {
  const ScratchFolder folder;
  EXPECT_EQ(cgroup_quota("0::/a/b\n", folder.path()), 0.0);
  put(folder / "a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(cgroup_quota("0::/a/b\n", folder.path()), 0.0);
  put(folder / "a/cpu.max", "150000 100000\n");
  EXPECT_EQ(cgroup_quota("0::/a/b\n", folder.path()), 1.5);
  put(folder / "a/b/cpu.max", "50000 100000\n");
  EXPECT_EQ(cgroup_quota("0::/a/b\n", folder.path()), 0.5);
  EXPECT_EQ(cgroup_quota("0::/other\n", folder.path()), 0.0);
}

TEST(Cgroup, AContainerSeesItsOwnGroupAsTheRoot) {
  const ScratchFolder folder;
  put(folder / "mount/cpu.max", "200000 100000\n");
  put(folder / "c1/cpu.max", "50000 100000\n");  // outside the mount: none of our business
  EXPECT_EQ(cgroup_quota("0::/kubepods/pod1/c1\n", folder / "mount"), 2.0);
  EXPECT_EQ(cgroup_quota("0::/../c1\n", folder / "mount"), 2.0);
}

TEST(Cgroup, VersionOneHasTwoFiles) {
  const ScratchFolder folder;
  const std::string membership =
      "11:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n2:cpuset:/docker/x\n";
  put(folder / "cpuset/docker/x/cpu.cfs_quota_us", "1\n");  // another controller
  put(folder / "cpu,cpuacct/docker/x/cpu.cfs_quota_us", "-1\n");
  put(folder / "cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_quota(membership, folder.path()), 0.0);
  put(folder / "cpu,cpuacct/docker/x/cpu.cfs_quota_us", "300000\n");
  EXPECT_EQ(cgroup_quota(membership, folder.path()), 3.0);
  put(folder / "cpu/cpu.cfs_quota_us", "250000\n");
  put(folder / "cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_quota(membership, folder.path()), 2.5);
}

TEST(Cgroup, MalformedFilesCountAsNoLimit) {
  const ScratchFolder folder;
  put(folder / "cpu.max", "garbage");
  EXPECT_EQ(cgroup_quota("0::/\n", folder.path()), 0.0);
  put(folder / "cpu.max", "100000 0\n");
  EXPECT_EQ(cgroup_quota("0::/\nnonsense\n:\n", folder.path()), 0.0);
}

TEST(LiveObjects, CountByKind) {
  LiveObjects live;
  live.born(Kind::kModel);
  live.born(Kind::kModel);
  live.born(Kind::kError);
  live.died(Kind::kModel);
  EXPECT_EQ(live.count(Kind::kModel), 1);
  EXPECT_EQ(live.count(Kind::kDataset), 0);
  EXPECT_EQ(live.total(), 2);
}

TEST(Runtime, IsSilentWithoutASink) {
  Runtime runtime;
  runtime.say(LogLevel::kError, "test", "nobody hears");
  std::string heard;
  runtime.log = std::make_shared<LogSink>([&](LogLevel level, std::string_view component,
                                              std::string_view message) {
    heard = std::to_string(static_cast<int>(level)) + std::string(component) + std::string(message);
  });
  runtime.say(LogLevel::kWarning, "c", "m");
  EXPECT_EQ(heard, "2cm");
}

}  // namespace
}  // namespace theriac
