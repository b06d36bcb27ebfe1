#include "cpp/core/base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace theriac {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kWriteBuffer = std::size_t{1} << 18;

Error io_error(const std::string& doing, const fs::path& path, int number) {
  const Code code = number == ENOENT || number == ENOTDIR ? Code::kNotFound : Code::kIoError;
  return Error(code, "cannot " + doing + " '" + path.string() +
                         "': " + std::generic_category().message(number))
      .at("file", path.string())
      .at("errno", number);
}

// Owns a descriptor; closing errors matter only to writers, which call `close`.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

int open_retrying(const fs::path& path, int flags, mode_t mode = 0) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

struct stat status_of(int fd, const fs::path& path) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) throw io_error("inspect", path, errno);
  if (S_ISDIR(status.st_mode)) throw io_error("read", path, EISDIR);
  return status;
}

fs::path folder_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

// ".name.0123456789abcdef.tmp" beside the target: same file system, so that rename is atomic.
fs::path temporary_beside(const fs::path& target) {
  std::uint64_t random = 0;
  if (::getrandom(&random, sizeof random, 0) != static_cast<ssize_t>(sizeof random)) {
    throw io_error("draw a temporary name for", target, errno);
  }
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(random));
  return folder_of(target) / ("." + target.filename().string() + "." + digits + ".tmp");
}

// Makes names durable. Some file systems (network, FUSE) cannot sync a folder and say EINVAL.
void sync_path(const fs::path& path, int flags) {
  const Descriptor fd(open_retrying(path, flags));
  if (fd.get() < 0) throw io_error("open", path, errno);
  if (::fsync(fd.get()) != 0 && errno != EINVAL && errno != ENOTSUP)
    throw io_error("sync", path, errno);
}

void sync_folder(const fs::path& folder) { sync_path(folder, O_RDONLY | O_DIRECTORY); }

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

