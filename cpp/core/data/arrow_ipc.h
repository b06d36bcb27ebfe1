// A table as an Arrow IPC stream: what pyarrow.ipc.open_stream and every other Arrow library read
// from a file or pipe.
// https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
#pragma once

#include <iosfwd>
#include <string>

#include "cpp/core/data/cohort.h"

namespace theriac::data {

// Same columns as export_cohort_stream. Throws kInvalidArgument for an unknown table.
void write_arrow_ipc(const Cohort& cohort, const std::string& table, std::ostream& out);

}  // namespace theriac::data
