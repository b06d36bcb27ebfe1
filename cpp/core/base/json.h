// JSON for configuration, requests and reports: nlohmann-json with limits and positions in errors.
// Gigabytes of clinical JSON go through simdjson in `readers/`, not through here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "cpp/core/base/error.h"

namespace theriac {

// Keeps the order of keys as written.
using Json = nlohmann::ordered_json;

struct JsonLimits {
  std::size_t bytes = std::size_t{64} << 20;
  int depth = 64;
};

// Parses UTF-8 text. Throws Error(kInvalidArgument or `code`) that names `what`, line and column
// for malformed text, duplicate keys, invalid UTF-8, depth or size beyond the limits.
Json parse_json(std::string_view text, std::string_view what, Code code = Code::kInvalidArgument,
                JsonLimits limits = {});

// Compact text. Invalid UTF-8 in strings becomes U+FFFD; NaN and infinities become null.
std::string dump_json(const Json& value, int indent = -1);

}  // namespace theriac
