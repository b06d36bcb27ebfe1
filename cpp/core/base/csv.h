// RFC 4180 reader: quoted fields, quoted newlines, CRLF, a byte order mark, gzip, bounded memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/input.h"

namespace theriac {

struct CsvLimits {
  std::size_t field_bytes = std::size_t{1} << 20;
  std::size_t columns = 4096;
  std::size_t buffer_bytes = std::size_t{1} << 20;  // read at a time; grows for longer records
};

// Whether a double quote at the start of a field opens a quoted field. kNone is for tab-separated
// tables such as the OMOP vocabularies, in which a quote is a character like any other.
enum class CsvQuotes { kDouble, kNone };

// Streams records of one table with a header line. Column names are matched without regard to case.
// Every error is kDataError and names file, line (1-based, of the record's start) and column.
// Empty lines are skipped, except in a table of one column, where each is a record with an empty
// field. A quote inside a field that does not start with one is kept as it is. Not shared between
// threads.
class CsvReader {
 public:
  explicit CsvReader(std::unique_ptr<ByteSource> source, char delimiter = ',',
                     CsvLimits limits = {}, CsvQuotes quotes = CsvQuotes::kDouble);
  ~CsvReader();

  const std::vector<std::string>& header()
      const;  // as written, trimmed, without the byte order mark
  // Index of a column; throws kDataError listing the columns present and the nearest name.
  std::size_t column(std::string_view name) const;
  // -1 when absent.
  int find_column(std::string_view name) const;

  // Moves to the next record; false at the end. A record with another number of fields than the
  // header, a bare carriage return, an unterminated quote, a NUL byte or invalid UTF-8 is an error.
  bool next();
  std::string_view field(
      std::size_t column) const;  // valid until next(); quotes removed, not trimmed
  std::uint64_t line() const;     // of the current record
  const std::string& name() const;
  // An Error(kDataError) about a field of the current record, with file, line and column in
  // details.
  Error error(std::size_t column, std::string what) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// One CSV field, quoted when needed.
std::string csv_field(std::string_view text);

}  // namespace theriac
