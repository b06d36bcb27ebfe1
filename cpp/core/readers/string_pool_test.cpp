#include "cpp/core/readers/string_pool.h"

#include <string>

#include <gtest/gtest.h>

namespace theriac::readers {
namespace {

TEST(StringPool, GivesEqualTextsOnePosition) {
  StringPool pool;
  EXPECT_EQ(pool.find("a"), StringPool::kNone);
  EXPECT_EQ(pool.intern("a"), 0U);
  EXPECT_EQ(pool.intern(""), 1U);
  EXPECT_EQ(pool.intern("a"), 0U);
  EXPECT_EQ(pool.find(""), 1U);
  EXPECT_EQ(pool.size(), 2U);
}

TEST(StringPool, KeepsTextsThroughGrowth) {
  StringPool pool;
  pool.intern("first");
  const std::string_view first = pool.text(0);
  for (int i = 0; i < 100'000; ++i)
    EXPECT_EQ(pool.intern(std::to_string(i)), static_cast<std::uint32_t>(i + 1));
  pool.intern(std::string(1 << 20, 'x'));
  EXPECT_EQ(first, "first");
  EXPECT_EQ(first.data(), pool.text(0).data());
  for (int i = 0; i < 100'000; ++i)
    EXPECT_EQ(pool.text(pool.find(std::to_string(i))), std::to_string(i));
}

}  // namespace
}  // namespace theriac::readers
