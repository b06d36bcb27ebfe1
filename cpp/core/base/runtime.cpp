#include "cpp/core/base/runtime.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "cpp/core/base/cgroup.h"
#include "cpp/core/base/file.h"

namespace theriac {
namespace internal {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kSmallFile = 1 << 20;

// Text of a small kernel file, or empty.
std::string text_of(const fs::path& path) {
  try {
    return read_file(path, kSmallFile);
  } catch (const Error&) {
    return "";
  }
}

double smaller_quota(double a, double b) {
  if (a <= 0) return b;
  return b <= 0 ? a : std::min(a, b);
}

// "100000 50000" or "max 100000" (version 2).
double quota_v2(const fs::path& group) {
  std::istringstream text(text_of(group / "cpu.max"));
  double quota = 0, period = 0;
  return text >> quota >> period && quota > 0 && period > 0 ? quota / period : 0;
}

// Two files, -1 for none (version 1).
double quota_v1(const fs::path& group) {
  std::istringstream quota_text(text_of(group / "cpu.cfs_quota_us"));
  std::istringstream period_text(text_of(group / "cpu.cfs_period_us"));
  double quota = 0, period = 0;
  return quota_text >> quota && period_text >> period && quota > 0 && period > 0 ? quota / period
                                                                                 : 0;
}

// A limit of any ancestor binds too. In a container the path may lie outside the visible tree: its
// missing folders then count as unlimited, and the root of the mount, which is the container's own
// group, decides.
double smallest_on_the_way(const fs::path& root, std::string_view group,
                           double (*quota)(const fs::path&)) {
  double smallest = quota(root);
  fs::path at = root;
  for (const auto& part : fs::path(group).relative_path()) {
    if (part == "..") break;
    at /= part;
    smallest = smaller_quota(smallest, quota(at));
  }
  return smallest;
}

bool lists_cpu(std::string_view controllers) {
  for (std::size_t start = 0; start <= controllers.size();) {
    const std::size_t comma = std::min(controllers.find(',', start), controllers.size());
    if (controllers.substr(start, comma - start) == "cpu") return true;
    start = comma + 1;
  }
  return false;
}

}  // namespace

double cgroup_quota(std::string_view membership, const fs::path& mount) {
  double smallest = 0;
  std::istringstream lines{std::string(membership)};
  for (std::string line; std::getline(lines, line);) {  // "4:cpu,cpuacct:/group" or "0::/group"
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      smallest = smaller_quota(smallest, smallest_on_the_way(mount, group, quota_v2));
    } else if (lists_cpu(controllers)) {
      for (const auto& folder : {std::string("cpu"), controllers}) {
        smallest = smaller_quota(smallest, smallest_on_the_way(mount / folder, group, quota_v1));
      }
    }
  }
  return smallest;
}

}  // namespace internal

namespace {

// Cores of the affinity mask; 0 when the kernel does not say. The mask grows until the kernel's
// fits.
int affinity_cores() {
  for (std::size_t cores = 1024; cores <= (std::size_t{1} << 16); cores *= 2) {
    std::vector<cpu_set_t> mask(cores / CPU_SETSIZE);
    const std::size_t bytes = mask.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, mask.data()) == 0) return CPU_COUNT_S(bytes, mask.data());
  }
  return 0;
}

}  // namespace

int available_cores() {
  int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (const int mask = affinity_cores(); mask > 0) cores = std::min(cores, mask);
  const double quota =
      internal::cgroup_quota(internal::text_of("/proc/self/cgroup"), "/sys/fs/cgroup");
  if (quota > 0 && quota < cores) cores = std::max(1, static_cast<int>(std::ceil(quota)));
  return cores;
}

}  // namespace theriac
