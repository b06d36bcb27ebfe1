// Files of torch.save from anywhere, and their pickles alone: refused with an Error, or every element
// of every tensor lies inside its storage and the file.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "cpp/core/tensorfile/gather.h"
#include "cpp/core/tensorfile/pickle.h"
#include "cpp/core/tensorfile/torch_file.h"

namespace {

namespace tensorfile = theriac::tensorfile;

void require(bool holds) {
  if (!holds) std::abort();
}

bool is_empty(const std::vector<std::uint64_t>& shape) {
  return std::find(shape.begin(), shape.end(), 0U) != shape.end();
}

void check_pickle(std::string_view bytes) {
  tensorfile::PickledTensors found;
  try {
    found = tensorfile::read_pickle(bytes);
  } catch (const theriac::Error&) {
    return;
  }
  for (const auto& tensor : found.tensors) {
    require(tensor.shape.size() == tensor.strides.size() && !tensor.name.empty());
    if (is_empty(tensor.shape)) continue;
    std::uint64_t last = tensor.first;
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      last += (tensor.shape[i] - 1) * tensor.strides[i];
    }
    require(last < tensor.storage_elements);
  }
}

// Reads the start and the end of each tensor: the reader throws, and so fails, beyond the file.
void check_file(std::string_view bytes) {
  const tensorfile::MemoryBytes file(bytes, "fuzz.bin");
  tensorfile::TorchTensors found;
  try {
    found = tensorfile::read_torch_file(file);
  } catch (const theriac::Error&) {
    return;
  }
  std::string part;
  for (const auto& tensor : found.tensors) {
    part.resize(static_cast<std::size_t>(std::min<std::uint64_t>(tensor.bytes, 100)));
    for (const std::uint64_t first : {std::uint64_t{0}, tensor.bytes - part.size()}) {
      if (tensor.contiguous()) {
        file.read(tensor.offset + first, std::span<char>(part));
      } else {
        tensorfile::internal::gather(file, tensor, first, part);
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check_pickle(bytes);
  check_file(bytes);
  return 0;
}
