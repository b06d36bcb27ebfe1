// Rows of a table gathered into Arrow arrays.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/data/arrow_abi.h"
#include "cpp/core/data/table.h"

namespace theriac::data {

inline constexpr std::int64_t kBatchRows = 65'536;
// A batch ends early at this many bytes of text in one column, far below the 2 GiB that 32-bit text
// offsets allow.
inline constexpr std::size_t kBatchTextBytes = std::size_t{64} << 20;

// Buffers of one column, in Arrow's layout.
struct ArrowBuffers {
  ColumnType type = ColumnType::kText;
  std::int64_t rows = 0, nulls = 0;
  std::vector<std::uint8_t>
      validity;  // one bit a row, least significant first; empty without nulls
  std::vector<std::int32_t> offsets{0};  // texts only: [rows + 1]
  std::string bytes;                     // text bytes, numbers of 4 or 8 bytes, or bits
  void append(const Cell& cell);

 private:
  void mark(bool valid);
};

struct ArrowBatch {
  std::int64_t rows = 0;
  std::vector<ArrowBuffers> columns;
};

// Next batch of the cursor's table; no rows at the end.
ArrowBatch next_batch(RowCursor& cursor);

// Rows made elsewhere, for export_batches. `columns` stays the same; `next` gives no rows at the
// end.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual std::span<const TableColumn> columns() const = 0;
  virtual ArrowBatch next() = 0;
};
// An empty batch with these columns.
ArrowBatch make_batch_of(std::span<const TableColumn> columns);
// Fills `out` with a stream over the source, which lives until the stream is released.
void export_batches(std::unique_ptr<BatchSource> source, ArrowArrayStream* out);
// The same over a cursor; `data_set`, which it walks, lives as long.
void export_rows(std::shared_ptr<const void> data_set, std::unique_ptr<RowCursor> cursor,
                 ArrowArrayStream* out);

// "u", "i", "l" or "tss:".
const char* arrow_format(ColumnType type) noexcept;
bool arrow_nullable(ColumnType type) noexcept;

}  // namespace theriac::data
