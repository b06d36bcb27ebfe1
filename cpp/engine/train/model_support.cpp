#include "cpp/engine/train/model_support.h"

#include <memory>
#include <vector>

namespace theriac::train {

const OptionTable<FitOptions>& FitOptions::table() {
  static const auto table =
      OptionTable<FitOptions>("fit", "How a fit is kept and continued")
          .text("checkpoint", &FitOptions::checkpoint, "folder of checkpoints; empty: none")
          .flag("resume", &FitOptions::resume, "continue from the folder's checkpoint");
  return table;
}

Json parse_options(std::string_view text) {
  return text.empty() ? Json::object() : parse_json(text, "options");
}

void drop_times(Json& fit) {
  if (!fit.contains("epochs")) return;
  for (Json& epoch : fit["epochs"]) epoch.erase("seconds");
}

TensorView view_of(const tensor::NamedTensors& state, std::string_view name) {
  std::vector<std::string> names;
  for (const auto& [key, tensor] : state) {
    names.push_back(key);
    if (key != name) continue;
    const auto owner =
        std::make_shared<at::Tensor>(tensor.detach().to(at::kCPU, at::kFloat).contiguous());
    TensorView view;
    view.owner = owner;
    view.data = owner->const_data_ptr();
    view.shape = owner->sizes().vec();
    view.strides = owner->strides().vec();
    return view;
  }
  const std::string nearest = nearest_name(name, names);
  throw Error(Code::kNotFound, "the model has no tensor '" + std::string(name) + "'" +
                                   (nearest.empty() ? "" : "; did you mean '" + nearest + "'?"))
      .at("tensor", std::string(name));
}

void add_tensors(const tensor::NamedTensors& state, Fingerprint& print) {
  for (const auto& [name, tensor] : state) {
    const at::Tensor bytes = tensor.cpu().contiguous().view(-1).view(at::kByte);
    print.add(name).add(
        std::string_view(reinterpret_cast<const char*>(bytes.const_data_ptr<std::uint8_t>()),
                         static_cast<std::size_t>(bytes.numel())));
  }
}

Outcome LearnedModel::fit(const Dataset* train, const Dataset* valid, std::string_view options_json,
                          Job& job) noexcept {
  return theriac::tensor::guarded([&] {
    const theriac::tensor::DeterminismScope scope(context_.reproducible);
    fit_to(train, valid, FitOptions::table().parse(parse_options(options_json)), job);
  });
}

Outcome LearnedModel::save(const std::string& directory, bool overwrite) const noexcept {
  return theriac::tensor::guarded([&] { save_model_directory(directory, contents(), overwrite); });
}

Outcome LearnedModel::evaluate(const Dataset& dataset, std::string_view options_json, Job& job,
                               std::string& report_json) const noexcept {
  return theriac::tensor::guarded(
      [&] { report_json = dump_json(report(dataset, parse_options(options_json), job)); });
}

Outcome LearnedModel::info(std::string& json) const noexcept {
  return theriac::tensor::guarded([&] { json = dump_json(description()); });
}

Outcome LearnedModel::tensor(std::string_view name, TensorView& view) const noexcept {
  return theriac::tensor::guarded([&] { view = view_of(state(), name); });
}

Outcome LearnedModel::open_session(std::string_view options_json,
                                   std::unique_ptr<Session>& opened) const noexcept {
  return theriac::tensor::guarded([&] { opened = session(options_json); });
}

}  // namespace theriac::train
