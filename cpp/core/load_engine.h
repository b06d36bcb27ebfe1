// Finds and loads libtheriac_torch.so, once a process; never a second LibTorch beside one that is
// there.
#pragma once

#include <string>

#include "cpp/core/engine.h"

namespace theriac {

struct EngineLocation {
  std::string
      engine;  // path of libtheriac_torch.so; empty: THERIAC_ENGINE, then beside the front library
  std::string
      libtorch_dir;  // LibTorch's lib folder (or its parent); empty: THERIAC_LIBTORCH_DIR, one that
                     // the host has loaded (same version), the engine's own RPATH
};

// The process's engine. Thread-safe; the first success is kept for the life of the process. Throws
// kUnsupported naming every place looked at, or kIncompatible when the engine is of another build
// or the process holds another LibTorch, naming both paths.
Engine& load_engine(const EngineLocation& location);

// The engine if it is loaded already, else null.
Engine* loaded_engine() noexcept;

}  // namespace theriac
