#include "cpp/core/merge/inputs.h"

#include <sys/stat.h>

#include <cerrno>
#include <memory>
#include <system_error>
#include <utility>

#include "cpp/core/base/file.h"
#include "cpp/core/base/hash.h"
#include "cpp/core/merge/adapted_model.h"
#include "cpp/core/tensorfile/adapter.h"
#include "cpp/core/tensorfile/convert.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;
using tensorfile::Adapter;
using tensorfile::ModelFiles;
using tensorfile::TensorRecord;

constexpr std::uint64_t kConfigLimit = std::uint64_t{64} << 20;

std::vector<InputFile> files_of(const ModelFiles& model) {
  std::map<std::size_t, Fingerprint> headers;
  std::map<std::size_t, std::string> names;
  for (const TensorRecord& tensor : model.tensors()) {
    Fingerprint& header = headers[tensor.file];
    names.emplace(tensor.file, model.file_name(tensor));
    header.add(tensor.name).add(tensorfile::dtype_name(tensor.dtype));
    header.add_values(std::span(tensor.shape)).add_values(std::span(tensor.strides));
    header.add(static_cast<std::int64_t>(tensor.offset));
  }
  std::vector<InputFile> out;
  for (const auto& [file, name] : names) out.push_back(input_file(name, headers.at(file).hex()));
  return out;
}

// A part of a path that stays where it is put.
bool is_plain(const std::string& part) {
  return !part.empty() && part != "." && part != ".." &&
         part.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::optional<fs::path> only_folder(const fs::path& folder) {
  std::error_code ignored;
  std::optional<fs::path> out;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (out) return std::nullopt;
    out = entry.path();
  }
  return out;
}

class Opener {
 public:
  explicit Opener(const InputOptions& options) : options_(options) {}

  InputModel open(const ModelReference& reference) {
    const Opened& model = open_model(reference);
    InputModel out{reference, *model.files, model.inputs, {}};
    if (reference.lora_path.empty()) return out;
    const OpenedAdapter& adapter = open_adapter(reference);
    AdaptedModel adapted = apply_adapter(model.files, adapter.adapter, options_.adapter_dtype);
    out.files = std::move(adapted.files);
    out.config_edits = std::move(adapted.config_edits);
    out.inputs.insert(out.inputs.end(), adapter.inputs.begin(), adapter.inputs.end());
    return out;
  }

 private:
  struct Opened {
    std::shared_ptr<const ModelFiles> files;
    std::vector<InputFile> inputs;
  };
  struct OpenedAdapter {
    std::shared_ptr<const Adapter> adapter;
    std::vector<InputFile> inputs;
  };

  const Opened& open_model(const ModelReference& reference) {
    Opened& at = models_[{reference.path, reference.revision}];
    if (at.files != nullptr) return at;
    const auto named = options_.named.find(reference.path);
    if (named != options_.named.end() && reference.revision.empty()) {
      at.files = std::make_shared<const ModelFiles>(named->second);
      if (at.files->has_files()) at.inputs = files_of(*at.files);
    } else {
      const fs::path folder = place(reference, reference.path, reference.revision);
      refuse_adapter(reference, folder);
      ModelFiles files = ModelFiles::open(folder);
      if (!reference.revision.empty() && is_there(options_.working_folder / reference.path)) {
        files.add_warning("the revision of '" + reference.path + "@" + reference.revision +
                          "' is not checked: the model is local");
      }
      at.inputs = files_of(files);
      at.files = std::make_shared<const ModelFiles>(std::move(files));
    }
    return at;
  }

  const OpenedAdapter& open_adapter(const ModelReference& reference) {
    OpenedAdapter& at = adapters_[{reference.lora_path, reference.lora_revision}];
    if (at.adapter != nullptr) return at;
    const fs::path folder = place(reference, reference.lora_path, reference.lora_revision);
    auto adapter = std::make_shared<const Adapter>(Adapter::open(folder));
    at.inputs = files_of(adapter->files());
    const fs::path config = folder / "adapter_config.json";
    at.inputs.push_back(
        input_file(config, Fingerprint().add(read_file(config, kConfigLimit)).hex()));
    at.adapter = std::move(adapter);
    return at;
  }

