// A host's side of the Arrow C stream, made by hand: columns of every kind the import accepts, with
// slices, nulls, dictionaries, faults on demand, and counters of releases.
#pragma once

#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cpp/core/data/arrow_abi.h"

namespace theriac::data {

using Texts = std::vector<std::optional<std::string>>;
using Integers = std::vector<std::optional<std::int64_t>>;

// One column's values and buffers. `lead` values of garbage stand before the slice.
struct HostColumn {
  std::string name, format;
  std::int64_t rows = 0, offset = 0, null_count = 0;
  std::vector<unsigned char> validity;
  std::string values;  // integers, or text offsets
  std::string bytes;
  std::vector<std::int64_t> block_sizes;  // of a text view, whose blocks are bytes and more_bytes
  std::string more_bytes;
  bool text = false;
  std::shared_ptr<HostColumn> dictionary;
  std::vector<const void*> buffers;

  template <class T>
  void put(T value) {
    values.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void put_integer(std::int64_t value) {
    switch (format[0] == 't' ? (format == "tdD" ? 'i' : 'l') : format[0]) {
      case 'c':
      case 'C':
        return put(static_cast<std::int8_t>(value));
      case 's':
      case 'S':
        return put(static_cast<std::int16_t>(value));
      case 'i':
      case 'I':
        return put(static_cast<std::int32_t>(value));
      default:
        return put(value);
    }
  }
  void put_offset() {
    if (format == "U") {
      put(static_cast<std::int64_t>(bytes.size()));
    } else {
      put(static_cast<std::int32_t>(bytes.size()));
    }
  }
  void mark(bool valid, std::int64_t at) {
    validity.resize(static_cast<std::size_t>(at / 8 + 1), 0);
    if (valid) {
      validity[static_cast<std::size_t>(at / 8)] |= static_cast<unsigned char>(1U << (at % 8));
    } else {
      ++null_count;
    }
  }
  void finish(bool with_bitmap) {
    const bool bitmap = null_count > 0 || with_bitmap;
    buffers = {bitmap ? static_cast<const void*>(validity.data()) : nullptr, values.data()};
    if (text) buffers.push_back(bytes.data());
    if (format != "vu") return;
    block_sizes = {static_cast<std::int64_t>(bytes.size()),
                   static_cast<std::int64_t>(more_bytes.size())};
    buffers.push_back(more_bytes.data());
    buffers.push_back(block_sizes.data());
  }
};

struct HostOptions {
  std::int64_t lead = 0;       // garbage rows before each column's slice
  bool bitmaps = false;        // validity bitmaps also where nothing is null
  bool unknown_nulls = false;  // null_count -1
};

inline HostColumn text_column(std::string name, const Texts& texts, HostOptions options = {},
                              std::string format = "u") {
  HostColumn column;
  column.name = std::move(name);
  column.format = std::move(format);
  column.text = true;
  column.rows = static_cast<std::int64_t>(texts.size());
  column.offset = options.lead;
  column.put_offset();
  for (std::int64_t i = 0; i < options.lead; ++i) {
    column.bytes += "garbage";
    column.put_offset();
    column.mark(true, i);
  }
  for (std::size_t i = 0; i < texts.size(); ++i) {
    column.bytes += texts[i].value_or("");
    column.put_offset();
    column.mark(texts[i].has_value(), options.lead + static_cast<std::int64_t>(i));
  }
  column.finish(options.bitmaps);
  if (options.unknown_nulls) column.null_count = -1;
  return column;
}

// utf8_view: short texts inline, long ones alternately in two blocks.
inline HostColumn view_column(std::string name, const Texts& texts, HostOptions options = {}) {
  HostColumn column;
  column.name = std::move(name);
  column.format = "vu";
  column.text = true;
  column.rows = static_cast<std::int64_t>(texts.size());
  column.offset = options.lead;
  const auto put = [&](const std::string& text, bool valid, std::int64_t at) {
    char entry[16] = {};
    const auto size = static_cast<std::int32_t>(text.size());
    std::memcpy(entry, &size, 4);
    if (size <= 12) {
      std::memcpy(entry + 4, text.data(), text.size());
    } else {
      const auto block = static_cast<std::int32_t>(at % 2);
      std::string& bytes = block == 0 ? column.bytes : column.more_bytes;
      const auto position = static_cast<std::int32_t>(bytes.size());
      std::memcpy(entry + 4, text.data(), 4);
      std::memcpy(entry + 8, &block, 4);
      std::memcpy(entry + 12, &position, 4);
      bytes += text;
    }
    column.values.append(entry, sizeof entry);
    column.mark(valid, at);
  };
  for (std::int64_t i = 0; i < options.lead; ++i) put("garbage", true, i);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    put(texts[i].value_or(""), texts[i].has_value(), options.lead + static_cast<std::int64_t>(i));
  }
  column.finish(options.bitmaps);
  return column;
}

inline HostColumn integer_column(std::string name, const Integers& integers,
                                 HostOptions options = {}, std::string format = "l") {
  HostColumn column;
  column.name = std::move(name);
  column.format = std::move(format);
  column.rows = static_cast<std::int64_t>(integers.size());
  column.offset = options.lead;
  for (std::int64_t i = 0; i < options.lead; ++i) {
    column.put_integer(77);
    column.mark(false, i);
    --column.null_count;
  }
  for (std::size_t i = 0; i < integers.size(); ++i) {
    column.put_integer(integers[i].value_or(0));
    column.mark(integers[i].has_value(), options.lead + static_cast<std::int64_t>(i));
  }
  column.finish(options.bitmaps || options.lead > 0);
  if (options.unknown_nulls) column.null_count = -1;
  return column;
}

inline HostColumn dictionary_column(const HostColumn& values, const Integers& indices,
                                    HostOptions options = {}, std::string format = "i") {
  HostColumn column = integer_column(values.name, indices, options, std::move(format));
  column.dictionary = std::make_shared<HostColumn>(values);
  column.dictionary->finish(values.buffers[0] != nullptr);
  return column;
}

struct HostBatch {
  std::vector<HostColumn> columns;
  std::int64_t rows = 0, offset = 0, null_count = 0;
  std::vector<unsigned char> validity;
};

// Counters of what the consumer did.
struct HostCounts {
  int streams = 0, schemas = 0, batches = 0;
};

// A stream over batches of the same columns. Owns itself once handed out.
struct HostStream {
  std::vector<HostBatch> batches;
  std::vector<HostColumn> schema;  // names and formats
  HostCounts* counts = nullptr;
  int fail_schema = 0, fail_at_batch = -1;
  const char* error_text = nullptr;
  std::string format = "+s";
  std::size_t next = 0;

