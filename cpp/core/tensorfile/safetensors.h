// safetensors files: reading and writing to the letter of the format (8-byte length, JSON header,
// buffer).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/error.h"
#include "cpp/core/base/file.h"

namespace theriac::tensorfile {

// In the writer's alignment order; the writer sorts by it descending, then by name.
enum class DType : std::uint8_t {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};
std::string_view dtype_name(DType dtype) noexcept;  // "F32"
std::optional<DType> dtype_from_name(std::string_view name) noexcept;
int dtype_bits(DType dtype) noexcept;

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0, end = 0;  // in the byte buffer
};

struct Limits {
  std::uint64_t header_bytes = 100'000'000;
  std::size_t tensors = 1'000'000;
  std::size_t rank = 16;
  std::size_t name_bytes = 4096;
  int depth = 4;
};

// Header of a file, checked whole. Throws kDataError that names the tensor, key or offset.
struct Header {
  std::vector<TensorInfo> tensors;              // in buffer order
  std::map<std::string, std::string> metadata;  // __metadata__
  std::uint64_t buffer_offset = 0;              // 8 + N
  // `prefix`: the file's first bytes, at least 8 + N of them; `file_bytes`: size of the whole file.
  static Header parse(std::string_view prefix, std::uint64_t file_bytes, const Limits& limits = {});
};

// A file mapped for reading. Immutable; may be shared between threads.
class File {
 public:
  explicit File(const std::filesystem::path& path, const Limits& limits = {});
  const Header& header() const noexcept { return header_; }
  const TensorInfo* find(std::string_view name) const noexcept;
  const TensorInfo& at(std::string_view name) const;  // throws kNotFound naming the nearest tensor
  std::string_view bytes(const TensorInfo& tensor) const noexcept;  // no alignment promised

 private:
  std::filesystem::path path_;
  MappedFile map_;
  Header header_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

struct TensorToWrite {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::uint64_t> shape;
  std::string_view bytes;  // must live until write returns
};
// Sorted, padded, atomically replaced. Throws kInvalidArgument on a duplicate or empty name or a
// size that disagrees with the shape.
void write_file(const std::filesystem::path& path, std::vector<TensorToWrite> tensors,
                const std::map<std::string, std::string>& metadata = {});
std::string serialise(std::vector<TensorToWrite> tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace theriac::tensorfile
