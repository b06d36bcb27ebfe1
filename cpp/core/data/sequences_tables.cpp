// Tables of sequences: as text, and over the Arrow C stream interface in both directions.

#include <algorithm>
#include <ostream>
#include <utility>

#include "cpp/core/base/error.h"
#include "cpp/core/data/arrow_batch.h"
#include "cpp/core/data/arrow_table_reader.h"
#include "cpp/core/data/sequences_io.h"
#include "cpp/core/data/text_table.h"

namespace theriac::data {
namespace {

constexpr const char* kInteractions = "interactions";
constexpr const char* kSequences = "sequences";
constexpr const char* kVocabulary = "vocabulary";
constexpr const char* kOwner = "a data set of sequences";

std::size_t at(std::int64_t position) { return static_cast<std::size_t>(position); }

ColumnType type_of(const Names& names) {
  return names.numeric() ? ColumnType::kInt64 : ColumnType::kText;
}

void set_name(Cell& cell, const Names& names, std::size_t position) {
  if (names.numeric()) {
    cell.number = names.numbers()[position];
  } else {
    cell.text = names.texts()[position];
  }
}

class InteractionCursor final : public RowCursor {
 public:
  explicit InteractionCursor(const Sequences& sequences)
      : sequences_(sequences),
        layout_{{{"user", type_of(sequences.user_names())},
                 {"item", type_of(sequences.item_names())},
                 {"time", ColumnType::kTime}}} {
    columns_ = layout_;
  }

  bool next() override {
    if (position_ == sequences_.interactions()) return false;
    const SequenceColumns& columns = sequences_.columns();
    while (columns.offsets[user_ + 1] <= position_) ++user_;
    set_name(row_[0], columns.users, user_);
    set_name(row_[1], columns.items, at(columns.ids[at(position_)]) - 1);
    row_[2].number = sequences_.timed() ? columns.times[at(position_)] : kNoTime;
    ++position_;
    return true;
  }

 private:
  const Sequences& sequences_;
  std::array<TableColumn, 3> layout_;
  std::size_t user_ = 0;
  std::int64_t position_ = 0;
};

class VocabularyCursor final : public RowCursor {
 public:
  explicit VocabularyCursor(const Sequences& sequences)
      : names_(sequences.item_names()),
        layout_{{{"id", ColumnType::kInt32}, {"item", type_of(names_)}}} {
    columns_ = layout_;
  }

  bool next() override {
    if (position_ == names_.size()) return false;
    set_name(row_[1], names_, at(position_));
    row_[0].number = ++position_;
    return true;
  }

