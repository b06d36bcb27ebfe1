#include "cpp/core/data/column_checks.h"

#include <algorithm>
#include <functional>

#include "cpp/core/base/error.h"

namespace theriac::data {

void bad_column(const char* kind, const std::string& column, const std::string& what) {
  throw Error(Code::kDataError, std::string(kind) + " column '" + column + "' " + what)
      .at("column", column);
}

void check_offsets(const char* kind, const std::string& column,
                   const std::vector<std::int64_t>& offsets, std::size_t rows,
                   std::size_t members) {
  if (offsets.size() != rows + 1) {
    bad_column(
        kind, column,
        "has " + std::to_string(offsets.size()) + " entries; expected " + std::to_string(rows + 1));
  }
  if (offsets.front() != 0 || offsets.back() != static_cast<std::int64_t>(members)) {
    bad_column(kind, column, "does not run from 0 to " + std::to_string(members));
  }
  const auto fall = std::adjacent_find(offsets.begin(), offsets.end(), std::greater<>());
  if (fall != offsets.end()) {
    bad_column(kind, column, "falls at entry " + std::to_string(fall - offsets.begin() + 1));
  }
}

}  // namespace theriac::data
