#include "cpp/core/merge/journal.h"

#include <gmock/gmock.h>

#include "cpp/core/base/file.h"
#include "cpp/core/base/test_support.h"

namespace theriac::merge {
namespace {

using testing::HasSubstr;
using testing_support::detail;
using testing_support::failure_of;
using testing_support::ScratchFolder;

const Json kIdentity{{"recipe", "r"}, {"seed", 1}, {"input a", {{"bytes", 5}}}};

void write_two(const std::filesystem::path& file) {
  Journal journal = Journal::create(file, kIdentity);
  journal.add({3, "three\n\"", "abc", 10, 4, 1, 2});
  journal.write();
  journal.add({0, "zero", "def", 0, 0, 0, 0});
  journal.write();
}

TEST(Journal, ComesBackAsWritten) {
  const ScratchFolder scratch;
  write_two(scratch / "j");
  const Journal journal = Journal::resume(scratch / "j", kIdentity);
  EXPECT_TRUE(journal.resumed());
  ASSERT_EQ(journal.entries().size(), 2U);
  const JournalEntry& first = journal.entries()[0];
  EXPECT_EQ(first.tensor, 3U);
  EXPECT_EQ(first.name, "three\n\"");
  EXPECT_EQ(first.checksum, "abc");
  EXPECT_EQ(
      first.changed + 10 * first.lost + 100 * first.non_finite_in + 1000 * first.non_finite_out,
      10U + 40 + 100 + 2000);
}

// Wherever a write was torn, whole entries before it count and new ones can be added.
TEST(Journal, EveryTornEndIsCutOff) {
  const ScratchFolder scratch;
  write_two(scratch / "whole");
  const std::string text = read_file(scratch / "whole");
  std::size_t most = 0;
  for (std::size_t size = text.size() % 3; size <= text.size(); size += 3) {
    replace_file(scratch / "j", text.substr(0, size));
    std::size_t found = 0;
    {
      Journal journal = Journal::resume(scratch / "j", kIdentity);
      found = journal.entries().size();
      EXPECT_GE(found, most);
      most = found;
      journal.add({7, "new", "x", 0, 0, 0, 0});
      journal.write();
    }
    const Journal again = Journal::resume(scratch / "j", kIdentity);
    ASSERT_EQ(again.entries().size(), found + 1) << size;
    EXPECT_EQ(again.entries().back().name, "new");
  }
  EXPECT_EQ(most, 2U);
}

TEST(Journal, ADamagedLineEndsIt) {
  const ScratchFolder scratch;
  write_two(scratch / "j");
  std::string text = read_file(scratch / "j");
  text[text.find("three")] = 'T';
  replace_file(scratch / "j", text);
  EXPECT_EQ(Journal::resume(scratch / "j", kIdentity).entries().size(), 0U);
}

TEST(Journal, AnotherMergeIsNamed) {
  const ScratchFolder scratch;
  write_two(scratch / "j");
  const Json other{{"recipe", "r"}, {"seed", 2}, {"input b", {{"bytes", 5}}}};
  const auto failure = failure_of([&] { Journal::resume(scratch / "j", other); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kIncompatible);
  EXPECT_EQ(detail(*failure, "different"), "seed, input b, input a");
  EXPECT_EQ(Journal::create(scratch / "j", other).entries().size(), 0U);
  EXPECT_FALSE(failure_of([&] { Journal::resume(scratch / "j", other); }));
}

TEST(Journal, OneProcessAtATime) {
  const ScratchFolder scratch;
  const Journal journal = Journal::create(scratch / "j", kIdentity);
  const std::string before = read_file(scratch / "j");
  const auto failure = failure_of([&] { Journal::create(scratch / "j", kIdentity); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kBusy);
  EXPECT_EQ(read_file(scratch / "j"), before);
}

}  // namespace
}  // namespace theriac::merge
