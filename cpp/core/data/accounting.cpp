#include <algorithm>
#include <numeric>
#include <utility>

#include "cpp/core/data/cohort_policy_apply.h"

namespace theriac::data {
namespace {

constexpr std::size_t kTopUnmapped = 10;

Json unmapped_json(const std::unordered_map<std::string, std::int64_t>& counts) {
  std::vector<std::pair<std::string, std::int64_t>> sorted(counts.begin(), counts.end());
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  std::int64_t rows = 0;
  for (const auto& [code, count] : sorted) rows += count;
  Json top = Json::array();
  for (std::size_t i = 0; i < std::min(sorted.size(), kTopUnmapped); ++i) {
    top.push_back(Json{{"code", sorted[i].first}, {"rows", sorted[i].second}});
  }
  return Json{{"rows", rows}, {"distinct", sorted.size()}, {"top", std::move(top)}};
}

template <class Counts>
std::int64_t sum(const Counts& counts) {
  return std::accumulate(
      counts.begin(), counts.end(), std::int64_t{0},
      [](std::int64_t total, const auto& entry) { return total + entry.second; });
}

}  // namespace

Accounting::Table& Accounting::table(std::string_view name) {
  const auto found = tables_.find(name);
  return found != tables_.end() ? found->second : tables_[std::string(name)];
}

const Accounting::Table* Accounting::find(std::string_view name) const {
  const auto found = tables_.find(name);
  return found == tables_.end() ? nullptr : &found->second;
}

void Accounting::read(std::string_view name, std::int64_t rows) { table(name).read += rows; }
void Accounting::kept(std::string_view name, std::int64_t rows) { table(name).kept += rows; }

void Accounting::dropped(std::string_view name, std::string_view reason, std::int64_t rows) {
  auto& reasons = table(name).dropped;
  const auto found = reasons.find(reason);
  if (found != reasons.end()) {
    found->second += rows;
  } else {
    reasons.emplace(reason, rows);
  }
}

void Accounting::unmapped(std::string_view what, std::string_view code_or_name) {
  auto found = unmapped_.find(what);
  if (found == unmapped_.end()) found = unmapped_.try_emplace(std::string(what)).first;
  ++found->second[std::string(code_or_name)];
}

std::int64_t Accounting::rows_read(std::string_view name) const {
  const Table* t = find(name);
  return t ? t->read : 0;
}

std::int64_t Accounting::rows_kept(std::string_view name) const {
  const Table* t = find(name);
  return t ? t->kept : 0;
}

std::int64_t Accounting::rows_dropped(std::string_view name) const {
  const Table* t = find(name);
  return t ? sum(t->dropped) : 0;
}

std::int64_t Accounting::rows_dropped(std::string_view name, std::string_view reason) const {
  const Table* t = find(name);
  if (!t) return 0;
  const auto found = t->dropped.find(reason);
  return found == t->dropped.end() ? 0 : found->second;
}

std::vector<std::string> Accounting::unbalanced() const {
  std::vector<std::string> names;
  for (const auto& [name, t] : tables_) {
    if (t.read != t.kept + sum(t.dropped)) names.push_back(name);
  }
  return names;
}

Json Accounting::to_json() const {
  Json tables = Json::object();
  for (const auto& [name, t] : tables_) {
    Json dropped = Json::object();
    for (const auto& [reason, rows] : t.dropped) dropped[reason] = rows;
    tables[name] = Json{{"read", t.read}, {"kept", t.kept}, {"dropped", std::move(dropped)}};
  }
  Json unmapped = Json::object();
  for (const auto& [what, counts] : unmapped_) unmapped[what] = unmapped_json(counts);
  return Json{{"tables", std::move(tables)}, {"unmapped", std::move(unmapped)}};
}

}  // namespace theriac::data
