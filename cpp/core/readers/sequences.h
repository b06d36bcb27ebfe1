// Sequences from text: one user a line, or one interaction a row.
#pragma once

#include <filesystem>

#include "cpp/core/base/job.h"
#include "cpp/core/data/sequences_io.h"

namespace theriac::readers {

// Plain or gzip. lines: USER ITEM ITEM ..., separated by blanks or tabs, oldest first (the format of
// the authors' files, sequential-tta.md 1.1); a user on two lines is an error. csv: a header line and
// columns by the policy's names; blanks around a field are not part of it; time as integer seconds
// since 1970 or as parse_time reads, in all rows or in none, and a time column that the policy names
// otherwise than by default has to be there. Throws kDataError naming file, line and column, also
// for a file without any interaction, and kNotFound.
data::Sequences read_sequences(const std::filesystem::path& file,
                               const data::SequencePolicy& policy, Job& job);
// The same from bytes; `name` for errors.
data::Sequences read_sequences_bytes(std::string_view bytes, const std::string& name,
                                     const data::SequencePolicy& policy, Job& job);

}  // namespace theriac::readers
