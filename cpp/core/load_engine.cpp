#include "cpp/core/load_engine.h"

#include <dlfcn.h>
#include <link.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string_view>
#include <vector>

namespace theriac {
namespace {

namespace fs = std::filesystem;

constexpr char kEngineFile[] = "libtheriac_torch.so";

// The one piece of process-wide state of the front library: which engine serves this process.
// Intentionally never destroyed, as the engine itself can not be unloaded.
struct LoadedEngine {
  std::mutex mutex;
  std::atomic<Engine*> engine{nullptr};
  std::string path;
};
LoadedEngine& process_engine() {
  static auto* const state = new LoadedEngine;
  return *state;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): read only
  return value == nullptr ? std::string() : std::string(value);
}

// Folder of the shared object this code is in.
fs::path own_folder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&load_engine), &info) == 0 || info.dli_fname == nullptr)
    return {};
  std::error_code ignored;
  const fs::path canonical = fs::canonical(info.dli_fname, ignored);
  return (canonical.empty() ? fs::path(info.dli_fname) : canonical).parent_path();
}

// Paths of LibTorch's CPU library in this process, if any.
std::vector<std::string> mapped_libtorch() {
  std::vector<std::string> found;
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* user) {
        const std::string_view path = info->dlpi_name == nullptr ? "" : info->dlpi_name;
        const std::string_view file = path.substr(path.rfind('/') + 1);
        if (file.substr(0, 15) == "libtorch_cpu.so")
          static_cast<std::vector<std::string>*>(user)->emplace_back(path);
        return 0;
      },
      &found);
  return found;
}

// "2.11.0" from version.py beside the lib folder; empty when it can not be told.
std::string libtorch_version(const fs::path& library) {
  std::ifstream file(library.parent_path().parent_path() / "version.py");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("__version__", 0) != 0) continue;
    const std::size_t open = line.find('\'');
    const std::size_t close = line.find_first_of("+'", open + 1);
    if (open != std::string::npos && close != std::string::npos)
      return line.substr(open + 1, close - open - 1);
  }
  return {};
}

std::string minor_version(const std::string& version) {
  return version.substr(0, version.find('.', version.find('.') + 1));
}

void refuse_another_libtorch() {
  const std::string built = minor_version(THERIAC_LIBTORCH_VERSION);
  for (const std::string& path : mapped_libtorch()) {
    const std::string version = libtorch_version(path);
    if (minor_version(version) == built) continue;
    throw Error(Code::kIncompatible,
                "this process already holds LibTorch " +
                    (version.empty() ? std::string("of unknown version") : version) + " at " +
                    path + ", but the engine " + (own_folder() / kEngineFile).string() +
                    " was built for LibTorch " + THERIAC_LIBTORCH_VERSION +
                    "; two LibTorch versions can not share a process")
        .at("loaded", path)
        .at("expected_version", THERIAC_LIBTORCH_VERSION);
  }
}

// Maps LibTorch from a folder the host named, so that the engine's NEEDED entries resolve to it by
// SONAME.
void preload_libtorch(const std::string& directory, std::string& looked) {
  if (directory.empty() || !mapped_libtorch().empty()) return;
  fs::path folder = directory;
  if (!fs::exists(folder / "libtorch_cpu.so")) folder /= "lib";
  for (const char* file : {"libc10.so", "libtorch_cpu.so"}) {
    const fs::path path = folder / file;
    if (dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) == nullptr) {
      const char* reason = dlerror();
      looked += "; " + path.string() + ": " + (reason == nullptr ? "unknown" : reason);
      return;
    }
  }
}

std::vector<fs::path> candidates(const EngineLocation& location) {
  if (!location.engine.empty()) return {location.engine};
  if (const std::string path = environment("THERIAC_ENGINE"); !path.empty()) return {path};
  const fs::path own = own_folder();
  return {own / kEngineFile, own / "theriac" / kEngineFile};
}

}  // namespace

Engine* loaded_engine() noexcept { return process_engine().engine.load(std::memory_order_acquire); }

Engine& load_engine(const EngineLocation& location) {
  if (Engine* engine = loaded_engine()) return *engine;
  LoadedEngine& state = process_engine();
  const std::lock_guard lock(state.mutex);
  if (Engine* engine = loaded_engine()) return *engine;

  refuse_another_libtorch();
  std::string looked;
  preload_libtorch(
      location.libtorch_dir.empty() ? environment("THERIAC_LIBTORCH_DIR") : location.libtorch_dir,
      looked);
  for (const fs::path& path : candidates(location)) {
    void* library = dlopen(fs::absolute(path).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      const char* reason = dlerror();
      looked += "; " + path.string() + ": " + (reason == nullptr ? "unknown" : reason);
      continue;
    }
    const auto open = reinterpret_cast<EngineOpen>(dlsym(library, kEngineSymbol));
    Engine* engine = open == nullptr ? nullptr : open(THERIAC_BUILD_ID);
    if (engine == nullptr) {
      throw Error(Code::kIncompatible,
                  path.string() + " is not the engine of this library (build id " +
                      THERIAC_BUILD_ID + "); install both files from one build")
          .at("file", path.string());
    }
    state.path = path.string();
    state.engine.store(engine, std::memory_order_release);
    return *engine;
  }
  throw Error(
      Code::kUnsupported,
      "models need the engine libtheriac_torch.so and LibTorch " THERIAC_LIBTORCH_VERSION
      ", which could not be loaded; looked at: " +
          looked.substr(looked.empty() ? 0 : 2) +
          ". Set the context option libtorch_dir or THERIAC_LIBTORCH_DIR to LibTorch's folder");
}

}  // namespace theriac
