// Splits of a cohort. Parts keep the parent's vocabularies, so that ids agree.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpp/core/base/options.h"
#include "cpp/core/data/cohort.h"

namespace theriac::data {

struct SplitOptions {
  std::string how = "patient";  // patient | time | file_order | fold
  double valid = 0.1;           // share of patients (or, by time, of the last visits' dates)
  double test = 0.1;
  std::int64_t seed = 1994;
  std::int64_t folds = 5;  // fold: into how many test sets the patients are divided
  std::int64_t fold = 0;   // and which of them is `test`, 0 to folds - 1
  static const OptionTable<SplitOptions>& table();
};

struct SplitParts {
  Cohort train, valid, test;
};

// Within a part, patients keep the parent's order.
//
// patient: shuffled by Philox(seed, "split"), train = first int((1-valid-test) n), valid up to
//     int((1-test) n) (medication.md 2.2).
// time: patients ordered by their last visit's admission; the latest go to test, those before to
//     valid.
// file_order: train = first int(2n/3), rest halved, test first (medication.md section 4, bootstrap
//     protocol).
// fold: cross-validation. Patients shuffled as above; every folds-th from `fold` on is in test, so
//     that over all folds each patient is tested once; int(valid n) of the others are in valid.
//     folds = patients leaves one patient out.
// Throws kInvalidArgument, naming the option, for shares over 1, a fold that is not below `folds`,
// or more folds than patients.
SplitParts split_cohort(const Cohort& cohort, const SplitOptions& options);
// A cohort of the patients named by position, in that order. Throws kInvalidArgument for a position
// outside, kDataError for one named twice.
Cohort select_patients(const Cohort& cohort, const std::vector<std::int64_t>& patients);

}  // namespace theriac::data
