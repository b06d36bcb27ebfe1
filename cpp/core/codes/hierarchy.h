// A code system as a tree: which code is above which.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cpp/core/codes/code.h"

namespace theriac::codes {

// Immutable; may be shared between threads.
//
// Node names: the root is the system's upper-case name ("ICD9CM"), chapters "c:390-459", blocks
// "b:420-429", then codes in normal form. Two kinds:
//  - structural: no list at all. Any code has a chain of ancestors by rules and hand-written
//  chapter and
//    block ranges, also a retired, local or future one. `size()` is 0 and `listed` is false for all
//    codes.
//  - listed: nodes of an official list, in file order, root first or last.
class Hierarchy {
 public:
  // ICD-9-CM, ICD-9 procedures, ICD-10-CM, ICD-10-PCS and ATC; kUnsupported for other systems.
  static Hierarchy structural(System system);
  // CSV with columns code,parent and optionally level, kind, name, is_leaf|billable (gzip
  // accepted). Throws kDataError on a cycle, an unknown parent, a duplicate code, several roots or
  // none; the message names file and line. Codes may be dotted; the parent may come after the
  // child.
  static Hierarchy from_csv(System system, const std::filesystem::path& path);
  // CMS order file (fixed width: order number, code, header/leaf flag, short and long title; gzip
  // accepted); parents are the longest listed prefix, then block and chapter by rule. Only these
  // inner nodes are added.
  static Hierarchy from_order_file(System system, const std::filesystem::path& path);
  // Either of the two, told apart by content: an order file begins with a number, a table with its
  // column names.
  static Hierarchy from_list(System system, const std::filesystem::path& path);
  // Every code given and all of its structural ancestors, as a listed hierarchy (codes sorted):
  // what pre-training uses when there is no official list.
  static Hierarchy closure(System system, const std::vector<std::string>& codes);

  System system() const noexcept { return system_; }
  bool is_structural() const noexcept { return structural_; }

  // Nodes of a listed hierarchy.
  std::size_t size() const noexcept { return names_.size(); }
  const std::string& node(std::size_t i) const { return names_.at(i); }
  const std::string& title(std::size_t i) const { return titles_.at(i); }    // may be empty
  std::int32_t parent_index(std::size_t i) const { return parents_.at(i); }  // -1 for the root
  std::optional<std::size_t> find(std::string_view code) const;
  bool listed(std::string_view code) const { return find(code).has_value(); }

  // Chain from the nearest ancestor to the root, without the code itself. For an unlisted code of a
  // listed hierarchy: from its nearest listed ancestor. Text that is no code of the system hangs
  // under the root, so that every text but the root's own name has a chain; empty text has none.
  std::vector<std::string> ancestors(std::string_view code) const;
  // The code itself if listed, else its nearest listed ancestor (characters dropped from the end,
  // then block, then chapter). nullopt when only the root is left or the code is not of this
  // system's form, and always for a structural hierarchy and for systems whose codes carry no
  // hierarchy in their characters.
  std::optional<std::string> nearest_listed(std::string_view code) const;
  // Distance to the root; root 0, chapter 1.
  int depth(std::string_view code) const;

  std::string fingerprint() const;  // of system, nodes and parents

 private:
  // Lookup by string_view without making a string.
  struct NameHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view name) const noexcept {
      return std::hash<std::string_view>{}(name);
    }
  };
  struct Draft;  // nodes with their parents still as text
  static Hierarchy link(System system, Draft draft);

  void append_chain(std::int32_t node, std::vector<std::string>& chain) const;

  System system_ = System::kUnknown;
  bool structural_ = false;
  std::int32_t root_ = -1;
  std::vector<std::string> names_, titles_;
  std::vector<std::int32_t> parents_;
  std::unordered_map<std::string, std::int32_t, NameHash, std::equal_to<>> index_;
};

// True when `text`, in normal form, has the shape of a complete code of the system ("4280" for
// ICD-9-CM, "I5021" for ICD-10-CM, 7 characters for ICD-10-PCS, any level for ATC); cheap, no list.
// For local and unknown systems: any text that is not empty.
bool has_code_shape(System system, std::string_view text) noexcept;

}  // namespace theriac::codes
