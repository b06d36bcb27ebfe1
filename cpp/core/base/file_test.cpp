#include "cpp/core/base/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <set>
#include <thread>
#include <vector>

#include "cpp/core/base/file_operations.h"
#include "cpp/core/base/test_support.h"

namespace theriac {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing_support::detail;
using testing_support::failure_of;
using testing_support::ScratchFolder;

std::size_t entries(const fs::path& folder) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

// Makes writes beyond `bytes` fail with EFBIG, as a full disk fails with ENOSPC.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : old_handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  sighandler_t old_handler_;
};

TEST(ReadFile, ReadsAllAndKeepsToItsLimit) {
  const ScratchFolder folder;
  const std::string bytes("a\0b\xff\n", 5);
  replace_file(folder / "f", bytes);
  EXPECT_EQ(read_file(folder / "f"), bytes);
  EXPECT_EQ(read_file(folder / "f", 5), bytes);
  const auto failure = failure_of([&] { read_file(folder / "f", 4); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kDataError);
  EXPECT_THAT(failure->message, HasSubstr("limit of 4 bytes"));
}

TEST(ReadFile, ReadsFilesThatStateNoSize) { EXPECT_FALSE(read_file("/proc/self/stat").empty()); }

TEST(ReadFile, EndlessFilesMeetTheLimit) {
  const auto failure = failure_of([] { read_file("/dev/zero", 100000); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kDataError);
}

TEST(ReadFile, SaysWhyItCannot) {
  const ScratchFolder folder;
  const auto absent = failure_of([&] { read_file(folder / "none"); });
  ASSERT_TRUE(absent);
  EXPECT_EQ(absent->code, Code::kNotFound);
  EXPECT_EQ(detail(*absent, "errno"), std::to_string(ENOENT));
  EXPECT_EQ(detail(*absent, "file"), (folder / "none").string());
  const auto directory = failure_of([&] { read_file(folder.path()); });
  ASSERT_TRUE(directory);
  EXPECT_EQ(directory->code, Code::kIoError);
  EXPECT_EQ(detail(*directory, "errno"), std::to_string(EISDIR));
}

TEST(AtomicFile, AppearsOnlyAtTheCommit) {
  const ScratchFolder folder;
  replace_file(folder / "f", "old");
  {
    AtomicFile file(folder / "f");
    file.write("new ");
    file.write(std::string(1000000, 'x'));
    file.write(" end");
    EXPECT_EQ(read_file(folder / "f"), "old");
    file.commit();
  }
  EXPECT_EQ(read_file(folder / "f"), "new " + std::string(1000000, 'x') + " end");
  EXPECT_EQ(entries(folder.path()), 1U);
}

TEST(AtomicFile, WithoutCommitLeavesTheOldFileAndNothingElse) {
  const ScratchFolder folder;
  replace_file(folder / "f", "old");
  { AtomicFile(folder / "f").write("new"); }
  EXPECT_EQ(read_file(folder / "f"), "old");
  EXPECT_EQ(entries(folder.path()), 1U);
}

TEST(AtomicFile, ADiskThatFillsUpLeavesTheOldFile) {
  const ScratchFolder folder;
  replace_file(folder / "f", "old");
  {
    const FileSizeLimit full(4096);
    const auto failure = failure_of([&] { replace_file(folder / "f", std::string(100000, 'x')); });
    ASSERT_TRUE(failure);
    EXPECT_EQ(failure->code, Code::kIoError);
    EXPECT_EQ(detail(*failure, "errno"), std::to_string(EFBIG));
    EXPECT_EQ(detail(*failure, "file"), (folder / "f").string());
  }
  EXPECT_EQ(read_file(folder / "f"), "old");
  EXPECT_EQ(entries(folder.path()), 1U);
}

// The superuser may write to every folder: tests that run as root step down while this lives.
class AsNobody {
 public:
  AsNobody() : was_root_(::geteuid() == 0) {
    constexpr uid_t kNobody = 65534;
    if (was_root_ && ::seteuid(kNobody) != 0)
      throw std::runtime_error("cannot step down from root");
  }
  ~AsNobody() {
    if (was_root_ && ::seteuid(0) != 0) std::abort();
  }

 private:
  bool was_root_;
};

TEST(AtomicFile, NeedsAFolderItMayWriteTo) {
  const ScratchFolder folder;
  fs::permissions(folder.path(), fs::perms::owner_read | fs::perms::owner_exec);
  const auto absent = failure_of([&] { AtomicFile file(folder / "none/f"); });
  ASSERT_TRUE(absent);
  EXPECT_EQ(absent->code, Code::kNotFound);
  const auto locked = [&] {
    const AsNobody nobody;
    return failure_of([&] { AtomicFile file(folder / "f"); });
  }();
  fs::permissions(folder.path(), fs::perms::owner_all);
  ASSERT_TRUE(locked);
  EXPECT_EQ(locked->code, Code::kIoError);
  EXPECT_EQ(detail(*locked, "errno"), std::to_string(EACCES));
  EXPECT_EQ(entries(folder.path()), 0U);
}

TEST(AtomicFile, CannotReplaceWhatIsNoFile) {
  const ScratchFolder folder;
  fs::create_directory(folder / "d");
  for (const fs::path& path :
       {folder / "d", fs::path("/dev/full"), fs::path(""), fs::path("."), fs::path("/")}) {
    const auto failure = failure_of([&] { AtomicFile file(path); });
    ASSERT_TRUE(failure) << path;
    EXPECT_EQ(failure->code, Code::kInvalidArgument) << path;
  }
}

TEST(AtomicFile, IsCommittedOnce) {
  const ScratchFolder folder;
  AtomicFile file(folder / "f");
  file.commit();
  EXPECT_EQ(failure_of([&] { file.commit(); })->code, Code::kInvalidState);
  EXPECT_EQ(failure_of([&] { file.write("x"); })->code, Code::kInvalidState);
  EXPECT_EQ(read_file(folder / "f"), "");
}

TEST(AtomicFile, KeepsTheModeAndFollowsLinks) {
  const ScratchFolder folder;
  replace_file(folder / "f", "old");
  ::chmod((folder / "f").c_str(), 0640);
  fs::create_symlink("f", folder / "link");
  replace_file(folder / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(read_file(folder / "f"), "new");
  struct stat status {};
  ::stat((folder / "f").c_str(), &status);
  EXPECT_EQ(status.st_mode & 07777, 0640U);
}

void write_plain(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

TEST(ReplaceDirectory, MakesItWhole) {
  const ScratchFolder folder;
  replace_directory(folder / "model/", false, [&](const fs::path& stage) {
    EXPECT_FALSE(fs::exists(folder / "model"));
    fs::create_directory(stage / "tables");
    write_plain(stage / "config.json", "{}");
    write_plain(stage / "tables" / "t", "t");
  });
  EXPECT_EQ(read_file(folder / "model" / "config.json"), "{}");
  EXPECT_EQ(read_file(folder / "model" / "tables" / "t"), "t");
  EXPECT_EQ(entries(folder.path()), 1U);
}

TEST(ReplaceDirectory, ReplacesOnlyWhenAsked) {
  const ScratchFolder folder;
  const auto write = [&](const char* text, bool overwrite) {
    replace_directory(folder / "model", overwrite,
                      [&](const fs::path& stage) { write_plain(stage / text, text); });
  };
  write("a", false);
  const auto failure = failure_of([&] { write("b", false); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kAlreadyExists);
  EXPECT_TRUE(fs::exists(folder / "model" / "a"));
  write("b", true);
  EXPECT_FALSE(fs::exists(folder / "model" / "a"));
  EXPECT_TRUE(fs::exists(folder / "model" / "b"));
  EXPECT_EQ(entries(folder.path()), 1U);
}

TEST(ReplaceDirectory, DoesNotOverwriteOneThatAppearsMeanwhile) {
  const ScratchFolder folder;
  const auto failure = failure_of([&] {
    replace_directory(folder / "model", false, [&](const fs::path&) {
      fs::create_directory(folder / "model");
      write_plain(folder / "model" / "theirs", "x");
    });
  });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kAlreadyExists);
  EXPECT_TRUE(fs::exists(folder / "model" / "theirs"));
  EXPECT_EQ(entries(folder.path()), 1U);
}

TEST(ReplaceDirectory, AFolderOfSomethingElseStays) {
  const ScratchFolder folder;
  fs::create_directory(folder / "photos");
  write_plain(folder / "photos" / "one", "1");
  const auto fill = [](const fs::path& stage) { write_plain(stage / "config.json", "{}"); };
  const auto failure =
      failure_of([&] { replace_directory(folder / "photos", true, "config.json", fill); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kAlreadyExists);
  EXPECT_TRUE(fs::exists(folder / "photos" / "one"));
  fs::create_directory(folder / "empty");
  replace_directory(folder / "empty", true, "config.json", fill);
  replace_directory(folder / "empty", true, "config.json", fill);  // its own kind
  EXPECT_TRUE(fs::exists(folder / "empty" / "config.json"));
}

TEST(ReplaceDirectory, AFailingFillLeavesTheOldOne) {
  const ScratchFolder folder;
  replace_directory(folder / "model", false,
                    [](const fs::path& stage) { write_plain(stage / "a", "a"); });
  const auto failure = failure_of([&] {
    replace_directory(folder / "model", true, [](const fs::path& stage) {
      write_plain(stage / "half", "x");
      throw Error(Code::kCancelled, "stop");
    });
  });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kCancelled);
  EXPECT_TRUE(fs::exists(folder / "model" / "a"));
  EXPECT_FALSE(fs::exists(folder / "model" / "half"));
  EXPECT_EQ(entries(folder.path()), 1U);
}

TEST(ReplaceDirectory, RefusesAFile) {
  const ScratchFolder folder;
  replace_file(folder / "f", "x");
  const auto failure =
      failure_of([&] { replace_directory(folder / "f", true, [](const fs::path&) {}); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kInvalidArgument);
  EXPECT_EQ(read_file(folder / "f"), "x");
}

// Writes generation after generation of a directory until it is killed. A directory of generation g
// holds twenty files that all say g.
constexpr int kFilesOfAGeneration = 20;

[[noreturn]] void write_generations(const fs::path& target) {
  for (int generation = 0;; ++generation) {
    replace_directory(target, true, [&](const fs::path& stage) {
      for (int i = 0; i < kFilesOfAGeneration; ++i) {
        write_plain(stage / std::to_string(i), std::to_string(generation));
      }
    });
  }
}

void expect_one_whole_generation(const fs::path& target) {
  std::set<std::string> generations;
  for (int i = 0; i < kFilesOfAGeneration; ++i)
    generations.insert(read_file(target / std::to_string(i)));
  EXPECT_EQ(generations.size(), 1U);
  EXPECT_EQ(generations.count(""), 0U);
  EXPECT_EQ(entries(target), static_cast<std::size_t>(kFilesOfAGeneration));
}

TEST(ReplaceDirectory, AKilledWriterNeverLeavesHalfOfIt) {
  const ScratchFolder folder;
  const fs::path target = folder / "model";
  int killed_in_the_middle = 0;
  for (int round = 0; round < 40; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) write_generations(target);
    while (!fs::exists(target)) ::usleep(100);  // the first round has to come that far
    ::usleep(static_cast<useconds_t>(500 + 377 * round));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    expect_one_whole_generation(target);
    std::size_t left = 0;
    for (const auto& entry : fs::directory_iterator(folder.path())) {
      if (entry.path() == target) continue;
      ++left;
      fs::remove_all(entry.path());
    }
    killed_in_the_middle += left > 0 ? 1 : 0;
  }
  EXPECT_GT(killed_in_the_middle, 0) << "no kill came while a directory was being written";
}

TEST(AtomicFile, AKilledWriterNeverLeavesHalfOfIt) {
  const ScratchFolder folder;
  const std::string a(3000000, 'a'), b(2000000, 'b');
  replace_file(folder / "f", a);
  for (int round = 0; round < 20; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (;;) {
        replace_file(folder / "f", b);
        replace_file(folder / "f", a);
      }
    }
    ::usleep(static_cast<useconds_t>(1000 + 731 * round));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const std::string now = read_file(folder / "f");
    EXPECT_TRUE(now == a || now == b) << now.size();
  }
}

// What a killed writer of `target` left behind two minutes ago.
fs::path leftover(const fs::path& target, const std::string& digits, bool folder) {
  const fs::path path =
      target.parent_path() / ("." + target.filename().string() + "." + digits + ".tmp");
  if (folder) {
    fs::create_directory(path);
    write_plain(path / "half", "x");
  } else {
    write_plain(path, "x");
  }
  fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::minutes(2));
  return path;
}

TEST(Temporaries, WhatKilledWritersLeftGoesWithTheNextWrite) {
  const ScratchFolder folder;
  for (const bool whole_folder : {false, true}) {
    const fs::path target = folder / (whole_folder ? "model" : "file");
    const auto write = [&] {
      if (whole_folder) {
        replace_directory(target, true,
                          [](const fs::path& stage) { write_plain(stage / "a", "1"); });
      } else {
        replace_file(target, "1");
      }
    };
    const fs::path file = leftover(target, "0123456789abcdef", false);
    const fs::path directory = leftover(target, "fedcba9876543210", true);
    write();
    EXPECT_FALSE(fs::exists(file));
    EXPECT_FALSE(fs::exists(directory));
    EXPECT_TRUE(fs::exists(target));
    write();  // and nothing of its own stays
    EXPECT_EQ(entries(folder.path()), whole_folder ? 2U : 1U);
  }
}

TEST(Temporaries, ThoseInUseYoungOrOfOthersStay) {
  const ScratchFolder folder;
  const fs::path target = folder / "model";
  const fs::path used = leftover(target, "0123456789abcdef", true);
  const int claim = ::open(used.c_str(), O_RDONLY | O_DIRECTORY);
  claim_temporary(claim);
  const fs::path young = leftover(target, "1123456789abcdef", false);
  fs::last_write_time(young, fs::file_time_type::clock::now());
  const std::vector<fs::path> kept = {used,
                                      young,
                                      leftover(folder / "model2", "2123456789abcdef", false),
                                      leftover(folder / "odel", "3123456789abcdef", false),
                                      leftover(target, "4123456789abcde", false),
                                      leftover(target, "5123456789abcdeG", false)};
  const fs::path link = folder / ".model.6123456789abcdef.tmp";
  fs::create_symlink(folder / "elsewhere", link);
  replace_file(target, "1");
  for (const fs::path& path : kept) EXPECT_TRUE(fs::exists(path)) << path;
  EXPECT_TRUE(fs::is_symlink(link));
  ::close(claim);
  replace_file(target, "2");  // its owner is gone
  EXPECT_FALSE(fs::exists(used));
}

TEST(MappedFile, ShowsTheBytes) {
  const ScratchFolder folder;
  replace_file(folder / "f", "hello");
  replace_file(folder / "empty", "");
  MappedFile map(folder / "f");
  EXPECT_EQ(map.bytes(), "hello");
  MappedFile moved(std::move(map));
  EXPECT_EQ(moved.bytes(), "hello");
  moved = MappedFile(folder / "empty");
  EXPECT_EQ(moved.bytes(), "");
  EXPECT_EQ(failure_of([&] { MappedFile file(folder / "none"); })->code, Code::kNotFound);
  EXPECT_EQ(failure_of([&] { MappedFile file(folder.path()); })->code, Code::kIoError);
  EXPECT_EQ(failure_of([&] { MappedFile file("/dev/zero"); })->code, Code::kIoError);
}

TEST(MappedFile, KeepsTheBytesOfAReplacedFile) {
  const ScratchFolder folder;
  replace_file(folder / "f", "old");
  const MappedFile map(folder / "f");
  replace_file(folder / "f", "new");
  EXPECT_EQ(map.bytes(), "old");
}

}  // namespace
}  // namespace theriac
