#include "cpp/core/merge/recipe_leaves.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>

#include "cpp/core/base/error.h"
#include "cpp/core/base/options.h"
#include "cpp/core/merge/yaml.h"

namespace theriac::merge {
namespace {

constexpr std::size_t kMostLeaves = 1000;

std::string number_text(double value) {
  char text[32];
  const auto end = std::to_chars(std::begin(text), std::end(text), value).ptr;
  std::string out(std::begin(text), end);
  // A number to every reader of YAML 1.1 has a point: 1e-05 would be text to some.
  const auto exponent = out.find('e');
  if (out.find('.') == std::string::npos) {
    out.insert(exponent == std::string::npos ? out.size() : exponent, ".0");
  }
  return out;
}

// One step of a path: a key, an index, or all items.
struct Step {
  std::string key;
  std::optional<std::size_t> index;
  bool all = false;
  bool is_key() const { return !index && !all; }
};

Error bad_path(std::string_view path, const std::string& problem) {
  return Error(Code::kInvalidArgument, "the path " + quoted_for_message(path) + " " + problem +
                                           "; expected keys and items as in "
                                           "models[0].parameters.weight")
      .at("option", "leaves");
}

std::vector<Step> parse_path(std::string_view path) {
  std::vector<Step> out;
  std::size_t at = 0;
  while (at < path.size()) {
    if (path[at] == '[') {
      const auto close = path.find(']', at);
      if (close == std::string_view::npos) throw bad_path(path, "has a '[' without ']'");
      const std::string_view inside = path.substr(at + 1, close - at - 1);
      Step step;
      if (inside == "*") {
        step.all = true;
      } else {
        std::size_t index = 0;
        const auto read = std::from_chars(inside.data(), inside.data() + inside.size(), index);
        if (inside.empty() || read.ec != std::errc() || read.ptr != inside.data() + inside.size()) {
          throw bad_path(path, "has an item that is neither a number nor '*'");
        }
        step.index = index;
      }
      out.push_back(std::move(step));
      at = close + 1;
      continue;
    }
    if (path[at] == '.') {
      if (at == 0) throw bad_path(path, "begins with a dot");
      ++at;
    }
    const std::size_t end = std::min(path.find_first_of(".[", at), path.size());
    if (end == at) throw bad_path(path, "has an empty key");
    out.push_back({std::string(path.substr(at, end - at)), std::nullopt, false});
    at = end;
  }
  if (out.empty()) throw bad_path(path, "is empty");
  return out;
}

// Byte positions of lines, so that marks, which count characters, become bytes.
class Lines {
 public:
  explicit Lines(std::string_view text) : text_(text) {
    starts_.push_back(text.substr(0, 3) == "\xef\xbb\xbf" ? 3 : 0);
    for (std::size_t i = 0; i < text.size(); ++i) {
      const bool end =
          text[i] == '\n' || (text[i] == '\r' && (i + 1 == text.size() || text[i + 1] != '\n'));
      if (end) starts_.push_back(i + 1);
    }
  }
  std::size_t byte(Mark mark) const {
    std::size_t at = starts_.at(std::min(mark.line, starts_.size()) - 1);
    for (std::size_t column = 1; column < mark.column && at < text_.size(); ++column) {
      ++at;
      while (at < text_.size() && (static_cast<unsigned char>(text_[at]) & 0xc0U) == 0x80U) ++at;
    }
    return at;
  }

 private:
  std::string_view text_;
  std::vector<std::size_t> starts_;
};

class Finder {
 public:
  Finder(std::string_view text, std::string_view file) : text_(text), file_(file), lines_(text) {}

  std::vector<RecipeLeaf> find(const YamlNode& root, std::span<const LeafRequest> requests) {
    for (const LeafRequest& request : requests) {
      request_ = &request;
      steps_ = parse_path(request.path);
      descend(root, 0, "");
    }
    return std::move(leaves_);
  }

 private:
  [[noreturn]] void fail(const YamlNode& node, const std::string& path,
                         const std::string& problem) const {
    throw error_at(file_, node.mark(), path, problem);
  }

