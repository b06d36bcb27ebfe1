// The few fields of a FHIR R4 resource that a cohort needs (the table of medication.md section
// 9.1).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/readers/fhir_source.h"

namespace theriac::readers {

enum class FhirType : std::uint8_t {
  kPatient,
  kEncounter,
  kCondition,
  kProcedure,
  kMedicationRequest,
  kMedicationAdministration,
  kMedicationStatement,
  kMedication,
  kBundle,
  kOther,
};
inline constexpr int kFhirTypeCount = 10;

struct FhirCoding {
  std::string_view system, code, display;
};

// Views into the parser's memory, valid until its next parse. Empty means absent. References are as
// written.
struct FhirResource {
  FhirType type = FhirType::kOther;
  std::string_view id;
  std::string_view full_url;  // of the Bundle entry
  std::string_view status, intent;
  std::string_view subject, encounter, part_of, medication;
  std::string_view start, end;      // Encounter.period
  std::string_view date;            // authoredOn, effective[x]
  std::string_view verification;    // Condition.verificationStatus
  std::vector<FhirCoding> codings;  // of `code` or the medication, also of a contained Medication
  std::vector<std::string_view> diagnoses;  // references of Encounter.diagnosis
  bool do_not_perform = false;
  bool is_problem_list_item = false;
  void clear();
};

// Parses texts and hands out their resources. Not synchronised.
class FhirParser {
 public:
  FhirParser(std::string file, FhirLimits limits);
  ~FhirParser();

  // Checks the whole text, to the last byte, and starts reading it. Throws kDataError that names
  // file, line and JSON path for malformed JSON, invalid UTF-8, too deep nesting, and what is not a
  // resource.
  void parse(const JsonText& text);
  // The resource at hand: the text's own, the one inside a Bundle entry, or those of a Bundle on
  // one line; false when there is none left. Throws kDataError as above for a field of the wrong
  // type.
  bool next(FhirResource& out);
  // An error about a field of the resource at hand ("period.start").
  Error error(const std::string& field, const std::string& what) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string_view fhir_type_name(FhirType type) noexcept;

}  // namespace theriac::readers