  static void hand_out(HostStream stream, ArrowArrayStream* out) {
    *out = ArrowArrayStream{&HostStream::get_schema, &HostStream::get_next, &HostStream::last_error,
                            &HostStream::release, new HostStream(std::move(stream))};
  }

 private:
  static HostStream& self(ArrowArrayStream* stream) {
    return *static_cast<HostStream*>(stream->private_data);
  }

  // Structs of one schema or batch; children have a release that must not be called by the
  // consumer.
  template <class Struct>
  struct Bundle {
    std::vector<Struct> structs;
    std::vector<Struct*> pointers;
    std::vector<Struct> dictionaries;
    std::vector<HostColumn> columns;
    std::string format;
    HostBatch batch;
    const void* row_validity = nullptr;
    int* count = nullptr;
    explicit Bundle(std::vector<HostColumn> from)
        : structs(from.size()), dictionaries(from.size()), columns(std::move(from)) {
      for (Struct& child : structs) pointers.push_back(&child);
    }
    static void release(Struct* value) {
      auto* bundle = static_cast<Bundle*>(value->private_data);
      ++*bundle->count;
      delete bundle;
      value->release = nullptr;
    }
  };

  static void describe(const HostColumn& column, ArrowSchema& out) {
    out = ArrowSchema{};
    out.format = column.format.c_str();
    out.name = column.name.c_str();
    out.flags = ARROW_FLAG_NULLABLE;
  }

