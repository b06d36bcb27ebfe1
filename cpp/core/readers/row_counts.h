// What became of the rows of one table, counted cheaply row by row.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cpp/core/data/cohort_policy_apply.h"

namespace theriac::readers {

// Every row is read once, and kept or dropped once. Reasons are fixed texts of the readers, never
// words of the data. Not synchronised.
class RowCounts {
 public:
  explicit RowCounts(std::string table) : table_(std::move(table)) {}
  const std::string& table() const noexcept { return table_; }

  void read() noexcept { ++read_; }
  void kept() noexcept { ++kept_; }
  // `reason` must outlive the counts (a literal).
  void dropped(std::string_view reason) {
    for (auto& [known, rows] : dropped_) {
      if (known == reason) return void(++rows);
    }
    dropped_.emplace_back(reason, 1);
  }
  void add_to(data::Accounting& accounting) const {
    if (read_ != 0) accounting.read(table_, read_);
    if (kept_ != 0) accounting.kept(table_, kept_);
    for (const auto& [reason, rows] : dropped_) accounting.dropped(table_, reason, rows);
  }

 private:
  std::string table_;
  std::int64_t read_ = 0, kept_ = 0;
  std::vector<std::pair<std::string_view, std::int64_t>> dropped_;
};

}  // namespace theriac::readers
