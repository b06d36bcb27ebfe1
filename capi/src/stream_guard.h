// An Arrow stream that a caller handed over: released at the end unless somebody took it.
#pragma once

#include "cpp/core/data/arrow_abi.h"

namespace theriac::capi {

class StreamGuard {
 public:
  explicit StreamGuard(ArrowArrayStream& stream) : stream_(stream) {}
  ~StreamGuard() {
    if (stream_.release != nullptr) stream_.release(&stream_);
  }
  StreamGuard(const StreamGuard&) = delete;
  StreamGuard& operator=(const StreamGuard&) = delete;

 private:
  ArrowArrayStream& stream_;
};

}  // namespace theriac::capi
