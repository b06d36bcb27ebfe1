// Simulated patients as the files real hospitals export.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "cpp/core/generate/patient.h"

namespace theriac::generate {

// Writes patient after patient, in the order given. Not synchronised.
class CohortWriter {
 public:
  virtual ~CohortWriter() = default;
  virtual void write(const Patient& patient) = 0;
  virtual void finish() = 0;
  // Ids as they stand in the files.
  virtual std::string patient_id(const Patient& patient) const = 0;
  virtual std::string visit_id(const Patient& patient, const Visit& visit) const = 0;
};

// FHIR R4, one NDJSON file a resource type: Patient, Encounter, Condition, Procedure,
// MedicationRequest.
std::unique_ptr<CohortWriter> make_fhir_writer(const std::filesystem::path& folder,
                                               const CohortOptions& options);
// MIMIC-IV 2.2: hosp/patients, admissions, diagnoses_icd, procedures_icd, prescriptions; and
// ndc_atc, the mapping table from their made-up National Drug Codes to ATC (option `maps.ndc_atc`
// of the readers).
std::unique_ptr<CohortWriter> make_mimic_iv_writer(const std::filesystem::path& folder,
                                                   const CohortOptions& options);

// Numbers of a patient's visits that do not follow time, as hospital ids do not: 00 to 99,
// distinct.
int visit_tag(const Patient& patient, const Visit& visit);
// `value` with leading zeros.
std::string padded(std::int64_t value, int digits);

}  // namespace theriac::generate
