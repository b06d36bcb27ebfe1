// The medication methods: gamenet, retain, and the baselines most_frequent, nearest_visit,
// logistic_regression.
#pragma once

#include <vector>

#include "cpp/engine/registry.h"

namespace theriac::clinical {

std::vector<MethodEntry> clinical_methods();

}  // namespace theriac::clinical
