// The engine behind the seam of cpp/core/engine.h: what LibTorch is here, which methods there are,
// and how a model is made or loaded.
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include <string_view>

#include "cpp/engine/clinical/session.h"
#include "cpp/engine/registry.h"
#include "cpp/engine/sequence/session.h"
#include "cpp/engine/tensor/tensor.h"
#include "cpp/engine/train/model_directory.h"

namespace theriac {
namespace {

Json options_object(std::string_view text) {
  if (text.empty()) return Json::object();
  Json options = parse_json(text, "options");
  if (options.is_null()) return Json::object();
  if (!options.is_object()) {
    throw Error(Code::kInvalidArgument, "options must be a JSON object");
  }
  return options;
}

// What the first job decides for LibTorch in this process.
void prepare(const ContextSettings& context) {
  tensor::route_warnings(context.runtime);
  tensor::apply_thread_budget(context.runtime);
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

Json describe() {
  return Json{{"libtorch", TORCH_VERSION},
              {"version", THERIAC_VERSION},
              {"build", THERIAC_BUILD_ID},
              {"devices", tensor::loaded_devices()},
              {"cpu", at::get_cpu_capability()},
              {"threads", at::get_num_threads()},
              {"blas", at::hasMKL() ? first_line(at::get_mkl_version()) : "without MKL"},
              {"onednn", at::hasMKLDNN() ? first_line(at::get_mkldnn_version()) : "none"}};
}

Json describe(const MethodEntry& entry) {
  return Json{{"name", entry.name}, {"family", entry.family}, {"dataset", entry.dataset},
              {"doc", entry.doc},   {"paper", entry.paper},   {"schema", entry.schema()}};
}

// Stateless; may be used from any thread.
class TorchEngine final : public Engine {
 public:
  Outcome info(std::string& json) noexcept override {
    return tensor::guarded([&] { json = dump_json(describe()); });
  }

  Outcome methods(std::string& json) noexcept override {
    return tensor::guarded([&] {
      Json all = Json::array();
      for (const MethodEntry& entry : theriac::methods()) all.push_back(describe(entry));
      for (const Json& document : clinical::medication_documents()) all.push_back(document);
      for (const Json& document : sequence::sequence_documents()) all.push_back(document);
      json = dump_json(all);
    });
  }

  Outcome create_model(std::string_view method, std::string_view options_json,
                       const ContextSettings& context,
                       std::unique_ptr<Model>& model) noexcept override {
    return tensor::guarded([&] {
      const MethodEntry& entry = find_method(method);
      prepare(context);
      model = entry.create(options_object(options_json), context);
    });
  }

  Outcome load_model(const std::string& directory, std::string_view options_json,
                     const ContextSettings& context,
                     std::unique_ptr<Model>& model) noexcept override {
    return tensor::guarded([&] {
      const Json config =
          train::load_model_config(directory);  // before reading tensors: is it ours?
      const MethodEntry& entry = find_method(config["method"].get<std::string>());
      prepare(context);
      const train::ModelDirectory contents = train::load_model_directory(directory);
      model = entry.load(contents, options_object(options_json), context);
    });
  }

  Outcome import_model(std::string_view method, const std::string& file, const Dataset& dataset,
                       std::string_view options_json, const ContextSettings& context,
                       std::unique_ptr<Model>& model) noexcept override {
    return tensor::guarded([&] {
      const MethodEntry& entry = find_method(method);
      if (!entry.import) {
        throw Error(Code::kUnsupported,
                    "method '" + entry.name +
                        "' takes no weights from elsewhere; fit it, or load a model directory")
            .at("method", entry.name);
      }
      prepare(context);
      model = entry.import(file, dataset, options_object(options_json), context);
    });
  }
};

}  // namespace
}  // namespace theriac

// Never destroyed: models and sessions of the host may outlive static destructors.
extern "C" __attribute__((visibility("default"))) theriac::Engine* theriac_engine_open(
    const char* build_id) {
  static theriac::Engine* const engine = new theriac::TorchEngine;
  return build_id && std::string_view(build_id) == THERIAC_BUILD_ID ? engine : nullptr;
}
