// The methods of this family, for the registry.
#pragma once

#include <vector>

#include "cpp/engine/registry.h"

namespace theriac::sequence {

std::vector<MethodEntry> sequence_methods();

}  // namespace theriac::sequence
