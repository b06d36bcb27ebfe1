// The directory of a ZIP archive whose entries are stored, not compressed: the container of
// PyTorch's files. ZIP64 included. Nothing is extracted: an entry is a range of the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cpp/core/tensorfile/bytes.h"

namespace theriac::tensorfile {

struct ZipEntry {
  std::string name;
  std::uint64_t header = 0;  // offset of the entry's local header
  std::uint64_t offset = 0;  // of its bytes
  std::uint64_t size = 0;
};

struct ZipLimits {
  std::size_t entries = 1'100'000;
  std::uint64_t directory_bytes = std::uint64_t{256} << 20;
};

// Entries by offset; names are unique, ranges lie inside the file and do not overlap. Throws
// kDataError that names entry and offset for a damaged archive, kUnsupported for compressed or
// encrypted entries and archives in parts. Checksums are not verified.
std::vector<ZipEntry> read_zip_directory(const Bytes& file, const ZipLimits& limits = {});

}  // namespace theriac::tensorfile
