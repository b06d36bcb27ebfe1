// Bytes of a list of files, reported to a job as they are read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cpp/core/base/input.h"
#include "cpp/core/base/job.h"

namespace theriac::readers {

// Bytes read so far of all files of one import. `total` is what their sizes promise: exact for
// plain files, for gzip what the last member's trailer says.
class ReadProgress {
 public:
  ReadProgress(Job& job, const std::vector<std::filesystem::path>& files);
  ReadProgress(Job& job, std::uint64_t total) : job_(job), total_(total) {}
  // Opens one of the files; reading from it moves this progress, and throws kCancelled when asked.
  // The progress must outlive the source.
  std::unique_ptr<ByteSource> open(const std::filesystem::path& file);
  std::unique_ptr<ByteSource> watch(std::unique_ptr<ByteSource> source);  // the same for any source
  void advance(std::uint64_t bytes);

 private:
  Job& job_;
  std::uint64_t done_ = 0, total_ = 0;
};

}  // namespace theriac::readers
