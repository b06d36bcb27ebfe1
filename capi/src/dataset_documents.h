// The documents of the data set functions: members taken out of them, options of exports.
#pragma once

#include <string>
#include <vector>

#include "cpp/core/base/json.h"
#include "cpp/core/base/options.h"

namespace theriac::capi {

inline constexpr const char* kCohort = "cohort";
inline constexpr const char* kSequences = "sequences";

// What "dataset.open" reads.
const std::vector<std::string>& data_formats();

// Takes a member out of a document, so that the rest can be checked against one table.
std::string take_text(Json& document, const char* key, const std::string& fallback);
// One of `names`.
std::string take_choice(Json& document, const char* key, const std::string& fallback,
                        const std::vector<std::string>& names);
std::string take_path(Json& document);

struct CohortExportOptions {
  std::string table = "patients", format = "jsonl";
  static const OptionTable<CohortExportOptions>& options();
};

struct SequenceExportOptions {
  std::string table = "sequences", format = "jsonl";
  static const OptionTable<SequenceExportOptions>& options();
};

}  // namespace theriac::capi
