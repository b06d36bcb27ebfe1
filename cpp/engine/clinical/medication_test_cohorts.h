// Small cohorts for tests: generated ones, and the demos' golden visits where the data is at hand.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cpp/core/data/cohort.h"

namespace theriac::clinical::testing {

struct CohortShape {
  std::int64_t patients = 40;
  std::int64_t max_visits = 5;  // 1 to this many
  std::int64_t diagnoses = 60;  // size of the code pools
  std::int64_t procedures = 20;
  std::int64_t classes = 12;
  std::uint64_t seed = 7;
};

// ICD-9-CM diagnoses in the 4xxx range, ICD-9 procedures, ATC classes that follow the diagnosis'
// category and, half of the time, stay from visit to visit.
data::Cohort generated_cohort(const CohortShape& shape);

// The first `patients` patients.
data::Cohort first_patients(const data::Cohort& cohort, std::int64_t patients);

// $THERIAC_DATA_DIR or ../shared/data beside the source tree; nullopt where neither is a folder.
std::optional<std::filesystem::path> data_folder();
// Golden visits of a demo ("mimic-iii-demo.single"): medication.md section 12.6.
data::Cohort fixture_cohort(const std::filesystem::path& data, const std::string& name);

// A new empty folder, removed with its content at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace theriac::clinical::testing
