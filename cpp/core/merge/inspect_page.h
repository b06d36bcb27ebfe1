// The report of inspect_models as one self-contained HTML page: heat maps between the models, charts
// over the layers, every number also as a table. No script, no external resource; light and dark.
#pragma once

#include <string>

#include "cpp/core/base/json.h"

namespace theriac::merge {

// `report`: as inspect_models returns it. Names are escaped; at most kMostRows layers are drawn.
std::string inspect_page(const Json& report);

inline constexpr std::size_t kMostRows = 1000;

}  // namespace theriac::merge
