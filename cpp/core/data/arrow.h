// Cohorts over the Arrow C stream interface, in both directions, without a copy of the Arrow
// libraries.
#pragma once

#include <memory>
#include <string>

#include "cpp/core/base/job.h"
#include "cpp/core/data/arrow_abi.h"
#include "cpp/core/data/cohort.h"
#include "cpp/core/data/policy.h"

namespace theriac::data {

// Fills `out` with a stream over one table, in batches of up to 65,536 rows. The cohort lives until
// the stream is released; a batch owns its buffers and outlives the stream. Structs may be moved by
// copying and clearing `release`. One stream, one thread at a time. Columns:
//
//   codes       patient utf8, visit utf8, time timestamp[s] (null if unknown), field utf8, system
//   utf8, code utf8 visits      patient utf8, visit utf8, time timestamp[s] patients    patient
//   utf8, visits int64 vocabulary  field utf8, id int32, system utf8, code utf8
//
// Throws kInvalidArgument naming the nearest table.
void export_cohort_stream(std::shared_ptr<const Cohort> cohort, const std::string& table,
                          ArrowArrayStream* out);

// Reads a long table of codes from a host and finishes it as every reader does (apply_policy). `in`
// is taken over at once and released exactly once, also on failure. Columns, by name in any order,
// others are ignored:
//
//   patient, visit  utf8, large_utf8, utf8_view, an integer of any width, or a dictionary of these
//   time            timestamp of any unit (its zone is ignored), date32, date64, int64 seconds
//   since
//                   1970, or text as parse_time reads; may be absent or null: unknown. The earliest
//                   of a visit's rows counts.
//   field           text: diagnoses, procedures or medications
//   system          text: a name of codes::system_name, e.g. icd10cm
//   code            text; medications of systems other than ATC go through policy.maps, and so do
//                   diagnoses and procedures that `maps.codes` knows
//
// A row without patient or visit is dropped and counted; so is one without a code or field, which
// still makes its visit known. Throws kDataError naming the column and row, or with the producer's
// own words when the producer fails; kInvalidArgument for a stream already released and for the
// policy med_window = first_day, since rows carry no prescription day.
Cohort import_cohort_stream(ArrowArrayStream* in, const CohortPolicy& policy, Job* job = nullptr);

}  // namespace theriac::data
