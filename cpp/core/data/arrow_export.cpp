// Producer side of arrow.h. Each struct owns what it points to through its private_data, so that a
// consumer may move a child out of its parent, and any of them past the stream's end.

#include <cerrno>
#include <exception>
#include <new>
#include <optional>
#include <utility>

#include "cpp/core/base/error.h"
#include "cpp/core/data/arrow.h"
#include "cpp/core/data/arrow_batch.h"
#include "cpp/core/data/table.h"

namespace theriac::data {
namespace {

// Children of a schema or array: the structs, and the array of pointers that the parent shows.
template <class Struct>
struct Children {
  explicit Children(std::size_t count) : structs(count), pointers(count) {
    for (std::size_t i = 0; i < count; ++i) pointers[i] = &structs[i];
  }
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;
  ~Children() {
    for (Struct& child : structs) {
      if (child.release != nullptr) child.release(&child);
    }
  }
  std::vector<Struct> structs;  // value-initialised: release is null until a child is made
  std::vector<Struct*> pointers;
};

struct SchemaOwner {
  explicit SchemaOwner(std::size_t count) : children(count) {}
  std::string name;
  Children<ArrowSchema> children;
};

void release_schema(ArrowSchema* schema) {
  delete static_cast<SchemaOwner*>(schema->private_data);
  schema->release = nullptr;
}

// `out` is filled only when nothing can fail any more.
void make_schema(const char* format, std::string name, bool nullable,
                 std::unique_ptr<SchemaOwner> owner, ArrowSchema* out) {
  owner->name = std::move(name);
  *out = ArrowSchema{};
  out->format = format;
  out->name = owner->name.c_str();
  out->flags = nullable ? ARROW_FLAG_NULLABLE : 0;
  out->n_children = static_cast<std::int64_t>(owner->children.pointers.size());
  out->children = out->n_children == 0 ? nullptr : owner->children.pointers.data();
  out->release = release_schema;
  out->private_data = owner.release();
}

void make_table_schema(std::span<const TableColumn> columns, ArrowSchema* out) {
  auto owner = std::make_unique<SchemaOwner>(columns.size());
  for (std::size_t i = 0; i < columns.size(); ++i) {
    make_schema(arrow_format(columns[i].type), std::string(columns[i].name),
                arrow_nullable(columns[i].type), std::make_unique<SchemaOwner>(0),
                &owner->children.structs[i]);
  }
  make_schema("+s", "", false, std::move(owner), out);
}

struct ArrayOwner {
  explicit ArrayOwner(std::size_t count) : children(count) {}
  ArrowBuffers data;
  std::vector<const void*> buffers;
  Children<ArrowArray> children;
};

void release_array(ArrowArray* array) {
  delete static_cast<ArrayOwner*>(array->private_data);
  array->release = nullptr;
}

void make_array(std::int64_t rows, std::unique_ptr<ArrayOwner> owner, ArrowArray* out) {
  *out = ArrowArray{};
  out->length = rows;
  out->null_count = owner->data.nulls;
  out->n_buffers = static_cast<std::int64_t>(owner->buffers.size());
  out->buffers = owner->buffers.data();
  out->n_children = static_cast<std::int64_t>(owner->children.pointers.size());
  out->children = out->n_children == 0 ? nullptr : owner->children.pointers.data();
  out->release = release_array;
  out->private_data = owner.release();
}

void make_column(ArrowBuffers data, ArrowArray* out) {
  auto owner = std::make_unique<ArrayOwner>(0);
  owner->data = std::move(data);
  const ArrowBuffers& column = owner->data;
  owner->buffers.push_back(column.validity.empty() ? nullptr : column.validity.data());
  if (column.type == ColumnType::kText) owner->buffers.push_back(column.offsets.data());
  owner->buffers.push_back(column.bytes.data());
  const std::int64_t rows = column.rows;
  make_array(rows, std::move(owner), out);
}

void make_batch(ArrowBatch batch, ArrowArray* out) {
  auto owner = std::make_unique<ArrayOwner>(batch.columns.size());
  for (std::size_t i = 0; i < batch.columns.size(); ++i) {
    make_column(std::move(batch.columns[i]), &owner->children.structs[i]);
  }
  owner->buffers.push_back(nullptr);  // the struct's own validity: no row is null
  make_array(batch.rows, std::move(owner), out);
}

class CursorSource final : public BatchSource {
 public:
  CursorSource(std::shared_ptr<const void> data_set, std::unique_ptr<RowCursor> cursor)
      : data_set_(std::move(data_set)), cursor_(std::move(cursor)) {}
  std::span<const TableColumn> columns() const override { return cursor_->columns(); }
  ArrowBatch next() override { return next_batch(*cursor_); }

 private:
  std::shared_ptr<const void> data_set_;
  std::unique_ptr<RowCursor> cursor_;
};

struct StreamOwner {
  std::unique_ptr<BatchSource> source;
  std::string last_error;
};

StreamOwner& owner_of(ArrowArrayStream* stream) {
  return *static_cast<StreamOwner*>(stream->private_data);
}

// No exception crosses to the consumer: it becomes an errno and get_last_error's text.
template <class Fill>
int guarded(ArrowArrayStream* stream, Fill fill) noexcept {
  try {
    fill();
    return 0;
  } catch (const std::bad_alloc&) {
    return ENOMEM;
  } catch (const std::exception& error) {
    try {
      owner_of(stream).last_error = error.what();
    } catch (...) {
      return ENOMEM;
    }
    return EIO;
  }
}

int get_schema(ArrowArrayStream* stream, ArrowSchema* out) {
  return guarded(stream, [&] { make_table_schema(owner_of(stream).source->columns(), out); });
}

int get_next(ArrowArrayStream* stream, ArrowArray* out) {
  return guarded(stream, [&] {
    ArrowBatch batch = owner_of(stream).source->next();
    if (batch.rows == 0) {
      *out = ArrowArray{};  // a released array ends the stream
    } else {
      make_batch(std::move(batch), out);
    }
  });
}

const char* get_last_error(ArrowArrayStream* stream) {
  const std::string& text = owner_of(stream).last_error;
  return text.empty() ? nullptr : text.c_str();
}

void release_stream(ArrowArrayStream* stream) {
  delete static_cast<StreamOwner*>(stream->private_data);
  stream->private_data = nullptr;
  stream->release = nullptr;
}

}  // namespace

void export_cohort_stream(std::shared_ptr<const Cohort> cohort, const std::string& table,
                          ArrowArrayStream* out) {
  if (cohort == nullptr || out == nullptr) {
    throw Error(Code::kInvalidArgument, "export_cohort_stream needs a cohort and a stream to fill");
  }
  auto cursor = std::make_unique<TableCursor>(*cohort, table);
  export_rows(std::move(cohort), std::move(cursor), out);
}

void export_rows(std::shared_ptr<const void> data_set, std::unique_ptr<RowCursor> cursor,
                 ArrowArrayStream* out) {
  export_batches(std::make_unique<CursorSource>(std::move(data_set), std::move(cursor)), out);
}

void export_batches(std::unique_ptr<BatchSource> source, ArrowArrayStream* out) {
  auto owner = std::make_unique<StreamOwner>();
  owner->source = std::move(source);
  *out = ArrowArrayStream{get_schema, get_next, get_last_error, release_stream, owner.release()};
}

}  // namespace theriac::data
