// Medical codes: which system, and one normal form of the text.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "cpp/core/base/error.h"

namespace theriac::codes {

enum class System : std::uint8_t {
  kIcd9cm,    // ICD-9-CM diagnoses (volumes 1, 2)
  kIcd9proc,  // ICD-9-CM procedures (volume 3)
  kIcd10cm,
  kIcd10pcs,
  kIcd10,  // WHO ICD-10
  kAtc,
  kNdc,  // 11 digits, no hyphens
  kRxnorm,
  kSnomed,
  kCpt,
  kHcpcs,
  kLocal,  // a host's own codes
  kUnknown,
};
inline constexpr int kSystemCount = 13;

// "icd9cm", "icd9proc", "icd10cm", "icd10pcs", "icd10", "atc", "ndc", "rxnorm", "snomed", "cpt",
// "hcpcs", "local", "unknown".
std::string_view system_name(System system) noexcept;
std::optional<System> system_from_name(
    std::string_view name) noexcept;  // any case, '-' and '_' ignored
// FHIR coding.system URI -> system. Trailing slashes are trimmed, http and https are the same, case
// does not matter, urn:oid: forms and the code systems of MIMIC-IV-on-FHIR are known. Procedures
// are asked for as such, since the icd-9-cm URI is used for both volumes (`procedure` = true ->
// kIcd9proc).
std::optional<System> system_from_uri(std::string_view uri, bool procedure) noexcept;

// A code with its system; `text` is in normal form: trimmed, upper case, no dots ("E11.9 " ->
// "E119").
struct MedicalCode {
  System system = System::kUnknown;
  std::string text;
  auto operator<=>(const MedicalCode&) const = default;
};

// Normal form of a code's text in a system. Empty when nothing is left. Never allocates for a
// result of up to 15 characters.
//  - ICD and ATC: trimmed, upper case, no dots.
//  - RxNorm, SNOMED CT, CPT, HCPCS: trimmed, upper case. A dot stays, so that a number written as
//    "352320.0" is no code rather than another drug's code.
//  - NDC: the 11 digits (ndc.h); empty for "0" and ""; text that is no 11-digit code is only
//  trimmed
//    and upper-cased, so that it can still be counted and never equals a real code.
//  - local and unknown systems: only trimmed, since a host's own codes may differ in case or dots.
std::string normalise(System system, std::string_view raw);

}  // namespace theriac::codes

template <>
struct std::hash<theriac::codes::MedicalCode> {
  std::size_t operator()(const theriac::codes::MedicalCode& code) const noexcept {
    return std::hash<std::string>{}(code.text) * 31 + static_cast<std::size_t>(code.system);
  }
};
