#include "cpp/core/data/cohort_io.h"

#include <gmock/gmock.h>

#include <fstream>

#include "cpp/core/base/error.h"
#include "cpp/core/base/file.h"
#include "cpp/core/base/hash.h"
#include "cpp/core/base/random.h"
#include "cpp/core/data/test_cohorts.h"

namespace theriac::data {
namespace {

using testing::HasSubstr;

class CohortIo : public testing::Test {
 protected:
  std::filesystem::path directory() const { return folder_.path() / "cohort"; }
  std::string bytes(const char* file) const { return read_file(directory() / file); }
  void put(const char* file, const std::string& content) const {
    std::ofstream(directory() / file, std::ios::binary) << content;
  }
  Json header() const { return Json::parse(bytes("dataset.json")); }
  // The error that loading gives; fails the test when it gives none.
  Error load_error() const {
    try {
      load_cohort(directory());
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "loading did not fail";
    return Error(Code::kOk, "");
  }
  void expect_data_error(const std::string& words) const {
    const Error error = load_error();
    EXPECT_EQ(error.code(), Code::kDataError) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(words));
  }
  TestFolder folder_;
};

void expect_same(const Cohort& a, const Cohort& b) {
  EXPECT_EQ(a.fingerprint(), b.fingerprint());
  EXPECT_EQ(a.accounting(), b.accounting());
  EXPECT_EQ(a.provenance(), b.provenance());
  EXPECT_EQ(a.columns().patient_ids, b.columns().patient_ids);
  EXPECT_EQ(a.columns().visit_ids, b.columns().visit_ids);
  EXPECT_EQ(a.columns().ids, b.columns().ids);
}

TEST_F(CohortIo, RoundTrip) {
  for (const Cohort& cohort : {small_cohort(), random_cohort(8, 50), CohortBuilder().finish()}) {
    save_cohort(cohort, directory(), true);
    expect_same(cohort, load_cohort(directory()));
  }
}

TEST_F(CohortIo, SameCohortSameBytes) {
  save_cohort(random_cohort(1, 20), directory());
  const std::string first = bytes("columns.bin") + bytes("dataset.json");
  save_cohort(random_cohort(1, 20), directory(), true);
  EXPECT_EQ(first, bytes("columns.bin") + bytes("dataset.json"));
}

TEST_F(CohortIo, DoesNotReplaceUnasked) {
  save_cohort(small_cohort(), directory());
  try {
    save_cohort(random_cohort(1, 3), directory());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kAlreadyExists);
  }
  EXPECT_EQ(load_cohort(directory()).fingerprint(), small_cohort().fingerprint());
}

TEST_F(CohortIo, ColumnsAreAlignedAndListed) {
  save_cohort(small_cohort(), directory());
  const Json json = header();
  EXPECT_EQ(json.at("kind"), "cohort");
  EXPECT_EQ(json.at("counts").dump(),
            R"({"patients":2,"visits":3,"diagnoses":4,"procedures":2,"medications":4})");
  ASSERT_EQ(json.at("columns").size(), 12U);
  for (const Json& column : json.at("columns")) EXPECT_EQ(column.at("offset").get<int>() % 64, 0);
}

TEST_F(CohortIo, MissingFilesAreNotFound) {
  EXPECT_EQ(load_error().code(), Code::kNotFound);
  save_cohort(small_cohort(), directory());
  std::filesystem::remove(directory() / "columns.bin");
  EXPECT_EQ(load_error().code(), Code::kNotFound);
}

TEST_F(CohortIo, VersionsAndKindsAreChecked) {
  save_cohort(small_cohort(), directory());
  const Json good = header();
  Json bad = good;
  bad["format_version"] = 2;
  put("dataset.json", bad.dump());
  EXPECT_EQ(load_error().code(), Code::kIncompatible);
  bad = good;
  bad["kind"] = "sequences";
  put("dataset.json", bad.dump());
  expect_data_error("kind");
  bad = good;
  bad["fingerprint"] = std::string(32, '0');
  put("dataset.json", bad.dump());
  expect_data_error("fingerprint");
  put("dataset.json", "[]");
  expect_data_error("not an object");
  put("dataset.json", good.dump().substr(0, 100));
  EXPECT_EQ(load_error().code(), Code::kDataError);
}

TEST_F(CohortIo, HostileColumnEntries) {
  save_cohort(small_cohort(), directory());
  const Json good = header();
  const auto broken = [&](const char* key, Json value, const std::string& words) {
    SCOPED_TRACE(std::string(key) + " " + value.dump());
    Json bad = good;
    bad["columns"][3][key] = std::move(value);
    put("dataset.json", bad.dump());
    expect_data_error(words);
  };
  broken("offset", 63, "within the file");
  broken("offset", 1'000'000'000'000'000'000U, "within the file");
  broken("offset", 18'446'744'073'709'551'552U, "within the file");
  broken("offset", -64, "lacks");
  broken("count", 18'446'744'073'709'551'615U, "within the file");
  broken("count", 2'305'843'009'213'693'952U, "within the file");
  broken("count", 1, "checksum");
  broken("count", 1.5, "lacks");
  broken("type", "float32", "type");
  broken("type", "int32", "not of type");
  broken("xxh3", "0000000000000000", "checksum");
  broken("xxh3", nullptr, "lacks");
  broken("name", "patient_ids.bytes", "listed twice");
  broken("name", 7, "without a name");
  broken("name", "other", "is missing");
  Json bad = good;
  bad["columns"] = Json::object();
  put("dataset.json", bad.dump());
  expect_data_error("not an array");
  bad = good;
  bad["vocabularies"]["diagnoses"][1][0] = "icd99";
  put("dataset.json", bad.dump());
  expect_data_error("entry 1");
  bad = good;
  bad["vocabularies"]["diagnoses"].erase(0);
  put("dataset.json", bad.dump());
  expect_data_error("outside its vocabulary");
  bad = good;
  bad["accounting"] = 3;
  put("dataset.json", bad.dump());
  expect_data_error("accounting");
}

// A file with matching checksums may still lie about its content.
TEST_F(CohortIo, ChecksumsDoNotMakeOffsetsTrue) {
  save_cohort(small_cohort(), directory());
  const Json good = header();
  const std::string columns = bytes("columns.bin");
  const auto forge = [&](std::size_t column, std::int64_t value, const std::string& words) {
    Json bad = good;
    std::string forged = columns;
    const auto offset = bad["columns"][column]["offset"].get<std::size_t>();
    const auto size = bad["columns"][column]["count"].get<std::size_t>() * 8;
    std::memcpy(forged.data() + offset + 8, &value, 8);  // the second entry
    bad["columns"][column]["xxh3"] = hash64_hex(std::string_view(forged).substr(offset, size));
    put("columns.bin", forged);
    put("dataset.json", bad.dump());
    expect_data_error(words);
  };
  forge(0, -5, "patient_ids.offsets");  // patient_ids.offsets
  forge(0, INT64_MAX, "patient_ids.offsets");
  forge(2, 1'000'000, "patient_offsets");
  forge(6, INT64_MIN + 1, "diagnoses.offsets");
  forge(5, INT64_MAX, "times");
}

TEST_F(CohortIo, EveryTruncationIsRefused) {
  save_cohort(small_cohort(), directory());
  const std::string columns = bytes("columns.bin");
  for (std::size_t size = 0; size < columns.size(); size += 7) {
    put("columns.bin", columns.substr(0, size));
    EXPECT_EQ(load_error().code(), Code::kDataError) << size;
  }
  put("columns.bin", columns + "x");
  expect_data_error("columns end at");
}

TEST_F(CohortIo, NoChangedByteGoesUnnoticed) {
  save_cohort(small_cohort(), directory());
  const std::string columns = bytes("columns.bin");
  const Json json = header();
  for (const Json& column : json.at("columns")) {
    const auto width = column.at("type") == "int64" ? 8U : column.at("type") == "int32" ? 4U : 1U;
    const auto offset = column.at("offset").get<std::size_t>();
    for (std::size_t i = 0; i < column.at("count").get<std::size_t>() * width; ++i) {
      std::string changed = columns;
      changed[offset + i] = static_cast<char>(changed[offset + i] ^ 4);
      put("columns.bin", changed);
      ASSERT_EQ(load_error().code(), Code::kDataError);
    }
  }
}

// Random damage to the header: an error of ours, or a cohort that passes every check.
TEST_F(CohortIo, RandomHeadersNeverCrash) {
  save_cohort(small_cohort(), directory());
  const std::string good = bytes("dataset.json");
  Random random(11, "damage");
  for (int round = 0; round < 2'000; ++round) {
    std::string bad = good;
    const std::uint64_t edits = 1 + random.below(4);
    for (std::uint64_t e = 0; e < edits; ++e) {
      const std::size_t at = random.below(bad.size());
      constexpr std::string_view kPieces[] = {"9",    "-",    "{", "]",    "\"",
                                              "null", "1e99", ",", "\xff", ""};
      bad.replace(at, random.below(3), kPieces[random.below(10)]);
    }
    put("dataset.json", bad);
    try {
      load_cohort(directory());
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace theriac::data
