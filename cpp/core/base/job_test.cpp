#include "cpp/core/base/job.h"

#include <gtest/gtest.h>

#include <vector>

#include "cpp/core/base/test_support.h"

namespace theriac {
namespace {

using testing_support::failure_of;

TEST(Job, WithoutAListenerOnlyWorks) {
  Job job;
  EXPECT_NO_THROW(job.check());
  EXPECT_NO_THROW(job.progress("fit", 1, 2));
  EXPECT_NO_THROW(job.milestone("fit", 2, 2));
}

TEST(Job, ThrowsOnceAStopIsAskedFor) {
  const auto cancel = std::make_shared<CancelToken>();
  int told = 0;
  Job job([&](auto, auto, auto, auto) { return ++told, Verdict::kContinue; }, cancel);
  EXPECT_NO_THROW(job.check());
  cancel->request();
  for (int i = 0; i < 2; ++i) {  // latched
    const auto failure = failure_of([&] { job.milestone("fit", 0, 1); });
    ASSERT_TRUE(failure);
    EXPECT_EQ(failure->code, Code::kCancelled);
  }
  EXPECT_EQ(told, 0);
}

TEST(Job, ProgressIsThinnedButMilestonesAreNot) {
  std::vector<std::uint64_t> seen;
  const auto listener = [&](std::string_view, std::uint64_t done, std::uint64_t, std::string_view) {
    seen.push_back(done);
    return Verdict::kContinue;
  };
  Job job(listener, nullptr, std::chrono::hours(1000000));
  for (std::uint64_t i = 0; i < 5; ++i) job.progress("fit", i, 5);
  EXPECT_EQ(seen, (std::vector<std::uint64_t>{0}));  // the first is told at once
  job.milestone("fit", 5, 5);
  job.milestone("fit", 6, 5);
  EXPECT_EQ(seen, (std::vector<std::uint64_t>{0, 5, 6}));
}

TEST(Job, HandsOnPhaseAndMetrics) {
  std::string heard;
  const auto listener = [&](std::string_view phase, std::uint64_t done, std::uint64_t total,
                            std::string_view metrics) {
    heard += std::string(phase) + std::to_string(done) + "/" + std::to_string(total) +
             std::string(metrics);
    return Verdict::kContinue;
  };
  Job job(listener, nullptr, std::chrono::milliseconds(0));
  job.progress("read", 1, 0);
  job.milestone("fit", 2, 3, "{\"loss\":1}");
  EXPECT_EQ(heard, "read1/0{}fit2/3{\"loss\":1}");
}

TEST(Job, ObeysTheListener) {
  const auto code_after = [](Verdict verdict) {
    Job job([verdict](auto, auto, auto, auto) { return verdict; }, nullptr,
            std::chrono::milliseconds(0));
    const auto failure = failure_of([&] { job.progress("fit", 0, 1); });
    return failure ? failure->code : Code::kOk;
  };
  EXPECT_EQ(code_after(Verdict::kContinue), Code::kOk);
  EXPECT_EQ(code_after(Verdict::kCancel), Code::kCancelled);
  EXPECT_EQ(code_after(Verdict::kCallbackFailed), Code::kCallbackFailed);
  EXPECT_EQ(code_after(static_cast<Verdict>(1234)), Code::kCallbackFailed);
}

}  // namespace
}  // namespace theriac
