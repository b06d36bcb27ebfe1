// A merge recipe from anywhere: typed documents, or one Error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cpp/core/base/error.h"
#include "cpp/core/merge/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    theriac::merge::parse_recipe({reinterpret_cast<const char*>(data), size}, "fuzz.yml");
  } catch (const theriac::Error& error) {
    if (error.code() == theriac::Code::kInternal) std::abort();
  }
  return 0;
}
