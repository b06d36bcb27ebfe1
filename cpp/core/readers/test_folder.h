// Small source files and what came of them, for the readers' tests.
#pragma once

#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "cpp/core/base/error.h"
#include "cpp/core/base/test_support.h"
#include "cpp/core/data/cohort.h"
#include "cpp/core/data/policy.h"

namespace theriac::readers::testing {

using testing_support::ScratchFolder;

inline std::filesystem::path write(const ScratchFolder& folder, const std::string& name,
                                   std::string_view bytes) {
  std::ofstream(folder / name, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return folder / name;
}
inline std::filesystem::path write_gzip(const ScratchFolder& folder, const std::string& name,
                                        std::string_view bytes) {
  gzFile file = gzopen((folder / name).c_str(), "wb");
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
  return folder / name;
}
// Drops the last bytes of a file.
inline void cut(const std::filesystem::path& file, std::uintmax_t bytes) {
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - bytes);
}

inline std::string detail(const Error& error, std::string_view key) {
  return testing_support::detail(error.failure(), key);
}

// The Error that `work` throws; a test failure, and an error of code kOk, when it throws none.
template <class Work>
Error error_of(Work work) {
  try {
    work();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error was thrown";
  return Error(Code::kOk, "");
}

// Rows of a table dropped for a reason, 0 when there are none.
inline std::int64_t dropped(const data::Cohort& cohort, const std::string& table,
                            const std::string& reason) {
  const Json& tables = cohort.accounting()["tables"];
  if (!tables.contains(table) || !tables[table]["dropped"].contains(reason)) return 0;
  return tables[table]["dropped"][reason].get<std::int64_t>();
}

inline void expect_balanced(const data::Cohort& cohort) {
  for (const auto& [name, table] : cohort.accounting()["tables"].items()) {
    std::int64_t sum = table["kept"].get<std::int64_t>();
    for (const auto& [reason, rows] : table["dropped"].items()) sum += rows.get<std::int64_t>();
    EXPECT_EQ(table["read"].get<std::int64_t>(), sum) << name;
  }
}

// "icd10cm:E119 icd9cm:4280" of one visit's field, in the order of the visit.
inline std::string codes_of(const data::Cohort& cohort, std::int64_t visit, data::Field field) {
  std::string out;
  for (const std::int32_t id : cohort.visit(visit).field(field)) {
    const codes::MedicalCode& code = cohort.vocabulary(field).code(id);
    out +=
        (out.empty() ? "" : " ") + std::string(codes::system_name(code.system)) + ":" + code.text;
  }
  return out;
}

}  // namespace theriac::readers::testing
