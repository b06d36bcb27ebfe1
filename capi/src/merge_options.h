// Options of schema "merge", for the functions that merge on the way to something else.
#pragma once

#include <string>

#include "cpp/core/base/json.h"
#include "cpp/core/engine.h"
#include "cpp/core/merge/merge.h"

namespace theriac::capi {

// `path` is put before the options' names in errors. Refuses the options that the caller decides:
// output, dry_run, name, working_folder, strict.
merge::MergeOptions merge_options_of(const Json& document, const ContextSettings& settings,
                                     const std::string& path = "");

}  // namespace theriac::capi
