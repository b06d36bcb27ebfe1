// A host's Arrow stream read as a table with named columns, batch by batch.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cpp/core/base/job.h"
#include "cpp/core/data/arrow_abi.h"
#include "cpp/core/data/arrow_column.h"

namespace theriac::data {

struct ExpectedColumn {
  std::string name;
  ColumnRole role;
  bool required;
};

// Any of the three structs, released exactly once.
template <class Struct>
class OwnedArrow {
 public:
  OwnedArrow() = default;
  explicit OwnedArrow(Struct* taken) : value(*taken) { taken->release = nullptr; }
  ~OwnedArrow() {
    if (value.release != nullptr) value.release(&value);
  }
  OwnedArrow(const OwnedArrow&) = delete;
  OwnedArrow& operator=(const OwnedArrow&) = delete;
  Struct value{};
};

class ArrowTableReader {
 public:
  // Takes `in` over at once; it is released with the reader. Throws kInvalidArgument for a stream
  // that is null, was released before or lacks its callbacks.
  explicit ArrowTableReader(ArrowArrayStream* in);

  // Reads the schema and finds the columns, which have any order; others are ignored. Throws
  // kDataError for a stream that is no table, and for a column that is missing, doubled or of a
  // type that does not suit its role.
  void open(std::vector<ExpectedColumn> columns);

  // Moves to the next batch; false at the end of the stream. Throws kDataError, with the producer's
  // own words when the producer fails.
  bool next_batch();
  std::int64_t rows() const noexcept { return batch_->value.length; }  // of the batch
  bool is_null(std::int64_t row) const;                                // the row as a whole
  bool has(std::size_t column) const { return columns_[column].has_value(); }
  // By position among the expected columns; must be there.
  const ArrowColumn& column(std::size_t column) const { return *columns_[column]; }
  // Tells `job`, if there is one, now and then; throws as it asks.
  void report(Job* job, std::int64_t row) const;

 private:
  void check(int status, const std::string& what);
  void read_schema(ArrowSchema& out);
  void bind();

  OwnedArrow<ArrowArrayStream> stream_;
  std::vector<ExpectedColumn> expected_;
  std::vector<std::optional<ArrowColumn>> columns_;  // [expected]
  std::vector<std::int64_t> children_;               // position of each in the struct, -1: absent
  std::int64_t schema_children_ = 0;
  std::optional<OwnedArrow<ArrowArray>> batch_;
  std::int64_t batches_ = 0, rows_before_ = 0;  // of the batches before this one
};

}  // namespace theriac::data
