// A mapping table from anywhere: lookups that end in level-3 classes, or one Error. The first byte
// chooses which of the tables it is.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>

#include "cpp/core/base/error.h"
#include "cpp/core/codes/mapping.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const theriac::fuzz::MemoryFile file({reinterpret_cast<const char*>(data) + 1, size - 1});
  // Half of the second table of the way from NDC over RxNorm is given.
  const theriac::fuzz::MemoryFile rxcui("rxcui,atc4\n1049221,N02AA05\n5640,M01AE\n");
  theriac::codes::MapOptions options;
  std::string* const members[] = {&options.ndc_rxcui, &options.rxcui_atc, &options.ndc_atc,
                                  &options.codes};
  const auto which = data[0] % std::size(members);
  *members[which] = file.path();
  if (which == 0) options.rxcui_atc = rxcui.path();
  try {
    const auto maps = theriac::codes::CodeMaps::load(options);
    for (const auto& [system, text] : {std::pair{theriac::codes::System::kNdc, "00002143380"},
                                       std::pair{theriac::codes::System::kRxnorm, "1049221"},
                                       std::pair{theriac::codes::System::kAtc, "N02AA05"}}) {
      for (const std::string& name : maps.atc3({system, text})) {
        if (name.size() != 4) std::abort();
      }
    }
  } catch (const theriac::Error& error) {
    if (error.code() == theriac::Code::kInternal) std::abort();
  }
  return 0;
}
