// The one list of methods. Adding a method is one file in its folder and one line in registry.cpp.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/json.h"
#include "cpp/core/engine.h"
#include "cpp/engine/train/model_directory.h"

namespace theriac {

// How the engine makes models of one method. The functions may throw theriac::Error and whatever
// LibTorch throws; the engine translates at the seam.
struct MethodEntry {
  std::string name;    // "gamenet": the value of "method" in a model directory's config.json
  std::string family;  // "medication", "hierarchy", "baseline", ...
  std::string
      dataset;        // kind of data set that `fit` takes: "cohort", ...; empty when it needs none
  std::string doc;    // one sentence
  std::string paper;  // citation, or empty
  std::function<Json()> schema;  // JSON Schema of the options
  // A model that is not fitted yet. `options` is an object; unknown keys are errors.
  std::function<std::unique_ptr<Model>(const Json& options, const ContextSettings& context)> create;
  // A fitted model from its directory, whose format, method and file hashes have been checked.
  // `options` are load-time options of the method (an object, mostly empty), not the options it was
  // trained with: those are in `directory.config`.
  std::function<std::unique_ptr<Model>(const train::ModelDirectory& directory, const Json& options,
                                       const ContextSettings& context)>
      load;
  // A model from weights of another program (engine.h, import_model); empty where there are none.
  std::function<std::unique_ptr<Model>(const std::string& file, const Dataset& dataset,
                                       const Json& options, const ContextSettings& context)>
      import;
};

// Every method of this build, sorted by name. Made once; safe from any thread.
const std::vector<MethodEntry>& methods();

// Throws kNotFound naming the nearest method.
const MethodEntry& find_method(std::string_view name);

}  // namespace theriac
