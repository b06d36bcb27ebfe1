#include "cpp/core/data/arrow_ipc.h"

#include <algorithm>
#include <bit>
#include <ostream>
#include <utility>

#include "cpp/core/data/arrow_batch.h"
#include "cpp/core/data/flat_table.h"
#include "cpp/core/data/table.h"

namespace theriac::data {
namespace {

static_assert(std::endian::native == std::endian::little, "messages state little-endian buffers");

// Numbers of Arrow's Message.fbs and Schema.fbs.
constexpr std::int64_t kVersion5 = 4;
constexpr std::int64_t kSchemaHeader = 1, kRecordBatchHeader = 3;
constexpr std::int64_t kIntType = 2, kUtf8Type = 5, kTimestampType = 10;
constexpr std::uint32_t kContinuation = 0xffffffff;

std::size_t padded(std::size_t size) { return (size + 7) / 8 * 8; }

template <class T>
void write_number(std::ostream& out, T value) {
  out.write(reinterpret_cast<const char*>(&value), sizeof value);
}

// Continuation mark, size of the metadata, metadata; both padded to 8 bytes.
void write_message(std::ostream& out, FlatBuffer& metadata) {
  metadata.align(8);
  write_number(out, kContinuation);
  write_number(out, static_cast<std::int32_t>(metadata.bytes().size()));
  out.write(metadata.bytes().data(), static_cast<std::streamsize>(metadata.bytes().size()));
}

// The root Message table; returns the position of its reference to the header.
std::size_t begin_message(FlatBuffer& buffer, std::int64_t header_type, std::int64_t body) {
  const auto message = buffer.table(
      {{3, 8, body}, FlatBuffer::reference(2), {0, 2, kVersion5}, {1, 1, header_type}});
  buffer.refer(0, message[0]);
  return message[2];
}

std::int64_t type_number(ColumnType type) {
  switch (type) {
    case ColumnType::kText:
      return kUtf8Type;
    case ColumnType::kTime:
      return kTimestampType;
    case ColumnType::kInt32:
    case ColumnType::kInt64:
    case ColumnType::kReal:  // no table written this way has these three
    case ColumnType::kFloat:
    case ColumnType::kFlag:
      break;
  }
  return kIntType;
}

std::size_t type_table(FlatBuffer& buffer, ColumnType type) {
  switch (type) {
    case ColumnType::kInt32:
      return buffer.table({{0, 4, 32}, {1, 1, 1}})[0];  // bit width, signed
    case ColumnType::kInt64:
      return buffer.table({{0, 4, 64}, {1, 1, 1}})[0];
    case ColumnType::kText:
    case ColumnType::kTime:
    case ColumnType::kReal:
    case ColumnType::kFloat:
    case ColumnType::kFlag:
      break;
  }
  return buffer.table({})[0];  // Utf8 has no members; Timestamp's unit defaults to seconds
}

std::size_t field_table(FlatBuffer& buffer, const TableColumn& column) {
  const auto field = buffer.table({FlatBuffer::reference(0),
                                   FlatBuffer::reference(3),
                                   FlatBuffer::reference(5),
                                   {1, 1, arrow_nullable(column.type) ? 1 : 0},
                                   {2, 1, type_number(column.type)}});
  buffer.refer(field[1], buffer.string(column.name));
  buffer.refer(field[2], type_table(buffer, column.type));
  buffer.refer(field[3], buffer.vector(0, 4));  // readers insist on a list of children
  return field[0];
}

void write_schema(std::span<const TableColumn> columns, std::ostream& out) {
  FlatBuffer buffer;
  const std::size_t header = begin_message(buffer, kSchemaHeader, 0);
  const auto schema = buffer.table({FlatBuffer::reference(1)});
  buffer.refer(header, schema[0]);
  buffer.refer(schema[1], buffer.vector(columns.size(), 4));
  std::vector<std::size_t> fields;
  for (std::size_t i = 0; i < columns.size(); ++i) fields.push_back(buffer.put<std::uint32_t>(0));
  for (std::size_t i = 0; i < columns.size(); ++i) {
    buffer.refer(fields[i], field_table(buffer, columns[i]));
  }
  write_message(out, buffer);
}

// Buffers of a batch in the order of its columns: validity, text offsets, values.
std::vector<std::string_view> body_buffers(const ArrowBatch& batch) {
  std::vector<std::string_view> buffers;
  for (const ArrowBuffers& column : batch.columns) {
    buffers.emplace_back(reinterpret_cast<const char*>(column.validity.data()),
                         column.validity.size());
    if (column.type == ColumnType::kText) {
      buffers.emplace_back(reinterpret_cast<const char*>(column.offsets.data()),
                           column.offsets.size() * sizeof(std::int32_t));
    }
    buffers.emplace_back(column.bytes);
  }
  return buffers;
}

void write_batch(const ArrowBatch& batch, std::ostream& out) {
  const std::vector<std::string_view> buffers = body_buffers(batch);
  std::size_t body = 0;
  for (const std::string_view buffer : buffers) body += padded(buffer.size());

  FlatBuffer metadata;
  const std::size_t header =
      begin_message(metadata, kRecordBatchHeader, static_cast<std::int64_t>(body));
  const auto table =
      metadata.table({{0, 8, batch.rows}, FlatBuffer::reference(1), FlatBuffer::reference(2)});
  metadata.refer(header, table[0]);
  metadata.refer(table[2], metadata.vector(batch.columns.size(), 8));
  for (const ArrowBuffers& column : batch.columns) {
    metadata.put(column.rows);
    metadata.put(column.nulls);
  }
  metadata.refer(table[3], metadata.vector(buffers.size(), 8));
  std::int64_t offset = 0;
  for (const std::string_view buffer : buffers) {
    metadata.put(offset);
    metadata.put(static_cast<std::int64_t>(buffer.size()));
    offset += static_cast<std::int64_t>(padded(buffer.size()));
  }
  write_message(out, metadata);

  constexpr char kZeros[8] = {};
  for (const std::string_view buffer : buffers) {
    out.write(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    out.write(kZeros, static_cast<std::streamsize>(padded(buffer.size()) - buffer.size()));
  }
}

}  // namespace

void write_arrow_ipc(RowCursor& cursor, std::ostream& out) {
  write_schema(cursor.columns(), out);
  for (;;) {
    const ArrowBatch batch = next_batch(cursor);
    if (batch.rows == 0) break;
    write_batch(batch, out);
  }
  write_number(out, kContinuation);
  write_number(out, std::int32_t{0});  // end of stream
}

}  // namespace theriac::data
