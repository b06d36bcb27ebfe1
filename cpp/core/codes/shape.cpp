// has_code_shape: what a code of each system looks like.
#include "cpp/core/codes/hierarchy.h"
#include "cpp/core/codes/structural.h"
#include "cpp/core/codes/text.h"

namespace theriac::codes {
namespace {

using internal::all_digits;
using internal::is_digit;
using internal::is_upper;

bool digits_between(std::string_view text, std::size_t low, std::size_t high) {
  return text.size() >= low && text.size() <= high && all_digits(text);
}

// WHO ICD-10: letter, two digits, up to two further digits ("M0590").
bool is_who_icd10(std::string_view text) {
  return text.size() >= 3 && text.size() <= 5 && is_upper(text[0]) && all_digits(text.substr(1));
}

// Four digits, then a digit or the letter of category II (F), III (T), laboratory (U), modifier (M)
// codes.
bool is_cpt(std::string_view text) {
  if (text.size() != 5 || !all_digits(text.substr(0, 4))) return false;
  const char last = text[4];
  return is_digit(last) || last == 'F' || last == 'T' || last == 'U' || last == 'M';
}

bool is_hcpcs(std::string_view text) {
  return text.size() == 5 && text[0] >= 'A' && text[0] <= 'V' && all_digits(text.substr(1));
}

}  // namespace

bool has_code_shape(System system, std::string_view text) noexcept {
  switch (system) {
    case System::kIcd9cm:
      return internal::kIcd9cmRules.is_code(text);
    case System::kIcd9proc:
      return internal::kIcd9procRules.is_code(text);
    case System::kIcd10cm:
      return internal::kIcd10cmRules.is_code(text);
    case System::kIcd10pcs:
      return text.size() == 7 && internal::kIcd10pcsRules.is_code(text);
    case System::kAtc:
      return internal::kAtcRules.is_code(text);
    case System::kIcd10:
      return is_who_icd10(text);
    case System::kNdc:
      return digits_between(text, 11, 11);
    case System::kRxnorm:
      return digits_between(text, 1, 8);
    case System::kSnomed:
      return digits_between(text, 6, 18);
    case System::kCpt:
      return is_cpt(text);
    case System::kHcpcs:
      return is_hcpcs(text);
    case System::kLocal:
    case System::kUnknown:
      return !text.empty();
  }
  return false;
}

}  // namespace theriac::codes
