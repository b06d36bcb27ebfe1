#include "cpp/core/data/official_lists.h"

#include <algorithm>
#include <utility>

#include "cpp/core/base/error.h"

namespace theriac::data {
namespace {

using codes::System;

}  // namespace

OfficialLists::OfficialLists(const CohortPolicy& policy) : unknown_code_(policy.unknown_code) {
  const std::pair<System, const std::string&> paths[] = {
      {System::kIcd9cm, policy.lists.icd9cm},
      {System::kIcd9proc, policy.lists.icd9proc},
      {System::kIcd10cm, policy.lists.icd10cm},
      {System::kIcd10pcs, policy.lists.icd10pcs}};
  bool any = false;
  for (const auto& [system, path] : paths) {
    if (path.empty()) continue;
    lists_[static_cast<std::size_t>(system)] = codes::Hierarchy::from_list(system, path);
    any = true;
  }
  if (!any && unknown_code_ != "keep") {
    throw Error(Code::kInvalidArgument,
                "option 'unknown_code' is '" + unknown_code_ +
                    "' but no official list is named; set 'lists.icd9cm', 'lists.icd9proc', "
                    "'lists.icd10cm' or 'lists.icd10pcs'")
        .at("option", "unknown_code");
  }
}

OfficialLists::Answer OfficialLists::decide(const codes::MedicalCode& code) const {
  const auto& list = lists_[static_cast<std::size_t>(code.system)];
  if (!list || list->listed(code.text)) return {true, code};
  if (unknown_code_ == "keep") return {false, code};
  if (unknown_code_ == "drop") return {false, std::nullopt};
  std::optional<std::string> nearest = list->nearest_listed(code.text);
  if (!nearest) return {false, std::nullopt};
  return {false, codes::MedicalCode{code.system, *std::move(nearest)}};
}

const OfficialLists::Answer& OfficialLists::resolve(const codes::MedicalCode& code) {
  const auto found = answers_.find(code);
  if (found != answers_.end()) return found->second;
  return answers_.emplace(code, decide(code)).first->second;
}

Json OfficialLists::fingerprints() const {
  Json prints = Json::object();
  for (std::size_t s = 0; s < lists_.size(); ++s) {
    if (!lists_[s]) continue;
    prints[std::string(codes::system_name(static_cast<System>(s)))] = lists_[s]->fingerprint();
  }
  return prints;
}

}  // namespace theriac::data
