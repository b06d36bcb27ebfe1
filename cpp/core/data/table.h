// Tables row by row: one definition behind CSV, JSON lines and Arrow. Those of a cohort:
//
//   patients    patient, visits (count)
//   visits      patient, visit, time
//   codes       patient, visit, time, field, system, code: one row a code of a visit
//   vocabulary  field, id, system, code
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
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

// Walks one table of a data set, which must outlive it; the texts of a row are views into it.
class RowCursor {
 public:
  virtual ~RowCursor() = default;
  std::span<const TableColumn> columns() const noexcept { return columns_; }
  // Moves to the next row; false at the end. `row()` has one cell a column.
  virtual bool next() = 0;
  std::span<const Cell> row() const noexcept { return {row_.data(), columns_.size()}; }

 protected:
  RowCursor() = default;
  RowCursor(const RowCursor&) = default;
  RowCursor& operator=(const RowCursor&) = default;

  std::span<const TableColumn> columns_;
  std::array<Cell, kMaxTableColumns> row_;
};

// Of a cohort.
class TableCursor final : public RowCursor {
 public:
  // Throws kInvalidArgument naming the nearest table.
  TableCursor(const Cohort& cohort, std::string_view table);

  bool next() override { return (this->*next_)(); }

 private:
  bool next_patient();
  bool next_visit();
  bool next_code();
  bool next_vocabulary();
  void find_patient();  // of visit_

  const Cohort* cohort_;
  bool (TableCursor::*next_)() = nullptr;
  std::int64_t patient_ = 0, visit_ = 0;
  int field_ = 0;
  std::size_t position_ = 0;  // within the visit's set, or within the vocabulary
};

// kInvalidArgument for a table that `kind` ("a cohort") does not have, naming all and the nearest.
[[noreturn]] void unknown_table(const std::string& kind, const std::string& table,
                                const std::vector<std::string>& tables);

}  // namespace theriac::data
