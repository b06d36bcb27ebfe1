#include "cpp/core/data/arrow.h"

#include <gmock/gmock.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "cpp/core/base/error.h"
#include "cpp/core/data/arrow_batch.h"
#include "cpp/core/data/cohort_io.h"
#include "cpp/core/data/table.h"
#include "cpp/core/data/test_arrow_producer.h"
#include "cpp/core/data/test_cohorts.h"

namespace theriac::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

static_assert(sizeof(ArrowSchema) == 72 && sizeof(ArrowArray) == 80 &&
              sizeof(ArrowArrayStream) == 40);

// ---- export ----

// Releases a struct at the end of its scope, as a consumer does.
template <class Struct>
struct Held : Struct {
  Held() : Struct{} {}
  ~Held() {
    if (this->release != nullptr) this->release(this);
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
};

std::string value(const ArrowSchema& schema, const ArrowArray& array, std::int64_t row) {
  const auto* validity = static_cast<const unsigned char*>(array.buffers[0]);
  if (validity != nullptr && (validity[row / 8] >> (row % 8) & 1) == 0) return "null";
  const std::string format = schema.format;
  if (format == "u") {
    const auto* offsets = static_cast<const std::int32_t*>(array.buffers[1]);
    return {static_cast<const char*>(array.buffers[2]) + offsets[row],
            static_cast<std::size_t>(offsets[row + 1] - offsets[row])};
  }
  if (format == "i") return std::to_string(static_cast<const std::int32_t*>(array.buffers[1])[row]);
  return std::to_string(static_cast<const std::int64_t*>(array.buffers[1])[row]);
}

struct Collected {
  std::vector<std::string> columns, rows;  // "name:format", cells joined by '|'
  std::vector<std::int64_t> batches;
};

Collected collect(ArrowArrayStream& stream) {
  Collected out;
  Held<ArrowSchema> schema;
  EXPECT_EQ(stream.get_schema(&stream, &schema), 0);
  EXPECT_STREQ(schema.format, "+s");
  for (std::int64_t c = 0; c < schema.n_children; ++c) {
    out.columns.push_back(std::string(schema.children[c]->name) + ":" + schema.children[c]->format);
  }
  for (;;) {
    Held<ArrowArray> batch;
    EXPECT_EQ(stream.get_next(&stream, &batch), 0);
    if (batch.release == nullptr) return out;
    out.batches.push_back(batch.length);
    for (std::int64_t row = 0; row < batch.length; ++row) {
      std::string line;
      for (std::int64_t c = 0; c < batch.n_children; ++c) {
        line += (c ? "|" : "") + value(*schema.children[c], *batch.children[c], row);
      }
      out.rows.push_back(line);
    }
  }
}

Collected exported(const Cohort& cohort, const std::string& table) {
  Held<ArrowArrayStream> stream;
  export_cohort_stream(std::make_shared<const Cohort>(cohort), table, &stream);
  return collect(stream);
}

TEST(ArrowExport, Tables) {
  const Collected visits = exported(small_cohort(), "visits");
  EXPECT_THAT(visits.columns, ElementsAre("patient:u", "visit:u", "time:tss:"));
  EXPECT_THAT(visits.rows,
              ElementsAre("7|71|5699194800", "7|72|5711904000", "b, \"quoted\"|1|null"));
  const Collected patients = exported(small_cohort(), "patients");
  EXPECT_THAT(patients.columns, ElementsAre("patient:u", "visits:l"));
  EXPECT_THAT(patients.rows, ElementsAre("7|2", "b, \"quoted\"|1"));
  const Collected codes = exported(small_cohort(), "codes");
  EXPECT_THAT(codes.columns,
              ElementsAre("patient:u", "visit:u", "time:tss:", "field:u", "system:u", "code:u"));
  ASSERT_EQ(codes.rows.size(), 10U);
  EXPECT_EQ(codes.rows[3], "7|71|5699194800|medications|atc|C03C");
  EXPECT_EQ(codes.rows[8], "b, \"quoted\"|1|null|procedures|local|X9");
  const Collected vocabulary = exported(small_cohort(), "vocabulary");
  EXPECT_THAT(vocabulary.columns, ElementsAre("field:u", "id:i", "system:u", "code:u"));
  EXPECT_EQ(vocabulary.rows.at(4), "procedures|1|local|X9");
}

TEST(ArrowExport, EmptyTablesHaveASchemaAndNoBatch) {
  for (const std::string& table : table_names()) {
    const Collected empty = exported(CohortBuilder().finish(), table);
    EXPECT_FALSE(empty.columns.empty());
    EXPECT_TRUE(empty.batches.empty());
  }
}

TEST(ArrowExport, LongTablesComeInBatches) {
  CohortBuilder builder;
  for (int p = 0; p < 70'000; ++p) {
    builder.begin_patient(std::to_string(p));
    builder.add_visit("1", p % 3 == 0 ? kNoTime : p, {}, {}, {});
  }
  const Collected visits = exported(std::move(builder).finish(), "visits");
  EXPECT_THAT(visits.batches, ElementsAre(kBatchRows, 70'000 - kBatchRows));
  for (int p = 0; p < 70'000; ++p) {
    const std::string id = std::to_string(p);
    ASSERT_EQ(visits.rows[static_cast<std::size_t>(p)], id + "|1|" + (p % 3 == 0 ? "null" : id));
  }
}

TEST(ArrowExport, BatchesAndMovedChildrenOutliveStreamAndParent) {
  ArrowArray child{};
  ArrowSchema child_schema{};
  {
    Held<ArrowArrayStream> stream;
    export_cohort_stream(std::make_shared<const Cohort>(small_cohort()), "visits", &stream);
    Held<ArrowArrayStream> moved;  // a move is a copy of the bits that clears the source
    static_cast<ArrowArrayStream&>(moved) = stream;
    stream.release = nullptr;
    Held<ArrowSchema> schema;
    Held<ArrowArray> batch;
    ASSERT_EQ(moved.get_schema(&moved, &schema), 0);
    ASSERT_EQ(moved.get_next(&moved, &batch), 0);
    moved.release(&moved);
    EXPECT_EQ(moved.release, nullptr);
    child = *batch.children[1];
    batch.children[1]->release = nullptr;
    child_schema = *schema.children[1];
    schema.children[1]->release = nullptr;
    std::thread([&] { batch.release(&batch); }).join();
    EXPECT_EQ(batch.release, nullptr);
  }
  EXPECT_STREQ(child_schema.name, "visit");
  EXPECT_EQ(value(child_schema, child, 1), "72");
  child.release(&child);
  child_schema.release(&child_schema);
  EXPECT_EQ(child.release, nullptr);
}

TEST(ArrowExport, RefusesUnknownTablesAndNulls) {
  ArrowArrayStream stream{};
  EXPECT_THROW(export_cohort_stream(std::make_shared<const Cohort>(), "visit", &stream), Error);
  EXPECT_THROW(export_cohort_stream(nullptr, "visits", &stream), Error);
  EXPECT_THROW(export_cohort_stream(std::make_shared<const Cohort>(), "visits", nullptr), Error);
  EXPECT_EQ(stream.release, nullptr);
}

// ---- import ----

CohortPolicy lenient() {
  CohortPolicy policy;
  policy.min_visits = 1;
  policy.require_all_three = false;
  return policy;
}

std::string lines(const Cohort& cohort) {
  std::ostringstream out;
  export_table(cohort, "codes", "csv", out);
  return out.str();
}

class ArrowImport : public testing::Test {
 protected:
  void add(std::vector<HostColumn> columns, std::int64_t offset = 0, std::int64_t rows = -1) {
    if (host_.schema.empty()) host_.schema = columns;
    HostBatch batch;
    batch.rows = rows >= 0 ? rows : columns.empty() ? 0 : columns[0].rows;
    batch.offset = offset;
    batch.columns = std::move(columns);
    host_.batches.push_back(std::move(batch));
  }

  Cohort import(const CohortPolicy& policy = lenient()) {
    host_.counts = &counts_;
    HostStream::hand_out(host_, &stream_);
    // Released exactly once, whatever happens, and the caller's struct is marked as moved from.
    struct Check {
      ArrowImport* test;
      ~Check() {
        EXPECT_EQ(test->stream_.release, nullptr);
        EXPECT_EQ(test->counts_.streams, 1);
        test->counts_.streams = 0;
      }
    } check{this};
    return import_cohort_stream(&stream_, policy);
  }

  std::string import_error(const CohortPolicy& policy = lenient()) {
    try {
      import(policy);
    } catch (const Error& error) {
      column_.clear();
      for (const auto& [key, detail] : error.failure().details) {
        if (key == "column") column_ = detail;
      }
      code_ = error.code();
      return error.what();
    }
    ADD_FAILURE() << "the import did not fail";
    return "";
  }

  // Three rows of one visit: a diagnosis, a procedure, a medication.
  std::vector<HostColumn> visit_rows(HostOptions options = {}) const {
    return {text_column("patient", {"7", "7", "7"}, options),
            text_column("visit", {"71", "71", "71"}, options),
            integer_column("time", {10, 10, 10}, options, "tss:"),
            text_column("field", {"diagnoses", "procedures", "medications"}, options),
            text_column("system", {"icd10cm", "icd9proc", "atc"}, options),
            text_column("code", {"I50.21", "38.93", "C03CA01"}, options)};
  }
  static constexpr const char* kVisitLines =
      "patient,visit,time,field,system,code\n"
      "7,71,1970-01-01 00:00:10,diagnoses,icd10cm,I5021\n"
      "7,71,1970-01-01 00:00:10,procedures,icd9proc,3893\n"
      "7,71,1970-01-01 00:00:10,medications,atc,C03C\n";

  HostStream host_;
  HostCounts counts_;
  ArrowArrayStream stream_{};
  std::string column_;
  Code code_ = Code::kOk;
};

TEST_F(ArrowImport, PlainTable) {
  add(visit_rows());
  EXPECT_EQ(lines(import()), kVisitLines);
  EXPECT_EQ(counts_.schemas, 1);
  EXPECT_EQ(counts_.batches, 1);
}

TEST_F(ArrowImport, SlicesBitmapsAndUnknownNullCounts) {
  for (const std::int64_t lead : {0, 1, 7, 8, 13}) {
    for (const bool bitmaps : {false, true}) {
      for (const bool unknown : {false, true}) {
        SCOPED_TRACE(lead);
        host_ = {};
        add(visit_rows({lead, bitmaps, unknown}));
        EXPECT_EQ(lines(import()), kVisitLines);
      }
    }
  }
}

TEST_F(ArrowImport, TheStructsOwnOffsetCounts) {
  std::vector<HostColumn> columns = visit_rows({.lead = 3});
  add(columns, 1, 2);  // the last two rows
  const std::string text = lines(import());
  EXPECT_THAT(text, Not(HasSubstr("diagnoses")));
  EXPECT_THAT(text, HasSubstr("C03C"));
  host_ = {};
  add(columns, 0, 1);
  EXPECT_THAT(lines(import()), Not(HasSubstr("procedures")));
  host_ = {};
  add(columns, 2, 2);
  EXPECT_THAT(import_error(), HasSubstr("'patient' has 3 rows; expected 4"));
}

TEST_F(ArrowImport, EveryTextType) {
  std::vector<HostColumn> columns = visit_rows();
  columns[3] = text_column("field", {"diagnoses", "procedures", "medications"}, {}, "U");
  columns[5] = text_column("code", {"I50.21", "38.93", "C03CA01"}, {.lead = 2}, "U");
  columns[4] = dictionary_column(
      text_column("system", {"unused", "atc", "icd9proc", "icd10cm"}, {.lead = 2}), {3, 2, 1},
      {.lead = 5}, "c");
  columns[0] = dictionary_column(text_column("patient", {"6", "7"}, {}, "U"), {1, 1, 1}, {}, "L");
  add(columns);
  EXPECT_EQ(lines(import()), kVisitLines);
}

TEST_F(ArrowImport, TextViews) {
  const Texts patients = {"7", "a patient id of many letters", std::nullopt,
                          "another rather long id"};
  const Texts ones(4, "1");
  const auto table = [&](HostColumn patient, HostColumn code) {
    host_ = {};
    add({std::move(patient), text_column("visit", ones),
         text_column("field", Texts(4, "diagnoses")), text_column("system", Texts(4, "local")),
         std::move(code)});
  };
  const Texts codes = {"SHORT", "TWELVELETTER", "X", "LONGERTHANTWELVE"};
  table(text_column("patient", patients), text_column("code", codes));
  const std::string plain = lines(import());
  for (const std::int64_t lead : {0, 1, 4}) {
    table(view_column("patient", patients, {.lead = lead}),
          view_column("code", codes, {.lead = lead}));
    EXPECT_EQ(lines(import()), plain);
  }
  table(text_column("patient", patients),
        dictionary_column(view_column("code", codes), {0, 1, 2, 3}));
  EXPECT_EQ(lines(import()), plain);

  const auto error = [&](auto change) {
    HostColumn code = view_column("code", codes);
    change(code);
    table(text_column("patient", patients), std::move(code));
    return import_error();
  };
  const auto set = [](HostColumn& c, std::size_t word, std::int32_t value) {  // of the fourth entry
    std::memcpy(c.values.data() + 48 + 4 * word, &value, 4);
  };
  for (const std::int32_t bad : {-1, 2, INT32_MAX}) {
    EXPECT_THAT(error([&](HostColumn& c) { set(c, 2, bad); }), HasSubstr("outside its blocks"));
  }
  for (const std::int32_t bad : {-1, 1, INT32_MAX}) {
    EXPECT_THAT(error([&](HostColumn& c) { set(c, 3, bad); }), HasSubstr("outside its blocks"));
  }
  EXPECT_THAT(error([&](HostColumn& c) { set(c, 0, 17); }), HasSubstr("outside its blocks"));
  EXPECT_THAT(error([&](HostColumn& c) { set(c, 0, -17); }), HasSubstr("negative length"));
}

TEST_F(ArrowImport, EveryIdentifierType) {
  for (const char* format : {"c", "C", "s", "S", "i", "I", "l", "L"}) {
    SCOPED_TRACE(format);
    host_ = {};
    std::vector<HostColumn> columns = visit_rows();
    columns[0] = integer_column("patient", {7, 7, 7}, {.lead = 1}, format);
    columns[1] = dictionary_column(integer_column("visit", {71}, {}, format), {0, 0, 0});
    add(columns);
    EXPECT_EQ(lines(import()), kVisitLines);
  }
}

TEST_F(ArrowImport, IdentifiersAtTheEndsOfTheirRange) {
  std::vector<HostColumn> columns = visit_rows();
  columns[0] = integer_column("patient", {-1, -1, -1}, {}, "L");
  columns[1] = integer_column("visit", {INT64_MIN, INT64_MIN, INT64_MIN});
  add(columns);
  const Cohort cohort = import();
  EXPECT_EQ(cohort.patient_id(0), "18446744073709551615");
  EXPECT_EQ(cohort.visit(0).id, "-9223372036854775808");
}

TEST_F(ArrowImport, EveryTimeType) {
  const auto time_of = [&](HostColumn column) {
    host_ = {};
    std::vector<HostColumn> columns = visit_rows();
    columns[2] = std::move(column);
    add(columns);
    return import().visit(0).time;
  };
  const auto all = [](std::int64_t v) { return Integers{v, v, v}; };
  EXPECT_EQ(time_of(integer_column("time", all(-1), {}, "tss:UTC")), -1);
  EXPECT_EQ(time_of(integer_column("time", all(-1), {}, "tsm:")), -1);
  EXPECT_EQ(time_of(integer_column("time", all(1'999), {}, "tsm:Europe/Paris")), 1);
  EXPECT_EQ(time_of(integer_column("time", all(5'699'194'800'000'001), {}, "tsu:")), 5'699'194'800);
  EXPECT_EQ(time_of(integer_column("time", all(5'699'194'800'000'000'001), {}, "tsn:")),
            5'699'194'800);
  EXPECT_EQ(time_of(integer_column("time", all(-719'162), {}, "tdD")), kFirstTime);
  EXPECT_EQ(time_of(integer_column("time", all(86'400'000), {}, "tdm")), 86'400);
  EXPECT_EQ(time_of(integer_column("time", all(12), {}, "l")), 12);
  EXPECT_EQ(time_of(integer_column("time", all(12), {}, "I")), 12);
  const Texts text(3, "2150-08-07 21:40:00");
  EXPECT_EQ(time_of(text_column("time", text)), 5'699'194'800);
  EXPECT_EQ(time_of(dictionary_column(text_column("time", {"2150-08-07T21:40:00Z"}), all(0))),
            5'699'194'800);
}

TEST_F(ArrowImport, UnknownTimesAndTheEarliestOfAVisit) {
  std::vector<HostColumn> columns = visit_rows();
  columns[2] = integer_column("time", {std::nullopt, 30, 20}, {}, "tss:");
  add(columns);
  EXPECT_EQ(import().visit(0).time, 20);
  host_ = {};
  columns = visit_rows();
  columns.erase(columns.begin() + 2);
  add(columns);
  EXPECT_EQ(import().visit(0).time, kNoTime);
}

TEST_F(ArrowImport, ColumnsInAnyOrderAndOthersIgnored) {
  std::vector<HostColumn> columns = visit_rows();
  std::reverse(columns.begin(), columns.end());
  HostColumn other = integer_column("dose", {1, 2, 3});
  other.format = "+l";  // a type that is not read
  columns.insert(columns.begin() + 2, other);
  add(columns);
  EXPECT_EQ(lines(import()), kVisitLines);
}

TEST_F(ArrowImport, NullsAreDroppedAndCounted) {
  add({text_column("patient", {"7", std::nullopt, "7", "7", "7", "7", "", "8"}),
       text_column("visit", {"71", "71", std::nullopt, "71", "71", "71", "71", "81"}),
       text_column("field", {"diagnoses", "diagnoses", "diagnoses", std::nullopt, "diagnoses",
                             "diagnoses", "diagnoses", "medications"}),
       text_column("system", {"icd9cm", "icd9cm", "icd9cm", "icd9cm", std::nullopt, "icd9cm",
                              "icd9cm", "ndc"}),
       text_column("code",
                   {"4280", "4280", "4280", "4280", "4280", std::nullopt, "4280", "00000000001"})});
  const Cohort cohort = import();
  EXPECT_EQ(lines(cohort), "patient,visit,time,field,system,code\n7,71,,diagnoses,icd9cm,4280\n");
  const Json& rows = cohort.accounting().at("tables").at("arrow codes");
  EXPECT_EQ(rows.dump(),
            R"({"read":8,"kept":1,"dropped":{"medication without an ATC class":1,"no code":1,)"
            R"("no field":1,"no patient":2,"no system":1,"no visit":1}})");
  EXPECT_EQ(cohort.accounting().at("unmapped").at("ndc").at("rows"), 1);
}

TEST_F(ArrowImport, NullRowsAndNullDictionaryValues) {
  std::vector<HostColumn> columns = visit_rows();
  columns[5] = dictionary_column(text_column("code", {"I5021", std::nullopt, "C03C"}), {0, 1, 2});
  add(columns, 0, 3);
  host_.batches[0].validity = {0b011};
  host_.batches[0].null_count = 1;
  const Cohort cohort = import();
  EXPECT_EQ(cohort.ids(Field::kDiagnoses).size(), 1U);
  EXPECT_EQ(cohort.ids(Field::kProcedures).size(), 0U);
  EXPECT_EQ(cohort.ids(Field::kMedications).size(), 0U);
  EXPECT_EQ(cohort.accounting().at("tables").at("arrow codes").at("dropped").at("null row"), 1);
}

TEST_F(ArrowImport, EmptyStreamsAndBatches) {
  host_.schema = visit_rows();
  EXPECT_EQ(import().patients(), 0);
  add(visit_rows(), 0, 0);
  add(visit_rows());
  EXPECT_EQ(lines(import()), kVisitLines);
}

TEST_F(ArrowImport, VisitsSpreadOverBatchesAreJoined) {
  const auto one = [&](std::size_t i) {
    const auto full = visit_rows();
    std::vector<HostColumn> columns = full;
    add(columns, static_cast<std::int64_t>(i), 1);
  };
  one(2), one(0), one(1);
  const Cohort cohort = import();
  EXPECT_EQ(cohort.visits(), 1);
  EXPECT_EQ(lines(cohort), kVisitLines);
}

TEST_F(ArrowImport, PolicyOrdersAndFiltersWithAccounting) {
  std::vector<std::optional<std::string>> patient, visit, field, system, code;
  Integers time;
  const auto row = [&](const char* p, const char* v, std::int64_t t, const char* f, const char* s,
                       const char* c) {
    patient.emplace_back(p), visit.emplace_back(v), field.emplace_back(f), system.emplace_back(s),
        code.emplace_back(c);
    time.emplace_back(t);
  };
  const auto whole = [&](const char* p, const char* v, std::int64_t t) {
    row(p, v, t, "diagnoses", "icd9cm", "428.0");
    row(p, v, t, "procedures", "icd9proc", "38.93");
    row(p, v, t, "medications", "atc", "C03C");
  };
  whole("10", "1", 9);
  whole("9", "5", 9);
  whole("10", "2", 3);
  whole("9", "6", 2);
  whole("8", "1", 1);
  row("10", "3", 1, "diagnoses", "icd9cm", "4019");
  add({text_column("patient", patient), text_column("visit", visit),
       integer_column("time", time, {}, "tss:"), text_column("field", field),
       text_column("system", system), text_column("code", code)});
  const Cohort cohort = import(CohortPolicy{});
  std::ostringstream out;
  export_table(cohort, "visits", "csv", out);
  EXPECT_EQ(out.str(),
            "patient,visit,time\n9,6,1970-01-01 00:00:02\n9,5,1970-01-01 00:00:09\n"
            "10,2,1970-01-01 00:00:03\n10,1,1970-01-01 00:00:09\n");
  const Json& tables = cohort.accounting().at("tables");
  EXPECT_EQ(tables.at("cohort patients").dump(),
            R"({"read":3,"kept":2,"dropped":{"fewer usable visits than min_visits":1}})");
  EXPECT_EQ(tables.at("cohort visits").at("dropped").at("without procedures, medications"), 1);
  for (const auto& [name, table] : tables.items()) {
    std::int64_t dropped = 0;
    for (const Json& rows : table.at("dropped")) dropped += rows.get<std::int64_t>();
    EXPECT_EQ(table.at("read"), table.at("kept").get<std::int64_t>() + dropped) << name;
  }
}

TEST_F(ArrowImport, MapsCodesAndMedications) {
  TestFolder folder;
  std::ofstream(folder.path() / "atc.csv") << "ndc11,atc4\n00000000001,N02BA\n00000000001,B01AC\n";
  std::ofstream(folder.path() / "codes.csv") << "source_system,source_code,target_system,target_"
                                                "code,priority\nsnomed,42343007,icd10cm,I50.9,1\n";
  CohortPolicy policy = lenient();
  policy.maps.ndc_atc = (folder.path() / "atc.csv").string();
  policy.maps.codes = (folder.path() / "codes.csv").string();
  add({text_column("patient", {"7", "7"}), text_column("visit", {"71", "71"}),
       text_column("field", {"diagnoses", "medications"}), text_column("system", {"snomed", "ndc"}),
       text_column("code", {"42343007", "00000000001"})});
  EXPECT_EQ(lines(import(policy)),
            "patient,visit,time,field,system,code\n7,71,,diagnoses,icd10cm,I509\n"
            "7,71,,medications,atc,B01A\n7,71,,medications,atc,N02B\n");
}

TEST_F(ArrowImport, ProducerErrorsKeepTheirWords) {
  add(visit_rows());
  add(visit_rows());
  host_.fail_at_batch = 1;
  host_.error_text = "table 'codes' vanished";
  EXPECT_THAT(import_error(), HasSubstr("batch 1: table 'codes' vanished"));
  EXPECT_EQ(code_, Code::kDataError);
  EXPECT_EQ(counts_.batches, 1);
  EXPECT_EQ(counts_.schemas, 1);
  host_.error_text = nullptr;
  EXPECT_THAT(import_error(), HasSubstr("error number " + std::to_string(EIO)));
  host_.fail_schema = ENOMEM;
  import_error();
  EXPECT_EQ(code_, Code::kOutOfMemory);
}

TEST_F(ArrowImport, ErrorsNameTheColumnAndNoPatient) {
  const auto error = [&](std::size_t i, HostColumn column) {
    host_ = {};
    std::vector<HostColumn> columns = visit_rows();
    columns[i] = std::move(column);
    add(columns);
    const std::string message = import_error();
    EXPECT_EQ(code_, Code::kDataError);
    return message;
  };
  EXPECT_THAT(error(3, text_column("field", {"diagnoses", "secret", "medications"})),
              HasSubstr("'field', row 1"));
  EXPECT_EQ(column_, "field");
  EXPECT_THAT(error(4, text_column("system", {"icd10cm", "secret", "atc"})),
              testing::AllOf(HasSubstr("'system', row 1"), Not(HasSubstr("secret"))));
  EXPECT_THAT(
      error(2, text_column("time", {"2150", "2150-13", "2150"})),
      testing::AllOf(HasSubstr("'time', row 1"), HasSubstr("month"), Not(HasSubstr("2150"))));
  EXPECT_THAT(error(2, integer_column("time", {1, kLastTime + 1, 1})),
              HasSubstr("years 1 to 9999"));
  EXPECT_THAT(error(2, integer_column("time", {1, INT64_MIN, 1})), HasSubstr("years 1 to 9999"));
  EXPECT_THAT(error(2, integer_column("time", {-1, -1, -1}, {}, "L")),
              HasSubstr("years 1 to 9999"));
  EXPECT_THAT(error(2, integer_column("time", {1, INT32_MAX, 1}, {}, "tdD")),
              HasSubstr("years 1 to 9999"));
  EXPECT_THAT(error(5, integer_column("code", {1, 2, 3})), HasSubstr("'code' is not text"));
  EXPECT_THAT(error(0, integer_column("patient", {1, 2, 3}, {}, "tss:")),
              HasSubstr("not an identifier"));
  EXPECT_THAT(error(0, integer_column("patient", {1, 2, 3}, {}, "g")), HasSubstr("format 'g'"));
  EXPECT_THAT(error(5, text_column("code", {"1", "\xff", "3"})), HasSubstr("not UTF-8"));
  EXPECT_THAT(error(5, dictionary_column(text_column("code", {"1", "2"}), {0, 2, 1})),
              HasSubstr("dictionary of 2"));
  EXPECT_THAT(error(5, dictionary_column(text_column("code", {"1", "2"}), {0, -1, 1})),
              HasSubstr("dictionary of 2"));
  EXPECT_THAT(error(5, dictionary_column(integer_column("code", {1, 2}), {0, 1, 1})),
              HasSubstr("not text"));
}

TEST_F(ArrowImport, MalformedArrays) {
  const auto error = [&](auto change) {
    host_ = {};
    std::vector<HostColumn> columns = visit_rows();
    change(columns[5]);
    add(columns);
    const std::string message = import_error();
    EXPECT_EQ(column_, "code");
    return message;
  };
  EXPECT_THAT(error([](HostColumn& c) { c.rows = 2; }), HasSubstr("has 2 rows"));
  EXPECT_THAT(error([](HostColumn& c) { c.rows = -3; }), HasSubstr("out of range"));
  EXPECT_THAT(error([](HostColumn& c) { c.offset = -1; }), HasSubstr("out of range"));
  EXPECT_THAT(error([](HostColumn& c) { c.offset = INT64_MAX; }), HasSubstr("out of range"));
  EXPECT_THAT(error([](HostColumn& c) {
                c.text = false;
                c.buffers.pop_back();
              }),
              HasSubstr("2 buffers"));
  EXPECT_THAT(error([](HostColumn& c) { c.null_count = 1; }), HasSubstr("no validity bitmap"));
  EXPECT_THAT(error([](HostColumn& c) { c.values[4] = -1, c.values[7] = -1; }),
              HasSubstr("offsets fall"));
}

TEST_F(ArrowImport, SchemasThatAreNotTheTable) {
  std::vector<HostColumn> columns = visit_rows();
  columns[5].name = "codes";
  add(columns);
  EXPECT_THAT(import_error(), HasSubstr("no column 'code'; nearest: 'codes'"));
  host_ = {};
  columns[5].name = "field";
  add(columns);
  EXPECT_THAT(import_error(), HasSubstr("two columns 'field'"));
  host_ = {};
  add(visit_rows());
  host_.format = "u";
  EXPECT_THAT(import_error(), HasSubstr("not a table"));
  host_ = {};
  add(visit_rows());
  host_.batches[0].columns.pop_back();
  EXPECT_THAT(import_error(), HasSubstr("columns of its schema"));
}

TEST_F(ArrowImport, RefusedPolicyAndReleasedStream) {
  add(visit_rows());
  CohortPolicy policy = lenient();
  policy.med_window = "first_day";
  EXPECT_THAT(import_error(policy), HasSubstr("med_window"));
  EXPECT_EQ(code_, Code::kInvalidArgument);
  ArrowArrayStream released{};
  EXPECT_THROW(import_cohort_stream(&released, lenient()), Error);
  EXPECT_THROW(import_cohort_stream(nullptr, lenient()), Error);
}

TEST_F(ArrowImport, CancelStopsAndReleases) {
  add(visit_rows());
  host_.counts = &counts_;
  HostStream::hand_out(host_, &stream_);
  auto cancel = std::make_shared<CancelToken>();
  cancel->request();
  Job job({}, cancel);
  try {
    import_cohort_stream(&stream_, lenient(), &job);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kCancelled);
  }
  EXPECT_EQ(counts_.streams, 1);
  EXPECT_EQ(counts_.batches, 1);
}

TEST_F(ArrowImport, TakesBackWhatExportGives) {
  CohortPolicy policy = lenient();
  for (const std::uint64_t seed : {1, 2, 3}) {
    // Once through apply_policy, a cohort is in its final order and comes back as it was.
    ArrowArrayStream first{};
    export_cohort_stream(std::make_shared<const Cohort>(random_cohort(seed, 60)), "codes", &first);
    const auto cohort = std::make_shared<const Cohort>(import_cohort_stream(&first, policy));
    ArrowArrayStream second{};
    export_cohort_stream(cohort, "codes", &second);
    const Cohort again = import_cohort_stream(&second, policy);
    EXPECT_GT(cohort->visits(), 50);
    EXPECT_EQ(again.fingerprint(), cohort->fingerprint());
  }
}

}  // namespace
}  // namespace theriac::data
