#include "cpp/core/base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "cpp/core/base/file_operations.h"

namespace theriac {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kWriteBuffer = std::size_t{1} << 18;

struct stat status_of(int fd, const fs::path& path) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) throw io_error("inspect", path, errno);
  if (S_ISDIR(status.st_mode)) throw io_error("read", path, EISDIR);
  return status;
}

// Removes the staged directory unless told to keep what is there.
class Staged {
 public:
  explicit Staged(fs::path path)
      : path_(std::move(path)), claim_(open_retrying(path_, O_RDONLY | O_DIRECTORY)) {
    if (claim_.is_open()) claim_temporary(claim_.get());
  }
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
  Descriptor claim_;
};

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
  if (!fd.is_open()) throw io_error("open", path, errno);
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

AtomicFile::AtomicFile(fs::path target) : target_(resolved_target(target)) {
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
  claim_temporary(descriptor_);
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
  sweep_temporaries(target_);
}

void replace_file(const fs::path& target, std::string_view bytes) {
  AtomicFile file(target);
  file.write(bytes);
  file.commit();
}

namespace {

void stage_and_publish(const fs::path& wanted, bool overwrite,
                       std::span<const std::string_view> markers,
                       const std::function<void(const fs::path&)>& fill) {
  check_replaceable(wanted, overwrite, markers);
  const fs::path target = resolved_target(wanted);
  const fs::path path = temporary_beside(target);
  if (::mkdir(path.c_str(), 0777) != 0) throw io_error("create a directory beside", target, errno);
  Staged staged(path);
  fill(staged.path());
  publish_directory(staged.path(), target, overwrite);
  staged.keep();
  sweep_temporaries(target);
}

}  // namespace

void replace_directory(const fs::path& target, bool overwrite,
                       const std::function<void(const fs::path&)>& fill) {
  stage_and_publish(target, overwrite, {}, fill);
}

void replace_directory(const fs::path& target, bool overwrite, std::string_view marker,
                       const std::function<void(const fs::path&)>& fill) {
  stage_and_publish(target, overwrite, {&marker, 1}, fill);
}

MappedFile::MappedFile(const fs::path& path) {
  const Descriptor fd(open_retrying(path, O_RDONLY));
  if (!fd.is_open()) throw io_error("open", path, errno);
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
