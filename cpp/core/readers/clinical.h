// Clinical records into a cohort: MIMIC-III and MIMIC-IV tables, FHIR R4.
#pragma once

#include <filesystem>
#include <string>

#include "cpp/core/base/job.h"
#include "cpp/core/data/cohort.h"
#include "cpp/core/data/policy.h"

namespace theriac::readers {

// Folders with ADMISSIONS, DIAGNOSES_ICD, PROCEDURES_ICD, PRESCRIPTIONS (.csv or .csv.gz, any
// case).
data::Cohort read_mimic_iii(const std::filesystem::path& folder, const data::CohortPolicy& policy,
                            Job& job);
data::Cohort read_mimic_iv(const std::filesystem::path& folder, const data::CohortPolicy& policy,
                           Job& job);

// A Bundle (.json), or a folder of NDJSON files and Bundles (Patient, Encounter, Condition,
// Procedure, MedicationRequest, MedicationAdministration, MedicationStatement, Medication; .gz
// accepted). Streams: memory is bounded by the coded content, not by the size of the files.
data::Cohort read_fhir(const std::filesystem::path& path, const data::CohortPolicy& policy,
                       Job& job);

// format: "mimic-iii" | "mimic-iv" | "fhir". Throws kInvalidArgument naming the nearest format.
data::Cohort read_cohort(const std::string& format, const std::filesystem::path& path,
                         const data::CohortPolicy& policy, Job& job);

}  // namespace theriac::readers
