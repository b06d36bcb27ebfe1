// Rules that the reader and the writer of safetensors share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/tensorfile/safetensors.h"

namespace theriac::tensorfile::internal {

inline constexpr std::string_view kMetadataKey = "__metadata__";
inline constexpr std::uint64_t kLengthBytes = 8;
// JSON readers that hold numbers as doubles are exact up to here.
inline constexpr std::uint64_t kGreatestDimension = std::uint64_t{1} << 53;

// Bytes of a tensor, or nothing when they overflow 64 bits or a sub-byte type ends inside a byte.
// The dimensions beside a zero are multiplied too: strides made of them must not overflow either.
std::optional<std::uint64_t> byte_size(DType dtype, const std::vector<std::uint64_t>& shape);

// A name for a message: cut when long, control characters replaced.
std::string shown(std::string_view name);

}  // namespace theriac::tensorfile::internal
