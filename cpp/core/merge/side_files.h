// The files of a merged model beside its tensors: config.json, the tokenizer's, the chat template,
// README.md and the recipe.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cpp/core/merge/prepared.h"

namespace theriac::merge {

// Writes them to `folder`. `name`: of the model, for its card; `report`: what the card tells.
// Returns what a user should know of, a sentence each. Throws kIoError, kDataError.
std::vector<std::string> write_side_files(const Prepared& prepared,
                                          const std::filesystem::path& folder,
                                          const std::string& name, const MergeOptions& options,
                                          const Json& report);

}  // namespace theriac::merge
