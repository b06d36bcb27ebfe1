#include "cpp/core/readers/clinical.h"

#include <vector>

#include "cpp/core/base/options.h"

namespace theriac::readers {

data::Cohort read_cohort(const std::string& format, const std::filesystem::path& path,
                         const data::CohortPolicy& policy, Job& job) {
  if (format == "mimic-iii") return read_mimic_iii(path, policy, job);
  if (format == "mimic-iv") return read_mimic_iv(path, policy, job);
  if (format == "fhir") return read_fhir(path, policy, job);
  const std::string near = nearest_name(format, {"mimic-iii", "mimic-iv", "fhir"});
  throw Error(Code::kInvalidArgument, "unknown clinical format '" + format + "'" +
                                          (near.empty() ? "" : "; did you mean '" + near + "'?") +
                                          " Known formats: mimic-iii, mimic-iv, fhir")
      .at("option", "format");
}

}  // namespace theriac::readers
