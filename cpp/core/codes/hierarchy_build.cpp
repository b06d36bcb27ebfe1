// Hierarchies from lists: CSV tables, CMS order files, and the closure of given codes.
#include <set>
#include <utility>

#include "cpp/core/base/csv.h"
#include "cpp/core/base/input.h"
#include "cpp/core/codes/hierarchy.h"
#include "cpp/core/codes/lines.h"
#include "cpp/core/codes/structural.h"
#include "cpp/core/codes/text.h"

namespace theriac::codes {

using internal::node_name;
using internal::require_rules;
using internal::Rules;
using internal::structural_chain;

namespace {

// More nodes than any code system has; bounds memory on a hostile file.
constexpr std::size_t kMostNodes = std::size_t{1} << 24;

// Root, chapters, blocks, codes: the order in which a closure lists its nodes.
int rank_of(const Rules& rules, std::string_view node) {
  if (node == rules.root) return 0;
  if (node.starts_with("c:")) return 1;
  return node.starts_with("b:") ? 2 : 3;
}

}  // namespace

struct Hierarchy::Draft {
  std::string file;  // for errors
  std::vector<std::string> names, titles, parents;
  std::vector<std::uint64_t> lines;  // where each node came from

  void add(std::string name, std::string parent, std::string title, std::uint64_t line) {
    if (names.size() >= kMostNodes) {
      throw internal::data_error(file, line, "more than " + std::to_string(kMostNodes) + " nodes");
    }
    names.push_back(std::move(name));
    parents.push_back(std::move(parent));
    titles.push_back(std::move(title));
    lines.push_back(line);
  }
  Error error(std::size_t node, std::string_view what) const {
    return internal::data_error(file, lines[node], what);
  }
};

namespace {

enum class Mark : std::uint8_t { kNew, kOnPath, kDone };

// First node met that is its own ancestor, or -1. Every node is walked once.
std::int32_t find_cycle(const std::vector<std::int32_t>& parents) {
  std::vector<Mark> marks(parents.size(), Mark::kNew);
  std::vector<std::size_t> path;
  for (std::size_t start = 0; start < parents.size(); ++start) {
    path.clear();
    std::int32_t at = static_cast<std::int32_t>(start);
    while (at >= 0 && marks[static_cast<std::size_t>(at)] == Mark::kNew) {
      marks[static_cast<std::size_t>(at)] = Mark::kOnPath;
      path.push_back(static_cast<std::size_t>(at));
      at = parents[static_cast<std::size_t>(at)];
    }
    if (at >= 0 && marks[static_cast<std::size_t>(at)] == Mark::kOnPath) return at;
    for (std::size_t node : path) marks[node] = Mark::kDone;
  }
  return -1;
}

}  // namespace

Hierarchy Hierarchy::link(System system, Draft draft) {
  Hierarchy out;
  out.system_ = system;
  out.index_.reserve(draft.names.size());
  for (std::size_t i = 0; i < draft.names.size(); ++i) {
    const auto [at, fresh] = out.index_.emplace(draft.names[i], static_cast<std::int32_t>(i));
    if (fresh) continue;
    const std::uint64_t first = draft.lines[static_cast<std::size_t>(at->second)];
    throw draft.error(i, "code " + internal::excerpt(draft.names[i]) + " is already on line " +
                             std::to_string(first) + "; expected every code once");
  }
  out.parents_.assign(draft.names.size(), -1);
  for (std::size_t i = 0; i < draft.names.size(); ++i) {
    const std::string& parent = draft.parents[i];
    if (!parent.empty()) {
      const auto at = out.index_.find(parent);
      if (at == out.index_.end()) {
        throw draft.error(i, "parent " + internal::excerpt(parent) + " of code " +
                                 internal::excerpt(draft.names[i]) +
                                 " is not a code of this table");
      }
      out.parents_[i] = at->second;
    } else if (out.root_ < 0) {
      out.root_ = static_cast<std::int32_t>(i);
    } else {
      const auto first = static_cast<std::size_t>(out.root_);
      throw draft.error(i, "a second root " + internal::excerpt(draft.names[i]) + " besides " +
                               internal::excerpt(draft.names[first]) + " on line " +
                               std::to_string(draft.lines[first]) +
                               "; expected one code without a parent");
    }
  }
  if (const std::int32_t node = find_cycle(out.parents_); node >= 0) {
    const auto at = static_cast<std::size_t>(node);
    throw draft.error(
        at, "code " + internal::excerpt(draft.names[at]) + " is its own ancestor; expected a tree");
  }
  if (out.root_ < 0) {  // without a cycle there is a root unless there is no node at all
    throw Error(Code::kDataError,
                draft.file + ": no codes; expected one line a node, the root among them")
        .at("file", draft.file);
  }
  out.names_ = std::move(draft.names);
  out.titles_ = std::move(draft.titles);
  return out;
}

Hierarchy Hierarchy::from_csv(System system, const std::filesystem::path& path) {
  CsvReader reader(open_source(path));
  const std::size_t code = reader.column("code");
  const std::size_t parent = reader.column("parent");
  const int name = reader.find_column("name");
  Draft draft;
  draft.file = reader.name();
  while (reader.next()) {
    std::string node = node_name(system, reader.field(code));
    if (node.empty()) throw reader.error(code, "the code is empty");
    std::string title =
        name < 0 ? std::string() : std::string(reader.field(static_cast<std::size_t>(name)));
    draft.add(std::move(node), node_name(system, reader.field(parent)), std::move(title),
              reader.line());
  }
  return link(system, std::move(draft));
}

namespace {

struct OrderLine {
  std::string code, title;
};

// Columns of the CMS order files: 1-5 order number, 7-13 code, 15 header (0) or valid code (1),
// 17-76 short title, 78- long title.
OrderLine parse_order_line(System system, const internal::LineReader& reader) {
  constexpr std::size_t kCode = 6, kCodeWidth = 7, kFlag = 14, kShort = 16, kShortWidth = 60,
                        kLong = 77;
  const std::string_view text = reader.text();
  if (text.size() <= kFlag || !internal::all_digits(text.substr(0, kCode - 1))) {
    throw reader.error("no order number and code in columns 1 to 15; expected a CMS order file");
  }
  if (text[kFlag] != '0' && text[kFlag] != '1') {
    throw reader.error("the header flag in column 15 is neither 0 nor 1");
  }
  OrderLine out;
  out.code = normalise(system, text.substr(kCode, kCodeWidth));
  if (!require_rules(system).is_code(out.code)) {
    throw reader.error(internal::excerpt(out.code) + " in columns 7 to 13 is not a code of " +
                       std::string(system_name(system)));
  }
  if (text.size() > kLong) out.title = internal::trim(text.substr(kLong));
  if (out.title.empty() && text.size() > kShort) {
    out.title = internal::trim(text.substr(kShort, kShortWidth));
  }
  return out;
}

// The longest proper prefix of `code` in `listed`, else the nearest structural ancestor that an
// order file cannot hold: a block, a chapter or the root, and in ICD-10-PCS the section and body
// system.
std::string order_parent(const Rules& rules, std::string_view code,
                         const std::set<std::string, std::less<>>& listed) {
  for (std::size_t length = code.size() - 1; length > 0; --length) {
    if (listed.contains(code.substr(0, length))) return std::string(code.substr(0, length));
  }
  constexpr std::size_t kShortestHeader = 3;
  for (std::string& node : structural_chain(rules, code)) {
    if (internal::is_group(node) || node.size() < kShortestHeader || node == rules.root) {
      return std::move(node);
    }
  }
  return std::string(rules.root);
}

}  // namespace

Hierarchy Hierarchy::from_list(System system, const std::filesystem::path& path) {
  const auto source = open_source(path);
  char first = ' ';
  while (first == ' ' && source->read({&first, 1}) == 1) {
  }
  return first >= '0' && first <= '9' ? from_order_file(system, path) : from_csv(system, path);
}

Hierarchy Hierarchy::from_order_file(System system, const std::filesystem::path& path) {
  const Rules& rules = require_rules(system);
  internal::LineReader reader(path);
  std::vector<OrderLine> order;
  std::vector<std::uint64_t> lines;
  std::set<std::string, std::less<>> listed;
  while (reader.next()) {
    if (internal::trim(reader.text()).empty()) continue;
    if (order.size() >= kMostNodes) throw reader.error("too many codes");
    order.push_back(parse_order_line(system, reader));
    lines.push_back(reader.line());
    listed.insert(order.back().code);
  }
  Draft draft;
  draft.file = path.string();
  if (!order.empty()) draft.add(std::string(rules.root), {}, {}, 0);
  std::set<std::string, std::less<>> added = {std::string(rules.root)};
  for (std::size_t i = 0; i < order.size(); ++i) {
    std::string parent = order_parent(rules, order[i].code, listed);
    for (std::string node = parent; !listed.contains(node) && added.insert(node).second;) {
      std::string above = internal::parent_of(rules, node);
      draft.add(node, above, std::string(internal::title_of(rules, node)), lines[i]);
      node = std::move(above);
    }
    draft.add(std::move(order[i].code), std::move(parent), std::move(order[i].title), lines[i]);
  }
  return link(system, std::move(draft));
}

Hierarchy Hierarchy::closure(System system, const std::vector<std::string>& codes) {
  const Rules& rules = require_rules(system);
  std::set<std::pair<int, std::string>> nodes = {{0, std::string(rules.root)}};
  for (const std::string& text : codes) {
    std::string node = node_name(system, text);
    // An ancestor that is there already brought its own ancestors with it.
    while (!node.empty() && nodes.emplace(rank_of(rules, node), node).second) {
      node = internal::parent_of(rules, node);
    }
  }
  Draft draft;
  draft.file = "closure";
  for (const auto& [rank, node] : nodes) {
    draft.add(node, internal::parent_of(rules, node), std::string(internal::title_of(rules, node)),
              0);
  }
  return link(system, std::move(draft));
}

}  // namespace theriac::codes
