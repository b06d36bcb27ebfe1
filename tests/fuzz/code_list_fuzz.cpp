// A code list (table or CMS order file) from anywhere: a tree in which every node leads to the
// root, or one Error. The first byte chooses the code system.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <string_view>

#include "cpp/core/codes/hierarchy.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using theriac::codes::System;
  if (size == 0) return 0;
  constexpr System kSystems[] = {System::kIcd9cm, System::kIcd9proc, System::kIcd10cm,
                                 System::kIcd10pcs, System::kAtc};
  const System system = kSystems[data[0] % std::size(kSystems)];
  const theriac::fuzz::MemoryFile file({reinterpret_cast<const char*>(data) + 1, size - 1});
  try {
    const auto tree = theriac::codes::Hierarchy::from_list(system, file.path());
    int roots = 0;
    for (std::size_t i = 0; i < tree.size(); ++i) {
      roots += tree.parent_index(i) < 0 ? 1 : 0;
      if (tree.find(tree.node(i)) != i) std::abort();
      if (tree.ancestors(tree.node(i)).size() > tree.size()) std::abort();
    }
    if (roots != 1) std::abort();
  } catch (const theriac::Error& error) {
    if (error.code() == theriac::Code::kInternal) std::abort();
  }
  return 0;
}
