// An adapter's configuration and the names and shapes of its tensors, from anywhere. The input is
// the configuration's text, a NUL, and a line a tensor: its name, then a digit a dimension after '|'.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string_view>

#include "cpp/core/tensorfile/adapter.h"

namespace {

namespace tensorfile = theriac::tensorfile;

void require(bool holds) {
  if (!holds) std::abort();
}

std::vector<tensorfile::TensorRecord> tensors_of(std::string_view lines) {
  std::vector<tensorfile::TensorRecord> tensors;
  std::set<std::string_view> names;  // a file's names are unique
  while (!lines.empty()) {
    const std::string_view line = lines.substr(0, lines.find('\n'));
    lines.remove_prefix(std::min(lines.size(), line.size() + 1));
    const std::size_t bar = std::min(line.size(), line.rfind('|'));
    if (!names.insert(line.substr(0, bar)).second) continue;
    auto& tensor = tensors.emplace_back();
    tensor.name = line.substr(0, bar);
    for (const char digit : line.substr(bar)) {
      if (digit >= '0' && digit <= '9') tensor.shape.push_back(static_cast<unsigned>(digit - '0'));
    }
  }
  return tensors;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t nul = std::min(size, input.find('\0'));
  const auto tensors = tensors_of(input.substr(std::min(size, nul + 1)));
  try {
    const auto config = tensorfile::AdapterConfig::parse(input.substr(0, nul), "config");
    const auto map = tensorfile::map_adapter(config, tensors);
    std::size_t used = map.replaced.size();
    for (const auto& [name, module] : map.modules) {
      require(module.a != nullptr && module.b != nullptr && module.rank > 0);
      require(module.a->shape.at(0) == module.rank && module.b->shape.at(1) == module.rank);
      require(std::isfinite(module.scale) && (module.magnitude != nullptr) == config.use_dora);
      used += 2U + (module.magnitude != nullptr) + (module.b_bias != nullptr);
    }
    require(used == tensors.size());  // none is passed over in silence
  } catch (const theriac::Error&) {
  }
  return 0;
}
