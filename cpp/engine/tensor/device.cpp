// Devices and threads. The engine links LibTorch's CPU libraries only, so that one set of binaries
// runs with and without a GPU; the CUDA libraries are loaded when a context asks for such a device.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <charconv>
#include <filesystem>
#include <limits>
#include <mutex>

#include "cpp/engine/tensor/tensor.h"

namespace theriac::tensor {
namespace {

// Directory of the libtorch_cpu.so that this process uses, whoever loaded it.
std::filesystem::path libtorch_directory() {
  Dl_info found{};
  const auto symbol = reinterpret_cast<const void*>(&at::init_num_threads);
  if (!dladdr(symbol, &found) || !found.dli_fname) return {};
  return std::filesystem::path(found.dli_fname).parent_path();
}

// RTLD_LOCAL: the library finds the LibTorch it extends through its own dependencies, and registers
// itself there; nobody looks its symbols up by name.
void load_cuda_library() {
  const std::filesystem::path path = libtorch_directory() / "libtorch_cuda.so";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw Error(Code::kUnsupported,
                "device 'cuda' needs '" + path.string() +
                    "', which is not there: this LibTorch is a CPU build; use device 'cpu'")
        .at("path", path.string());
  }
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return;
  const char* reason = dlerror();
  throw Error(Code::kUnsupported, "device 'cuda': LibTorch's CUDA library could not be loaded (" +
                                      std::string(reason ? reason : "no reason given") + ")")
      .at("path", path.string());
}

bool cuda_is_loaded() { return c10::impl::hasDeviceGuardImpl(at::kCUDA); }

void ensure_cuda() {
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  if (!cuda_is_loaded()) load_cuda_library();
  if (!at::hasCUDA()) {
    throw Error(Code::kUnsupported,
                "device 'cuda': LibTorch looked for CUDA before its library was loaded and keeps "
                "its answer; "
                "make the CUDA context before other work of this process");
  }
}

int cuda_device_count() {
  return cuda_is_loaded() ? c10::impl::VirtualGuardImpl(at::kCUDA).deviceCount() : 0;
}

// N of "cuda:N", 0 of "cuda"; nothing for any other text.
std::optional<int> cuda_index(std::string_view name) {
  if (name == "cuda") return 0;
  constexpr std::string_view kPrefix = "cuda:";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const std::string_view digits = name.substr(kPrefix.size());
  int index = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  if (error != std::errc() || end != digits.data() + digits.size() || index < 0)
    return std::nullopt;
  return index;
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// LibTorch's process-wide switches that decide whether a run can be repeated.
struct Switches {
  bool deterministic, warn_only, fill_memory, cudnn_benchmark, cudnn_deterministic, cudnn_tf32,
      cublas_tf32;

  static Switches read() {
    const at::Context& context = at::globalContext();
    return {context.deterministicAlgorithms(),
            context.deterministicAlgorithmsWarnOnly(),
            context.deterministicFillUninitializedMemory(),
            context.benchmarkCuDNN(),
            context.deterministicCuDNN(),
            context.allowTF32CuDNN(),
            context.allowTF32CuBLAS()};
  }

  // Operations without a deterministic form warn: refusing them would refuse most of cuBLAS, unless
  // the host has set an environment variable, which is not ours to set. New memory is not filled
  // with NaN, which reproducibility of correct code does not need.
  static Switches reproducible() { return {true, true, false, false, true, false, false}; }

  void write() const {
    at::Context& context = at::globalContext();
    context.setDeterministicAlgorithms(deterministic, warn_only);
    context.setDeterministicFillUninitializedMemory(fill_memory);
    context.setBenchmarkCuDNN(cudnn_benchmark);
    context.setDeterministicCuDNN(cudnn_deterministic);
    context.setAllowTF32CuDNN(cudnn_tf32);
    context.setAllowTF32CuBLAS(cublas_tf32);
  }
};

// Jobs that hold the switches now.
struct Holders {
  std::mutex mutex;
  int count = 0;
  bool reproducible = false;
  Switches found{};
};
Holders& holders() {
  static auto* const all = new Holders;  // never destroyed: jobs may end after static destructors
  return *all;
}

}  // namespace

DeterminismScope::DeterminismScope(bool reproducible) {
  Holders& all = holders();
  const std::lock_guard<std::mutex> lock(all.mutex);
  if (all.count > 0 && all.reproducible != reproducible) {
    throw Error(Code::kBusy,
                std::string("a job with determinism '") +
                    (all.reproducible ? "reproducible" : "fast") +
                    "' runs in this process; wait for it, or choose the same determinism");
  }
  if (all.count == 0 && reproducible) {
    all.found = Switches::read();
    Switches::reproducible().write();
  }
  all.reproducible = reproducible;
  ++all.count;
}

DeterminismScope::~DeterminismScope() {
  Holders& all = holders();
  const std::lock_guard<std::mutex> lock(all.mutex);
  if (--all.count == 0 && all.reproducible) all.found.write();
}

std::vector<std::string> loaded_devices() {
  std::vector<std::string> names = {"cpu"};
  for (int i = 0; i < cuda_device_count(); ++i) names.push_back("cuda:" + std::to_string(i));
  return names;
}

at::Device parse_device(std::string_view name) {
  if (name == "cpu") return at::Device(at::kCPU);
  const std::optional<int> index = cuda_index(name);
  if (!index) {
    throw Error(Code::kInvalidArgument,
                "device '" + std::string(name) + "' is not one of cpu, cuda, cuda:N")
        .at("device", std::string(name));
  }
  ensure_cuda();
  if (*index >= cuda_device_count()) {
    throw Error(Code::kUnsupported, "device '" + std::string(name) +
                                        "' is not there; this process has " +
                                        listed(loaded_devices()))
        .at("device", std::string(name));
  }
  at::globalContext().lazyInitDevice(at::kCUDA);
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(*index));
}

void apply_thread_budget(const Runtime& runtime) {
  static std::mutex mutex;
  static int applied = 0;  // LibTorch's setting is process-wide, so is the memory of having made it
  const std::lock_guard<std::mutex> lock(mutex);
  if (applied == 0) {
    applied = std::max(1, runtime.threads);
    at::set_num_threads(applied);
  } else if (applied != runtime.threads) {
    runtime.say(LogLevel::kInfo, "engine",
                "LibTorch keeps the first thread budget of the process, " +
                    std::to_string(applied) + ", not " + std::to_string(runtime.threads));
  }
}

}  // namespace theriac::tensor