  // An adapter by itself says nothing of the weights that it changes.
  static void refuse_adapter(const ModelReference& reference, const fs::path& folder) {
    if (!is_there(folder / "adapter_config.json") || is_there(folder / "config.json")) return;
    for (const char* name : {"model.safetensors", "model.safetensors.index.json",
                             "pytorch_model.bin", "pytorch_model.bin.index.json"}) {
      if (is_there(folder / name)) return;
    }
    throw Error(Code::kInvalidArgument, "'" + folder.string() +
                                            "' is an adapter, not a model; write BASE+" +
                                            reference.path + " with the model that it was made for")
        .at("model", reference.text());
  }

  // Where a part of a reference lies.
  fs::path place(const ModelReference& reference, const std::string& path,
                 const std::string& revision) const {
    fs::path local = options_.working_folder / path;
    if (is_there(local)) return local;
    const bool hub = is_hub_name(path);
    if (hub && !options_.hub_cache.empty()) {
      if (const auto found = find_in_hub_cache(options_.hub_cache, path, revision)) return *found;
    }
    const std::string also =
        hub && !options_.hub_cache.empty()
            ? ", nor is '" + path + "' in the hub's cache '" + options_.hub_cache.string() + "'"
            : "";
    throw Error(Code::kNotFound, "there is no model or adapter at '" + local.string() + "'" + also +
                                     "; models are local folders or files, nothing is downloaded")
        .at("model", reference.text())
        .at("file", local.string());
  }

  const InputOptions& options_;
  std::map<std::pair<std::string, std::string>, Opened> models_;
  std::map<std::pair<std::string, std::string>, OpenedAdapter> adapters_;
};

}  // namespace

InputFile input_file(const fs::path& path, std::string header) {
  struct stat status {};
  const std::string name = path.string();
  if (::stat(name.c_str(), &status) != 0) {
    throw Error(Code::kIoError,
                "cannot inspect '" + name + "': " + std::generic_category().message(errno))
        .at("file", name);
  }
  constexpr std::int64_t kSecond = 1'000'000'000;
  return {name, static_cast<std::uint64_t>(status.st_size),
          status.st_mtim.tv_sec * kSecond + status.st_mtim.tv_nsec, std::move(header)};
}

std::vector<InputModel> open_inputs(const std::vector<ModelReference>& references,
                                    const InputOptions& options, Job& job) {
  Opener opener(options);
  std::vector<InputModel> out;
  for (std::size_t i = 0; i < references.size(); ++i) {
    job.progress("open", i, references.size());
    out.push_back(opener.open(references[i]));
  }
  return out;
}

bool is_hub_name(const std::string& path) {
  const auto slash = path.find('/');
  if (slash == std::string::npos || path.front() == '.') return false;
  return is_plain(path.substr(0, slash)) && is_plain(path.substr(slash + 1));
}

std::optional<fs::path> find_in_hub_cache(const fs::path& cache, const std::string& name,
                                          const std::string& revision) {
  if (!is_hub_name(name)) return std::nullopt;
  const auto slash = name.find('/');
  const fs::path model =
      cache / ("models--" + name.substr(0, slash) + "--" + name.substr(slash + 1));
  const fs::path snapshots = model / "snapshots";
  std::string wanted = revision.empty() ? "main" : revision;
  for (const fs::path& part : fs::path(wanted)) {  // "refs/pr/1" is one
    if (!is_plain(part.string())) return std::nullopt;
  }
  constexpr std::uint64_t kLongestReference = 4096;
  if (is_there(model / "refs" / wanted)) {
    std::string commit = read_file(model / "refs" / wanted, kLongestReference);
    while (!commit.empty() && (commit.back() == '\n' || commit.back() == ' ')) commit.pop_back();
    if (is_plain(commit) && is_there(snapshots / commit)) return snapshots / commit;
  }
  if (is_there(snapshots / wanted)) return snapshots / wanted;
  return revision.empty() ? only_folder(snapshots) : std::nullopt;
}

ModelTensors tensors_of(const ModelFiles& model, const std::string& name) {
  ModelTensors out;
  out.name = name;
  for (const TensorRecord& tensor : model.tensors()) {
    out.tensors.push_back({tensor.name, tensor.shape, tensorfile::is_float(tensor.dtype)});
  }
  out.config = model.config();
  return out;
}

}  // namespace theriac::merge
