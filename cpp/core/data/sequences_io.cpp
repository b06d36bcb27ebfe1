#include "cpp/core/data/sequences_io.h"

#include <utility>

#include "cpp/core/base/file.h"
#include "cpp/core/data/column_file.h"
#include "cpp/core/data/stored_header.h"

namespace theriac::data {
namespace {

constexpr const char* kKind = "sequences";

const char* kind_of_names(const Names& names) { return names.numeric() ? "integers" : "text"; }

void add_names(ColumnWriter& writer, const std::string& column, const Names& names) {
  if (names.numeric()) {
    writer.add(column, names.numbers());
  } else {
    writer.add_texts(column, names.texts());
  }
}

Json write_columns(const SequenceColumns& columns, const std::filesystem::path& file) {
  ColumnWriter writer(file);
  add_names(writer, "users", columns.users);
  add_names(writer, "items", columns.items);
  writer.add("offsets", columns.offsets);
  writer.add("ids", columns.ids);
  writer.add("times", columns.times);
  return writer.finish();
}

Json header_json(const Sequences& sequences, Json columns) {
  return Json{{"kind", kKind},
              {"format_version", kFormatVersion},
              {"fingerprint", sequences.fingerprint()},
              {"counts",
               {{"users", sequences.users()},
                {"items", sequences.items()},
                {"interactions", sequences.interactions()}}},
              {"provenance", sequences.provenance()},
              {"accounting", sequences.accounting()},
              {"names",
               {{"users", kind_of_names(sequences.user_names())},
                {"items", kind_of_names(sequences.item_names())}}},
              {"columns", std::move(columns)}};
}

// Makes something of columns; what is wrong with their content is said with the file's name.
template <class Make>
auto from_file(const std::filesystem::path& file, const std::string& what, const Make& make) {
  try {
    return make();
  } catch (const Error& error) {
    if (error.code() != Code::kDataError) throw;
    throw Error(Code::kDataError, "'" + file.string() + "': " + what + error.failure().message)
        .at("file", file.string());
  }
}

Names read_names(const StoredHeader& header, const ColumnReader& reader, const std::string& column,
                 const std::filesystem::path& file) {
  const Json kinds = header.object("names");
  const auto kind = kinds.find(column);
  const bool integers = kind != kinds.end() && *kind == "integers";
  if (!integers && (kind == kinds.end() || *kind != "text")) {
    header.fail("names/" + column, "is neither \"integers\" nor \"text\"");
  }
  const std::string what = "column '" + column + "': ";
  if (integers) {
    auto numbers = reader.int64s(column);
    return from_file(file, what, [&] { return Names(std::move(numbers)); });
  }
  auto texts = reader.texts(column);
  return from_file(file, what, [&] { return Names(std::move(texts)); });
}

}  // namespace

void save_sequences(const Sequences& sequences, const std::filesystem::path& directory,
                    bool overwrite) {
  replace_directory(directory, overwrite, kHeaderFile, [&](const std::filesystem::path& staged) {
    Json columns = write_columns(sequences.columns(), staged / kColumnFile);
    replace_file(staged / kHeaderFile,
                 dump_json(header_json(sequences, std::move(columns))) + "\n");
  });
}

Sequences load_sequences(const std::filesystem::path& directory) {
  const StoredHeader header(directory);
  header.need_kind(kKind);
  const std::filesystem::path file = directory / kColumnFile;
  const ColumnReader reader(file, header.member("columns"));
  SequenceColumns columns;
  columns.users = read_names(header, reader, "users", file);
  columns.items = read_names(header, reader, "items", file);
  columns.offsets = reader.int64s("offsets");
  columns.ids = reader.int32s("ids");
  columns.times = reader.int64s("times");
  columns.accounting = header.object("accounting");
  columns.provenance = header.object("provenance");
  Sequences sequences = from_file(file, "", [&] { return Sequences(std::move(columns)); });
  header.check_fingerprint(sequences.fingerprint());
  return sequences;
}

std::string stored_kind(const std::filesystem::path& directory) {
  return StoredHeader(directory).kind();
}

}  // namespace theriac::data
