#include "cpp/core/base/hash.h"

#include <gtest/gtest.h>

#include <array>
#include <set>

namespace theriac {
namespace {

TEST(Hash, IsXxh3) {
  EXPECT_EQ(hash64(""), 0x2d06800538d394c2ULL);  // XXH3-64 of nothing, seed 0, as xxhsum prints it
  EXPECT_NE(hash64("a"), hash64("b"));
  EXPECT_NE(hash64("a", 1), hash64("a", 2));
}

TEST(Fingerprint, DependsOnTheBordersBetweenParts) {
  const std::set<std::string> all{
      Fingerprint().hex(),
      Fingerprint().add("").hex(),
      Fingerprint().add("ab").add("c").hex(),
      Fingerprint().add("a").add("bc").hex(),
      Fingerprint().add("abc").hex(),
      Fingerprint().add(std::int64_t{1}).hex(),
      Fingerprint().add(std::int64_t{-1}).hex(),
  };
  EXPECT_EQ(all.size(), 7U);
  EXPECT_EQ(Fingerprint().add("ab").add("c").hex(), Fingerprint().add("ab").add("c").hex());
}

TEST(Fingerprint, OfNothingIsXxh128OfNothing) {
  EXPECT_EQ(Fingerprint().hex(), "99aa06d3014798d86001c324468d497f");
}

TEST(Fingerprint, ValuesHashAsTheirBytes) {
  const std::array<std::int32_t, 2> values{1, 2};
  const std::string bytes(reinterpret_cast<const char*>(values.data()), sizeof values);
  EXPECT_EQ(Fingerprint().add_values(std::span<const std::int32_t>(values)).hex(),
            Fingerprint().add(bytes).hex());
}

TEST(Fingerprint, MayBeReadAndContinued) {
  Fingerprint print;
  print.add("a");
  const std::string first = print.hex();
  EXPECT_EQ(print.hex(), first);
  Fingerprint moved = std::move(print);
  EXPECT_EQ(moved.add("b").hex(), Fingerprint().add("a").add("b").hex());
}

}  // namespace
}  // namespace theriac