  static void show(HostColumn& column, ArrowArray& out) {
    out = ArrowArray{};
    out.length = column.rows;
    out.offset = column.offset;
    out.null_count = column.null_count;
    // Buffers point into this copy of the column.
    column.buffers[0] = column.buffers[0] == nullptr ? nullptr : column.validity.data();
    column.buffers[1] = column.values.data();
    if (column.text) column.buffers[2] = column.bytes.data();
    if (column.format == "vu") {
      column.buffers[3] = column.more_bytes.data();
      column.buffers[4] = column.block_sizes.data();
    }
    out.n_buffers = static_cast<std::int64_t>(column.buffers.size());
    out.buffers = column.buffers.data();
  }

  static int get_schema(ArrowArrayStream* stream, ArrowSchema* out) {
    HostStream& host = self(stream);
    if (host.fail_schema != 0) return host.fail_schema;
    auto* bundle = new Bundle<ArrowSchema>(host.schema);
    bundle->format = host.format;
    bundle->count = &host.counts->schemas;
    for (std::size_t i = 0; i < bundle->columns.size(); ++i) {
      describe(bundle->columns[i], bundle->structs[i]);
      if (!bundle->columns[i].dictionary) continue;
      describe(*bundle->columns[i].dictionary, bundle->dictionaries[i]);
      bundle->structs[i].dictionary = &bundle->dictionaries[i];
    }
    *out = ArrowSchema{};
    out->format = bundle->format.c_str();
    out->name = "";
    out->n_children = static_cast<std::int64_t>(bundle->pointers.size());
    out->children = bundle->pointers.data();
    out->private_data = bundle;
    out->release = Bundle<ArrowSchema>::release;
    return 0;
  }

  static int get_next(ArrowArrayStream* stream, ArrowArray* out) {
    HostStream& host = self(stream);
    if (host.fail_at_batch == static_cast<int>(host.next)) {
      std::memset(static_cast<void*>(out), 0x5a,
                  sizeof *out);  // what a failing call leaves is garbage
      return EIO;
    }
    *out = ArrowArray{};
    if (host.next == host.batches.size()) return 0;
    const HostBatch& batch = host.batches[host.next++];
    auto* bundle = new Bundle<ArrowArray>(batch.columns);
    bundle->batch = batch;
    bundle->count = &host.counts->batches;
    bundle->row_validity = batch.validity.empty() ? nullptr : bundle->batch.validity.data();
    for (std::size_t i = 0; i < bundle->columns.size(); ++i) {
      show(bundle->columns[i], bundle->structs[i]);
      if (!bundle->columns[i].dictionary) continue;
      bundle->columns[i].dictionary = std::make_shared<HostColumn>(*bundle->columns[i].dictionary);
      show(*bundle->columns[i].dictionary, bundle->dictionaries[i]);
      bundle->structs[i].dictionary = &bundle->dictionaries[i];
    }
    out->length = batch.rows;
    out->offset = batch.offset;
    out->null_count = batch.null_count;
    out->n_buffers = 1;
    out->buffers = &bundle->row_validity;
    out->n_children = static_cast<std::int64_t>(bundle->pointers.size());
    out->children = bundle->pointers.data();
    out->private_data = bundle;
    out->release = Bundle<ArrowArray>::release;
    return 0;
  }

  static const char* last_error(ArrowArrayStream* stream) { return self(stream).error_text; }

  static void release(ArrowArrayStream* stream) {
    ++self(stream).counts->streams;
    delete &self(stream);
    stream->release = nullptr;
  }
};

}  // namespace theriac::data
