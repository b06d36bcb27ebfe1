#include "cpp/core/base/file_operations.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <system_error>
#include <vector>

namespace theriac {
namespace {

namespace fs = std::filesystem;

Error already_exists(const fs::path& target) {
  return Error(Code::kAlreadyExists,
               "'" + target.string() +
                   "' already exists; remove it, choose another name or ask to overwrite it")
      .at("file", target.string());
}

void sync_path(const fs::path& path, int flags) {
  const int fd = open_retrying(path, flags);
  if (fd < 0) throw io_error("open", path, errno);
  const int result = ::fsync(fd);
  const int number = errno;
  ::close(fd);
  if (result != 0 && number != EINVAL && number != ENOTSUP) throw io_error("sync", path, number);
}

void sync_tree(const fs::path& root) {
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.is_symlink()) continue;
    if (entry.is_directory()) {
      sync_folder(entry.path());
    } else if (entry.is_regular_file()) {
      sync_path(entry.path(), O_RDONLY);
    }
  }
  sync_folder(root);
}

// For file systems without RENAME_EXCHANGE: the old one aside, and back if the second step fails.
void swap_in_two_steps(const fs::path& staged, const fs::path& target) {
  const fs::path aside = temporary_beside(target);
  if (::rename(target.c_str(), aside.c_str()) != 0) throw io_error("move aside", target, errno);
  if (::rename(staged.c_str(), target.c_str()) != 0) {
    const int number = errno;
    if (::rename(aside.c_str(), target.c_str()) != 0) {
      throw Error(Code::kIoError, "'" + target.string() +
                                      "' could not be replaced; its old content "
                                      "is in '" +
                                      aside.string() + "'")
          .at("file", target.string())
          .at("errno", number);
    }
    throw io_error("replace", target, number);
  }
  // The old one goes where the exchange would have put it.
  ::rename(aside.c_str(), staged.c_str());
}

// Afterwards `staged` holds the old directory.
void exchange(const fs::path& staged, const fs::path& target) {
  if (::renameat2(AT_FDCWD, staged.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) return;
  if (!is_unsupported(errno)) throw io_error("replace", target, errno);
  swap_in_two_steps(staged, target);
}

void rename_to_new(const fs::path& staged, const fs::path& target) {
  int result = ::renameat2(AT_FDCWD, staged.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE);
  if (result != 0 && is_unsupported(errno)) {
    std::error_code ignored;
    if (fs::exists(target, ignored)) throw already_exists(target);
    result = ::rename(staged.c_str(), target.c_str());
  }
  if (result == 0) return;
  if (errno == EEXIST || errno == ENOTEMPTY) throw already_exists(target);
  throw io_error("create", target, errno);
}

constexpr std::string_view kTemporarySuffix = ".tmp";
constexpr std::size_t kTemporaryDigits = 16;
// A temporary that has just been made is not claimed yet.
constexpr std::time_t kSecondsUnclaimed = 60;

bool is_temporary_of(std::string_view name, std::string_view target) {
  const std::size_t digits = 2 + target.size();  // after ".target."
  if (name.size() != digits + kTemporaryDigits + kTemporarySuffix.size()) return false;
  return name.front() == '.' && name.substr(1, target.size()) == target &&
         name[digits - 1] == '.' && name.ends_with(kTemporarySuffix) &&
         name.substr(digits, kTemporaryDigits).find_first_not_of("0123456789abcdef") ==
             std::string_view::npos;
}

// Whether nobody works on it, by its lock and its age.
bool is_abandoned(const fs::path& path) {
  const Descriptor fd(open_retrying(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  struct stat status {};
  return fd.is_open() && ::fstat(fd.get(), &status) == 0 &&
         (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) &&
         status.st_mtime + kSecondsUnclaimed < std::time(nullptr) &&
         ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0;
}

std::string listed(std::span<const std::string_view> names) {
  std::string out;
  for (const std::string_view name : names) out += (out.empty() ? "" : ", ") + std::string(name);
  return (names.size() > 1 ? "none of " : "no ") + out;
}

}  // namespace

Error io_error(const std::string& doing, const fs::path& path, int number) {
  const Code code = number == ENOENT || number == ENOTDIR ? Code::kNotFound : Code::kIoError;
  return Error(code, "cannot " + doing + " '" + path.string() +
                         "': " + std::generic_category().message(number))
      .at("file", path.string())
      .at("errno", number);
}

int open_retrying(const fs::path& path, int flags, mode_t mode) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}

bool is_unsupported(int number) noexcept {
  return number == EINVAL || number == ENOSYS || number == ENOTSUP;
}

fs::path folder_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

fs::path resolved_target(const fs::path& target) {
  std::error_code ignored;
  fs::path path = target;
  if (!path.has_filename()) path = path.parent_path();
  if (fs::is_symlink(path, ignored)) path = fs::weakly_canonical(path);
  const fs::path name = path.filename();
  if (name.empty() || name == "." || name == "..") {
    throw Error(Code::kInvalidArgument,
                "'" + target.string() + "' does not name a file or directory to write")
        .at("file", target.string());
  }
  return path;
}

fs::path temporary_beside(const fs::path& target) {
  std::uint64_t random = 0;
  if (::getrandom(&random, sizeof random, 0) != static_cast<ssize_t>(sizeof random)) {
    throw io_error("draw a temporary name for", target, errno);
  }
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(random));
  return folder_of(target) / ("." + target.filename().string() + "." + digits + ".tmp");
}

