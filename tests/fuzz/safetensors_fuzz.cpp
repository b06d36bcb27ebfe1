// safetensors bytes from anywhere: a file is refused with an Error, or its tensors tile the buffer
// and write back to a file that reads the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/tensorfile/safetensors.h"

namespace {

namespace tensorfile = theriac::tensorfile;

void require(bool holds) {
  if (!holds) std::abort();
}

void check_layout(const tensorfile::Header& header, std::size_t size) {
  std::uint64_t covered = header.buffer_offset;
  for (const auto& tensor : header.tensors) {
    require(header.buffer_offset + tensor.begin == covered && tensor.end >= tensor.begin);
    covered = header.buffer_offset + tensor.end;
  }
  require(covered == size);
}

void check_round_trip(const tensorfile::Header& header, std::string_view file) {
  std::vector<tensorfile::TensorToWrite> tensors;
  for (const auto& tensor : header.tensors) {
    if (tensor.name.empty()) return;  // may be read, is not written
    const auto bytes = file.substr(header.buffer_offset + tensor.begin, tensor.end - tensor.begin);
    tensors.push_back({tensor.name, tensor.dtype, tensor.shape, bytes});
  }
  const std::string again = tensorfile::serialise(tensors, header.metadata);
  const auto read = tensorfile::Header::parse(again, again.size());
  require(read.tensors.size() == header.tensors.size() && read.metadata == header.metadata);
  require(tensorfile::serialise(tensors, header.metadata) == again);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  tensorfile::Header header;
  try {
    header = tensorfile::Header::parse(file, file.size());
  } catch (const theriac::Error&) {
    return 0;
  }
  check_layout(header, size);
  check_round_trip(header, file);
  return 0;
}
