// National Drug Codes to their 11-digit form (medication.md section 9.2).
#pragma once

#include <string>
#include <string_view>

namespace theriac::codes {

enum class NdcStatus { kOk, kNone, kAmbiguous, kMalformed };
struct Ndc {
  NdcStatus status = NdcStatus::kNone;
  std::string digits;  // 11 digits when kOk
};

// Hyphenated 4-4-2, 5-3-2, 5-4-1 and 5-4-2 are padded; 11 digits pass; 10 digits without hyphens
// are ambiguous; "" and "0" (and all zeros) mean none; anything else is malformed.
Ndc normalise_ndc(std::string_view raw);

}  // namespace theriac::codes
