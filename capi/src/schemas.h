// The configuration documents that the front library knows, by kind; methods' come from the engine.
#pragma once

#include "cpp/core/base/json.h"

namespace theriac::capi {

Json context_schema();
Json dataset_open_schema();
Json dataset_from_arrow_schema();
Json dataset_generate_schema();
Json dataset_split_schema();
Json dataset_export_schema();
Json merge_schema();
Json merge_inspect_schema();
Json merge_search_schema();
Json merge_soup_schema();
Json merger_schema();
Json augmenter_schema();

}  // namespace theriac::capi
