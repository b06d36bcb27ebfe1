// Sequences from anywhere, as lines or as a table: the answer is a data set or one Error. The books
// of a data set balance, and written as lines it reads back the same. The first byte chooses the
// policy.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <sstream>
#include <string>
#include <string_view>

#include "cpp/core/base/error.h"
#include "cpp/core/readers/sequences.h"

namespace {

using theriac::data::SequencePolicy;
using theriac::data::Sequences;

SequencePolicy policy_of(std::uint8_t choice) {
  constexpr const char* kLayouts[] = {"auto", "lines", "csv", "auto"};
  constexpr const char* kRepeats[] = {"keep", "first", "last", "keep"};
  SequencePolicy policy;
  policy.layout = kLayouts[choice & 3U];
  if ((choice & 4U) != 0) policy.delimiter = "tab";
  policy.repeats = kRepeats[(choice >> 3U) & 3U];
  if ((choice & 32U) != 0) policy.user_core = policy.item_core = 2;
  return policy;
}

Sequences read(std::string_view bytes, const SequencePolicy& policy) {
  theriac::Job job;
  return theriac::readers::read_sequences_bytes(bytes, "fuzz", policy, job);
}

bool balances(const theriac::Json& accounting) {
  for (const auto& [name, table] : accounting["tables"].items()) {
    std::int64_t sum = table["kept"].get<std::int64_t>();
    for (const auto& [reason, rows] : table["dropped"].items()) sum += rows.get<std::int64_t>();
    if (sum != table["read"].get<std::int64_t>()) return false;
  }
  return true;
}

// Names of a table may hold what separates words, or begin with a byte order mark of their own.
bool fit_lines(const theriac::data::Names& names) {
  for (const std::string& text : names.texts()) {
    if (text.find_first_of(" \t\n\r\v\f") != std::string::npos) return false;
    if (text.rfind("\xef\xbb\xbf", 0) == 0) return false;
  }
  return true;
}

bool same_items(const Sequences& a, const Sequences& b) {
  if (a.user_names().fingerprint() != b.user_names().fingerprint()) return false;
  if (a.item_names().fingerprint() != b.item_names().fingerprint()) return false;
  return a.columns().offsets == b.columns().offsets && a.columns().ids == b.columns().ids;
}

bool survives_lines(const Sequences& sequences) {
  std::ostringstream out;
  export_sequence_table(sequences, "sequences", "lines", out);
  SequencePolicy policy;
  policy.layout = "lines";
  return same_items(read(out.str(), policy), sequences);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  Sequences sequences;
  try {
    sequences = read({reinterpret_cast<const char*>(data + 1), size - 1}, policy_of(data[0]));
  } catch (const theriac::Error& error) {
    if (error.code() == theriac::Code::kInternal) std::abort();
    return 0;
  }
  if (!balances(sequences.accounting())) std::abort();
  if (sequences.users() == 0) return 0;  // the policy left none
  if (!fit_lines(sequences.user_names()) || !fit_lines(sequences.item_names())) return 0;
  try {
    if (!survives_lines(sequences)) std::abort();
  } catch (const theriac::Error&) {
    std::abort();
  }
  return 0;
}
