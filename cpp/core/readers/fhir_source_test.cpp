#include "cpp/core/readers/fhir_source.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cpp/core/readers/test_folder.h"

namespace theriac::readers {
namespace {

using testing::detail;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;

// Hands out `step` bytes at a time, so that every boundary falls everywhere.
class SlowSource final : public ByteSource {
 public:
  SlowSource(std::string bytes, std::size_t step) : bytes_(std::move(bytes)), step_(step) {}
  std::size_t read(std::span<char> into) override {
    const std::size_t size = std::min({step_, into.size(), bytes_.size() - at_});
    bytes_.copy(into.data(), size, at_);
    at_ += size;
    return size;
  }
  const std::string& name() const override { return name_; }

 private:
  std::string bytes_, name_ = "slow";
  std::size_t step_, at_ = 0;
};

struct Piece {
  std::string text;
  std::uint64_t line;
  std::int64_t entry;
  bool operator==(const Piece&) const = default;
};
void PrintTo(const Piece& piece, std::ostream* out) {
  *out << piece.text << " line " << piece.line << " entry " << piece.entry;
}

enum class Layout { kLines, kDocuments };

std::vector<Piece> pieces(Layout layout, const std::string& bytes, std::size_t step = 4096,
                          FhirLimits limits = {}) {
  auto source = std::make_unique<SlowSource>(bytes, step);
  const auto texts = layout == Layout::kLines ? json_lines(std::move(source), limits)
                                              : json_documents(std::move(source), limits);
  std::vector<Piece> out;
  for (JsonText text; texts->next(text);)
    out.push_back({std::string(text.text), text.line, text.entry});
  return out;
}

TEST(JsonLines, SkipsBlankLinesCrlfAndByteOrderMark) {
  const std::string bytes = "\xEF\xBB\xBF{\"a\":1}\r\n\r\n  {\"b\":2}\n{\"c\":3}";
  for (std::size_t step = 1; step < 30; ++step) {
    EXPECT_THAT(pieces(Layout::kLines, bytes, step),
                ElementsAre(Piece{"{\"a\":1}", 1, -1}, Piece{"{\"b\":2}", 3, -1},
                            Piece{"{\"c\":3}", 4, -1}));
  }
}

TEST(JsonLines, LineOfExactlyTheLimitPassesAndOneByteMoreDoesNot) {
  const FhirLimits limits{100, 8};
  const std::string line(100, 'x');
  EXPECT_THAT(pieces(Layout::kLines, "{}\n" + line + "\n", 7, limits),
              ElementsAre(Piece{"{}", 1, -1}, Piece{line, 2, -1}));
  const Error error = error_of([&] { pieces(Layout::kLines, "{}\n" + line + "x\n", 7, limits); });
  EXPECT_EQ(error.code(), Code::kDataError);
  EXPECT_EQ(detail(error, "line"), "2");
  EXPECT_THAT(error.what(), HasSubstr("100 bytes"));
}

TEST(JsonDocuments, HandsOutEntriesThenTheRest) {
  const std::string bytes =
      "{\n \"resourceType\": \"Bundle\", \"entry\" :\n [ {\"r\": [1, {\"s\":\"}]\\\"{\"}]},\n{} ], "
      "\"z\":{\"entry\":[{}]}}\n"
      "{\"a\":[{\"entry\":[{}]}]}";
  for (std::size_t step = 1; step < 60; ++step) {
    EXPECT_THAT(
        pieces(Layout::kDocuments, bytes, step),
        ElementsAre(
            Piece{"{\"r\": [1, {\"s\":\"}]\\\"{\"}]}", 3, 0}, Piece{"{}", 4, 1},
            Piece{"{\n \"resourceType\": \"Bundle\", \"entry\" :\n [], \"z\":{\"entry\":[{}]}}", 1,
                  -1},
            Piece{"{\"a\":[{\"entry\":[{}]}]}", 5, -1}));
  }
}

TEST(JsonDocuments, OnlyTheValueOfTheEntryKeyIsAList) {
  EXPECT_THAT(pieces(Layout::kDocuments, R"({"a":"entry","b":[{}]})"),
              ElementsAre(Piece{R"({"a":"entry","b":[{}]})", 1, -1}));
  EXPECT_THAT(pieces(Layout::kDocuments, R"({"entry":{"b":[{}]}})"),
              ElementsAre(Piece{R"({"entry":{"b":[{}]}})", 1, -1}));
}

TEST(JsonDocuments, FaultsBetweenEntriesAreErrors) {
  for (const std::string bytes : {R"({"entry":[1]})", R"({"entry":[{},]})", R"({"entry":[{} {}]})",
                                  R"({"entry":[,{}]})", R"({"entry":[{}})"}) {
    const Error error = error_of([&] { pieces(Layout::kDocuments, bytes); });
    EXPECT_EQ(error.code(), Code::kDataError) << bytes;
    EXPECT_THAT(detail(error, "json_path"), HasSubstr("Bundle.entry[")) << bytes;
  }
}

TEST(JsonDocuments, CutShort) {
  const std::string whole = R"({"entry":[{"a":"b\"c"}],"d":[1]})";
  for (std::size_t size = 1; size < whole.size(); ++size) {
    const Error error = error_of([&] { pieces(Layout::kDocuments, whole.substr(0, size)); });
    EXPECT_EQ(error.code(), Code::kDataError) << size;
  }
}

TEST(JsonDocuments, EveryTextIsHeldToTheLimit) {
  const FhirLimits limits{64, 8};
  const std::string value(80, 'x');
  for (const std::string& bytes :
       {R"({"entry":[{"a":")" + value + R"("}]})", R"({"a":")" + value + R"("})"}) {
    for (const std::size_t step : {1, 4096}) {
      const Error error = error_of([&] { pieces(Layout::kDocuments, bytes, step, limits); });
      EXPECT_EQ(error.code(), Code::kDataError);
      EXPECT_THAT(error.what(), HasSubstr("64 bytes"));
    }
  }
}

TEST(JsonDocuments, ManyEntriesNeedTheMemoryOfOne) {
  std::string bytes = R"({"entry":[)";
  for (int i = 0; i < 5000; ++i) bytes += (i ? "," : "") + std::string(R"({"a":"0123456789"})");
  EXPECT_EQ(pieces(Layout::kDocuments, bytes + "]}", 4096, {64, 8}).size(), 5001U);
}

}  // namespace
}  // namespace theriac::readers
