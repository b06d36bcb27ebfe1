// Bytes at positions: what the readers of files that are too large to load read from.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "cpp/core/base/error.h"

namespace theriac::tensorfile {

// Immutable from the outside; may be shared between threads.
class Bytes {
 public:
  virtual ~Bytes() = default;
  virtual std::uint64_t size() const noexcept = 0;
  virtual const std::string& name() const noexcept = 0;  // path as given, for errors
  // Fills all of `into` from `offset` on. Throws kDataError when the bytes end before that, kIoError
  // with errno when they cannot be read.
  virtual void read(std::uint64_t offset, std::span<char> into) const = 0;

  std::string read(std::uint64_t offset, std::size_t size) const {
    std::string out(size, '\0');
    read(offset, std::span<char>(out));
    return out;
  }
};

// An open regular file, read by pread: no mapping, so that a failing disk or a file cut short by
// somebody else is an Error and not a signal.
class FileBytes final : public Bytes {
 public:
  explicit FileBytes(const std::filesystem::path& path);  // kNotFound, kIoError, kInvalidArgument
  ~FileBytes() override;
  FileBytes(const FileBytes&) = delete;
  FileBytes& operator=(const FileBytes&) = delete;
  using Bytes::read;
  std::uint64_t size() const noexcept override { return size_; }
  const std::string& name() const noexcept override { return name_; }
  void read(std::uint64_t offset, std::span<char> into) const override;

 private:
  std::string name_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

// Bytes in memory that outlive this object.
class MemoryBytes final : public Bytes {
 public:
  MemoryBytes(std::string_view bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {}
  using Bytes::read;
  std::uint64_t size() const noexcept override { return bytes_.size(); }
  const std::string& name() const noexcept override { return name_; }
  void read(std::uint64_t offset, std::span<char> into) const override;

 private:
  std::string_view bytes_;
  std::string name_;
};

namespace internal {

// A little-endian number at any address.
template <class T>
T load_little(const char* from) noexcept {
  static_assert(std::endian::native == std::endian::little);
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

}  // namespace internal
}  // namespace theriac::tensorfile
