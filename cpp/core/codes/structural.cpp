#include "cpp/core/codes/structural.h"

#include <algorithm>

#include "cpp/core/codes/text.h"

namespace theriac::codes::internal {
namespace {

std::string named(std::string_view prefix, std::string_view label) {
  std::string name(prefix);
  name.append(label);
  return name;
}

bool inside(std::string_view category, std::string_view first, std::string_view last) {
  return first <= category && category <= last;
}

const Chapter* chapter_of(const Rules& rules, std::string_view category) {
  for (const Chapter& chapter : rules.chapters) {
    if (inside(category, chapter.first, chapter.last)) return &chapter;
  }
  return nullptr;
}

const Chapter* chapter_named(const Rules& rules, std::string_view node) {
  if (!node.starts_with("c:")) return nullptr;
  for (const Chapter& chapter : rules.chapters) {
    if (chapter.label == node.substr(2)) return &chapter;
  }
  return nullptr;
}

// Label of the innermost block, or empty. In a sorted table that is the last one that starts at or
// before the category and reaches it.
std::string_view block_of(const Rules& rules, std::string_view category) {
  for (const PlacedCategory& placed : rules.placed) {
    if (placed.category == category) return placed.block;
  }
  auto block = std::upper_bound(
      rules.blocks.begin(), rules.blocks.end(), category,
      [](std::string_view text, const Block& candidate) { return text < candidate.first; });
  while (block != rules.blocks.begin()) {
    --block;
    if (category <= block->last) return block->label;
  }
  return {};
}

std::string chapter_or_root(const Rules& rules, std::string_view category) {
  const Chapter* chapter = chapter_of(rules, category);
  return chapter == nullptr ? std::string(rules.root) : named("c:", chapter->label);
}

}  // namespace

bool is_group(std::string_view node) noexcept {
  return node.starts_with("c:") || node.starts_with("b:");
}

const Rules* rules_of(System system) noexcept {
  switch (system) {
    case System::kIcd9cm:
      return &kIcd9cmRules;
    case System::kIcd9proc:
      return &kIcd9procRules;
    case System::kIcd10cm:
      return &kIcd10cmRules;
    case System::kIcd10pcs:
      return &kIcd10pcsRules;
    case System::kAtc:
      return &kAtcRules;
    default:
      return nullptr;
  }
}

const Rules& require_rules(System system) {
  const Rules* rules = rules_of(system);
  if (rules != nullptr) return *rules;
  const std::string name(system_name(system));
  throw Error(
      Code::kUnsupported,
      "no structural hierarchy for code system '" + name +
          "'; it exists for icd9cm, icd9proc, icd10cm, icd10pcs and atc, others need a list")
      .at("system", name);
}

std::string node_name(System system, std::string_view text) {
  const std::string_view trimmed = trim(text);
  return is_group(trimmed) ? std::string(trimmed) : normalise(system, trimmed);
}

std::vector<std::string> structural_chain(const Rules& rules, std::string_view node) {
  std::vector<std::string> chain;
  if (node.empty()) return chain;
  for (std::string parent = parent_of(rules, node); !parent.empty();
       parent = parent_of(rules, chain.back())) {
    chain.push_back(std::move(parent));
  }
  return chain;
}

std::string parent_of(const Rules& rules, std::string_view node) {
  if (node == rules.root) return {};
  if (node.starts_with("b:")) return chapter_or_root(rules, Block(node.substr(2)).first);
  if (is_group(node) || !rules.is_code(node)) return std::string(rules.root);
  if (const std::size_t length = rules.parent_length(node); length > 0) {
    return std::string(node.substr(0, length));
  }
  const std::string_view block = block_of(rules, node);
  return block.empty() ? chapter_or_root(rules, node) : named("b:", block);
}

std::string_view title_of(const Rules& rules, std::string_view node) {
  const Chapter* chapter = chapter_named(rules, node);
  return chapter == nullptr ? std::string_view{} : chapter->title;
}

}  // namespace theriac::codes::internal
