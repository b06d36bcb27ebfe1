// Reading: CSV and FHIR in bytes a second, FHIR beside simdjson's own pass over the same bytes.
//
//     core_bench FHIR_FOLDER MIMIC_FOLDER NDC_ATC.csv
#include <simdjson.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "cpp/core/base/file.h"
#include "cpp/core/readers/clinical.h"

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::uint64_t folder_bytes(const fs::path& folder) {
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() &&
        (entry.path().extension() == ".ndjson" || entry.path().extension() == ".csv"))
      bytes += entry.file_size();
  }
  return bytes;
}

// simdjson alone: every line parsed and its resourceType read; no file reading in the time.
double simdjson_gigabytes(const fs::path& folder) {
  double seconds = 0;
  std::uint64_t bytes = 0, resources = 0;
  simdjson::ondemand::parser parser;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".ndjson") continue;
    simdjson::padded_string text =
        simdjson::padded_string::load(entry.path().string()).value_unsafe();
    const auto start = Clock::now();
    auto stream = parser.iterate_many(text, 1 << 20);
    if (stream.error() != simdjson::SUCCESS) return 0;
    for (auto document : stream.value_unsafe()) {
      std::string_view type;
      if (document["resourceType"].get_string().get(type) == simdjson::SUCCESS) ++resources;
    }
    seconds += seconds_since(start);
    bytes += text.size();
  }
  std::printf("simdjson alone: %llu resources, ", static_cast<unsigned long long>(resources));
  return static_cast<double>(bytes) / 1e9 / seconds;
}

double import_gigabytes(const char* format, const fs::path& folder,
                        const theriac::data::CohortPolicy& policy) {
  theriac::Job job;
  const auto start = Clock::now();
  const theriac::data::Cohort cohort = theriac::readers::read_cohort(format, folder, policy, job);
  const double seconds = seconds_since(start);
  std::printf("%s: %lld patients, %lld visits in %.2f s, ", format,
              static_cast<long long>(cohort.patients()), static_cast<long long>(cohort.visits()),
              seconds);
  return static_cast<double>(folder_bytes(folder)) / 1e9 / seconds;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: core_bench FHIR_FOLDER MIMIC_FOLDER NDC_ATC.csv\n");
    return 2;
  }
  try {
    theriac::data::CohortPolicy policy;
    const double fhir = import_gigabytes("fhir", argv[1], policy);
    std::printf("%.3f GB/s\n", fhir);
    const double floor = simdjson_gigabytes(argv[1]);
    std::printf("%.3f GB/s; import/simdjson %.3f\n", floor, fhir / floor);
    policy.maps.ndc_atc = argv[3];
    std::printf("%.3f GB/s\n", import_gigabytes("mimic-iv", argv[2], policy));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  return 0;
}
