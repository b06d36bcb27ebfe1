#include "cpp/core/base/byte_count.h"

#include <charconv>
#include <limits>
#include <string>

#include "cpp/core/base/error.h"

namespace theriac {
namespace {

// 0 for a letter that is no unit.
std::uint64_t factor_of(char unit) {
  switch (unit) {
    case 'k':
    case 'K':
      return 1'000;
    case 'm':
    case 'M':
      return 1'000'000;
    case 'b':
    case 'B':
    case 'g':
    case 'G':
      return 1'000'000'000;
    default:
      return 0;
  }
}

}  // namespace

std::uint64_t parse_byte_count(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const std::uint64_t factor = unit.empty() ? 1 : unit.size() == 1 ? factor_of(unit.front()) : 0;
  if (error == std::errc() && number > 0 && factor > 0 &&
      number <= std::numeric_limits<std::uint64_t>::max() / factor) {
    return number * factor;
  }
  throw Error(Code::kInvalidArgument,
              "'" + std::string(text.substr(0, 64)) +
                  "' is no size; expected a number of bytes above 0, perhaps with K, M or B "
                  "(thousand, million, billion), such as 5B");
}

}  // namespace theriac
