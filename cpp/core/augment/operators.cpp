#include "cpp/core/augment/operators.h"

#include <algorithm>
#include <numeric>

namespace theriac::augment {

Ids without(IdSpan ids, const Positions& positions) {
  std::vector<char> removed(ids.size());
  for (const std::uint32_t position : positions) removed[position] = 1;
  Ids out;
  out.reserve(ids.size() - positions.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (removed[i] == 0) out.push_back(ids[i]);
  }
  return out;
}

Ids replaced(IdSpan ids, const Positions& positions, IdSpan by) {
  Ids out(ids.begin(), ids.end());
  for (std::size_t i = 0; i < positions.size(); ++i) out[positions[i]] = by[i];
  return out;
}

Ids inserted(IdSpan ids, const Positions& positions, std::span<const Ids> before) {
  std::vector<std::uint32_t> order(positions.size());
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return positions[a] < positions[b]; });
  Ids out;
  auto next = order.begin();
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (next != order.end() && positions[*next] == i) {
      out.insert(out.end(), before[*next].begin(), before[*next].end());
      ++next;
    }
    out.push_back(ids[i]);
  }
  return out;
}

}  // namespace theriac::augment
