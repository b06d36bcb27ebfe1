// libFuzzer target of the FHIR reader: whatever the bytes, the answer is a cohort or one Error, and
// the books of a cohort balance. The first byte chooses the layout (even: a resource a line, odd:
// documents).
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cpp/core/base/error.h"
#include "cpp/core/base/input.h"
#include "cpp/core/readers/fhir_import.h"

namespace {

bool balances(const theriac::Json& accounting) {
  for (const auto& [name, table] : accounting["tables"].items()) {
    std::int64_t sum = table["kept"].get<std::int64_t>();
    for (const auto& [reason, rows] : table["dropped"].items()) sum += rows.get<std::int64_t>();
    if (sum != table["read"].get<std::int64_t>()) return false;
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  theriac::data::CohortPolicy policy;
  policy.require_all_three = false;
  policy.min_visits = 1;
  policy.problem_list = "last_visit";
  policy.med_window = "first_day";
  theriac::Job job;
  try {
    theriac::readers::FhirImport import(policy, {std::size_t{1} << 16, 64});
    import.read(theriac::memory_source(bytes, "fuzz"), data[0] % 2 == 0);
    if (!balances(import.finish({}, job).accounting())) std::abort();
  } catch (const theriac::Error& error) {
    if (error.code() == theriac::Code::kInternal) std::abort();
  }
  return 0;
}
