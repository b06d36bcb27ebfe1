// An evaluation report for a person, as a page and on a terminal.
#pragma once

#include <string>

#include "cpp/core/base/json.h"

namespace theriac::cli {

// One self-contained HTML page: metrics with intervals, counts, configuration, the limits beside
// them.
std::string html_report(const Json& report, const std::string& model, const std::string& data);

void print_report(const Json& report);

// An augmenter in a few words, from its effective options: "tmask_r ratio=0.3"; null is none.
std::string augmenter_text(const Json& augmenter);

}  // namespace theriac::cli
