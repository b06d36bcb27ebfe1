#include "cpp/core/tensorfile/gather.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace theriac::tensorfile::internal {
namespace {

// The part of the file that was read last. The first window covers all elements asked for, if they
// lie close enough together; else windows follow the elements.
class Window {
 public:
  explicit Window(const Bytes& file) : file_(file) {}

  const char* at(std::uint64_t offset, std::size_t size) {
    if (offset < begin_ || offset + size > begin_ + bytes_.size()) {
      constexpr std::uint64_t kStep = std::uint64_t{1} << 16;
      load(offset, std::max<std::uint64_t>(size, std::min(kStep, file_.size() - offset)));
    }
    return bytes_.data() + (offset - begin_);
  }
  void load(std::uint64_t offset, std::uint64_t size) {
    bytes_.resize(static_cast<std::size_t>(size));
    begin_ = offset;
    file_.read(offset, std::span<char>(bytes_));
  }

 private:
  const Bytes& file_;
  std::string bytes_;
  std::uint64_t begin_ = 0;
};

// Walks the elements in row-major order.
class Cursor {
 public:
  Cursor(const TensorRecord& tensor, std::uint64_t element)
      : shape_(tensor.shape), strides_(tensor.strides), index_(shape_.size()) {
    for (std::size_t i = shape_.size(); i-- > 0;) {
      index_[i] = element % shape_[i];
      element /= shape_[i];
      position_ += index_[i] * strides_[i];
    }
  }
  std::uint64_t position() const { return position_; }  // in elements of the storage
  void advance() {
    for (std::size_t i = shape_.size(); i-- > 0;) {
      position_ += strides_[i];
      if (++index_[i] < shape_[i]) return;
      position_ -= strides_[i] * shape_[i];  // wraps only past the end of the tensor
      index_[i] = 0;
    }
  }

 private:
  const std::vector<std::uint64_t>&shape_, &strides_;
  std::vector<std::uint64_t> index_;
  std::uint64_t position_ = 0;
};

// Least and greatest position of the elements [first, last]: exact for the dimensions in which the
// range stays put, all of a dimension from the first in which it moves.
std::pair<std::uint64_t, std::uint64_t> extent(const TensorRecord& tensor, std::uint64_t first,
                                               std::uint64_t last) {
  std::uint64_t inner = tensor.bytes / static_cast<std::uint64_t>(dtype_bits(tensor.dtype) / 8);
  std::uint64_t low = 0, high = 0;
  bool moved = false;
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    inner /= tensor.shape[i];
    std::uint64_t from = 0, to = tensor.shape[i] - 1;
    if (!moved) {
      from = first / inner % tensor.shape[i];
      to = last / inner % tensor.shape[i];
      moved = from != to;
    }
    low += from * tensor.strides[i];
    high += to * tensor.strides[i];
  }
  return {low, high};
}

}  // namespace

void gather(const Bytes& file, const TensorRecord& tensor, std::uint64_t first_byte,
            std::span<char> into) {
  if (into.empty()) return;
  constexpr std::uint64_t kMostLoaded = std::uint64_t{256} << 20;
  const auto width = static_cast<std::uint64_t>(dtype_bits(tensor.dtype) / 8);
  const std::uint64_t last_byte = first_byte + into.size() - 1;
  Window window(file);
  const auto [low, high] = extent(tensor, first_byte / width, last_byte / width);
  const std::uint64_t spanned = (high - low + 1) * width;
  if (spanned <= kMostLoaded) window.load(tensor.offset + low * width, spanned);
  Cursor cursor(tensor, first_byte / width);
  std::size_t skip = static_cast<std::size_t>(first_byte % width);
  for (std::size_t done = 0; done < into.size(); cursor.advance()) {
    const std::size_t now = std::min<std::size_t>(width - skip, into.size() - done);
    const char* element = window.at(tensor.offset + cursor.position() * width, width);
    std::memcpy(into.data() + done, element + skip, now);
    done += now;
    skip = 0;
  }
}

}  // namespace theriac::tensorfile::internal
