// An evaluation report as a page for a person.
#pragma once

#include <string>

#include "cpp/core/base/json.h"

namespace theriac::cli {

// One self-contained HTML page: metrics with intervals, counts, configuration, the limits beside
// them.
std::string html_report(const Json& report, const std::string& model, const std::string& data);

}  // namespace theriac::cli