void claim_temporary(int descriptor) noexcept { ::flock(descriptor, LOCK_EX | LOCK_NB); }

void sweep_temporaries(const fs::path& target) noexcept {
  try {
    const std::string name = target.filename().string();
    std::vector<fs::path> abandoned;
    for (const auto& entry : fs::directory_iterator(folder_of(target))) {
      if (is_temporary_of(entry.path().filename().string(), name) && is_abandoned(entry.path())) {
        abandoned.push_back(entry.path());
      }
    }
    std::error_code ignored;
    for (const fs::path& path : abandoned) fs::remove_all(path, ignored);
  } catch (...) {  // a folder that cannot be listed is not ours to tidy
  }
}

void remove_temporaries(const fs::path& folder) noexcept {
  std::error_code ignored;
  for (fs::directory_iterator entry(folder, ignored), end; !ignored && entry != end;
       entry.increment(ignored)) {
    const std::string name = entry->path().filename().string();
    std::error_code failed;
    if (name.starts_with('.') && name.ends_with(".tmp")) fs::remove(entry->path(), failed);
  }
}

void sync_folder(const fs::path& folder) { sync_path(folder, O_RDONLY | O_DIRECTORY); }

void check_replaceable(const fs::path& wanted, bool overwrite,
                       std::span<const std::string_view> markers) {
  const fs::path target = resolved_target(wanted);
  std::error_code ignored;
  const fs::file_status old = fs::status(target, ignored);
  if (!fs::exists(old)) return;
  if (!overwrite) throw already_exists(target);
  if (!fs::is_directory(old)) {
    throw Error(Code::kInvalidArgument,
                "'" + target.string() + "' is not a directory and is not replaced by one")
        .at("file", target.string());
  }
  if (markers.empty() || fs::is_empty(target, ignored)) return;
  for (const std::string_view marker : markers) {
    if (fs::exists(target / marker, ignored)) return;
  }
  throw Error(Code::kAlreadyExists,
              "'" + target.string() + "' is a folder of something else (it holds " +
                  listed(markers) + ") and is not replaced; name a new folder")
      .at("file", target.string());
}

void publish_directory(const fs::path& staged, const fs::path& wanted, bool overwrite) {
  const fs::path target = resolved_target(wanted);
  try {
    sync_tree(staged);
  } catch (const fs::filesystem_error& error) {
    throw io_error("sync", target, error.code().value());
  }
  std::error_code ignored;
  if (overwrite && fs::exists(target, ignored)) {
    exchange(staged, target);
    sync_folder(folder_of(target));
    fs::remove_all(staged, ignored);
  } else {
    rename_to_new(staged, target);
    sync_folder(folder_of(target));
  }
}

}  // namespace theriac
