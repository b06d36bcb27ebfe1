#include "cpp/core/codes/interactions.h"

#include <algorithm>
#include <array>
#include <map>
#include <unordered_map>

#include "cpp/core/base/csv.h"
#include "cpp/core/base/hash.h"
#include "cpp/core/codes/hierarchy.h"
#include "cpp/core/codes/lines.h"
#include "cpp/core/codes/text.h"

namespace theriac::codes {
namespace {

using internal::excerpt;
using internal::trim;

constexpr std::size_t kClassLength = 4;

// Pairs (a < b) to their severity, while a table is read. A map, so that the result is sorted.
using PairMap = std::map<std::pair<std::string, std::string>, std::string>;

void add_pair(PairMap& pairs, const std::string& x, const std::string& y,
              std::string_view severity) {
  const auto [at, fresh] = pairs.try_emplace(std::minmax(x, y), severity);
  if (!fresh && severity_rank(severity) > severity_rank(at->second)) at->second = severity;
}

// Every class of one side against every class of the other; equal ones are no pair. False when
// nothing but equal ones was there.
bool add_cross_product(PairMap& pairs, std::span<const std::string> left,
                       std::span<const std::string> right, std::string_view severity) {
  bool any = false;
  for (const std::string& x : left) {
    for (const std::string& y : right) {
      if (x == y) continue;
      add_pair(pairs, x, y, severity);
      any = true;
    }
  }
  return any;
}

std::string fingerprint_of(const PairMap& pairs) {
  Fingerprint print;
  for (const auto& [pair, severity] : pairs) print.add(pair.first).add(pair.second).add(severity);
  return print.hex();
}

std::vector<InteractionPair> to_list(PairMap pairs) {
  std::vector<InteractionPair> list;
  list.reserve(pairs.size());
  for (auto& [pair, severity] : pairs)
    list.push_back({pair.first, pair.second, std::move(severity)});
  return list;
}

// Distinct texts of a column, joined; a table with a thousand versions has none worth showing in
// full.
class Labels {
 public:
  void add(std::string_view text) {
    if (text.empty() || std::find(seen_.begin(), seen_.end(), text) != seen_.end()) return;
    if (seen_.size() < kMost)
      seen_.emplace_back(text);
    else
      more_ = true;
  }
  std::string joined() const {
    std::string out;
    for (const std::string& text : seen_) out += (out.empty() ? "" : "; ") + text;
    return more_ ? out + "; ..." : out;
  }

