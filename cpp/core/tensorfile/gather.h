// Dense bytes of a strided tensor.
#pragma once

#include <cstdint>
#include <span>

#include "cpp/core/tensorfile/torch_file.h"

namespace theriac::tensorfile::internal {

// Bytes [first_byte, first_byte + into.size()) of the dense, row-major copy of a tensor with
// strides. The range lies inside the tensor, all elements lie inside the file, and elements are
// whole bytes.
void gather(const Bytes& file, const TensorRecord& tensor, std::uint64_t first_byte,
            std::span<char> into);

}  // namespace theriac::tensorfile::internal
