// Asking a hierarchy; hierarchy_build.cpp makes one.
#include "cpp/core/codes/hierarchy.h"

#include <utility>

#include "cpp/core/base/hash.h"
#include "cpp/core/codes/structural.h"

namespace theriac::codes {

using internal::node_name;
using internal::require_rules;
using internal::Rules;
using internal::structural_chain;

Hierarchy Hierarchy::structural(System system) {
  require_rules(system);
  Hierarchy out;
  out.system_ = system;
  out.structural_ = true;
  return out;
}

std::optional<std::size_t> Hierarchy::find(std::string_view code) const {
  if (const auto at = index_.find(code); at != index_.end())
    return static_cast<std::size_t>(at->second);
  if (const auto at = index_.find(node_name(system_, code)); at != index_.end()) {
    return static_cast<std::size_t>(at->second);
  }
  return std::nullopt;
}

void Hierarchy::append_chain(std::int32_t node, std::vector<std::string>& chain) const {
  for (; node >= 0; node = parents_[static_cast<std::size_t>(node)]) {
    chain.push_back(names_[static_cast<std::size_t>(node)]);
  }
}

std::vector<std::string> Hierarchy::ancestors(std::string_view code) const {
  const std::string node = node_name(system_, code);
  if (structural_) return structural_chain(require_rules(system_), node);
  std::vector<std::string> chain;
  if (node.empty() || root_ < 0) return chain;
  if (const auto at = find(node)) {
    append_chain(parents_[*at], chain);
  } else if (const auto nearest = nearest_listed(node)) {
    append_chain(static_cast<std::int32_t>(*find(*nearest)), chain);
  } else {
    chain.push_back(names_[static_cast<std::size_t>(root_)]);
  }
  return chain;
}

std::optional<std::string> Hierarchy::nearest_listed(std::string_view code) const {
  if (const auto at = find(code)) return names_[*at];
  const Rules* rules = internal::rules_of(system_);
  const std::string node = node_name(system_, code);
  if (rules == nullptr || structural_ || !rules->is_code(node)) return std::nullopt;
  for (std::size_t length = node.size() - 1; length > 0; --length) {
    const std::string_view prefix = std::string_view(node).substr(0, length);
    if (rules->is_code(prefix) && index_.contains(prefix)) return std::string(prefix);
  }
  for (std::string& group : structural_chain(*rules, node)) {
    if (internal::is_group(group) && index_.contains(group)) return std::move(group);
  }
  return std::nullopt;
}

int Hierarchy::depth(std::string_view code) const {
  return static_cast<int>(ancestors(code).size());
}

std::string Hierarchy::fingerprint() const {
  Fingerprint print;
  print.add(system_name(system_)).add(structural_ ? "structural" : "listed");
  if (structural_) {
    const Rules& rules = require_rules(system_);
    for (const auto& chapter : rules.chapters)
      print.add(chapter.label).add(chapter.first).add(chapter.last);
    for (const auto& block : rules.blocks) print.add(block.label);
    for (const auto& placed : rules.placed) print.add(placed.category).add(placed.block);
  }
  for (const std::string& name : names_) print.add(name);
  print.add_values(std::span<const std::int32_t>(parents_));
  return print.hex();
}

}  // namespace theriac::codes
