// Sizes as users write them.
#pragma once

#include <cstdint>
#include <string_view>

namespace theriac {

// "5B", "500M", "20K" or "1234": bytes above 0, with K = 10^3, M = 10^6 and B or G = 10^9, in either
// case, as merge tools have it. Throws kInvalidArgument.
std::uint64_t parse_byte_count(std::string_view text);

}  // namespace theriac
