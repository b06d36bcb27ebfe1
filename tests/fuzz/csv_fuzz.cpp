// CSV bytes from anywhere: every input is read to its end or refused with an Error. What was read
// is written again and must read back the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/csv.h"

namespace {

using Table = std::vector<std::vector<std::string>>;

Table read_table(std::string_view bytes, char delimiter, theriac::CsvQuotes quotes,
                 std::size_t buffer) {
  constexpr std::uint64_t kMostBytes = std::uint64_t{4}
                                       << 20;  // keeps one run of a gzip bomb short
  theriac::InputLimits input;
  input.bytes = kMostBytes;
  theriac::CsvLimits limits;
  limits.field_bytes = 4096;
  limits.buffer_bytes = buffer;
  theriac::CsvReader reader(theriac::memory_source(bytes, "fuzz.csv", input), delimiter, limits,
                            quotes);
  Table table{reader.header()};
  while (reader.next()) {
    auto& row = table.emplace_back();
    for (std::size_t i = 0; i < reader.header().size(); ++i) row.emplace_back(reader.field(i));
  }
  return table;
}

std::string written(const Table& table) {
  std::string out;
  for (const auto& row : table) {
    for (std::size_t i = 0; i < row.size(); ++i)
      out += (i == 0 ? "" : ",") + theriac::csv_field(row[i]);
    out += '\n';
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  constexpr char kDelimiters[] = {',', '\t', ';', '|'};
  const char delimiter = kDelimiters[data[0] & 3U];
  const auto quotes = (data[0] & 4U) != 0 ? theriac::CsvQuotes::kNone : theriac::CsvQuotes::kDouble;
  const std::size_t buffer = data[0] >> 3U;  // small ones put borders everywhere
  Table table;
  try {
    table =
        read_table({reinterpret_cast<const char*>(data + 1), size - 1}, delimiter, quotes, buffer);
  } catch (const theriac::Error&) {
    return 0;
  }
  // Trimming may leave a header without a name in its only column, which no header line may be. A
  // name may start with a byte order mark of its own.
  if (table[0].size() == 1 || table[0][0].rfind("\xef\xbb\xbf", 0) == 0) return 0;
  try {
    if (read_table(written(table), ',', theriac::CsvQuotes::kDouble, std::size_t{1} << 16) != table)
      std::abort();
  } catch (const theriac::Error&) {
    std::abort();
  }
  return 0;
}
