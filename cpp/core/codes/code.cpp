#include "cpp/core/codes/code.h"

#include <array>
#include <utility>

#include "cpp/core/codes/ndc.h"
#include "cpp/core/codes/text.h"

namespace theriac::codes {
namespace {

using internal::equal_ignoring_case;
using internal::trim;
using internal::upper;

constexpr std::array<std::string_view, kSystemCount> kNames = {
    "icd9cm", "icd9proc", "icd10cm", "icd10pcs", "icd10", "atc",    "ndc",
    "rxnorm", "snomed",   "cpt",     "hcpcs",    "local", "unknown"};

struct UriEntry {
  std::string_view uri;  // without the http scheme and without a trailing slash
  System system;
};

// Official FHIR identifiers first, then HL7 object identifiers, then forms seen in the wild.
constexpr UriEntry kUris[] = {
    {"hl7.org/fhir/sid/icd-9-cm", System::kIcd9cm},
    {"hl7.org/fhir/sid/icd-10-cm", System::kIcd10cm},
    {"hl7.org/fhir/sid/icd-10", System::kIcd10},
    {"www.cms.gov/medicare/coding/icd10", System::kIcd10pcs},
    {"snomed.info/sct", System::kSnomed},
    {"www.nlm.nih.gov/research/umls/rxnorm", System::kRxnorm},
    {"hl7.org/fhir/sid/ndc", System::kNdc},
    {"www.whocc.no/atc", System::kAtc},
    {"www.ama-assn.org/go/cpt", System::kCpt},
    {"www.cms.gov/medicare/coding/hcpcsreleasecodesets", System::kHcpcs},

    {"urn:oid:2.16.840.1.113883.6.103", System::kIcd9cm},
    {"urn:oid:2.16.840.1.113883.6.104", System::kIcd9proc},
    {"urn:oid:2.16.840.1.113883.6.90", System::kIcd10cm},
    {"urn:oid:2.16.840.1.113883.6.4", System::kIcd10pcs},
    {"urn:oid:2.16.840.1.113883.6.3", System::kIcd10},
    {"urn:oid:2.16.840.1.113883.6.73", System::kAtc},
    {"urn:oid:2.16.840.1.113883.6.69", System::kNdc},
    {"urn:oid:2.16.840.1.113883.6.88", System::kRxnorm},
    {"urn:oid:2.16.840.1.113883.6.96", System::kSnomed},
    {"urn:oid:2.16.840.1.113883.6.12", System::kCpt},
    {"urn:oid:2.16.840.1.113883.6.285", System::kHcpcs},

    {"hl7.org/fhir/sid/icd-9-cm/diagnosis", System::kIcd9cm},
    {"hl7.org/fhir/sid/icd-9-cm/procedure", System::kIcd9proc},
    {"hl7.org/fhir/sid/icd-10-pcs", System::kIcd10pcs},
    {"hl7.org/fhir/sid/atc", System::kAtc},

    {"mimic.mit.edu/fhir/mimic/codesystem/mimic-diagnosis-icd9", System::kIcd9cm},
    {"mimic.mit.edu/fhir/mimic/codesystem/mimic-diagnosis-icd10", System::kIcd10cm},
    {"mimic.mit.edu/fhir/mimic/codesystem/mimic-procedure-icd9", System::kIcd9proc},
    {"mimic.mit.edu/fhir/mimic/codesystem/mimic-procedure-icd10", System::kIcd10pcs},
    {"mimic.mit.edu/fhir/mimic/codesystem/mimic-medication-ndc", System::kNdc},
};

std::string_view without_scheme(std::string_view uri) {
  for (std::string_view scheme : {"http://", "https://"}) {
    if (equal_ignoring_case(uri.substr(0, scheme.size()), scheme)) return uri.substr(scheme.size());
  }
  return uri;
}

// Compares a name given by a host with one of kNames: any case, '-' and '_' skipped.
bool same_name(std::string_view given, std::string_view name) {
  std::size_t at = 0;
  for (char c : given) {
    if (c == '-' || c == '_') continue;
    if (at == name.size() || upper(c) != upper(name[at])) return false;
    ++at;
  }
  return at == name.size();
}

// A dot at an end may hide a blank behind it ("428 .").
std::string upper_case_without_dots(std::string_view text) {
  const auto outer = [](char c) { return c == '.' || internal::is_blank(c); };
  while (!text.empty() && outer(text.front())) text.remove_prefix(1);
  while (!text.empty() && outer(text.back())) text.remove_suffix(1);
  std::string out;
  out.reserve(text.size());
  for (char c : text) {
    if (c != '.') out.push_back(upper(c));
  }
  return out;
}

std::string upper_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = upper(c);
  return out;
}

std::string normalise_ndc_text(std::string_view text) {
  Ndc ndc = normalise_ndc(text);
  if (ndc.status == NdcStatus::kOk) return std::move(ndc.digits);
  return ndc.status == NdcStatus::kNone ? std::string() : upper_case(text);
}

}  // namespace

std::string_view system_name(System system) noexcept {
  const auto at = static_cast<std::size_t>(system);
  return at < kNames.size() ? kNames[at] : kNames.back();
}

std::optional<System> system_from_name(std::string_view name) noexcept {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (same_name(name, kNames[i])) return static_cast<System>(i);
  }
  if (same_name(name, "icd10proc")) return System::kIcd10pcs;  // the name PyHealth uses
  return std::nullopt;
}

std::optional<System> system_from_uri(std::string_view uri, bool procedure) noexcept {
  uri = without_scheme(trim(uri));
  while (!uri.empty() && uri.back() == '/') uri.remove_suffix(1);
  for (const UriEntry& entry : kUris) {
    if (!equal_ignoring_case(uri, entry.uri)) continue;
    return procedure && entry.system == System::kIcd9cm ? System::kIcd9proc : entry.system;
  }
  return std::nullopt;
}

std::string normalise(System system, std::string_view raw) {
  const std::string_view text = trim(raw);
  switch (system) {
    case System::kIcd9cm:
    case System::kIcd9proc:
    case System::kIcd10cm:
    case System::kIcd10pcs:
    case System::kIcd10:
    case System::kAtc:
      return upper_case_without_dots(text);
    case System::kNdc:
      return normalise_ndc_text(text);
    case System::kRxnorm:
    case System::kSnomed:
    case System::kCpt:
    case System::kHcpcs:
      return upper_case(text);
    case System::kLocal:
    case System::kUnknown:
      break;
  }
  return std::string(text);
}

}  // namespace theriac::codes
