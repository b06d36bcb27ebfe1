// Independent pieces of work over a few threads.
#pragma once

#include <cstddef>
#include <functional>

namespace theriac::eval {

// Calls body(0) ... body(count - 1), each once, in any order, on up to `threads` threads of which
// the caller is one. Returns when all have ended; rethrows the first failure, after which no
// further piece starts.
void parallel_for(std::size_t count, int threads, const std::function<void(std::size_t)>& body);

}  // namespace theriac::eval
