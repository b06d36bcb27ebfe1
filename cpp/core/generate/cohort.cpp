#include "cpp/core/generate/cohort.h"

#include <memory>

#include "cpp/core/base/error.h"
#include "cpp/core/base/file.h"
#include "cpp/core/generate/cohort_writer.h"
#include "cpp/core/generate/ground_truth.h"
#include "cpp/core/generate/hospital.h"
#include "cpp/core/generate/output_file.h"
#include "cpp/core/generate/patient.h"

namespace theriac::generate {
namespace {

namespace fs = std::filesystem;

constexpr const char* kGroundTruth = "ground_truth.jsonl";

std::unique_ptr<CohortWriter> make_writer(const fs::path& folder, const CohortOptions& options) {
  if (options.format == "fhir") return make_fhir_writer(folder, options);
  if (options.format == "mimic-iv") return make_mimic_iv_writer(folder, options);
  throw Error(Code::kInvalidArgument,
              "format is '" + options.format + "'; expected fhir or mimic-iv")
      .at("option", "format");
}

// Only what this function wrote before, or an empty folder, may be replaced: never somebody's
// files.
bool may_replace(const fs::path& folder) {
  if (!fs::is_directory(folder)) return false;
  return fs::is_empty(folder) || fs::exists(folder / kGroundTruth);
}

void write_patients(const fs::path& folder, const CohortOptions& options, Job& job) {
  const Hospital hospital(options);
  const auto writer = make_writer(folder, options);
  OutputFile truth(folder / kGroundTruth, false);
  const auto total = static_cast<std::uint64_t>(options.patients);
  for (std::int64_t index = 0; index < options.patients; ++index) {
    const Patient patient = simulate_patient(hospital, index);
    writer->write(patient);
    truth.write(ground_truth_line(patient, *writer));
    job.progress("generate", static_cast<std::uint64_t>(index) + 1, total);
  }
  writer->finish();
  truth.finish();
}

}  // namespace

const OptionTable<CohortOptions>& CohortOptions::table() {
  static const auto t =
      OptionTable<CohortOptions>("cohort", "A synthetic hospital cohort in a real file layout")
          .integer("patients", &CohortOptions::patients, {1, 10'000'000}, "number of patients")
          .integer("hospital", &CohortOptions::hospital, {0, 9999},
                   "which hospital: case mix, coding and prescribing habits follow from it")
          .integer("seed", &CohortOptions::seed, {0}, "seed of everything random")
          .choice("format", &CohortOptions::format, {"fhir", "mimic-iv"}, "layout of the files")
          .real("late_leaf_share", &CohortOptions::late_leaf_share, {0.0, 0.6},
                "share of leaf codes that come into use only in the last 30 % of the period")
          .integer("years", &CohortOptions::years, {1, 40}, "length of the period")
          .choice(
              "icd_version", &CohortOptions::icd_version, {"9", "10", "mixed"},
              "9: the years before 2015-10-01; 10: those after; mixed: around it, each admission "
              "coded as of its date")
          .flag("compress", &CohortOptions::compress, "gzip the files");
  return t;
}

void write_cohort(const fs::path& folder, const CohortOptions& options, Job& job) {
  replace_directory(folder, may_replace(folder),
                    [&](const fs::path& staged) { write_patients(staged, options, job); });
}

}  // namespace theriac::generate
