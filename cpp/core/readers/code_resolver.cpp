#include "cpp/core/readers/code_resolver.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <utility>

#include "cpp/core/codes/ndc.h"

namespace theriac::readers {

namespace {

using codes::System;
using data::Field;

// No code of any system is longer; what is longer is a text in the wrong place, and stays out of
// the report.
constexpr std::size_t kLongestCode = 64;
constexpr std::size_t kLongestName = 120;

// Ranks of codes that a map translated, and of drugs without a class, lie above the direct ones.
constexpr std::uint8_t kMappedRank = 16;
constexpr std::uint8_t kClasslessRank = 32;
constexpr std::uint8_t kUnusableRank = 64;

std::optional<std::uint8_t> place_in(System system, std::initializer_list<System> order) {
  const auto* at = std::find(order.begin(), order.end(), system);
  if (at == order.end()) return std::nullopt;
  return static_cast<std::uint8_t>(at - order.begin());
}

// Place of a system among those a field's codes may come from, the preferred first.
std::optional<std::uint8_t> preference(Field field, System system) {
  switch (field) {
    case Field::kDiagnoses:
      return place_in(system, {System::kIcd10cm, System::kIcd9cm, System::kIcd10});
    case Field::kProcedures:
      return place_in(system, {System::kIcd10pcs, System::kIcd9proc});
    case Field::kMedications:
      return place_in(system, {System::kAtc, System::kRxnorm, System::kNdc});
  }
  return std::nullopt;
}

std::string_view unusable_reason(System system) {
  switch (system) {
    case System::kUnknown:
      return "unknown code system";
    case System::kCpt:
    case System::kHcpcs:
      return "CPT or HCPCS code without a map";
    case System::kSnomed:
      return "SNOMED CT code without a map";
    default:
      return "code of another kind without a map";
  }
}

ResolvedCode unusable(std::string_view reason, System system, std::uint8_t closeness = 0) {
  ResolvedCode out;
  out.reason = reason;
  out.system = system;
  out.rank = static_cast<std::uint8_t>(kUnusableRank + closeness);
  return out;
}

}  // namespace

CodeResolver::CodeResolver(const data::CohortPolicy& policy)
    : policy_(policy), maps_(codes::CodeMaps::load(policy.maps)) {}

const ResolvedCode& CodeResolver::resolve(Field field, System system, std::string_view raw) {
  static const ResolvedCode kTooLong = unusable("malformed code", System::kUnknown);
  if (raw.size() > kLongestCode) return kTooLong;
  key_.assign({static_cast<char>(field), static_cast<char>(system)});
  key_.append(raw);
  const std::uint32_t position = keys_.intern(key_);
  if (position == resolved_.size()) resolved_.push_back(judge(field, system, raw));
  return resolved_[position];
}

ResolvedCode CodeResolver::judge(Field field, System system, std::string_view raw) {
  if (system == System::kUnknown) return unusable(unusable_reason(system), system, 3);
  if (field == Field::kMedications && system == System::kNdc) return judge_ndc(raw);
  codes::MedicalCode code{system, codes::normalise(system, raw)};
  if (code.text.empty()) return unusable("no code", system, 2);
  if (const auto place = preference(field, system)) return accept(field, std::move(code), *place);
  return judge_mapped(field, code);
}

ResolvedCode CodeResolver::judge_ndc(std::string_view raw) {
  codes::Ndc ndc = codes::normalise_ndc(raw);
  switch (ndc.status) {
    case codes::NdcStatus::kOk:
      break;
    case codes::NdcStatus::kNone:
      return unusable("no NDC", System::kNdc, 2);
    case codes::NdcStatus::kAmbiguous:
      return unusable("ambiguous NDC of 10 digits without hyphens", System::kNdc);
    case codes::NdcStatus::kMalformed:
      return unusable("malformed NDC", System::kNdc);
  }
  return accept(Field::kMedications, {System::kNdc, std::move(ndc.digits)},
                *preference(Field::kMedications, System::kNdc));
}

// The best target of the host's code map that the field can use.
ResolvedCode CodeResolver::judge_mapped(Field field, const codes::MedicalCode& source) {
  for (const codes::MedicalCode& target : maps_.targets(source)) {
    if (const auto place = preference(field, target.system)) {
      ResolvedCode out = accept(field, target, static_cast<std::uint8_t>(kMappedRank + *place));
      out.system = source.system;
      return out;
    }
  }
  ResolvedCode out = unusable(unusable_reason(source.system), source.system, 1);
  out.text = texts_.text(position_of(source)).substr(1);
  return out;
}

ResolvedCode CodeResolver::accept(Field field, codes::MedicalCode code, std::uint8_t rank) {
  ResolvedCode out;
  out.system = code.system;
  out.code = position_of(code);
  out.text = texts_.text(out.code).substr(1);
  out.rank = rank;
  if (field == Field::kMedications) {
    find_classes(out.code);
    if (classes_[out.code].empty()) out.rank = static_cast<std::uint8_t>(rank + kClasslessRank);
  }
  return out;
}

std::uint32_t CodeResolver::position_of(const codes::MedicalCode& code) {
  std::string text(1, static_cast<char>(code.system));
  const std::uint32_t position = texts_.intern(text.append(code.text));
  if (position == codes_.size()) {
    codes_.push_back(code);
    classes_.emplace_back();
    names_.emplace_back();
  }
  return position;
}

void CodeResolver::find_classes(std::uint32_t position) {
  if (!classes_[position].empty()) return;
  std::vector<std::uint32_t> found;
  for (const codes::MedicalCode& atc : data::medication_classes(maps_, codes_[position], policy_)) {
    found.push_back(position_of(atc));
  }
  classes_[position] = std::move(found);
}

void CodeResolver::name_medication(std::uint32_t position, std::string_view name) {
  std::string& known = names_.at(position);
  if (known.empty() && name.size() <= kLongestName) known = name;
}

void CodeResolver::count_unmapped(const ResolvedCode& resolved,
                                  data::Accounting& accounting) const {
  if (resolved.system == System::kUnknown || resolved.text.empty()) return;
  accounting.unmapped(codes::system_name(resolved.system), resolved.text);
}

void CodeResolver::count_unmapped_medication(std::uint32_t position,
                                             data::Accounting& accounting) const {
  const codes::MedicalCode& medication = codes_.at(position);
  accounting.unmapped(codes::system_name(medication.system), medication.text);
  if (!names_[position].empty()) accounting.unmapped("drug name", names_[position]);
}

}  // namespace theriac::readers
