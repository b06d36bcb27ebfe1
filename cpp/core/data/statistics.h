// What a cohort holds, in numbers.
#pragma once

#include "cpp/core/base/json.h"
#include "cpp/core/data/cohort.h"

namespace theriac::data {

// {"kind", "patients", "visits", "vocabulary": {field: size}, "systems": {field: {system: codes}},
// "per_visit": {field:
// {"mean", "max"}}, "visits_per_patient": {"mean", "max"}, "published_style": {...}, "accounting",
// "provenance", "fingerprint"}.
//
// "published_style" repeats the averages that GAMENet and SafeDrug print (medication.md 2.1): sum
// over patients of distinct codes of the whole history, divided by visits, and maxima per patient.
// They are not per-visit figures.
Json describe(const Cohort& cohort);

}  // namespace theriac::data
