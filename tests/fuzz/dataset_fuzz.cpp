// A data set's directory from anywhere, of either kind: dataset.json is the input up to the first NUL byte, columns.bin
// is the rest. Its checksums are mended before it is read, so that the checks behind them are met.
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "cpp/core/base/hash.h"
#include "cpp/core/base/json.h"
#include "cpp/core/data/cohort_io.h"
#include "cpp/core/data/sequences_io.h"

namespace {

namespace fs = std::filesystem;

// One folder in memory for the whole run.
const fs::path& scratch() {
  static const fs::path folder = [] {
    char name[] = "/dev/shm/theriac_dataset_fuzz_XXXXXX";
    if (mkdtemp(name) == nullptr) std::abort();
    std::atexit([] { fs::remove_all(scratch()); });
    return fs::path(name);
  }();
  return folder;
}

void write(const fs::path& file, std::string_view bytes) {
  std::ofstream(file, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::string with_true_checksums(std::string_view header, std::string_view columns) {
  try {
    theriac::Json json = theriac::parse_json(header, "header");
    for (theriac::Json& column : json.at("columns")) {
      const auto offset = column.at("offset").get<std::uint64_t>();
      const auto count = column.at("count").get<std::uint64_t>();
      const std::string type = column.at("type").get<std::string>();
      const std::uint64_t width = type == "int64" ? 8 : type == "int32" ? 4 : 1;
      if (offset > columns.size() || count > (columns.size() - offset) / width) continue;
      column["xxh3"] = theriac::hash64_hex(columns.substr(offset, count * width));
    }
    return theriac::dump_json(json);
  } catch (const std::exception&) {
    return std::string(header);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::size_t end = std::min(bytes.find('\0'), size);
  const std::string_view columns = end < size ? bytes.substr(end + 1) : std::string_view();
  write(scratch() / "dataset.json", with_true_checksums(bytes.substr(0, end), columns));
  write(scratch() / "columns.bin", columns);
  try {
    std::ofstream none("/dev/null");
    if (theriac::data::stored_kind(scratch()) == "sequences") {
      const auto sequences = theriac::data::load_sequences(scratch());
      for (const std::string& table : theriac::data::sequence_table_names())
        theriac::data::export_sequence_table(sequences, table, "jsonl", none);
    } else {
      const auto cohort = theriac::data::load_cohort(scratch());
      for (const std::string& table : theriac::data::table_names())
        theriac::data::export_table(cohort, table, "csv", none);
    }
  } catch (const theriac::Error& error) {
    if (error.code() == theriac::Code::kInternal) std::abort();
  }
  return 0;
}
