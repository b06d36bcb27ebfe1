// The method "code_tree": relation vectors of one code system, made once and reused by every
// backbone.
#pragma once

#include <string>

#include "cpp/engine/clinical/tree_pretraining.h"
#include "cpp/engine/registry.h"

namespace theriac::clinical {

struct CodeTreeOptions : TreeOptions {
  std::string system = "icd9cm";
  std::string
      list;  // path of an official list; empty: the codes of the data set and their ancestors
  std::string cache;  // directory of tables made before; empty: none
  static const OptionTable<CodeTreeOptions>& table();
};

MethodEntry code_tree_method();

}  // namespace theriac::clinical
