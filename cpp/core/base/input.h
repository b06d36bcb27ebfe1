// Streaming bytes of a file, plain or gzip (by content, not by name), with limits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "cpp/core/base/error.h"

namespace theriac {

struct InputLimits {
  std::uint64_t bytes = std::uint64_t{1} << 40;  // after decompression
  double expansion = 2000;  // decompressed / compressed, against zip bombs; checked past 64 MiB
};

// One pass over a file. Not shared between threads.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Fills up to `into.size()` bytes; 0 at the end. Throws kIoError, kDataError ("truncated gzip
  // stream after N bytes", checksum mismatch, over the limit). Concatenated gzip members are read
  // as one.
  virtual std::size_t read(std::span<char> into) = 0;
  virtual const std::string& name() const = 0;  // path as given, for errors
};

std::unique_ptr<ByteSource> open_source(const std::filesystem::path& path, InputLimits limits = {});
std::unique_ptr<ByteSource> memory_source(std::string_view bytes, std::string name,
                                          InputLimits limits = {});

}  // namespace theriac
