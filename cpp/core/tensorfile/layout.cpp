#include "cpp/core/tensorfile/layout.h"

#include <algorithm>

#include "cpp/core/base/json.h"

namespace theriac::tensorfile::internal {

std::optional<std::uint64_t> byte_size(DType dtype, const std::vector<std::uint64_t>& shape) {
  auto bits = static_cast<std::uint64_t>(dtype_bits(dtype));
  bool empty = false;
  for (const std::uint64_t dimension : shape) {
    empty = empty || dimension == 0;
    if (__builtin_mul_overflow(bits, std::max<std::uint64_t>(dimension, 1), &bits))
      return std::nullopt;
  }
  if (empty) return 0;
  if (bits % 8 != 0) return std::nullopt;
  return bits / 8;
}

std::string shown(std::string_view name) {
  constexpr std::size_t kShown = 120;
  const bool cut = name.size() > kShown;
  std::string text =
      dump_json(Json(std::string(name.substr(0, kShown))));  // escapes what does not print
  return "'" + text.substr(1, text.size() - 2) + (cut ? "...'" : "'");
}

}  // namespace theriac::tensorfile::internal
