// Contexts, and what the library says of itself.
#include <dlfcn.h>

#include <mutex>

#include "capi/src/handles.h"
#include "capi/src/schemas.h"
#include "cpp/core/base/options.h"

namespace theriac::capi {
namespace {

struct ContextOptions {
  std::string device = "cpu";
  std::int64_t threads = 0;
  std::int64_t seed = 0;
  std::string determinism = "reproducible";
  std::string libtorch_dir, engine;

  static const OptionTable<ContextOptions>& table() {
    static const auto* const t = new OptionTable<ContextOptions>(
        OptionTable<ContextOptions>("context", "Where and how models of this context compute")
            .text("device", &ContextOptions::device, "cpu, cuda or cuda:N")
            .integer("threads", &ContextOptions::threads, {0, 4096},
                     "thread budget of one job; 0 takes what the process may use")
            .integer("seed", &ContextOptions::seed, {0, std::numeric_limits<std::int64_t>::max()},
                     "seed of everything random in models of this context")
            .choice("determinism", &ContextOptions::determinism, {"reproducible", "fast"},
                    "reproducible: same result on every run; fast: may differ in last bits")
            .text("libtorch_dir", &ContextOptions::libtorch_dir,
                  "folder of LibTorch's libraries; empty: THERIAC_LIBTORCH_DIR, one the process "
                  "holds, the engine's own search path")
            .text("engine", &ContextOptions::engine,
                  "path of libtheriac_torch.so; empty: THERIAC_ENGINE, then beside the front "
                  "library"));
    return *t;
  }
};

struct LogReceiver {
  std::mutex mutex;
  std::shared_ptr<const LogSink> sink;
};
LogReceiver& log_receiver() {
  static auto* const receiver = new LogReceiver;
  return *receiver;
}

}  // namespace

Runtime process_runtime(int threads) {
  Runtime runtime;
  runtime.live = live_objects();
  runtime.threads = threads;
  LogReceiver& receiver = log_receiver();
  const std::lock_guard lock(receiver.mutex);
  runtime.log = receiver.sink;
  return runtime;
}

Engine& engine_of(const theriac_context& context) { return load_engine(context.location); }

Json context_schema() { return ContextOptions::table().schema(); }

}  // namespace theriac::capi

using namespace theriac;        // NOLINT(google-build-using-namespace): this file is the C boundary
using namespace theriac::capi;  // NOLINT(google-build-using-namespace)

uint32_t theriac_abi_version(void) noexcept { return THERIAC_ABI_VERSION; }
const char* theriac_version(void) noexcept { return THERIAC_VERSION; }

theriac_status theriac_init(uint32_t abi_version, theriac_error** error) noexcept {
  return guard("theriac_init", error, [&] {
    const std::uint32_t major = abi_version >> 16, minor = abi_version & 0xffffU;
    if (major == THERIAC_ABI_MAJOR && minor <= THERIAC_ABI_MINOR) return;
    const auto show = [](std::uint32_t a, std::uint32_t b) {
      return std::to_string(a) + "." + std::to_string(b);
    };
    throw Error(Code::kIncompatible,
                "this program was built for Theriac's ABI " + show(major, minor) +
                    ", the library " THERIAC_VERSION " has ABI " +
                    show(THERIAC_ABI_MAJOR, THERIAC_ABI_MINOR) + "; install a library of ABI " +
                    std::to_string(major) + " at least as new")
        .at("wanted", show(major, minor))
        .at("has", show(THERIAC_ABI_MAJOR, THERIAC_ABI_MINOR));
  });
}

theriac_status theriac_build_info(theriac_bytes** out, theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_build_info", error, [&] {
    theriac_bytes*& target = need_out(out, "out");
    Json json;
    json["version"] = THERIAC_VERSION;
    json["abi"] = std::to_string(THERIAC_ABI_MAJOR) + "." + std::to_string(THERIAC_ABI_MINOR);
    json["build_id"] = THERIAC_BUILD_ID;
    json["compiler"] = __VERSION__;
    json["libtorch_built"] = THERIAC_LIBTORCH_VERSION;
    Dl_info info{};
    if (dladdr(reinterpret_cast<const void*>(&theriac_abi_version), &info) != 0 &&
        info.dli_fname != nullptr)
      json["library"] = info.dli_fname;
    json["engine_loaded"] = loaded_engine() != nullptr;
    target = make_bytes(dump_json(json));
  });
}

int64_t theriac_live_objects(void) noexcept { return live_objects()->total(); }

theriac_status theriac_set_log(int32_t level, theriac_log_fn log, void* user,
                               theriac_error** error) noexcept {
  return guard("theriac_set_log", error, [&] {
    std::shared_ptr<const LogSink> sink;
    if (log != nullptr) {
      sink = std::make_shared<const LogSink>(
          [level, log, user](LogLevel at, std::string_view component, std::string_view message) {
            if (static_cast<std::int32_t>(at) < level) return;
            log(static_cast<std::int32_t>(at), std::string(component).c_str(),
                std::string(message).c_str(), user);
          });
    }
    LogReceiver& receiver = log_receiver();
    const std::lock_guard lock(receiver.mutex);
    receiver.sink = std::move(sink);
  });
}

theriac_status theriac_context_create(const char* options_json, size_t options_length,
                                      theriac_context** out, theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_context_create", error, [&] {
    theriac_context*& target = need_out(out, "out");
    const ContextOptions chosen =
        ContextOptions::table().parse(options(options_json, options_length, "options_json"));
    if (chosen.device != "cpu" && chosen.device.rfind("cuda", 0) != 0) {
      throw Error(Code::kInvalidArgument,
                  "option 'device' is '" + chosen.device + "'; expected cpu, cuda or cuda:N")
          .at("option", "device")
          .at("got", chosen.device);
    }
    auto context = std::make_unique<theriac_context>();
    context->options = ContextOptions::table().effective_json(chosen);
    context->settings.device = chosen.device;
    context->settings.seed = static_cast<std::uint64_t>(chosen.seed);
    context->settings.reproducible = chosen.determinism == "reproducible";
    context->settings.runtime =
        process_runtime(chosen.threads > 0 ? static_cast<int>(chosen.threads) : available_cores());
    context->location = {chosen.engine, chosen.libtorch_dir};
    target = context.release();
  });
}

theriac_status theriac_context_info(const theriac_context* context, theriac_bytes** out,
                                    theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_context_info", error, [&] {
    const theriac_context& self = need(context, "context");
    theriac_bytes*& target = need_out(out, "out");
    Json json;
    json["options"] = self.options;
    json["threads"] = self.settings.runtime.threads;
    try {
      Engine& engine = engine_of(self);
      std::string text;
      engine.info(text).or_throw();
      json["engine"] = Json::parse(text);
      engine.methods(text).or_throw();
      json["methods"] = Json::array();
      for (const Json& method : Json::parse(text)) {
        if (method.at("family") != "document") json["methods"].push_back(method.at("name"));
      }
    } catch (const Error& e) {
      json["engine"] = nullptr;
      json["engine_unavailable"] = e.what();
    }
    target = make_bytes(dump_json(json));
  });
}

theriac_context* theriac_context_retain(theriac_context* context) noexcept {
  return retain(context);
}
void theriac_context_release(theriac_context* context) noexcept { release(context); }
