#include "cpp/engine/registry.h"

#include <algorithm>

#include "cpp/core/base/options.h"
#include "cpp/engine/clinical/code_tree.h"
#include "cpp/engine/clinical/methods.h"
#include "cpp/engine/sequence/methods.h"

namespace theriac {
namespace {

std::vector<MethodEntry> all_methods() {
  std::vector<MethodEntry> all = clinical::clinical_methods();
  all.push_back(clinical::code_tree_method());
  for (MethodEntry& entry : sequence::sequence_methods()) all.push_back(std::move(entry));
  std::sort(all.begin(), all.end(),
            [](const MethodEntry& a, const MethodEntry& b) { return a.name < b.name; });
  return all;
}

}  // namespace

const std::vector<MethodEntry>& methods() {
  static const std::vector<MethodEntry> all = all_methods();
  return all;
}

const MethodEntry& find_method(std::string_view name) {
  std::vector<std::string> names;
  for (const MethodEntry& entry : methods()) {
    if (entry.name == name) return entry;
    names.push_back(entry.name);
  }
  const std::string nearest = nearest_name(name, names);
  throw Error(Code::kNotFound,
              "method '" + std::string(name) + "' is not known" +
                  (nearest.empty() ? std::string() : "; did you mean '" + nearest + "'?"))
      .at("method", std::string(name))
      .at("nearest", nearest);
}

}  // namespace theriac
