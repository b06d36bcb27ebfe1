// From a code as the source writes it to the code that a cohort keeps, with the reason when there
// is none (medication.md sections 9.1 and 9.2).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/codes/code.h"
#include "cpp/core/codes/mapping.h"
#include "cpp/core/data/cohort.h"
#include "cpp/core/data/cohort_policy_apply.h"
#include "cpp/core/data/policy.h"
#include "cpp/core/readers/string_pool.h"

namespace theriac::readers {

// One source code, judged for one field of a visit.
struct ResolvedCode {
  static constexpr std::uint32_t kNone = StringPool::kNone;

  std::uint32_t code = kNone;  // position in the resolver's list; kNone when unusable
  // Among several codings of one concept the smallest rank wins: the preferred code system first,
  // codes that a map translated later, drugs without a known class last.
  std::uint8_t rank = UINT8_MAX;
  std::string_view reason;                         // why it is unusable (a literal), else empty
  codes::System system = codes::System::kUnknown;  // the source's
  std::string_view text;                           // the source's code in normal form
  bool usable() const noexcept { return code != kNone; }
};

// Each distinct source code is worked out once; afterwards a row costs one look-up. Not
// synchronised.
class CodeResolver {
 public:
  // Loads the maps that the policy names.
  explicit CodeResolver(const data::CohortPolicy& policy);

  // Diagnoses are ICD-10-CM, ICD-9-CM, ICD-10; procedures ICD-10-PCS, ICD-9 volume 3; medications
  // ATC, RxNorm, NDC: preferred in that order. A code of another system counts when the host's code
  // map leads to one of these.
  const ResolvedCode& resolve(data::Field field, codes::System system, std::string_view raw);

  const codes::MedicalCode& code(std::uint32_t position) const { return codes_.at(position); }
  // ATC level-3 classes of a medication code under the policy, as positions; empty when no map
  // knows it.
  const std::vector<std::uint32_t>& classes(std::uint32_t position) const {
    return classes_.at(position);
  }

  // Remembers what a medication code is called, on first sight.
  void name_medication(std::uint32_t position, std::string_view name);
  // Counts one row whose code could not be used for want of a map. Codes of unknown systems are not
  // listed: they may be anything.
  void count_unmapped(const ResolvedCode& resolved, data::Accounting& accounting) const;
  // Counts one row with a drug of no known class, by its code and by its name.
  void count_unmapped_medication(std::uint32_t position, data::Accounting& accounting) const;

  const codes::CodeMaps& maps() const noexcept { return maps_; }

 private:
  ResolvedCode judge(data::Field field, codes::System system, std::string_view raw);
  ResolvedCode judge_ndc(std::string_view raw);
  ResolvedCode judge_mapped(data::Field field, const codes::MedicalCode& source);
  ResolvedCode accept(data::Field field, codes::MedicalCode code, std::uint8_t rank);
  std::uint32_t position_of(const codes::MedicalCode& code);
  void find_classes(std::uint32_t position);

  data::CohortPolicy policy_;
  codes::CodeMaps maps_;
  StringPool keys_;                     // field, system, raw text
  std::vector<ResolvedCode> resolved_;  // beside keys_
  StringPool texts_;                    // system, normal form; beside codes_
  std::vector<codes::MedicalCode> codes_;
  std::vector<std::vector<std::uint32_t>> classes_;  // beside codes_, filled for medications
  std::vector<std::string> names_;                   // beside codes_, filled for medications
  std::string key_;                                  // scratch
};

}  // namespace theriac::readers
