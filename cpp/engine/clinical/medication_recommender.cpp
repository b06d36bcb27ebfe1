#include "cpp/engine/clinical/medication_recommender.h"

namespace theriac::clinical {

void FrozenCohortScorer::score(std::int64_t first, std::int64_t last,
                               std::span<float> probabilities) const {
  FrozenWorkspace workspace;
  std::vector<FrozenVisit> visits;
  const data::Cohort& cohort = cohort_.mapped->cohort();
  const auto width = static_cast<std::size_t>(scorer_.classes());
  std::size_t row = 0;
  for (std::int64_t p = first; p < last; ++p) {
    for (std::int64_t v = cohort.first_visit(p); v < cohort.last_visit(p); ++v, ++row) {
      frozen_visits(cohort_, {p, v}, max_visits_, visits);
      scorer_.score(visits, workspace, probabilities.subspan(row * width, width));
    }
  }
}

ReadCohort read_cohort(const MappedCohort& mapped, const CodeEncoder* diagnoses,
                       const CodeEncoder* procedures) {
  ReadCohort read;
  read.mapped = &mapped;
  if (diagnoses != nullptr)
    read.diagnoses = OutsideVectors(mapped, data::Field::kDiagnoses, *diagnoses);
  if (procedures != nullptr)
    read.procedures = OutsideVectors(mapped, data::Field::kProcedures, *procedures);
  return read;
}

}  // namespace theriac::clinical
