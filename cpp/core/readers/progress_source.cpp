#include "cpp/core/readers/progress_source.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <span>
#include <system_error>
#include <utility>

namespace theriac::readers {

namespace {

constexpr std::uint64_t kSmallestGzip = 18;

// Size after decompression. A gzip file ends with its size modulo 2^32; good enough for a progress
// bar.
std::uint64_t content_size(const std::filesystem::path& file) {
  std::error_code ignored;
  const auto size = std::filesystem::file_size(file, ignored);
  if (ignored) return 0;  // opening it gives the real error
  std::ifstream in(file, std::ios::binary);
  std::array<unsigned char, 4> bytes{};
  auto* const place = reinterpret_cast<char*>(bytes.data());
  if (size < kSmallestGzip || !in.read(place, 2) || bytes[0] != 0x1f || bytes[1] != 0x8b)
    return size;
  if (!in.seekg(-4, std::ios::end) || !in.read(place, 4)) return size;
  return bytes[0] | std::uint64_t{bytes[1]} << 8 | std::uint64_t{bytes[2]} << 16 |
         std::uint64_t{bytes[3]} << 24;
}

class ProgressSource final : public ByteSource {
 public:
  ProgressSource(std::unique_ptr<ByteSource> source, ReadProgress& progress)
      : source_(std::move(source)), progress_(progress) {}
  std::size_t read(std::span<char> into) override {
    const std::size_t bytes = source_->read(into);
    progress_.advance(bytes);
    return bytes;
  }
  const std::string& name() const override { return source_->name(); }

 private:
  std::unique_ptr<ByteSource> source_;
  ReadProgress& progress_;
};

}  // namespace

ReadProgress::ReadProgress(Job& job, const std::vector<std::filesystem::path>& files) : job_(job) {
  for (const auto& file : files) total_ += content_size(file);
}

std::unique_ptr<ByteSource> ReadProgress::open(const std::filesystem::path& file) {
  return watch(open_source(file));
}

std::unique_ptr<ByteSource> ReadProgress::watch(std::unique_ptr<ByteSource> source) {
  return std::make_unique<ProgressSource>(std::move(source), *this);
}

void ReadProgress::advance(std::uint64_t bytes) {
  done_ += bytes;
  job_.progress("reading", done_, std::max(done_, total_));
}

}  // namespace theriac::readers
