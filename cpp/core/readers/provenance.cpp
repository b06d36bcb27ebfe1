#include "cpp/core/readers/provenance.h"

namespace theriac::readers {

Json describe_source(std::string_view format, const std::vector<std::filesystem::path>& files,
                     const codes::CodeMaps& maps) {
  Json out{{"format", format}, {"files", Json::array()}, {"maps", Json::object()}};
  for (const auto& file : files) out["files"].push_back(file.filename().string());
  for (const auto& [table, fingerprint] : maps.versions()) out["maps"][table] = fingerprint;
  return out;
}

void add_warning(Json& provenance, const std::string& what, std::int64_t rows) {
  if (rows != 0) provenance["warnings"][what] = rows;
}

}  // namespace theriac::readers
