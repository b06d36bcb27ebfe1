// A FHIR file or folder, given to a FhirImport file by file.
#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "cpp/core/readers/clinical.h"
#include "cpp/core/readers/fhir_import.h"
#include "cpp/core/readers/progress_source.h"

namespace theriac::readers {

namespace {

namespace fs = std::filesystem;

std::string_view without_gzip(std::string_view name) {
  return name.ends_with(".gz") ? name.substr(0, name.size() - 3) : name;
}

bool has_lines(const fs::path& file) {
  const std::string name = file.filename().string();
  const std::string_view plain = without_gzip(name);
  return plain.ends_with(".ndjson");
}

bool is_fhir_file(const fs::path& file) {
  return has_lines(file) || without_gzip(file.filename().string()).ends_with(".json");
}

// The file itself, or the FHIR files right inside the folder, by name.
std::vector<fs::path> fhir_files(const fs::path& path) {
  std::error_code failed;
  const auto status = fs::status(path, failed);
  if (!fs::exists(status)) {
    throw Error(Code::kNotFound, "'" + path.string() + "' does not exist")
        .at("file", path.string());
  }
  if (!fs::is_directory(status)) return {path};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.is_regular_file() && is_fhir_file(entry.path())) files.push_back(entry.path());
  }
  if (files.empty()) {
    throw Error(
        Code::kNotFound,
        "'" + path.string() + "' holds no FHIR file; expected .ndjson or .json, plain or .gz")
        .at("file", path.string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

data::Cohort read_fhir(const fs::path& path, const data::CohortPolicy& policy, Job& job) {
  const std::vector<fs::path> files = fhir_files(path);
  ReadProgress progress(job, files);
  FhirImport import(policy);
  for (const fs::path& file : files) import.read(progress.open(file), has_lines(file));
  return import.finish(files, job);
}

}  // namespace theriac::readers
