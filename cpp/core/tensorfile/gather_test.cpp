#include "cpp/core/tensorfile/gather.h"

#include <gtest/gtest.h>

#include <cstring>

namespace theriac::tensorfile {
namespace {

// A file too large to hold: each aligned group of four bytes is its own number.
class CountingBytes final : public Bytes {
 public:
  using Bytes::read;
  std::uint64_t size() const noexcept override { return std::uint64_t{1} << 33; }
  const std::string& name() const noexcept override { return name_; }
  void read(std::uint64_t offset, std::span<char> into) const override {
    EXPECT_LE(offset + into.size(), size());
    most_ = std::max(most_, into.size());
    for (std::size_t i = 0; i < into.size(); ++i) {
      const auto number = static_cast<std::uint32_t>((offset + i) / 4);
      into[i] = static_cast<char>(number >> (8 * ((offset + i) % 4)));
    }
  }
  std::size_t most() const { return most_; }

 private:
  std::string name_ = "counting";
  mutable std::size_t most_ = 0;
};

// Elements gigabytes apart are fetched a few at a time, not with all that lies between.
TEST(Gather, WideStrides) {
  const CountingBytes file;
  TensorRecord tensor;
  tensor.name = "w";
  tensor.shape = {3, 50, 2};
  tensor.strides = {1000, 3, std::uint64_t{1} << 30};
  tensor.offset = 64;
  tensor.bytes = 3 * 50 * 2 * 4;
  std::string bytes(tensor.bytes, '?');
  internal::gather(file, tensor, 0, bytes);
  for (std::uint64_t i = 0; i < 3; ++i) {
    for (std::uint64_t j = 0; j < 50; ++j) {
      for (std::uint64_t k = 0; k < 2; ++k) {
        const std::uint64_t element = (i * 50 + j) * 2 + k;
        const auto expected = static_cast<std::uint32_t>(16 + i * 1000 + j * 3 + (k << 30));
        ASSERT_EQ(std::memcmp(bytes.data() + 4 * element, &expected, 4), 0) << element;
      }
    }
  }
  EXPECT_LE(file.most(), std::size_t{1} << 16);
}

// Up to the file's last byte.
TEST(Gather, EndOfTheFile) {
  const CountingBytes file;
  TensorRecord tensor;
  tensor.shape = {2, 2};
  tensor.strides = {1, (std::uint64_t{1} << 31) - 2};
  tensor.bytes = 16;
  std::string bytes(7, '?');
  internal::gather(file, tensor, 9, bytes);
  EXPECT_EQ(bytes.substr(3), std::string("\xff\xff\xff\x7f", 4));
}

}  // namespace
}  // namespace theriac::tensorfile
