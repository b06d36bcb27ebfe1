// CPU quotas of control groups, apart from the machine's own files so that tests can bring theirs.
#pragma once

#include <filesystem>
#include <string_view>

namespace theriac::internal {

// Smallest quota, in cores, on the way from this process's group to the root; 0 when there is none.
// `membership`: text of /proc/self/cgroup; `mount`: /sys/fs/cgroup. Understands versions 1 and 2.
double cgroup_quota(std::string_view membership, const std::filesystem::path& mount);

}  // namespace theriac::internal
