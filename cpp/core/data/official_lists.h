// The official code lists of a policy, and what `unknown_code` makes of a code that they lack.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <unordered_map>

#include "cpp/core/base/json.h"
#include "cpp/core/codes/code.h"
#include "cpp/core/codes/hierarchy.h"
#include "cpp/core/data/policy.h"

namespace theriac::data {

// Not synchronised: answers are remembered per code.
class OfficialLists {
 public:
  // Loads the lists that `policy.lists` names. Throws kInvalidArgument when unknown_code asks for
  // lists and none is named.
  explicit OfficialLists(const CohortPolicy& policy);

  struct Answer {
    bool known = true;                       // listed, or of a system without a list
    std::optional<codes::MedicalCode> code;  // what stands for it now; empty: dropped
  };
  const Answer& resolve(const codes::MedicalCode& code);

  Json fingerprints() const;  // {"icd9cm": hex, ...} of the lists loaded

 private:
  Answer decide(const codes::MedicalCode& code) const;

  std::string unknown_code_;
  std::array<std::optional<codes::Hierarchy>, codes::kSystemCount> lists_;
  std::unordered_map<codes::MedicalCode, Answer> answers_;
};

}  // namespace theriac::data
