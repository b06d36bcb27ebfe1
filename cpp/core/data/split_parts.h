// What the splits of every kind of data set share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>

#include "cpp/core/base/error.h"
#include "cpp/core/base/json.h"

namespace theriac::data {

// int(share * n), robust to a share such as 1 - 0.1 - 0.1 that falls just short of its decimal
// value.
inline std::size_t share_of(double share, std::size_t n) {
  constexpr double kRounding = 1e-9;
  const double exact = share * static_cast<double>(n);
  return std::min(n, static_cast<std::size_t>(std::floor(exact + kRounding)));
}

inline void check_shares(double valid, double test) {
  if (valid >= 0 && test >= 0 && valid + test <= 1) return;
  throw Error(Code::kInvalidArgument,
              "options 'valid' and 'test' must be 0 or more and together at most 1")
      .at("option", "valid");
}

// The parent's provenance, joined by "part_of": the options, the part's name, the parent.
inline Json part_provenance(Json provenance, const std::string& parent, Json how) {
  how["parent"] = parent;
  provenance["part_of"] = std::move(how);
  return provenance;
}

}  // namespace theriac::data
