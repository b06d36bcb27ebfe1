#include "cpp/core/base/input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <system_error>
#include <vector>

namespace theriac {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 18;
constexpr std::uint64_t kExpansionGrace = std::uint64_t{64} << 20;

Error input_error(Code code, const std::string& name, const std::string& what) {
  return Error(code, "'" + name + "': " + what).at("file", name);
}

// Bytes as they are stored.
class Raw {
 public:
  virtual ~Raw() = default;
  virtual std::size_t read(std::span<char> into) = 0;
};

class FileRaw final : public Raw {
 public:
  explicit FileRaw(const std::filesystem::path& path) : name_(path.string()) {
    do {
      descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    } while (descriptor_ < 0 && errno == EINTR);
    if (descriptor_ < 0) fail("open", errno);
    struct stat status {};
    if (::fstat(descriptor_, &status) == 0 && S_ISDIR(status.st_mode)) {
      ::close(descriptor_);
      fail("read", EISDIR);
    }
  }
  ~FileRaw() override { ::close(descriptor_); }
  FileRaw(const FileRaw&) = delete;
  FileRaw& operator=(const FileRaw&) = delete;

  std::size_t read(std::span<char> into) override {
    ssize_t got = 0;
    do {
      got = ::read(descriptor_, into.data(), into.size());
    } while (got < 0 && errno == EINTR);
    if (got < 0) fail("read", errno);
    return static_cast<std::size_t>(got);
  }

 private:
  [[noreturn]] void fail(const std::string& doing, int number) const {
    const Code code = number == ENOENT || number == ENOTDIR ? Code::kNotFound : Code::kIoError;
    throw Error(code,
                "cannot " + doing + " '" + name_ + "': " + std::generic_category().message(number))
        .at("file", name_)
        .at("errno", number);
  }

  std::string name_;
  int descriptor_ = -1;
};

class MemoryRaw final : public Raw {
 public:
  explicit MemoryRaw(std::string_view bytes) : left_(bytes) {}
  std::size_t read(std::span<char> into) override {
    const std::size_t size = std::min(into.size(), left_.size());
    if (size > 0) std::memcpy(into.data(), left_.data(), size);
    left_.remove_prefix(size);
    return size;
  }

 private:
  std::string_view left_;
};

// Fills all of `into` unless the end comes first.
std::size_t read_fully(Raw& raw, std::span<char> into) {
  std::size_t used = 0;
  while (used < into.size()) {
    const std::size_t got = raw.read(into.subspan(used));
    if (got == 0) break;
    used += got;
  }
  return used;
}

class Source : public ByteSource {
 public:
  Source(std::unique_ptr<Raw> raw, std::string name, InputLimits limits)
      : raw_(std::move(raw)), name_(std::move(name)), limits_(limits) {}
  const std::string& name() const override { return name_; }

 protected:
  void count(std::size_t bytes) {
    delivered_ += bytes;
    if (delivered_ <= limits_.bytes) return;
    throw input_error(Code::kDataError, name_,
                      "holds more than the limit of " + std::to_string(limits_.bytes) + " bytes");
  }

  std::unique_ptr<Raw> raw_;
  std::string name_;
  InputLimits limits_;
  std::uint64_t delivered_ = 0;
};

class PlainSource final : public Source {
 public:
  // `start`: what was read to look for the gzip mark.
  PlainSource(std::unique_ptr<Raw> raw, std::string name, InputLimits limits, std::string start)
      : Source(std::move(raw), std::move(name), limits), start_(std::move(start)) {}

  std::size_t read(std::span<char> into) override {
    std::size_t got = 0;
    if (start_.empty()) {
      got = raw_->read(into);
    } else {
      got = MemoryRaw(start_).read(into);
      start_.erase(0, got);
    }
    count(got);
    return got;
  }

 private:
  std::string start_;
};

// RFC 1952. Members follow each other without a gap; zeros may pad the end, as gzip itself allows.
class GzipSource final : public Source {
 public:
  GzipSource(std::unique_ptr<Raw> raw, std::string name, InputLimits limits,
             const std::string& start)
      : Source(std::move(raw), std::move(name), limits), stored_(kChunk) {
    std::memcpy(stored_.data(), start.data(), start.size());
    offer(start.size());
    constexpr int kGzipWrapper = 16;
    if (inflateInit2(&stream_, MAX_WBITS + kGzipWrapper) != Z_OK) {
      throw Error(Code::kOutOfMemory, "not enough memory to decompress '" + name_ + "'");
    }
  }
  ~GzipSource() override { inflateEnd(&stream_); }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;

