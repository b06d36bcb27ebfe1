// Paths into a recipe: the first line is a request, the rest the recipe. What is found can be replaced.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "cpp/core/base/error.h"
#include "cpp/core/merge/recipe_leaves.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace theriac::merge;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto end = input.find('\n');
  if (end == std::string_view::npos) return 0;
  const std::string_view recipe = input.substr(end + 1);
  try {
    const std::vector<LeafRequest> requests{parse_leaf_request(input.substr(0, end))};
    const auto leaves = find_leaves(recipe, "fuzz.yml", requests);
    std::vector<double> values;
    for (const RecipeLeaf& leaf : leaves) values.push_back(leaf.value);
    const std::string text = with_values(recipe, leaves, values);
    const auto again = find_leaves(text, "again.yml", requests);
    if (again.size() != leaves.size()) std::abort();
    for (std::size_t i = 0; i < leaves.size(); ++i) {
      if (again[i].value != leaves[i].value || again[i].path != leaves[i].path) std::abort();
    }
  } catch (const theriac::Error& error) {
    if (error.code() == theriac::Code::kInternal) std::abort();
  }
  return 0;
}
