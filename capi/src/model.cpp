// Models: create, fit, load, import, save, evaluate, describe.
#include "capi/src/handles.h"
#include "theriac/interchange.h"

namespace theriac::capi {
namespace {

std::string path_argument(const char* path, std::size_t length,
                          const char* what = "the model's folder") {
  const std::string_view value = text(path, length, "path");
  if (value.empty())
    throw Error(Code::kInvalidArgument, std::string("path is empty; it names ") + what)
        .at("argument", "path");
  return std::string(value);
}

// A DLPack tensor that owns what it shows.
struct ExportedTensor {
  TensorView view;
  DLManagedTensorVersioned managed{};
};

DLManagedTensorVersioned* export_tensor(TensorView view) {
  auto exported = std::make_unique<ExportedTensor>();
  exported->view = std::move(view);
  DLManagedTensorVersioned& managed = exported->managed;
  managed.version = {1, 3};
  managed.flags = DLPACK_FLAG_BITMASK_READ_ONLY;
  managed.deleter = [](DLManagedTensorVersioned* self) {
    delete static_cast<ExportedTensor*>(self->manager_ctx);
  };
  DLTensor& tensor = managed.dl_tensor;
  TensorView& shown = exported->view;
  tensor.data =
      const_cast<void*>(shown.data);  // NOLINT: DLPack has no const; the flag says read-only
  tensor.device = {static_cast<DLDeviceType>(shown.device_type), shown.device_id};
  tensor.ndim = static_cast<std::int32_t>(shown.shape.size());
  tensor.dtype = {shown.type_code, shown.bits, 1};
  tensor.shape = shown.shape.data();
  tensor.strides = shown.strides.data();
  managed.manager_ctx = exported.get();
  return &exported.release()->managed;
}

}  // namespace
}  // namespace theriac::capi

using namespace theriac;        // NOLINT(google-build-using-namespace): this file is the C boundary
using namespace theriac::capi;  // NOLINT(google-build-using-namespace)

theriac_status theriac_model_create(const theriac_context* context, const char* method,
                                    size_t method_length, const char* options_json,
                                    size_t options_length, theriac_model** out,
                                    theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_model_create", error, [&] {
    const theriac_context& home = need(context, "context");
    theriac_model*& target = need_out(out, "out");
    const std::string_view name = text(method, method_length, "method");
    const std::string document = dump_json(options(options_json, options_length, "options_json"));
    auto model = std::make_unique<theriac_model>();
    engine_of(home).create_model(name, document, home.settings, model->shared->model).or_throw();
    target = model.release();
  });
}

theriac_status theriac_model_fit(theriac_model* model, const theriac_dataset* train,
                                 const theriac_dataset* valid, const char* options_json,
                                 size_t options_length, const theriac_callbacks* callbacks,
                                 theriac_error** error) noexcept {
  return guard("theriac_model_fit", error, [&] {
    theriac_model& self = need(model, "model");
    const Dataset* train_set = train == nullptr ? nullptr : &need(train, "train").dataset;
    const Dataset* valid_set = valid == nullptr ? nullptr : &need(valid, "valid").dataset;
    const std::string document = dump_json(options(options_json, options_length, "options_json"));
    Job job = make_job(callbacks);
    const Exclusive entered(self.shared->gate, "model");
    self.shared->model->fit(train_set, valid_set, document, job).or_throw();
  });
}

theriac_status theriac_model_load(const theriac_context* context, const char* path,
                                  size_t path_length, const char* options_json,
                                  size_t options_length, theriac_model** out,
                                  theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_model_load", error, [&] {
    const theriac_context& home = need(context, "context");
    theriac_model*& target = need_out(out, "out");
    const std::string directory = path_argument(path, path_length);
    const std::string document = dump_json(options(options_json, options_length, "options_json"));
    auto model = std::make_unique<theriac_model>();
    engine_of(home).load_model(directory, document, home.settings, model->shared->model).or_throw();
    target = model.release();
  });
}

theriac_status theriac_model_import(const theriac_context* context, const char* method,
                                    size_t method_length, const char* path, size_t path_length,
                                    const theriac_dataset* dataset, const char* options_json,
                                    size_t options_length, theriac_model** out,
                                    theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_model_import", error, [&] {
    const theriac_context& home = need(context, "context");
    theriac_model*& target = need_out(out, "out");
    const std::string_view name = text(method, method_length, "method");
    const std::string file = path_argument(path, path_length, "the file of weights");
    const theriac_dataset& data = need(dataset, "dataset");
    const std::string document = dump_json(options(options_json, options_length, "options_json"));
    auto model = std::make_unique<theriac_model>();
    engine_of(home)
        .import_model(name, file, data.dataset, document, home.settings, model->shared->model)
        .or_throw();
    target = model.release();
  });
}

theriac_status theriac_model_save(const theriac_model* model, const char* path, size_t path_length,
                                  int32_t overwrite, theriac_error** error) noexcept {
  return guard("theriac_model_save", error, [&] {
    const theriac_model& self = need(model, "model");
    const std::string directory = path_argument(path, path_length);
    const Shared entered(self.shared->gate, "model");
    self.shared->model->save(directory, overwrite != 0).or_throw();
  });
}

theriac_status theriac_model_evaluate(const theriac_model* model, const theriac_dataset* dataset,
                                      const char* options_json, size_t options_length,
                                      const theriac_callbacks* callbacks, theriac_result** out,
                                      theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_model_evaluate", error, [&] {
    const theriac_model& self = need(model, "model");
    const theriac_dataset& data = need(dataset, "dataset");
    theriac_result*& target = need_out(out, "out");
    const std::string document = dump_json(options(options_json, options_length, "options_json"));
    Job job = make_job(callbacks);
    auto result = std::make_unique<theriac_result>();
    const Shared entered(self.shared->gate, "model");
    self.shared->model->evaluate(data.dataset, document, job, result->json).or_throw();
    target = result.release();
  });
}

theriac_status theriac_model_info(const theriac_model* model, theriac_bytes** out,
                                  theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_model_info", error, [&] {
    const theriac_model& self = need(model, "model");
    theriac_bytes*& target = need_out(out, "out");
    std::string json;
    const Shared entered(self.shared->gate, "model");
    self.shared->model->info(json).or_throw();
    target = make_bytes(std::move(json));
  });
}

theriac_status theriac_model_tensor(const theriac_model* model, const char* name,
                                    size_t name_length, struct DLManagedTensorVersioned** out,
                                    theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_model_tensor", error, [&] {
    const theriac_model& self = need(model, "model");
    DLManagedTensorVersioned*& target = need_out(out, "out");
    TensorView view;
    const Shared entered(self.shared->gate, "model");
    self.shared->model->tensor(text(name, name_length, "name"), view).or_throw();
    target = export_tensor(std::move(view));
  });
}

theriac_model* theriac_model_retain(theriac_model* model) noexcept { return retain(model); }
void theriac_model_release(theriac_model* model) noexcept { release(model); }