 private:
  static constexpr std::size_t kMost = 8;
  std::vector<std::string> seen_;
  bool more_ = false;
};

// One side of a row: its code, and where it stands for errors.
struct Side {
  std::size_t system_column = 0, code_column = 0;
  bool has_system = false;  // false: the short form, always ATC
};

Side find_side(const CsvReader& reader, char side) {
  const std::string suffix(1, side);
  const int short_form = reader.find_column("atc3_" + suffix);
  if (short_form >= 0) return {0, static_cast<std::size_t>(short_form), false};
  return {reader.column("system_" + suffix), reader.column("code_" + suffix), true};
}

MedicalCode read_code(const CsvReader& reader, const Side& side) {
  System system = System::kAtc;
  if (side.has_system) {
    const std::string_view name = trim(reader.field(side.system_column));
    const auto known = system_from_name(name);
    const auto by_uri = known ? known : system_from_uri(name, false);
    if (!by_uri) {
      throw reader.error(side.system_column,
                         excerpt(name) + " is no code system; expected atc, rxnorm or ndc");
    }
    system = *by_uri;
  }
  MedicalCode code{system, normalise(system, reader.field(side.code_column))};
  const bool well_formed = has_code_shape(system, code.text) &&
                           (system != System::kAtc || code.text.size() >= kClassLength);
  if (well_formed) return code;
  throw reader.error(side.code_column,
                     excerpt(trim(reader.field(side.code_column))) + " is no code of " +
                         std::string(system_name(system)) +
                         (system == System::kAtc ? " of level 3 or deeper, such as C03C" : ""));
}

// Classes of a code. With no map at all an unmapped system is the host's mistake; with one it is
// counted.
std::span<const std::string> classes_of(const CsvReader& reader, const Side& side,
                                        const MedicalCode& code, const CodeMaps& maps,
                                        std::string& scratch) {
  if (code.system != System::kAtc && !maps.has_medication_map()) {
    throw reader.error(side.has_system ? side.system_column : side.code_column,
                       "codes of " + std::string(system_name(code.system)) +
                           " need a mapping table to ATC (maps.rxcui_atc); none was given");
  }
  return maps.atc3(code, scratch);
}

std::string_view optional_field(const CsvReader& reader, int column) {
  return column < 0 ? std::string_view{} : trim(reader.field(static_cast<std::size_t>(column)));
}

// Lines "CID,ATC7[,ATC7...]"; a compound may be on several lines.
std::unordered_map<std::string, std::vector<std::string>> read_compounds(
    const std::filesystem::path& path) {
  std::unordered_map<std::string, std::vector<std::string>> classes;
  internal::LineReader reader(path);
  while (reader.next()) {
    std::string_view rest = trim(reader.text());
    if (rest.empty()) continue;
    const std::size_t comma = rest.find(',');
    if (comma == std::string_view::npos)
      throw reader.error("no ATC code; expected CID,ATC[,ATC...]");
    std::vector<std::string>& of_compound = classes[std::string(trim(rest.substr(0, comma)))];
    while (rest.find(',') != std::string_view::npos) {
      rest.remove_prefix(rest.find(',') + 1);
      std::string code = normalise(System::kAtc, rest.substr(0, rest.find(',')));
      if (code.size() < kClassLength || !has_code_shape(System::kAtc, code)) {
        throw reader.error(excerpt(code) + " is no ATC code of level 3 or deeper");
      }
      code.resize(kClassLength);
      if (std::find(of_compound.begin(), of_compound.end(), code) == of_compound.end()) {
        of_compound.push_back(std::move(code));
      }
    }
  }
  return classes;
}

}  // namespace

int severity_rank(std::string_view severity) noexcept {
  struct Named {
    std::string_view name;
    int rank;
  };
  constexpr std::array<Named, 10> kNamed = {{{"contraindicated", 4},
                                             {"major", 3},
                                             {"severe", 3},
                                             {"high", 3},
                                             {"serious", 3},
                                             {"moderate", 2},
                                             {"medium", 2},
                                             {"minor", 1},
                                             {"mild", 1},
                                             {"low", 1}}};
  for (const Named& named : kNamed) {
    if (internal::equal_ignoring_case(trim(severity), named.name)) return named.rank;
  }
  return 0;
}

InteractionTable InteractionTable::from_csv(const std::filesystem::path& path) {
  return from_csv(path, CodeMaps{});
}

InteractionTable InteractionTable::from_csv(const std::filesystem::path& path,
                                            const CodeMaps& maps) {
  CsvReader reader(open_source(path));
  const Side a = find_side(reader, 'a'), b = find_side(reader, 'b');
  const int severity = reader.find_column("severity"), source = reader.find_column("source"),
            version = reader.find_column("version");
  InteractionTable table;
  PairMap pairs;
  Labels sources, versions;
  std::string scratch_a, scratch_b;
  while (reader.next()) {
    const auto left = classes_of(reader, a, read_code(reader, a), maps, scratch_a);
    const auto right = classes_of(reader, b, read_code(reader, b), maps, scratch_b);
    if (left.empty() || right.empty()) {
      ++table.unmapped_rows;
    } else if (!add_cross_product(pairs, left, right, optional_field(reader, severity))) {
      ++table.same_class_rows;
    }
    sources.add(optional_field(reader, source));
    versions.add(optional_field(reader, version));
  }
  table.source = sources.joined();
  table.version = versions.joined();
  if (table.version.empty()) table.version = fingerprint_of(pairs);
  table.pairs = to_list(std::move(pairs));
  return table;
}

InteractionTable InteractionTable::from_twosides(const std::filesystem::path& pairs_csv,
                                                 const std::filesystem::path& cid_atc) {
  const auto compounds = read_compounds(cid_atc);
  CsvReader reader(open_source(pairs_csv));
  const std::size_t first = reader.column("STITCH 1"), second = reader.column("STITCH 2");
  InteractionTable table;
  PairMap pairs;
  while (reader.next()) {
    const auto left = compounds.find(std::string(trim(reader.field(first))));
    const auto right = compounds.find(std::string(trim(reader.field(second))));
    if (left == compounds.end() || right == compounds.end()) {
      ++table.unmapped_rows;
    } else if (!add_cross_product(pairs, left->second, right->second, {})) {
      ++table.same_class_rows;
    }
  }
  table.source = "TWOSIDES, rarest side effects (research, no clinical interaction check)";
  table.version = fingerprint_of(pairs);
  table.pairs = to_list(std::move(pairs));
  return table;
}

std::vector<std::pair<std::int32_t, std::int32_t>> InteractionTable::among(
    const std::vector<std::string>& classes) const {
  std::unordered_map<std::string_view, std::int32_t> position;
  for (std::size_t i = 0; i < classes.size(); ++i) {
    if (!position.emplace(classes[i], static_cast<std::int32_t>(i)).second) {
      throw Error(Code::kInvalidArgument,
                  "class " + excerpt(classes[i]) + " is twice in the class list");
    }
  }
  std::vector<std::pair<std::int32_t, std::int32_t>> found;
  for (const InteractionPair& pair : pairs) {
    const auto a = position.find(pair.a), b = position.find(pair.b);
    if (a == position.end() || b == position.end()) continue;
    found.emplace_back(std::minmax(a->second, b->second));
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace theriac::codes