  void descend(const YamlNode& node, std::size_t depth, const std::string& path) {
    if (depth == steps_.size()) {
      take(node, path);
      return;
    }
    const Step& step = steps_[depth];
    if (step.is_key()) {
      descend_key(node, depth, path);
    } else {
      descend_items(node, depth, path);
    }
  }
  void descend_key(const YamlNode& node, std::size_t depth, const std::string& path) {
    const std::string& key = steps_[depth].key;
    const std::string below = path.empty() ? key : path + "." + key;
    if (!node.is_map()) fail(node, below, "leads to nothing: above it is " + node.described());
    const YamlNode* found = node.find(key);
    if (found == nullptr) {
      std::vector<std::string> keys;
      for (const YamlMember& member : node.members()) keys.push_back(member.key);
      const std::string near = nearest_name(key, keys);
      fail(node, below,
           "leads to nothing" + (near.empty() ? std::string() : "; did you mean '" + near + "'?") +
               " Write the number into the recipe: that is where the search starts");
    }
    descend(*found, depth + 1, below);
  }
  void descend_items(const YamlNode& node, std::size_t depth, const std::string& path) {
    const Step& step = steps_[depth];
    const std::size_t count = node.items().size();
    if (!node.is_sequence() || count == 0) {
      fail(node, path, "is " + node.described() + "; expected a list");
    }
    if (!step.all && *step.index >= count) {
      fail(node, path,
           "has " + std::to_string(count) + " items; there is no [" + std::to_string(*step.index) +
               "]");
    }
    for (std::size_t i = step.all ? 0 : *step.index; i < (step.all ? count : *step.index + 1);
         ++i) {
      descend(node.items()[i], depth + 1, path + "[" + std::to_string(i) + "]");
    }
  }

  void take(const YamlNode& node, const std::string& path) {
    const auto value =
        node.is_scalar() && !node.quoted() ? yaml_number(node.text(), false) : std::nullopt;
    if (!value || !std::isfinite(*value)) {
      fail(node, path, "is " + node.described() + "; expected a plain finite number");
    }
    const std::size_t first = lines_.byte(node.mark());
    if (text_.substr(first, node.text().size()) != node.text()) {
      fail(node, path, "is not written as a plain number at its place (an anchor or a tag?)");
    }
    if (!(*value >= request_->low && *value <= request_->high)) {
      fail(node, path,
           "is " + node.text() + ", outside its bounds " + number_text(request_->low) + " to " +
               number_text(request_->high));
    }
    const auto [known, fresh] = seen_.emplace(first, path);
    if (!fresh) fail(node, path, "is the same number as '" + known->second + "'");
    if (leaves_.size() == kMostLeaves) {
      fail(node, path, "is one number too many; at most " + std::to_string(kMostLeaves));
    }
    leaves_.push_back({path, *value, request_->low, request_->high, first, node.text().size()});
  }

  std::string_view text_, file_;
  Lines lines_;
  const LeafRequest* request_ = nullptr;
  std::vector<Step> steps_;
  std::map<std::size_t, std::string> seen_;
  std::vector<RecipeLeaf> leaves_;
};

}  // namespace

LeafRequest parse_leaf_request(std::string_view text) {
  const auto fail = [text](const std::string& problem) {
    return Error(Code::kInvalidArgument,
                 quoted_for_message(text) + " " + problem +
                     "; expected PATH=LOW:HIGH, as in models[*].parameters.weight=0:1")
        .at("option", "leaves");
  };
  const auto equals = text.rfind('=');
  const auto colon = equals == std::string_view::npos ? equals : text.find(':', equals);
  if (colon == std::string_view::npos) throw fail("has no bounds");
  const auto low = yaml_number(text.substr(equals + 1, colon - equals - 1), false);
  const auto high = yaml_number(text.substr(colon + 1), false);
  if (!low || !high || !std::isfinite(*low) || !std::isfinite(*high) || !(*low < *high)) {
    throw fail("has bounds that are no two numbers, the lower one first");
  }
  LeafRequest out{std::string(text.substr(0, equals)), *low, *high};
  parse_path(out.path);
  return out;
}

std::vector<RecipeLeaf> find_leaves(std::string_view text, std::string_view file,
                                    std::span<const LeafRequest> requests) {
  const auto documents = parse_yaml(text, file);
  if (documents.size() != 1) {
    throw Error(Code::kInvalidArgument, "'" + std::string(file) + "' has " +
                                            std::to_string(documents.size()) +
                                            " documents; a search varies a recipe of one")
        .at("file", std::string(file));
  }
  return Finder(text, file).find(documents.front().root, requests);
}

std::string with_values(std::string_view text, std::span<const RecipeLeaf> leaves,
                        std::span<const double> values) {
  if (values.size() != leaves.size()) {
    throw Error(Code::kInternal, "as many values as leaves are needed");
  }
  std::vector<std::size_t> order(leaves.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&leaves](std::size_t a, std::size_t b) { return leaves[a].first < leaves[b].first; });
  std::string out;
  std::size_t at = 0;
  for (const std::size_t i : order) {
    out += text.substr(at, leaves[i].first - at);
    out += number_text(values[i]);
    at = leaves[i].first + leaves[i].length;
  }
  out += text.substr(at);
  return out;
}

}  // namespace theriac::merge