// Where a write to `target` really lands: through symbolic links, without a trailing slash.
fs::path resolved(const fs::path& target) {
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

// Removes the staged directory unless told to keep what is there.
class Staged {
 public:
  explicit Staged(fs::path path) : path_(std::move(path)) {}
  ~Staged() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  Staged(const Staged&) = delete;
  Staged& operator=(const Staged&) = delete;
  const fs::path& path() const { return path_; }
  void keep() { path_.clear(); }

 private:
  fs::path path_;
};

Error already_exists(const fs::path& target) {
  return Error(Code::kAlreadyExists,
               "'" + target.string() +
                   "' already exists; remove it, choose another name or ask to overwrite it")
      .at("file", target.string());
}

bool unsupported(int number) { return number == EINVAL || number == ENOSYS || number == ENOTSUP; }

// For file systems without RENAME_EXCHANGE: two renames, and the old one back if the second fails.
void swap_in_two_steps(const fs::path& staged, const fs::path& target) {
  const fs::path aside = temporary_beside(target);
  if (::rename(target.c_str(), aside.c_str()) != 0) throw io_error("move aside", target, errno);
  if (::rename(staged.c_str(), target.c_str()) != 0) {
    const int number = errno;
    ::rename(aside.c_str(), target.c_str());
    throw io_error("replace", target, number);
  }
  ::rename(aside.c_str(),
           staged.c_str());  // so that the caller finds the old one where it expects it
}

// Afterwards `staged` holds the old directory.
void exchange(const fs::path& staged, const fs::path& target) {
  if (::renameat2(AT_FDCWD, staged.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) return;
  if (!unsupported(errno)) throw io_error("replace", target, errno);
  swap_in_two_steps(staged, target);
}

void rename_to_new(const fs::path& staged, const fs::path& target) {
  int result = ::renameat2(AT_FDCWD, staged.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE);
  if (result != 0 && unsupported(errno)) {
    std::error_code ignored;
    if (fs::exists(target, ignored)) throw already_exists(target);
    result = ::rename(staged.c_str(), target.c_str());
  }
  if (result == 0) return;
  if (errno == EEXIST) throw already_exists(target);
  throw io_error("create", target, errno);
}

void write_all(int fd, const char* data, std::size_t size, const fs::path& path) {
  while (size > 0) {
    const ssize_t wrote = ::write(fd, data, size);
    if (wrote < 0) {
      if (errno == EINTR) continue;
      throw io_error("write", path, errno);
    }
    data += wrote;
    size -= static_cast<std::size_t>(wrote);
  }
}

}  // namespace

std::string read_file(const fs::path& path, std::uint64_t limit) {
  const Descriptor fd(open_retrying(path, O_RDONLY));
  if (fd.get() < 0) throw io_error("open", path, errno);
  const struct stat status = status_of(fd.get(), path);
  const auto check = [&](std::uint64_t size) {
    if (size <= limit) return;
    throw Error(Code::kDataError, "'" + path.string() + "' is larger than the limit of " +
                                      std::to_string(limit) + " bytes")
        .at("file", path.string());
  };
  const auto stated = static_cast<std::uint64_t>(std::max<off_t>(status.st_size, 0));
  check(stated);
  std::string bytes;
  std::size_t used = 0;
  bytes.resize(static_cast<std::size_t>(stated) + 1);  // one more, to see the end without growing
  for (;;) {  // by reading, not by size: files of /proc and pipes state none
    const ssize_t got = ::read(fd.get(), bytes.data() + used, bytes.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw io_error("read", path, errno);
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
    check(used);
    if (used == bytes.size()) bytes.resize(2 * bytes.size() + 4096);
  }
  bytes.resize(used);
  return bytes;
}

AtomicFile::AtomicFile(fs::path target) : target_(resolved(target)) {
  struct stat old {};
  const bool exists = ::stat(target_.c_str(), &old) == 0;
  if (exists && !S_ISREG(old.st_mode)) {
    throw Error(Code::kInvalidArgument,
                "'" + target_.string() + "' is not a regular file and is not replaced")
        .at("file", target_.string());
  }
  temporary_ = temporary_beside(target_);
  descriptor_ = open_retrying(temporary_, O_WRONLY | O_CREAT | O_EXCL, 0666);
  if (descriptor_ < 0) throw io_error("create a temporary file for", target_, errno);
  if (exists)
    ::fchmod(descriptor_, old.st_mode & 07777);  // best effort: some file systems have no modes
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::string_view bytes) {
  if (descriptor_ < 0) throw Error(Code::kInvalidState, "a committed file cannot be written to");
  if (buffer_.size() + bytes.size() > kWriteBuffer) flush();
  if (bytes.size() >= kWriteBuffer) {
    write_all(descriptor_, bytes.data(), bytes.size(), target_);
  } else {
    buffer_.append(bytes);
  }
}

void AtomicFile::flush() {
  write_all(descriptor_, buffer_.data(), buffer_.size(), target_);
  buffer_.clear();
}

void AtomicFile::commit() {
  if (descriptor_ < 0) throw Error(Code::kInvalidState, "a file can be committed once");
  flush();
  if (::fsync(descriptor_) != 0) throw io_error("sync", target_, errno);
  if (::close(std::exchange(descriptor_, -1)) != 0) throw io_error("close", target_, errno);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) throw io_error("replace", target_, errno);
  temporary_.clear();
  sync_folder(folder_of(target_));
}

void replace_file(const fs::path& target, std::string_view bytes) {
  AtomicFile file(target);
  file.write(bytes);
  file.commit();
}

void replace_directory(const fs::path& wanted, bool overwrite,
                       const std::function<void(const fs::path&)>& fill) {
  const fs::path target = resolved(wanted);
  std::error_code ignored;
  const fs::file_status old = fs::status(target, ignored);
  if (fs::exists(old) && !overwrite) throw already_exists(target);
  if (fs::exists(old) && !fs::is_directory(old)) {
    throw Error(Code::kInvalidArgument,
                "'" + target.string() + "' is not a directory and is not replaced by one")
        .at("file", target.string());
  }
  const fs::path path = temporary_beside(target);
  if (::mkdir(path.c_str(), 0777) != 0) throw io_error("create a directory beside", target, errno);
  Staged staged(path);
  fill(staged.path());
  try {
    sync_tree(staged.path());
  } catch (const fs::filesystem_error& error) {
    throw io_error("sync", target, error.code().value());
  }
  if (fs::exists(old)) {
    exchange(staged.path(), target);
  } else {
    rename_to_new(staged.path(), target);
    staged.keep();
  }
  sync_folder(folder_of(target));
}

void replace_directory(const fs::path& target, bool overwrite, std::string_view marker,
                       const std::function<void(const fs::path&)>& fill) {
  std::error_code ignored;
  if (overwrite && fs::is_directory(target, ignored) && !fs::is_empty(target, ignored) &&
      !fs::exists(target / marker, ignored)) {
    throw Error(Code::kAlreadyExists,
                "'" + target.string() + "' is a folder of something else (it holds no " +
                    std::string(marker) + ") and is not replaced; name a new folder")
        .at("file", target.string());
  }
  replace_directory(target, overwrite, fill);
}

MappedFile::MappedFile(const fs::path& path) {
  const Descriptor fd(open_retrying(path, O_RDONLY));
  if (fd.get() < 0) throw io_error("open", path, errno);
  const struct stat status = status_of(fd.get(), path);
  if (!S_ISREG(status.st_mode)) throw io_error("map", path, ENODEV);
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;  // an empty mapping is not allowed
  void* const address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (address == MAP_FAILED) throw io_error("map", path, errno);
  data_ = static_cast<const char*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace theriac
