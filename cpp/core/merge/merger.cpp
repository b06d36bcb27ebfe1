#include "cpp/core/merge/merger.h"

#include <sys/stat.h>

#include <cerrno>
#include <map>
#include <system_error>
#include <utility>

#include "cpp/core/base/hash.h"
#include "cpp/core/base/options.h"
#include "cpp/core/merge/method_parameters.h"
#include "cpp/core/merge/recipe.h"
#include "cpp/core/tensorfile/model_files.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;
using tensorfile::ModelFiles;
using tensorfile::TensorRecord;

constexpr int kFormat = 1;
constexpr std::size_t kMostModels = 10'000;
constexpr const char* kName = "merger";  // of the recipe, for messages

std::int64_t modified(const std::string& file, std::uint64_t& bytes) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) {
    throw Error(Code::kIoError,
                "cannot inspect '" + file + "': " + std::generic_category().message(errno))
        .at("file", file)
        .at("errno", errno);
  }
  constexpr std::int64_t kSecond = 1'000'000'000;
  bytes = static_cast<std::uint64_t>(status.st_size);
  return status.st_mtim.tv_sec * kSecond + status.st_mtim.tv_nsec;
}

std::string fingerprint_of(const ModelFiles& model) {
  Fingerprint out;
  std::map<std::size_t, std::string> files;
  for (const TensorRecord& tensor : model.tensors()) {
    files.emplace(tensor.file, model.file_name(tensor));
    out.add(tensor.name).add(tensorfile::dtype_name(tensor.dtype));
    out.add_values(std::span(tensor.shape)).add_values(std::span(tensor.strides));
    out.add(static_cast<std::int64_t>(tensor.file)).add(static_cast<std::int64_t>(tensor.offset));
  }
  for (const auto& [number, name] : files) {
    std::uint64_t bytes = 0;
    const std::int64_t time = modified(name, bytes);
    out.add(time).add(static_cast<std::int64_t>(bytes));
  }
  return out.hex();
}

ModelFiles open_model(const std::string& path) {
  std::error_code ignored;
  if (!path.empty() && fs::exists(path, ignored)) return ModelFiles::open(path);
  throw Error(Code::kNotFound, "there is no model at '" + path +
                                   "'; models are local folders or files, nothing is downloaded")
      .at("file", path);
}

MergerModel described(const std::string& given, Json parameters) {
  MergerModel out;
  std::error_code failed;
  const fs::path absolute = fs::absolute(given, failed);
  const ModelFiles files = open_model(failed || given.empty() ? given : absolute.string());
  out.path = absolute.string();
  out.parameters = std::move(parameters);
  out.fingerprint = fingerprint_of(files);
  out.tensors = files.tensors().size();
  for (const TensorRecord& tensor : files.tensors()) {
    std::uint64_t elements = 1;
    for (const std::uint64_t size : tensor.shape) elements *= size;
    out.bytes += elements * static_cast<std::uint64_t>(tensorfile::dtype_bits(tensor.dtype)) / 8;
  }
  return out;
}

void check_parameters(const Json& parameters, const char* what) {
  if (parameters.is_object()) return;
  throw Error(Code::kInvalidArgument,
              std::string(what) + " must be a JSON object, not " + parameters.type_name())
      .at("option", "parameters");
}

void check_unchanged(const MergerModel& model) {
  std::string now;
  try {
    now = fingerprint_of(open_model(model.path));
  } catch (const Error& error) {
    throw Error(Code::kInvalidState,
                "the model '" + model.path + "' cannot be read any more: " + error.what())
        .at("model", model.path)
        .caused_by(error.what());
  }
  if (now == model.fingerprint) return;
  throw Error(Code::kInvalidState,
              "the model '" + model.path + "' has changed since it was added; make a new merger")
      .at("model", model.path);
}

