#include "cpp/core/augment/similarity_table.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "cpp/core/base/error.h"

namespace theriac::augment {

SimilarityTable::SimilarityTable(std::int32_t items, std::size_t width,
                                 std::vector<std::int32_t> neighbours, std::vector<float> scores)
    : items_(items), width_(width), neighbours_(std::move(neighbours)), scores_(std::move(scores)) {
  if (!scores_.empty() && scores_.size() != neighbours_.size()) {
    throw Error(Code::kInvalidArgument,
                "a similarity table has " + std::to_string(neighbours_.size()) +
                    " neighbours but " + std::to_string(scores_.size()) + " scores");
  }
  if (items < 1 || width < 1 || neighbours_.size() / width != static_cast<std::size_t>(items) ||
      neighbours_.size() % width != 0) {
    throw Error(Code::kInvalidArgument, "a similarity table of " + std::to_string(items) +
                                            " items and " + std::to_string(width) +
                                            " neighbours each has " +
                                            std::to_string(neighbours_.size()) + " entries");
  }
  for (std::int32_t item = 1; item <= items; ++item) {
    auto* const row = neighbours_.data() + static_cast<std::size_t>(item - 1) * width;
    for (std::size_t i = 0; i < width; ++i) {
      const bool known = row[i] >= 0 && row[i] <= items;
      const bool again = row[i] != 0 && std::find(row, row + i, row[i]) != row + i;
      const bool gap = i > 0 && row[i - 1] == 0 && row[i] != 0;
      if (known && row[i] != item && !again && !gap) continue;
      throw Error(Code::kInvalidArgument,
                  "similarity table, item " + std::to_string(item) + ": neighbour " +
                      std::to_string(row[i]) +
                      " is the item itself, stands twice, follows a 0 or is not among 1 to " +
                      std::to_string(items))
          .at("item", item);
    }
  }
}

IdSpan SimilarityTable::of(std::int32_t item) const noexcept {
  const auto* const row = neighbours_.data() + static_cast<std::size_t>(item - 1) * width_;
  return {row, static_cast<std::size_t>(std::find(row, row + width_, 0) - row)};
}

std::string to_bytes(const SimilarityTable& table) {
  std::string bytes;
  const auto add = [&bytes](const void* from, std::size_t size) {
    bytes.append(static_cast<const char*>(from), size);
  };
  add(table.neighbours().data(), table.neighbours().size_bytes());
  add(table.scores().data(), table.scores().size_bytes());
  return bytes;
}

std::shared_ptr<const SimilarityTable> stored_table(const std::map<std::string, std::string>& files,
                                                    const std::string& name, std::int32_t items) {
  const auto found = files.find(name);
  if (found == files.end()) return nullptr;
  const std::string& bytes = found->second;
  const std::size_t entry = sizeof(std::int32_t) + sizeof(float);
  const auto rows = static_cast<std::size_t>(items);
  if (bytes.empty() || rows == 0 || bytes.size() % (rows * entry) != 0) {
    throw Error(Code::kDataError, name + " has " + std::to_string(bytes.size()) +
                                      " bytes, no whole number of neighbours for " +
                                      std::to_string(items) + " items")
        .at("file", name);
  }
  const std::size_t count = bytes.size() / entry;
  std::vector<std::int32_t> neighbours(count);
  std::vector<float> scores(count);
  std::memcpy(neighbours.data(), bytes.data(), count * sizeof(std::int32_t));
  std::memcpy(scores.data(), bytes.data() + count * sizeof(std::int32_t), count * sizeof(float));
  try {
    return std::make_shared<const SimilarityTable>(items, count / rows, std::move(neighbours),
                                                   std::move(scores));
  } catch (const Error& error) {
    throw Error(Code::kDataError, name + ": " + error.what()).at("file", name);
  }
}

SimilarityTable similar_by_users(std::span<const Ids> sequences, std::int32_t items,
                                 std::size_t width, CoOccurrence weighting) {
  const auto count = static_cast<std::size_t>(items) + 1;
  std::vector<std::vector<std::uint32_t>> users(count);  // of each item
  std::vector<Ids> of_user(sequences.size());
  std::vector<double> shares(sequences.size(), 1.0);
  for (std::size_t u = 0; u < sequences.size(); ++u) {
    Ids& own = of_user[u] = sequences[u];
    std::sort(own.begin(), own.end());
    own.erase(std::unique(own.begin(), own.end()), own.end());
    if (!own.empty() && (own.front() < 1 || own.back() > items)) {
      throw Error(Code::kInvalidArgument,
                  "sequence " + std::to_string(u) + " has item " +
                      std::to_string(own.front() < 1 ? own.front() : own.back()) +
                      "; expected 1 to " + std::to_string(items));
    }
    for (const std::int32_t item : own) {
      users[static_cast<std::size_t>(item)].push_back(static_cast<std::uint32_t>(u));
    }
    if (weighting == CoOccurrence::kInverseUserFrequency && !own.empty()) {
      shares[u] = 1 / std::log(1 + static_cast<double>(own.size()));
    }
  }
  std::vector<std::int32_t> neighbours(static_cast<std::size_t>(items) * width);
  std::vector<float> scores(neighbours.size());
  std::vector<double> sums(count);
  std::vector<std::int32_t> found;
  for (std::int32_t item = 1; item <= items; ++item) {
    const auto& mine = users[static_cast<std::size_t>(item)];
    found.clear();
    for (const std::uint32_t u : mine) {
      for (const std::int32_t other : of_user[u]) {
        if (other == item) continue;
        double& sum = sums[static_cast<std::size_t>(other)];
        if (sum == 0) found.push_back(other);
        sum += shares[u];
      }
    }
    // The root of N_i is the same for all neighbours of i.
    for (const std::int32_t other : found) {
      const auto at = static_cast<std::size_t>(other);
      sums[at] /= std::sqrt(static_cast<double>(users[at].size()));
    }
    const std::size_t kept = std::min(width, found.size());
    std::partial_sort(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(kept), found.end(),
                      [&sums](std::int32_t a, std::int32_t b) {
                        const double x = sums[static_cast<std::size_t>(a)];
                        const double y = sums[static_cast<std::size_t>(b)];
                        return x != y ? x > y : a < b;
                      });
    const std::size_t row = static_cast<std::size_t>(item - 1) * width;
    for (std::size_t i = 0; i < kept; ++i) {
      neighbours[row + i] = found[i];
      scores[row + i] = static_cast<float>(sums[static_cast<std::size_t>(found[i])] /
                                           std::sqrt(static_cast<double>(mine.size())));
    }
    for (const std::int32_t other : found) sums[static_cast<std::size_t>(other)] = 0;
  }
  return {items, width, std::move(neighbours), std::move(scores)};
}

SimilarityTable hybrid(const SimilarityTable& a, const SimilarityTable& b) {
  if (a.items() != b.items() || a.scores().empty() || b.scores().empty()) {
    throw Error(Code::kInvalidArgument,
                "a hybrid needs two tables of the same items, both with scores");
  }
  const auto first = [](const SimilarityTable& table, std::int32_t item) {
    const std::size_t row = static_cast<std::size_t>(item - 1) * table.width();
    return std::pair(table.neighbours()[row], table.scores()[row]);
  };
  const auto range = [&](const SimilarityTable& table) {
    std::pair<float, float> ends(0, 0);
    bool any = false;
    for (std::int32_t item = 1; item <= table.items(); ++item) {
      const auto [neighbour, score] = first(table, item);
      if (neighbour == 0) continue;
      ends = any ? std::pair(std::min(ends.first, score), std::max(ends.second, score))
                 : std::pair(score, score);
      any = true;
    }
    return ends;
  };
  const auto relative = [](float score, std::pair<float, float> ends) {
    return ends.second > ends.first ? (score - ends.first) / (ends.second - ends.first) : 1.0F;
  };
  const auto of_a = range(a), of_b = range(b);
  std::vector<std::int32_t> neighbours(static_cast<std::size_t>(a.items()));
  for (std::int32_t item = 1; item <= a.items(); ++item) {
    const auto [x, x_score] = first(a, item);
    const auto [y, y_score] = first(b, item);
    const bool by_b = x == 0 || (y != 0 && relative(y_score, of_b) > relative(x_score, of_a));
    neighbours[static_cast<std::size_t>(item - 1)] = by_b ? y : x;
  }
  return {a.items(), 1, std::move(neighbours)};
}

}  // namespace theriac::augment
