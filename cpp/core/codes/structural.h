// Rules that give any code of a system its ancestors without a list. Internal to this folder.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/codes/code.h"

namespace theriac::codes::internal {

// A chapter: node "c:<label>". `first` and `last` are categories, compared as text; they may reach
// beyond the label, so that categories of a later release still find their chapter.
struct Chapter {
  std::string_view label, first, last, title;
};

// A block: node "b:<label>", where the label is "420-429" or a single category. Blocks may be
// nested; a category belongs to the innermost. Tables are sorted by start, wide blocks before those
// inside them.
struct Block {
  std::string_view label, first, last;
  // Implicit, so that a table is a list of labels.
  constexpr Block(const char* text) : Block(std::string_view(text)) {}
  explicit constexpr Block(std::string_view text)
      : label(text),
        first(text.substr(0, text.find('-'))),
        last(text.substr(text.find('-') + 1)) {}  // no dash: npos + 1 is 0, the whole label
};

constexpr bool in_order(std::span<const Block> blocks) {
  for (std::size_t i = 1; i < blocks.size(); ++i) {
    const Block &a = blocks[i - 1], &b = blocks[i];
    if (b.first < a.first || (b.first == a.first && b.last >= a.last)) return false;
  }
  return true;
}

// A category that its place in the alphabet would put into the wrong block ("M1A" follows "M10").
struct PlacedCategory {
  std::string_view category, block;
};

struct Rules {
  System system;
  std::string_view root;  // "ICD9CM"
  // Shape of a code, or of an inner node that is a prefix of one.
  bool (*is_code)(std::string_view);
  // Length of the prefix of a code that is its parent; 0 for a category, which hangs under a block,
  // a chapter or the root.
  std::size_t (*parent_length)(std::string_view);
  std::span<const Chapter> chapters;
  std::span<const Block> blocks;
  std::span<const PlacedCategory> placed;
};

// Null for a system without rules.
const Rules* rules_of(System system) noexcept;
// Throws kUnsupported instead.
const Rules& require_rules(System system);

// Name of a node as a host may write it: groups keep their case, codes are brought to normal form.
std::string node_name(System system, std::string_view text);

// Parent of a node in normal form: a code prefix, block, chapter or the root. Empty for the root
// itself. Text that is no code of the system hangs directly under the root.
std::string parent_of(const Rules& rules, std::string_view node);

// All parents of a node, nearest first, the root last. Empty for empty text and for the root.
std::vector<std::string> structural_chain(const Rules& rules, std::string_view node);

// Chapter title; empty for other nodes.
std::string_view title_of(const Rules& rules, std::string_view node);

// True for "c:..." and "b:...".
bool is_group(std::string_view node) noexcept;

// The five systems, one file each family.
extern const Rules kIcd9cmRules, kIcd9procRules, kIcd10cmRules, kIcd10pcsRules, kAtcRules;

}  // namespace theriac::codes::internal
