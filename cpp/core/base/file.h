// Files that are never half-written, and reads that are never unbounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "cpp/core/base/error.h"

namespace theriac {

// Reads a whole file. Throws kNotFound, kIoError (errno in details), kDataError if larger than
// `limit`.
std::string read_file(const std::filesystem::path& path,
                      std::uint64_t limit = std::uint64_t{1} << 30);

// A file under a temporary name in the target's folder; `commit` makes it the target: fsync,
// rename, fsync of the folder. Without commit the destructor removes the temporary file and the old
// one stays.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::string_view bytes);  // throws kIoError with errno, e.g. disk full
  void commit();

 private:
  void flush();
  std::filesystem::path target_, temporary_;
  int descriptor_ = -1;
  std::string buffer_;
};

// AtomicFile in one call.
void replace_file(const std::filesystem::path& target, std::string_view bytes);

// A whole directory made beside `target` and renamed into place, so that no reader ever sees half
// of it. An existing target is replaced (old one moved aside, then removed) when `overwrite`, else
// kAlreadyExists. `fill` writes files under the path it is given.
void replace_directory(const std::filesystem::path& target, bool overwrite,
                       const std::function<void(const std::filesystem::path&)>& fill);
// The same, for formats that know their own: an existing directory is replaced only if it is empty
// or holds a file named `marker` ("config.json"), so that a mistyped path never costs somebody's
// files. kAlreadyExists otherwise.
void replace_directory(const std::filesystem::path& target, bool overwrite, std::string_view marker,
                       const std::function<void(const std::filesystem::path&)>& fill);

// Read-only view of a file's bytes (mmap). Movable; unmaps at the end.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  std::string_view bytes() const noexcept { return {data_, size_}; }

 private:
  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace theriac
