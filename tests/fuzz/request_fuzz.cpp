// A recommendation request from anywhere: read within its limits, or refused with an Error that
// names a place in the document.
#include "cpp/engine/clinical/request.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  theriac::clinical::Request request;
  try {
    request = theriac::clinical::parse_request(bytes);
  } catch (const theriac::Error& error) {
    if (error.code() != theriac::Code::kInvalidArgument) std::abort();
    return 0;
  }
  if (request.dates.empty()) std::abort();
  for (const auto& entry : request.entries) {
    if (entry.visit < 0 || static_cast<std::size_t>(entry.visit) >= request.dates.size())
      std::abort();
    if (entry.code.text.empty()) std::abort();
  }
  return 0;
}
