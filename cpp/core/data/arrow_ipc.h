// A table as an Arrow IPC stream: what pyarrow.ipc.open_stream and every other Arrow library read
// from a file or pipe.
// https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
#pragma once

#include <iosfwd>

#include "cpp/core/data/table.h"

namespace theriac::data {

// The rows that are left. Columns are text, integers and times.
void write_arrow_ipc(RowCursor& cursor, std::ostream& out);

}  // namespace theriac::data
