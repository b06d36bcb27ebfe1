#include "cpp/core/tensorfile/bytes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "cpp/core/base/file_operations.h"

namespace theriac::tensorfile {
namespace {

Error too_short(const std::string& name, std::uint64_t size, std::uint64_t offset,
                std::uint64_t wanted) {
  return Error(Code::kDataError, "'" + name + "' ends after " + std::to_string(size) + " bytes; " +
                                     std::to_string(wanted) + " bytes are expected at offset " +
                                     std::to_string(offset))
      .at("file", name)
      .at("offset", offset);
}

}  // namespace

FileBytes::FileBytes(const std::filesystem::path& path) : name_(path.string()) {
  // A pipe must not make us wait for its writer.
  descriptor_ = open_retrying(path, O_RDONLY | O_NONBLOCK);
  if (descriptor_ < 0) throw io_error("open", name_, errno);
  struct stat status {};
  const int result = ::fstat(descriptor_, &status);
  const int number = errno;
  if (result == 0 && S_ISREG(status.st_mode)) {
    size_ = static_cast<std::uint64_t>(std::max<off_t>(status.st_size, 0));
    return;
  }
  ::close(descriptor_);
  if (result != 0) throw io_error("inspect", name_, number);
  throw Error(Code::kInvalidArgument, "'" + name_ + "' is not a regular file").at("file", name_);
}

FileBytes::~FileBytes() { ::close(descriptor_); }

void FileBytes::read(std::uint64_t offset, std::span<char> into) const {
  if (offset > size_ || into.size() > size_ - offset) {
    throw too_short(name_, size_, offset, into.size());
  }
  std::size_t used = 0;
  while (used < into.size()) {
    const ssize_t got = ::pread(descriptor_, into.data() + used, into.size() - used,
                                static_cast<off_t>(offset + used));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw io_error("read", name_, errno);
    // Cut since it was opened.
    if (got == 0) throw too_short(name_, offset + used, offset, into.size());
    used += static_cast<std::size_t>(got);
  }
}

void MemoryBytes::read(std::uint64_t offset, std::span<char> into) const {
  if (offset > bytes_.size() || into.size() > bytes_.size() - offset) {
    throw too_short(name_, bytes_.size(), offset, into.size());
  }
  if (!into.empty()) std::memcpy(into.data(), bytes_.data() + offset, into.size());
}

}  // namespace theriac::tensorfile
