// Checks that the columns of every kind of data set share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace theriac::data {

// kDataError "KIND column 'COLUMN' WHAT".
[[noreturn]] void bad_column(const char* kind, const std::string& column, const std::string& what);

// CSR offsets: one more than `rows`, from 0 to `members`, never falling.
void check_offsets(const char* kind, const std::string& column,
                   const std::vector<std::int64_t>& offsets, std::size_t rows, std::size_t members);

}  // namespace theriac::data
