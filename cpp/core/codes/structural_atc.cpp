// ATC: anatomical group (1 character), therapeutic (3), pharmacological (4), chemical (5),
// substance (7).
#include "cpp/core/codes/structural.h"
#include "cpp/core/codes/text.h"

namespace theriac::codes::internal {
namespace {

constexpr std::string_view kAnatomicalGroups = "ABCDGHJLMNPRSV";

bool is_atc(std::string_view code) {
  constexpr std::string_view kPattern = "LDDLLDD";  // L letter, D digit
  const std::size_t size = code.size();
  if (size != 1 && size != 3 && size != 4 && size != 5 && size != 7) return false;
  if (kAnatomicalGroups.find(code[0]) == std::string_view::npos) return false;
  for (std::size_t i = 1; i < size; ++i) {
    if (kPattern[i] == 'D' ? !is_digit(code[i]) : !is_upper(code[i])) return false;
  }
  return true;
}

std::size_t atc_parent(std::string_view code) {
  switch (code.size()) {
    case 7:
      return 5;
    case 5:
      return 4;
    case 4:
      return 3;
    case 3:
      return 1;
    default:
      return 0;
  }
}

}  // namespace

const Rules kAtcRules = {System::kAtc, "ATC", is_atc, atc_parent, {}, {}, {}};

}  // namespace theriac::codes::internal