  std::size_t read(std::span<char> into) override {
    constexpr std::size_t kMost = std::numeric_limits<uInt>::max();
    const auto wanted = static_cast<uInt>(std::min(into.size(), kMost));
    stream_.next_out = reinterpret_cast<Bytef*>(into.data());
    stream_.avail_out = wanted;
    while (stream_.avail_out == wanted && wanted > 0 && !finished_) {
      if (stream_.avail_in == 0) refill();
      if (between_members_ && !begin_member()) break;
      inflate_some();
    }
    const std::size_t got = wanted - stream_.avail_out;
    count(got);
    check_expansion();
    return got;
  }

 private:
  void offer(std::size_t size) {
    stream_.next_in = reinterpret_cast<Bytef*>(stored_.data());
    stream_.avail_in = static_cast<uInt>(size);
    taken_ += size;
  }

  void refill() {
    const std::size_t got = raw_->read(stored_);
    offer(got);
    if (got > 0) return;
    if (!between_members_) {
      throw input_error(Code::kDataError, name_,
                        "truncated gzip stream after " + std::to_string(taken_) + " bytes")
          .at("offset", taken_);
    }
    finished_ = true;
  }

  // Skips padding; false at the end of the file. Anything but zeros must be the next member.
  bool begin_member() {
    while (!finished_ && (stream_.avail_in == 0 || *stream_.next_in == 0)) {
      if (stream_.avail_in == 0) {
        refill();
        continue;
      }
      padded_ = true;
      ++stream_.next_in;
      --stream_.avail_in;
    }
    if (finished_) return false;
    constexpr Bytef kFirstMark = 0x1f;
    if (padded_ || *stream_.next_in != kFirstMark) {
      const std::uint64_t offset = taken_ - stream_.avail_in;
      throw input_error(Code::kDataError, name_,
                        "bytes that are no gzip member follow the gzip stream at offset " +
                            std::to_string(offset))
          .at("offset", offset);
    }
    inflateReset(&stream_);
    between_members_ = false;
    return true;
  }

  void inflate_some() {
    const int result = inflate(&stream_, Z_NO_FLUSH);
    if (result == Z_STREAM_END) {
      between_members_ = true;
    } else if (result == Z_MEM_ERROR) {
      throw Error(Code::kOutOfMemory, "not enough memory to decompress '" + name_ + "'");
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      const std::uint64_t offset = taken_ - stream_.avail_in;
      const std::string reason = stream_.msg == nullptr ? "unreadable block" : stream_.msg;
      const bool checksum = reason == "incorrect data check" || reason == "incorrect length check";
      throw input_error(
          Code::kDataError, name_,
          (checksum ? "gzip checksum mismatch before offset " : "damaged gzip stream at offset ") +
              std::to_string(offset) + " (" + reason + ")")
          .at("offset", offset);
    }
  }

  void check_expansion() const {
    if (delivered_ <= kExpansionGrace) return;
    const auto allowed = limits_.expansion * static_cast<double>(taken_);
    if (static_cast<double>(delivered_) <= allowed) return;
    throw input_error(Code::kDataError, name_,
                      "expands to more than " +
                          std::to_string(static_cast<std::uint64_t>(limits_.expansion)) +
                          " times its compressed size");
  }

  std::vector<char> stored_;
  z_stream stream_{};
  std::uint64_t taken_ = 0;  // compressed bytes handed to zlib
  bool between_members_ = false;
  bool padded_ = false;
  bool finished_ = false;
};

std::unique_ptr<ByteSource> sniff(std::unique_ptr<Raw> raw, std::string name, InputLimits limits) {
  std::string start(2, '\0');
  start.resize(read_fully(*raw, start));
  if (start == "\x1f\x8b") {
    return std::make_unique<GzipSource>(std::move(raw), std::move(name), limits, start);
  }
  return std::make_unique<PlainSource>(std::move(raw), std::move(name), limits, std::move(start));
}

}  // namespace

std::unique_ptr<ByteSource> open_source(const std::filesystem::path& path, InputLimits limits) {
  return sniff(std::make_unique<FileRaw>(path), path.string(), limits);
}

std::unique_ptr<ByteSource> memory_source(std::string_view bytes, std::string name,
                                          InputLimits limits) {
  return sniff(std::make_unique<MemoryRaw>(bytes), std::move(name), limits);
}

}  // namespace theriac
