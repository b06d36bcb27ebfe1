#include "cpp/core/merge/background_sync.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace theriac::merge {
namespace {

constexpr std::uint64_t kEvery = 1000;

class BackgroundSyncing : public testing::Test {
 protected:
  BackgroundSyncing() {
    std::string name = testing::TempDir() + "/background-sync-XXXXXX";
    file_ = ::mkstemp(name.data());
    ::unlink(name.c_str());
    EXPECT_EQ(::pipe(pipe_), 0);
  }
  ~BackgroundSyncing() override {
    for (const int fd : {file_, pipe_[0], pipe_[1]}) ::close(fd);
  }
  // A pipe cannot be synced: EINVAL.
  int pipe() const { return pipe_[1]; }

  static bool reaches(const BackgroundSync& sync, std::uint64_t syncs) {
    for (int i = 0; i < 2000 && sync.syncs() < syncs; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return sync.syncs() >= syncs;
  }

  int file_ = -1;
  int pipe_[2] = {-1, -1};
};

TEST_F(BackgroundSyncing, SyncsWhenEnoughIsWrittenAndNotBefore) {
  BackgroundSync sync({file_}, kEvery);
  sync.wrote(0, kEvery - 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(sync.syncs(), 0U);
  sync.wrote(0, 1);
  EXPECT_TRUE(reaches(sync, 1));
  sync.wrote(0, 7 * kEvery);
  EXPECT_TRUE(reaches(sync, 2));
  EXPECT_FALSE(sync.stop());
}

TEST_F(BackgroundSyncing, OnlyWrittenFilesAreSynced) {
  BackgroundSync sync({file_, pipe()}, kEvery);
  sync.wrote(0, kEvery);
  EXPECT_TRUE(reaches(sync, 1));
  EXPECT_FALSE(sync.stop());
}

TEST_F(BackgroundSyncing, TheFirstFailureIsKept) {
  BackgroundSync sync({file_, pipe()}, kEvery);
  sync.wrote(1, kEvery);
  ASSERT_TRUE(reaches(sync, 1));
  sync.wrote(0, kEvery);
  ASSERT_TRUE(reaches(sync, 2));
  for (int i = 0; i < 2; ++i) {
    const auto failure = sync.stop();
    ASSERT_TRUE(failure);
    EXPECT_EQ(failure->file, 1U);
    EXPECT_EQ(failure->number, EINVAL);
  }
}

TEST_F(BackgroundSyncing, ManyWriters) {
  BackgroundSync sync({file_}, kEvery);
  std::vector<std::thread> writers;
  for (int t = 0; t < 4; ++t) {
    writers.emplace_back([&sync] {
      for (int i = 0; i < 1000; ++i) sync.wrote(0, kEvery / 10);
    });
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_TRUE(reaches(sync, 1));
  EXPECT_FALSE(sync.stop());
  EXPECT_LE(sync.syncs(), 400U);
}

}  // namespace
}  // namespace theriac::merge
