// A saved merger from anywhere: a merger whose recipe reads back, or one Error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cpp/core/base/error.h"
#include "cpp/core/merge/merger.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using theriac::merge::Merger;
  try {
    const Merger merger = Merger::parse({reinterpret_cast<const char*>(data), size}, "fuzz.json");
    const std::string text = merger.serialised();
    if (Merger::parse(text, "again.json").serialised() != text) std::abort();
  } catch (const theriac::Error& error) {
    if (error.code() == theriac::Code::kInternal) std::abort();
  }
  return 0;
}
