// Tables as text, and their names in complaints.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "cpp/core/data/table.h"

namespace theriac::data {

// "csv, jsonl or arrow".
std::string listed(const std::vector<std::string>& names);

// Writes the rows as csv, jsonl (one object a row) or arrow (an IPC stream). Throws
// kInvalidArgument for another format, naming `formats`, of which these three may be a part.
void write_rows(RowCursor& cursor, const std::string& format,
                const std::vector<std::string>& formats, std::ostream& out);
[[noreturn]] void unknown_format(const std::string& format,
                                 const std::vector<std::string>& formats);
// Throws kIoError when something was not written.
void finish_table(const std::string& table, std::ostream& out);

}  // namespace theriac::data
