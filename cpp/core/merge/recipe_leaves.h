// The numbers of a recipe as variables: found by their paths, and replaced in the recipe's own text, so
// that comments, order and everything else stay as they were written.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace theriac::merge {

// "PATH=LOW:HIGH", as in "models[*].parameters.weight=0:1".
struct LeafRequest {
  std::string path;  // keys joined by dots, items of lists as [0], [1] or [*] for all of them
  double low = 0, high = 1;
};
// Throws kInvalidArgument for another form, or unless both bounds are finite and low < high.
LeafRequest parse_leaf_request(std::string_view text);

// One number in the text.
struct RecipeLeaf {
  std::string path;  // without stars
  double value = 0, low = 0, high = 1;
  std::size_t first = 0, length = 0;  // bytes of the text
};

// The leaves that the requests name, in their order. Throws kInvalidArgument for text that is no single
// YAML document, a path that leads to nothing or to something else than a plain number, a value
// outside its bounds, a leaf named twice (also through an alias).
std::vector<RecipeLeaf> find_leaves(std::string_view text, std::string_view file,
                                    std::span<const LeafRequest> requests);

// The text with other values, as many as there are leaves. Numbers are written with as many digits as
// reading them back exactly needs.
std::string with_values(std::string_view text, std::span<const RecipeLeaf> leaves,
                        std::span<const double> values);

}  // namespace theriac::merge
