// Reads the stream back with a FlatBuffers reader of its own: positions found through vtables, not
// by the writer's layout.

#include "cpp/core/data/arrow_ipc.h"

#include <gmock/gmock.h>

#include <cstring>
#include <sstream>

#include "cpp/core/base/error.h"
#include "cpp/core/data/cohort_io.h"
#include "cpp/core/data/test_cohorts.h"

namespace theriac::data {
namespace {

using testing::ElementsAre;

template <class T>
T number(std::string_view bytes, std::size_t at) {
  T value{};
  if (at + sizeof value > bytes.size()) throw std::out_of_range("past the message");
  EXPECT_EQ(at % alignof(T), 0U);
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

struct Table {
  std::string_view bytes;
  std::size_t at = 0;

  std::size_t member(std::size_t slot) const {  // 0 when absent
    const auto vtable =
        static_cast<std::size_t>(static_cast<std::int64_t>(at) - number<std::int32_t>(bytes, at));
    if (4 + 2 * slot + 2 > number<std::uint16_t>(bytes, vtable)) return 0;
    const auto offset = number<std::uint16_t>(bytes, vtable + 4 + 2 * slot);
    EXPECT_LT(offset, number<std::uint16_t>(bytes, vtable + 2));
    return offset == 0 ? 0 : at + offset;
  }
  template <class T>
  T get(std::size_t slot, T fallback = {}) const {
    const std::size_t where = member(slot);
    return where == 0 ? fallback : number<T>(bytes, where);
  }
  std::size_t target(std::size_t slot) const {
    const std::size_t where = member(slot);
    EXPECT_NE(where, 0U);
    return where + number<std::uint32_t>(bytes, where);
  }
  Table table(std::size_t slot) const { return {bytes, target(slot)}; }
  std::string string(std::size_t slot) const {
    const std::size_t where = target(slot);
    const auto size = number<std::uint32_t>(bytes, where);
    EXPECT_EQ(bytes.at(where + 4 + size), '\0');
    return std::string(bytes.substr(where + 4, size));
  }
  std::size_t count(std::size_t slot) const { return number<std::uint32_t>(bytes, target(slot)); }
  Table element(std::size_t slot, std::size_t i) const {
    const std::size_t where = target(slot) + 4 + 4 * i;
    return {bytes, where + number<std::uint32_t>(bytes, where)};
  }
  // Two int64 of the i-th struct of a vector of structs.
  std::pair<std::int64_t, std::int64_t> pair(std::size_t slot, std::size_t i) const {
    const std::size_t where = target(slot) + 4 + 16 * i;
    return {number<std::int64_t>(bytes, where), number<std::int64_t>(bytes, where + 8)};
  }
};

struct Message {
  std::string metadata, body;
  Table root() const { return {metadata, number<std::uint32_t>(metadata, 0)}; }
};

std::vector<Message> messages(const std::string& stream) {
  std::vector<Message> out;
  std::size_t at = 0;
  for (;;) {
    EXPECT_EQ(at % 8, 0U);
    EXPECT_EQ(number<std::uint32_t>(stream, at), 0xffffffff);
    const auto size = number<std::uint32_t>(stream, at + 4);
    at += 8;
    if (size == 0) break;
    EXPECT_EQ(size % 8, 0U);
    Message message{stream.substr(at, size), {}};
    at += size;
    const auto body = static_cast<std::size_t>(message.root().get<std::int64_t>(3));
    message.body = stream.substr(at, body);
    EXPECT_EQ(message.body.size(), body);
    at += body;
    out.push_back(std::move(message));
  }
  EXPECT_EQ(at, stream.size());
  return out;
}

std::vector<Message> written(const Cohort& cohort, const std::string& table) {
  std::ostringstream out;
  export_table(cohort, table, "arrow", out);
  return messages(out.str());
}

TEST(ArrowIpc, SchemaOfEveryTable) {
  const auto schema = [](const std::string& table) {
    const auto all = written(small_cohort(), table);
    const Table root = all.at(0).root();
    EXPECT_EQ(root.get<std::int16_t>(0), 4);  // metadata version 5
    EXPECT_EQ(root.get<std::uint8_t>(1), 1);  // a schema
    const Table header = root.table(2);
    std::vector<std::string> fields;
    for (std::size_t i = 0; i < header.count(1); ++i) {
      const Table field = header.element(1, i);
      EXPECT_EQ(field.count(5), 0U);
      const int type = field.get<std::uint8_t>(2);
      const Table detail = field.table(3);
      std::string text = field.string(0) + " " + std::to_string(type);
      if (type == 2)
        text += ":" + std::to_string(detail.get<std::int32_t>(0)) +
                (detail.get<std::uint8_t>(1) ? "s" : "u");
      if (type == 10) text += ":" + std::to_string(detail.get<std::int16_t>(0));
      if (field.get<std::uint8_t>(1)) text += " nullable";
      fields.push_back(text);
    }
    return fields;
  };
  EXPECT_THAT(schema("patients"), ElementsAre("patient 5", "visits 2:64s"));
  EXPECT_THAT(schema("visits"), ElementsAre("patient 5", "visit 5", "time 10:0 nullable"));
  EXPECT_THAT(schema("codes"), ElementsAre("patient 5", "visit 5", "time 10:0 nullable", "field 5",
                                           "system 5", "code 5"));
  EXPECT_THAT(schema("vocabulary"), ElementsAre("field 5", "id 2:32s", "system 5", "code 5"));
}

TEST(ArrowIpc, BatchHoldsTheRows) {
  const auto all = written(small_cohort(), "visits");
  ASSERT_EQ(all.size(), 2U);
  const Table root = all[1].root();
  EXPECT_EQ(root.get<std::uint8_t>(1), 3);  // a record batch
  const Table batch = root.table(2);
  EXPECT_EQ(batch.get<std::int64_t>(0), 3);
  ASSERT_EQ(batch.count(1), 3U);
  EXPECT_EQ(batch.pair(1, 0), std::pair(std::int64_t{3}, std::int64_t{0}));
  EXPECT_EQ(batch.pair(1, 2), std::pair(std::int64_t{3}, std::int64_t{1}));
  ASSERT_EQ(batch.count(2), 8U);  // three each for the texts, two for the times
  const auto buffer = [&](std::size_t i) {
    const auto [offset, size] = batch.pair(2, i);
    EXPECT_EQ(offset % 8, 0);
    return all[1].body.substr(static_cast<std::size_t>(offset), static_cast<std::size_t>(size));
  };
  EXPECT_EQ(buffer(0), "");
  EXPECT_EQ(buffer(2),
            "7"
            "7"
            "b, \"quoted\"");
  EXPECT_EQ(buffer(5),
            "71"
            "72"
            "1");
  EXPECT_EQ(number<std::int32_t>(buffer(4), 8), 4);
  EXPECT_EQ(buffer(6).at(0) & 7, 3);
  EXPECT_EQ(number<std::int64_t>(buffer(7), 0), 5'699'194'800);
}

TEST(ArrowIpc, EmptyAndLongTables) {
  EXPECT_EQ(written(CohortBuilder().finish(), "codes").size(), 1U);
  CohortBuilder builder;
  for (int p = 0; p < 65'537; ++p) builder.begin_patient(std::to_string(p));
  EXPECT_EQ(written(std::move(builder).finish(), "patients").size(), 3U);
}

TEST(ArrowIpc, UnknownTable) {
  std::ostringstream out;
  EXPECT_THROW(export_table(small_cohort(), "code", "arrow", out), Error);
  EXPECT_EQ(out.str(), "");
}

}  // namespace
}  // namespace theriac::data