 private:
  const Names& names_;
  std::array<TableColumn, 2> layout_;
  std::int64_t position_ = 0;
};

// Of the tables that have rows of plain cells.
std::unique_ptr<RowCursor> cursor_over(const Sequences& sequences, const std::string& table) {
  if (table == kInteractions) return std::make_unique<InteractionCursor>(sequences);
  if (table == kVocabulary) return std::make_unique<VocabularyCursor>(sequences);
  unknown_table(kOwner, table, sequence_table_names());
}

Json name_json(const Names& names, std::size_t position) {
  return names.numeric() ? Json(names.numbers()[position]) : Json(names.texts()[position]);
}

void write_json_lines(const Sequences& sequences, std::ostream& out) {
  for (std::int64_t u = 0; u < sequences.users(); ++u) {
    Json items = Json::array(), times = Json::array();
    for (const std::int32_t id : sequences.of(u)) {
      items.push_back(name_json(sequences.item_names(), at(id) - 1));
    }
    Json line{{"user", name_json(sequences.user_names(), at(u))}, {"items", std::move(items)}};
    const SequenceColumns& columns = sequences.columns();
    if (sequences.timed()) {
      for (auto i = at(columns.offsets[at(u)]); i < at(columns.offsets[at(u) + 1]); ++i) {
        times.push_back(format_time(columns.times[i]));
      }
      line["times"] = std::move(times);
    }
    out << dump_json(line) << '\n';
  }
}

// A name with a blank would be read back as two.
void check_no_blanks(const Names& names, const char* role) {
  const auto blank = [](const std::string& text) {
    return text.find_first_of(" \t\n\r\v\f") != std::string::npos;
  };
  const auto found = std::find_if(names.texts().begin(), names.texts().end(), blank);
  if (found == names.texts().end()) return;
  throw Error(Code::kInvalidArgument,
              std::string("the name of ") + role + " " +
                  std::to_string(found - names.texts().begin()) +
                  " has a blank, which format 'lines' cannot hold; expected format jsonl")
      .at("format", "lines");
}

void write_name(const Names& names, std::size_t position, std::ostream& out) {
  if (names.numeric()) {
    out << std::to_string(names.numbers()[position]);  // whatever the stream's locale groups
  } else {
    out << names.texts()[position];
  }
}

void write_lines(const Sequences& sequences, std::ostream& out) {
  check_no_blanks(sequences.user_names(), "user");
  check_no_blanks(sequences.item_names(), "item");
  for (std::int64_t u = 0; u < sequences.users(); ++u) {
    write_name(sequences.user_names(), at(u), out);
    for (const std::int32_t id : sequences.of(u)) {
      out << ' ';
      write_name(sequences.item_names(), at(id) - 1, out);
    }
    out << '\n';
  }
}

void write_sequences(const Sequences& sequences, const std::string& format, std::ostream& out) {
  if (format == "lines") return write_lines(sequences, out);
  if (format == "jsonl") return write_json_lines(sequences, out);
  if (format != "csv" && format != "arrow") unknown_format(format, {"lines", "jsonl"});
  throw Error(Code::kInvalidArgument, "table 'sequences' has lists of items, which format '" +
                                          format +
                                          "' does not hold; expected format lines or jsonl, or "
                                          "table interactions")
      .at("format", format);
}

// ---- in ----

constexpr const char* kRows = "arrow interactions";
enum : std::size_t { kUser, kItem, kTime };

void add_row(const ArrowTableReader& table, std::int64_t row, SequenceBuilder& builder,
             std::array<std::string, 2>& scratch) {
  if (table.is_null(row)) return builder.drop("null row");
  std::string_view user, item;
  if (!table.column(kUser).is_null(row)) user = table.column(kUser).text(row, scratch[kUser]);
  if (!table.column(kItem).is_null(row)) item = table.column(kItem).text(row, scratch[kItem]);
  if (user.empty()) return builder.drop("no user");
  if (item.empty()) return builder.drop("no item");
  const bool timed = table.has(kTime) && !table.column(kTime).is_null(row);
  builder.add(user, item, timed ? table.column(kTime).time(row) : kNoTime);
}

}  // namespace

std::vector<std::string> sequence_table_names() { return {kInteractions, kSequences, kVocabulary}; }

void export_sequence_table(const Sequences& sequences, const std::string& table,
                           const std::string& format, std::ostream& out) {
  if (table == kSequences) {
    write_sequences(sequences, format, out);
  } else {
    write_rows(*cursor_over(sequences, table), format, {"csv", "jsonl", "arrow"}, out);
  }
  finish_table(table, out);
}

void export_sequences_stream(std::shared_ptr<const Sequences> sequences, const std::string& table,
                             ArrowArrayStream* out) {
  if (sequences == nullptr || out == nullptr) {
    throw Error(Code::kInvalidArgument,
                "export_sequences_stream needs sequences and a stream to fill");
  }
  if (table == kSequences) {
    throw Error(Code::kInvalidArgument,
                "table 'sequences' is not given as an Arrow stream; expected interactions or "
                "vocabulary")
        .at("table", table);
  }
  std::unique_ptr<RowCursor> cursor = cursor_over(*sequences, table);
  export_rows(std::move(sequences), std::move(cursor), out);
}

Sequences import_sequences_stream(ArrowArrayStream* in, const SequencePolicy& policy, Job* job) {
  ArrowTableReader table(in);
  SequenceBuilder builder(policy);
  const bool time_required = !policy.time.empty() && policy.time != SequencePolicy{}.time;
  table.open({{policy.user, ColumnRole::kIdentifier, true},
              {policy.item, ColumnRole::kIdentifier, true},
              {policy.time, ColumnRole::kTime, time_required}});
  std::array<std::string, 2> scratch;
  while (table.next_batch()) {
    for (std::int64_t row = 0; row < table.rows(); ++row) {
      table.report(job, row);
      add_row(table, row, builder, scratch);
    }
  }
  return std::move(builder).finish(kRows, Json{{"format", "arrow"}});
}

}  // namespace theriac::data
