#include "cpp/core/data/sequences_io.h"

#include <gmock/gmock.h>

#include <cstring>
#include <fstream>

#include "cpp/core/base/file.h"
#include "cpp/core/base/hash.h"
#include "cpp/core/data/cohort_io.h"
#include "cpp/core/data/test_cohorts.h"
#include "cpp/core/data/test_sequences.h"

namespace theriac::data {
namespace {

using testing::HasSubstr;

class SequencesIo : public testing::Test {
 protected:
  std::filesystem::path directory() const { return folder_.path() / "sequences"; }
  std::string bytes(const char* file) const { return read_file(directory() / file); }
  void put(const char* file, const std::string& content) const {
    std::ofstream(directory() / file, std::ios::binary) << content;
  }
  Json header() const { return Json::parse(bytes("dataset.json")); }
  void expect_load_error(Code code, const std::string& words) const {
    expect_error(code, words, [&] { load_sequences(directory()); });
  }
  void expect_data_error(const std::string& words) const {
    expect_load_error(Code::kDataError, words);
  }
  TestFolder folder_;
};

TEST_F(SequencesIo, RoundTrip) {
  for (const Sequences& sequences :
       {small_sequences(), random_sequences(1, 50, true), random_sequences(2, 50, false, true),
        Sequences(SequenceColumns{})}) {
    save_sequences(sequences, directory(), true);
    const Sequences loaded = load_sequences(directory());
    EXPECT_EQ(written_out(loaded), written_out(sequences));
    EXPECT_EQ(loaded.fingerprint(), sequences.fingerprint());
    EXPECT_EQ(loaded.accounting(), sequences.accounting());
    EXPECT_EQ(loaded.provenance(), sequences.provenance());
    EXPECT_EQ(loaded.timed(), sequences.timed());
    EXPECT_EQ(loaded.user_names().numeric(), sequences.user_names().numeric());
    EXPECT_EQ(loaded.item_names().fingerprint(), sequences.item_names().fingerprint());
  }
}

TEST_F(SequencesIo, SameSequencesSameBytes) {
  save_sequences(random_sequences(1, 20, true), directory());
  const std::string first = bytes("columns.bin") + bytes("dataset.json");
  save_sequences(random_sequences(1, 20, true), directory(), true);
  EXPECT_EQ(first, bytes("columns.bin") + bytes("dataset.json"));
}

TEST_F(SequencesIo, DoesNotReplaceUnasked) {
  save_sequences(small_sequences(), directory());
  expect_error(Code::kAlreadyExists, "",
               [&] { save_sequences(random_sequences(1, 3, true), directory()); });
  EXPECT_EQ(load_sequences(directory()).fingerprint(), small_sequences().fingerprint());
}

TEST_F(SequencesIo, HeaderSaysWhatIsThere) {
  save_sequences(small_sequences(), directory());
  const Json json = header();
  EXPECT_EQ(json.at("kind"), "sequences");
  EXPECT_EQ(json.at("counts").dump(), R"({"users":3,"items":3,"interactions":5})");
  EXPECT_EQ(json.at("names").dump(), R"({"users":"text","items":"integers"})");
  ASSERT_EQ(json.at("columns").size(), 6U);
  for (const Json& column : json.at("columns")) EXPECT_EQ(column.at("offset").get<int>() % 64, 0);
}

TEST_F(SequencesIo, MissingFilesAreNotFound) {
  expect_load_error(Code::kNotFound, "");
  expect_error(Code::kNotFound, "", [&] { stored_kind(directory()); });
  save_sequences(small_sequences(), directory());
  std::filesystem::remove(directory() / "columns.bin");
  expect_load_error(Code::kNotFound, "");
}

TEST_F(SequencesIo, KindsAreToldApart) {
  save_sequences(small_sequences(), directory());
  EXPECT_EQ(stored_kind(directory()), "sequences");
  expect_error(Code::kDataError, R"('kind' is "sequences"; expected "cohort")",
               [&] { load_cohort(directory()); });
  save_cohort(small_cohort(), directory(), true);
  EXPECT_EQ(stored_kind(directory()), "cohort");
  expect_data_error(R"('kind' is "cohort"; expected "sequences")");
  for (const Json& other : {Json("texts"), Json(nullptr), Json(7), Json::array()}) {
    Json bad = header();
    bad["kind"] = other;
    put("dataset.json", bad.dump());
    expect_data_error(R"('kind' is neither "cohort" nor "sequences")");
    expect_error(Code::kDataError, "is neither", [&] { stored_kind(directory()); });
    expect_error(Code::kDataError, "is neither", [&] { load_cohort(directory()); });
  }
}

TEST_F(SequencesIo, HostileHeaders) {
  save_sequences(small_sequences(), directory());
  const Json good = header();
  const auto refused = [&](const std::string& words, auto change, Code code = Code::kDataError) {
    SCOPED_TRACE(words);
    Json bad = good;
    change(bad);
    put("dataset.json", bad.dump());
    expect_load_error(code, words);
  };
  refused(
      "version", [](Json& j) { j["format_version"] = 2; }, Code::kIncompatible);
  refused("'format_version' is not an integer", [](Json& j) { j["format_version"] = "1"; });
  refused("'fingerprint' does not match", [](Json& j) { j["fingerprint"] = std::string(32, '0'); });
  refused("'fingerprint' is missing", [](Json& j) { j.erase("fingerprint"); });
  refused("'accounting' is not an object", [](Json& j) { j["accounting"] = 3; });
  refused("'provenance' is missing", [](Json& j) { j.erase("provenance"); });
  refused("'names' is not an object", [](Json& j) { j["names"] = "text"; });
  refused("'names/users' is neither", [](Json& j) { j["names"].erase("users"); });
  refused("'names/items' is neither", [](Json& j) { j["names"]["items"] = 4; });
  refused("column 'users' is missing", [](Json& j) { j["names"]["users"] = "integers"; });
  refused("column 'items.offsets' is missing", [](Json& j) { j["names"]["items"] = "text"; });
  refused("not an array", [](Json& j) { j["columns"] = Json::object(); });
  refused("'ids' is not of type int32", [](Json& j) {
    j["columns"][4]["type"] = "int64";
    j["columns"][4]["count"] = 1;
  });
  refused("does not lie within the file", [](Json& j) { j["columns"][5]["count"] = UINT64_MAX; });
  refused("does not match its checksum", [](Json& j) { j["columns"][3]["count"] = 3; });
  refused("is listed twice", [](Json& j) { j["columns"][3]["name"] = "ids"; });
  refused("columns end at", [](Json& j) { j["columns"].erase(5); });
  put("dataset.json", "[]");
  expect_data_error("not an object");
  put("dataset.json", good.dump().substr(0, 100));
  expect_data_error("dataset.json");
}

// A file with matching checksums may still lie about its content. Columns: users.offsets,
// users.bytes, items, offsets, ids, times.
TEST_F(SequencesIo, ChecksumsDoNotMakeColumnsTrue) {
  save_sequences(small_sequences(), directory());
  const Json good = header();
  const std::string columns = bytes("columns.bin");
  const auto forge = [&](std::size_t column, std::size_t position, auto value,
                         const std::string& words) {
    SCOPED_TRACE(words);
    Json bad = good;
    std::string forged = columns;
    const auto offset = bad["columns"][column]["offset"].get<std::size_t>();
    const auto size = bad["columns"][column]["count"].get<std::size_t>() * sizeof value;
    std::memcpy(forged.data() + offset + position * sizeof value, &value, sizeof value);
    bad["columns"][column]["xxh3"] = hash64_hex(std::string_view(forged).substr(offset, size));
    put("columns.bin", forged);
    put("dataset.json", bad.dump());
    expect_data_error(words);
    expect_data_error("columns.bin");
  };
  using Wide = std::int64_t;
  forge(0, 1, Wide{-5}, "'users.offsets' falls");
  forge(0, 1, Wide{INT64_MAX}, "'users.offsets' falls");
  forge(0, 1, Wide{0}, "column 'users': the name at position 0 is empty");
  forge(1, 3, '\xff', "column 'users': the name at position 0 is not UTF-8");
  forge(2, 1, Wide{-5}, "column 'items': the name at position 1 repeats an earlier one");
  forge(3, 1, Wide{4}, "'offsets' falls at entry 2");
  forge(3, 1, Wide{INT64_MIN}, "'offsets' falls at entry 1");
  forge(3, 3, Wide{6}, "'offsets' does not run from 0 to 5");
  forge(4, 0, std::int32_t{0}, "'ids' has an id outside 1 to 3 at entry 0");
  forge(4, 4, std::int32_t{4}, "'ids' has an id outside 1 to 3 at entry 4");
  forge(4, 4, std::int32_t{INT32_MIN}, "'ids' has an id outside 1 to 3 at entry 4");
  forge(5, 2, Wide{-1}, "'times' falls within user 0");
  forge(5, 0, Wide{kNoTime}, "'times' is unknown");
  forge(5, 4, Wide{INT64_MAX}, "'times' is unknown or outside");
}

TEST_F(SequencesIo, FewerTimesThanIdsAreRefused) {
  save_sequences(small_sequences(), directory());
  Json bad = header();
  const std::string columns = bytes("columns.bin");
  Json& times = bad["columns"][5];
  const auto offset = times["offset"].get<std::size_t>();
  times["count"] = 4;
  times["xxh3"] = hash64_hex(std::string_view(columns).substr(offset, 32));
  put("columns.bin", columns.substr(0, offset + 32));
  put("dataset.json", bad.dump());
  expect_data_error("'times' has 4 entries; expected none or 5");
  times["count"] = 0;
  times["xxh3"] = hash64_hex("");
  put("columns.bin", columns.substr(0, offset));
  put("dataset.json", bad.dump());
  expect_data_error("'fingerprint' does not match");
}

TEST_F(SequencesIo, EveryTruncationIsRefused) {
  save_sequences(small_sequences(), directory());
  const std::string columns = bytes("columns.bin");
  for (std::size_t size = 0; size < columns.size(); size += 7) {
    put("columns.bin", columns.substr(0, size));
    expect_data_error("columns.bin");
  }
  put("columns.bin", columns + "x");
  expect_data_error("columns end at");
}

TEST_F(SequencesIo, NoChangedByteGoesUnnoticed) {
  save_sequences(small_sequences(), directory());
  const std::string columns = bytes("columns.bin");
  const Json json = header();
  for (const Json& column : json.at("columns")) {
    const auto width = column.at("type") == "int64" ? 8U : column.at("type") == "int32" ? 4U : 1U;
    const auto offset = column.at("offset").get<std::size_t>();
    for (std::size_t i = 0; i < column.at("count").get<std::size_t>() * width; ++i) {
      std::string changed = columns;
      changed[offset + i] = static_cast<char>(changed[offset + i] ^ 4);
      put("columns.bin", changed);
      expect_data_error("checksum");
    }
  }
}

// Random damage to the header: an error of ours, or sequences that pass every check.
TEST_F(SequencesIo, RandomHeadersNeverCrash) {
  save_sequences(small_sequences(), directory());
  const std::string good = bytes("dataset.json");
  Random random(11, "damage");
  int refused = 0;
  for (int round = 0; round < 1'000; ++round) {
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
      load_sequences(directory());
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace theriac::data
