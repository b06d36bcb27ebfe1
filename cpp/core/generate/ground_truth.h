// Why every class was given: the answer key beside a synthetic cohort.
#pragma once

#include <string>

#include "cpp/core/generate/cohort_writer.h"
#include "cpp/core/generate/patient.h"

namespace theriac::generate {

// One line of ground_truth.jsonl:
// {"patient","sex","birth","chronic":[{"condition","onset"}],"visits":[{"id","admit","reason",
//  "conditions":[present, coded or not],"classes":{ATC level 3:[reasons]},
//  "withheld":[{"class","because","kind":"contraindication"|"interaction"}]}]}
std::string ground_truth_line(const Patient& patient, const CohortWriter& writer);

}  // namespace theriac::generate
