// Tables as text; those of a cohort.

#include <algorithm>
#include <ostream>
#include <string>
#include <vector>

#include "cpp/core/base/csv.h"
#include "cpp/core/base/error.h"
#include "cpp/core/base/options.h"
#include "cpp/core/data/arrow_ipc.h"
#include "cpp/core/data/cohort_io.h"
#include "cpp/core/data/table.h"
#include "cpp/core/data/text_table.h"

namespace theriac::data {
namespace {

// The column that tells code systems apart in exchange files: the ICD revision, else the system.
std::string version_name(codes::System system) {
  switch (system) {
    case codes::System::kIcd9cm:
    case codes::System::kIcd9proc:
      return "9";
    case codes::System::kIcd10cm:
    case codes::System::kIcd10pcs:
    case codes::System::kIcd10:
      return "10";
    default:
      return std::string(codes::system_name(system));
  }
}

Json coded_set(const Vocabulary& vocabulary, std::span<const std::int32_t> ids) {
  Json set = Json::array();
  for (const std::int32_t id : ids) {
    const codes::MedicalCode& code = vocabulary.code(id);
    set.push_back(Json::array({version_name(code.system), code.text}));
  }
  return set;
}

Json sorted_texts(const Vocabulary& vocabulary, std::span<const std::int32_t> ids) {
  std::vector<std::string> texts;
  texts.reserve(ids.size());
  for (const std::int32_t id : ids) texts.push_back(vocabulary.code(id).text);
  std::sort(texts.begin(), texts.end());
  return texts;
}

Json patient_json(const Cohort& cohort, std::int64_t patient) {
  Json visits = Json::array();
  for (std::int64_t v = cohort.first_visit(patient); v < cohort.last_visit(patient); ++v) {
    const VisitView visit = cohort.visit(v);
    visits.push_back(
        Json{{"id", visit.id},
             {"admit", format_time(visit.time)},
             {"dx", coded_set(cohort.vocabulary(Field::kDiagnoses), visit.diagnoses)},
             {"px", coded_set(cohort.vocabulary(Field::kProcedures), visit.procedures)},
             {"atc3", sorted_texts(cohort.vocabulary(Field::kMedications), visit.medications)}});
  }
  return Json{{"patient", cohort.patient_id(patient)}, {"visits", std::move(visits)}};
}

void write_patients(const Cohort& cohort, std::ostream& out) {
  for (std::int64_t p = 0; p < cohort.patients(); ++p) {
    out << dump_json(patient_json(cohort, p)) << '\n';
  }
}

std::string csv_cell(const TableColumn& column, const Cell& cell) {
  switch (column.type) {
    case ColumnType::kText:
      return csv_field(cell.text);
    case ColumnType::kTime:
      return format_time(cell.number);
    case ColumnType::kInt32:
    case ColumnType::kInt64:
    case ColumnType::kFlag:
      return std::to_string(cell.number);
    case ColumnType::kReal:
    case ColumnType::kFloat:
      return dump_json(cell.real);
  }
  return {};
}

void write_csv(RowCursor& cursor, std::ostream& out) {
  const auto columns = cursor.columns();
  for (std::size_t i = 0; i < columns.size(); ++i) out << (i ? "," : "") << columns[i].name;
  out << '\n';
  while (cursor.next()) {
    const auto row = cursor.row();
    for (std::size_t i = 0; i < row.size(); ++i)
      out << (i ? "," : "") << csv_cell(columns[i], row[i]);
    out << '\n';
  }
}

Json json_cell(const TableColumn& column, const Cell& cell) {
  switch (column.type) {
    case ColumnType::kText:
      return cell.text;
    case ColumnType::kTime:
      return cell.number == kNoTime ? Json(nullptr) : Json(format_time(cell.number));
    case ColumnType::kInt32:
    case ColumnType::kInt64:
      return cell.number;
    case ColumnType::kFlag:
      return cell.number != 0;
    case ColumnType::kReal:
    case ColumnType::kFloat:
      return cell.real;
  }
  return nullptr;
}

void write_json_lines(RowCursor& cursor, std::ostream& out) {
  const auto columns = cursor.columns();
  while (cursor.next()) {
    const auto row = cursor.row();
    Json line = Json::object();
    for (std::size_t i = 0; i < row.size(); ++i) {
      line[std::string(columns[i].name)] = json_cell(columns[i], row[i]);
    }
    out << dump_json(line) << '\n';
  }
}

}  // namespace

std::string listed(const std::vector<std::string>& names) {
  std::string list;
  for (std::size_t i = 0; i < names.size(); ++i) {
    list += (i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") + names[i];
  }
  return list;
}

void unknown_format(const std::string& format, const std::vector<std::string>& formats) {
  const std::string near = nearest_name(format, formats);
  throw Error(Code::kInvalidArgument, "unknown format '" + format + "'; expected " +
                                          listed(formats) +
                                          (near.empty() ? "" : " (nearest: " + near + ")"))
      .at("format", format);
}

void write_rows(RowCursor& cursor, const std::string& format,
                const std::vector<std::string>& formats, std::ostream& out) {
  if (format == "csv") {
    write_csv(cursor, out);
  } else if (format == "jsonl") {
    write_json_lines(cursor, out);
  } else if (format == "arrow") {
    write_arrow_ipc(cursor, out);
  } else {
    unknown_format(format, formats);
  }
}

void finish_table(const std::string& table, std::ostream& out) {
  out.flush();
  if (!out) throw Error(Code::kIoError, "table '" + table + "' could not be written whole");
}

void export_table(const Cohort& cohort, const std::string& table, const std::string& format,
                  std::ostream& out) {
  TableCursor cursor(cohort, table);  // first of all: complains about an unknown table
  if (format == "jsonl" && table == "patients") {
    write_patients(cohort, out);
  } else {
    write_rows(cursor, format, {"csv", "jsonl", "arrow"}, out);
  }
  finish_table(table, out);
}

}  // namespace theriac::data
