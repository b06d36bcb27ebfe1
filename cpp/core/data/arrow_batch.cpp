#include "cpp/core/data/arrow_batch.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace theriac::data {
namespace {

template <class T, class Value>
void append_number(std::string& bytes, Value value) {
  const T number = static_cast<T>(value);
  char raw[sizeof(T)];
  std::memcpy(raw, &number, sizeof raw);
  bytes.append(raw, sizeof raw);
}

}  // namespace

// The bitmap is born with the first null; all rows before it are valid.
void ArrowBuffers::mark(bool valid) {
  if (valid && validity.empty()) return;
  validity.resize(static_cast<std::size_t>(rows / 8 + 1), 0xff);
  if (valid) return;
  auto& byte = validity[static_cast<std::size_t>(rows / 8)];
  byte = static_cast<std::uint8_t>(byte & ~(1U << (rows % 8)));
  ++nulls;
}

void ArrowBuffers::append(const Cell& cell) {
  switch (type) {
    case ColumnType::kText:
      bytes += cell.text;
      offsets.push_back(static_cast<std::int32_t>(bytes.size()));
      break;
    case ColumnType::kInt32:
      append_number<std::int32_t>(bytes, cell.number);
      break;
    case ColumnType::kInt64:
      append_number<std::int64_t>(bytes, cell.number);
      break;
    case ColumnType::kTime:
      mark(cell.number != kNoTime);
      append_number<std::int64_t>(bytes, cell.number == kNoTime ? 0 : cell.number);
      break;
    case ColumnType::kReal:
      mark(!std::isnan(cell.real));
      append_number<double>(bytes, std::isnan(cell.real) ? 0.0 : cell.real);
      break;
    case ColumnType::kFloat:
      append_number<float>(bytes, cell.real);
      break;
    case ColumnType::kFlag: {
      if (rows % 8 == 0) bytes.push_back('\0');
      const unsigned bit = cell.number != 0 ? 1U << (rows % 8) : 0U;
      bytes.back() = static_cast<char>(static_cast<unsigned char>(bytes.back()) | bit);
      break;
    }
  }
  ++rows;
}

ArrowBatch make_batch_of(std::span<const TableColumn> columns) {
  ArrowBatch batch;
  for (const TableColumn& column : columns) batch.columns.emplace_back().type = column.type;
  return batch;
}

ArrowBatch next_batch(RowCursor& cursor) {
  ArrowBatch batch = make_batch_of(cursor.columns());
  const auto full = [](const ArrowBuffers& column) {
    return column.bytes.size() >= kBatchTextBytes;
  };
  while (batch.rows < kBatchRows &&
         std::none_of(batch.columns.begin(), batch.columns.end(), full) && cursor.next()) {
    const auto row = cursor.row();
    for (std::size_t i = 0; i < row.size(); ++i) batch.columns[i].append(row[i]);
    ++batch.rows;
  }
  return batch;
}

const char* arrow_format(ColumnType type) noexcept {
  switch (type) {
    case ColumnType::kText:
      return "u";
    case ColumnType::kInt32:
      return "i";
    case ColumnType::kInt64:
      return "l";
    case ColumnType::kTime:
      return "tss:";
    case ColumnType::kReal:
      return "g";
    case ColumnType::kFloat:
      return "f";
    case ColumnType::kFlag:
      return "b";
  }
  return "n";
}

bool arrow_nullable(ColumnType type) noexcept {
  return type == ColumnType::kTime || type == ColumnType::kReal;
}

}  // namespace theriac::data
