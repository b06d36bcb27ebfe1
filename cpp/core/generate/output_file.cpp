#include "cpp/core/generate/output_file.h"

#include <zlib.h>

#include <array>
#include <string>

#include "cpp/core/base/error.h"
#include "cpp/core/base/file.h"

namespace theriac::generate {
namespace {

constexpr std::size_t kBlock = std::size_t{1} << 18;
constexpr int kGzip = 15 + 16;  // window of 32 KiB, gzip instead of zlib framing
constexpr int kLevel = 3;       // generated text shrinks well at any level; speed counts

std::filesystem::path with_suffix(std::filesystem::path path, bool compress) {
  if (compress) path += ".gz";
  return path;
}

}  // namespace

struct OutputFile::State {
  State(const std::filesystem::path& path, bool gzip)
      : file(with_suffix(path, gzip)), compress(gzip) {
    if (compress &&
        deflateInit2(&stream, kLevel, Z_DEFLATED, kGzip, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
      throw Error(Code::kOutOfMemory, "cannot set up gzip compression");
    }
  }
  ~State() {
    if (compress) deflateEnd(&stream);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  void pass_on(bool last) {
    if (!compress) {
      file.write(pending);
    } else {
      deflate_pending(last ? Z_FINISH : Z_NO_FLUSH);
    }
    pending.clear();
  }

  void deflate_pending(int flush) {
    stream.next_in = reinterpret_cast<Bytef*>(pending.data());
    stream.avail_in = static_cast<uInt>(pending.size());
    do {
      stream.next_out = block.data();
      stream.avail_out = static_cast<uInt>(block.size());
      if (deflate(&stream, flush) == Z_STREAM_ERROR) {
        throw Error(Code::kInternal, "gzip compression failed");
      }
      const std::size_t made = block.size() - stream.avail_out;
      file.write({reinterpret_cast<const char*>(block.data()), made});
    } while (stream.avail_out == 0);
  }

  AtomicFile file;
  bool compress;
  z_stream stream{};
  std::string pending;
  std::array<Bytef, 1 << 16> block{};
};

OutputFile::OutputFile(const std::filesystem::path& path, bool compress)
    : state_(std::make_unique<State>(path, compress)) {}
OutputFile::~OutputFile() = default;

void OutputFile::write(std::string_view text) {
  state_->pending += text;
  if (state_->pending.size() >= kBlock) state_->pass_on(false);
}

void OutputFile::finish() {
  state_->pass_on(true);
  state_->file.commit();
}

}  // namespace theriac::generate