Json model_json(const MergerModel& model) {
  return Json{{"path", model.path},
              {"parameters", model.parameters},
              {"tensors", model.tensors},
              {"bytes", model.bytes},
              {"fingerprint", model.fingerprint}};
}

// Members of a saved document, each of one type.
class Saved {
 public:
  Saved(const Json& object, std::string_view what, std::string path)
      : object_(object), what_(what), path_(std::move(path)) {
    if (!object.is_object()) throw bad("is no object");
  }
  Error bad(const std::string& problem) const {
    return Error(Code::kDataError, std::string(what_) + ": " +
                                       (path_.empty() ? std::string("the document") : path_) + " " +
                                       problem + "; expected what saving a merger writes")
        .at("file", std::string(what_))
        .at("json_path", path_);
  }
  const Json& at(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) throw bad(std::string("has no '") + key + "'");
    return *found;
  }
  std::string text(const char* key) const {
    const Json& value = at(key);
    if (!value.is_string()) throw bad(std::string("has a '") + key + "' that is no text");
    return value.get<std::string>();
  }
  std::uint64_t count(const char* key) const {
    const Json& value = at(key);
    if (!value.is_number_unsigned()) throw bad(std::string("has a '") + key + "' that is no count");
    return value.get<std::uint64_t>();
  }
  Json object(const char* key) const {
    const Json& value = at(key);
    if (!value.is_object()) throw bad(std::string("has a '") + key + "' that is no object");
    return value;
  }

 private:
  const Json& object_;
  std::string_view what_;
  std::string path_;
};

MergerModel saved_model(const Saved& saved) {
  MergerModel out;
  out.path = saved.text("path");
  out.parameters = saved.object("parameters");
  out.tensors = static_cast<std::size_t>(saved.count("tensors"));
  out.bytes = saved.count("bytes");
  out.fingerprint = saved.text("fingerprint");
  return out;
}

}  // namespace

std::string model_fingerprint(const fs::path& model) {
  return fingerprint_of(ModelFiles::open(model));
}

std::string model_yaml(const std::string& path) {
  const std::string quoted = dump_json(Json(path));
  // In a plain reference these separate revision and adapter.
  if (path.find_first_of("@+") == std::string::npos) return quoted;
  return "{model: {path: " + quoted + "}}";
}

Merger::Merger(std::string method, MergerOptions options)
    : method_(std::move(method)), options_(std::move(options)) {
  check_parameters(options_.parameters, "option 'parameters'");
  const MethodDeclaration* declared = find_method(method_);
  if (declared == nullptr) {
    const std::string near = nearest_name(method_, method_names());
    throw Error(Code::kInvalidArgument,
                "no merge method '" + method_ + "'" +
                    (near.empty() ? std::string() : "; did you mean '" + near + "'?"))
        .at("argument", "method")
        .at("got", method_);
  }
  if (declared->needs_base && options_.base_model.empty()) {
    throw Error(Code::kInvalidArgument, "the method '" + method_ +
                                            "' needs option 'base_model', the model that the "
                                            "others were fine-tuned from")
        .at("option", "base_model");
  }
  if (!options_.base_model.empty()) base_ = described(options_.base_model, Json::object());
  check_recipe();
}

void Merger::add(const std::string& path, Json parameters) {
  check_parameters(parameters, "a model's parameters");
  if (models_.size() == kMostModels) {
    throw Error(Code::kInvalidArgument,
                "a merger takes at most " + std::to_string(kMostModels) + " models");
  }
  models_.push_back(described(path, std::move(parameters)));
  try {
    check_recipe();
  } catch (...) {
    models_.pop_back();
    throw;
  }
}

