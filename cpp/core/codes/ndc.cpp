#include "cpp/core/codes/ndc.h"

#include <array>
#include <utility>

#include "cpp/core/codes/text.h"

namespace theriac::codes {
namespace {

// Widths of labeler, product and package after padding.
constexpr std::array<std::size_t, 3> kWidths = {5, 4, 2};

// Splits "a-b-c"; false unless there are exactly three parts.
bool split_segments(std::string_view text, std::array<std::string_view, 3>& parts) {
  const std::size_t first = text.find('-');
  if (first == std::string_view::npos) return false;
  const std::size_t second = text.find('-', first + 1);
  if (second == std::string_view::npos) return false;
  parts = {text.substr(0, first), text.substr(first + 1, second - first - 1),
           text.substr(second + 1)};
  return true;
}

// Label forms 4-4-2, 5-3-2 and 5-4-1 are one digit short in one segment; 5-4-2 is complete.
Ndc from_segments(std::string_view text) {
  std::array<std::string_view, 3> parts;
  if (!split_segments(text, parts)) return {NdcStatus::kMalformed, {}};
  std::string digits;
  std::size_t padded = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (!internal::all_digits(parts[i])) return {NdcStatus::kMalformed, {}};
    const bool is_short = parts[i].size() + 1 == kWidths[i];
    if (!is_short && parts[i].size() != kWidths[i]) return {NdcStatus::kMalformed, {}};
    if (is_short) digits.push_back('0');
    padded += is_short ? 1 : 0;
    digits.append(parts[i]);
  }
  if (padded > 1) return {NdcStatus::kMalformed, {}};
  return {NdcStatus::kOk, std::move(digits)};
}

}  // namespace

Ndc normalise_ndc(std::string_view raw) {
  const std::string_view text = internal::trim(raw);
  const bool only_zeros = text.find_first_not_of("0-") == std::string_view::npos;
  if (text.empty() || (only_zeros && text.front() == '0')) return {NdcStatus::kNone, {}};
  if (text.find('-') != std::string_view::npos) return from_segments(text);
  if (!internal::all_digits(text)) return {NdcStatus::kMalformed, {}};
  if (text.size() == 11) return {NdcStatus::kOk, std::string(text)};
  // Ten digits fit 4-4-2, 5-3-2 and 5-4-1 alike; guessing could name another drug.
  if (text.size() == 10) return {NdcStatus::kAmbiguous, {}};
  return {NdcStatus::kMalformed, {}};
}

}  // namespace theriac::codes
