// The tables of a cohort, row by row: one definition behind CSV, JSON lines and Arrow.
//
//   patients    patient, visits (count)
//   visits      patient, visit, time
//   codes       patient, visit, time, field, system, code: one row a code of a visit
//   vocabulary  field, id, system, code
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cpp/core/data/cohort.h"

namespace theriac::data {

// kReal: double, NaN is null. kFloat: float, never null.
enum class ColumnType { kText, kInt32, kInt64, kTime, kReal, kFloat, kFlag };

struct TableColumn {
  std::string_view name;
  ColumnType type;
};

// `text` of a text column, `real` of a real or float one, else `number`; a time may be kNoTime.
struct Cell {
  std::string_view text;
  std::int64_t number = 0;
  double real = 0;
};

inline constexpr std::size_t kMaxTableColumns = 6;

// Walks one table. The cohort must outlive it, and the texts of a row are views into the cohort.
class TableCursor {
 public:
  // Throws kInvalidArgument naming the nearest table.
  TableCursor(const Cohort& cohort, std::string_view table);

  std::span<const TableColumn> columns() const noexcept { return columns_; }
  // Moves to the next row; false at the end. `row()` has one cell a column.
  bool next() { return (this->*next_)(); }
  std::span<const Cell> row() const noexcept { return {row_.data(), columns_.size()}; }

 private:
  bool next_patient();
  bool next_visit();
  bool next_code();
  bool next_vocabulary();
  void find_patient();  // of visit_

  const Cohort* cohort_;
  std::span<const TableColumn> columns_;
  bool (TableCursor::*next_)() = nullptr;
  std::int64_t patient_ = 0, visit_ = 0;
  int field_ = 0;
  std::size_t position_ = 0;  // within the visit's set, or within the vocabulary
  std::array<Cell, kMaxTableColumns> row_;
};

}  // namespace theriac::data