std::string Merger::recipe() const {
  std::string out = "merge_method: " + dump_json(Json(method_)) + "\n";
  if (!base_.path.empty()) out += "base_model: " + model_yaml(base_.path) + "\n";
  if (!options_.dtype.empty()) out += "dtype: " + dump_json(Json(options_.dtype)) + "\n";
  if (!options_.out_dtype.empty()) {
    out += "out_dtype: " + dump_json(Json(options_.out_dtype)) + "\n";
  }
  if (!options_.parameters.empty()) {
    out += "parameters: " + dump_json(options_.parameters) + "\n";
  }
  out += "models:\n";
  for (const MergerModel& model : models_) {
    out += "  - model: " + model_yaml(model.path) + "\n";
    if (!model.parameters.empty()) {
      out += "    parameters: " + dump_json(model.parameters) + "\n";
    }
  }
  return out;
}

// Every key and value, as far as they can be checked before the models fit together. A recipe needs a
// model; before the first one a name stands in for it.
void Merger::check_recipe() const {
  RecipeOptions strict;
  strict.strict = true;
  parse_recipe(models_.empty() ? recipe() + "  - model: none\n" : recipe(), kName, strict);
}

Json Merger::info() const {
  const MethodDeclaration& declared = *find_method(method_);
  Json models = Json::array();
  for (const MergerModel& model : models_) models.push_back(model_json(model));
  const std::size_t base = declared.base_role == BaseRole::kMember && !base_.path.empty() ? 1 : 0;
  return Json{
      {"method", method_},
      {"base_model", base_.path.empty() ? Json() : model_json(base_)},
      {"parameters", options_.parameters},
      {"dtype", options_.dtype},
      {"out_dtype", options_.out_dtype},
      {"models", std::move(models)},
      {"complete", !models_.empty() &&
                       models_.size() + base >= static_cast<std::size_t>(declared.minimum_models)},
      {"recipe", recipe()}};
}

Json Merger::finish(const fs::path& output, const MergeOptions& options, Job& job) const {
  if (models_.empty()) {
    throw Error(Code::kInvalidState, "nothing was added to this merger; add models first");
  }
  if (!base_.path.empty()) check_unchanged(base_);
  for (const MergerModel& model : models_) check_unchanged(model);
  return merge_recipe(recipe(), kName, output, options, job).json;
}

std::string Merger::serialised() const {
  Json models = Json::array();
  for (const MergerModel& model : models_) models.push_back(model_json(model));
  return dump_json(Json{{"theriac_merger", kFormat},
                        {"method", method_},
                        {"parameters", options_.parameters},
                        {"dtype", options_.dtype},
                        {"out_dtype", options_.out_dtype},
                        {"base_model", base_.path.empty() ? Json() : model_json(base_)},
                        {"models", std::move(models)}},
                   1) +
         "\n";
}

Merger Merger::parse(std::string_view text, std::string_view what) {
  const Json json = parse_json(text, what, Code::kDataError);
  const Saved saved(json, what, "");
  if (saved.count("theriac_merger") != kFormat) {
    throw Error(Code::kIncompatible, std::string(what) + " is of format " +
                                         std::to_string(saved.count("theriac_merger")) +
                                         "; this version reads " + std::to_string(kFormat))
        .at("file", std::string(what));
  }
  Merger out;
  out.method_ = saved.text("method");
  if (find_method(out.method_) == nullptr) throw saved.bad("names an unknown method");
  out.options_.parameters = saved.object("parameters");
  out.options_.dtype = saved.text("dtype");
  out.options_.out_dtype = saved.text("out_dtype");
  if (!saved.at("base_model").is_null()) {
    out.base_ = saved_model(Saved(saved.at("base_model"), what, "base_model"));
    out.options_.base_model = out.base_.path;
  }
  const Json& models = saved.at("models");
  if (!models.is_array() || models.size() > kMostModels) throw saved.bad("has no list of models");
  for (std::size_t i = 0; i < models.size(); ++i) {
    out.models_.push_back(saved_model(Saved(models[i], what, "models[" + std::to_string(i) + "]")));
  }
  out.check_recipe();
  return out;
}

}  // namespace theriac::merge
