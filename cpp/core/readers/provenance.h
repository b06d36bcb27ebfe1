// Where a cohort comes from, as a document that is kept with it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/json.h"
#include "cpp/core/codes/mapping.h"

namespace theriac::readers {

// {"format": ..., "files": [names, without folders], "maps": {table: fingerprint}}
Json describe_source(std::string_view format, const std::vector<std::filesystem::path>& files,
                     const codes::CodeMaps& maps);
// Adds {"warnings": {what: rows}}: oddities of the data that did not cost a row. Nothing for 0
// rows.
void add_warning(Json& provenance, const std::string& what, std::int64_t rows);

}  // namespace theriac::readers
