#include "cpp/engine/train/checkpoint.h"

#include <cmath>
#include <filesystem>
#include <limits>

#include "cpp/core/base/file.h"

namespace theriac::train {
namespace {

namespace fs = std::filesystem;

constexpr char kStateFile[] = "checkpoint.json";
constexpr char kTensorFile[] = "checkpoint.safetensors";
constexpr std::int64_t kFormat = 1;

// JSON has no NaN: a validation that gave none is null.
Json number_json(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

double number_from(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

FitRecord record_from(const Json& json) {
  FitRecord record;
  record.best_epoch = json.at("best_epoch").get<std::int64_t>();
  record.selection_name = json.at("selection_name").get<std::string>();
  for (const Json& item : json.at("epochs")) {
    EpochRecord epoch;
    epoch.epoch = item.at("epoch").get<std::int64_t>();
    epoch.loss = number_from(item.at("loss"));
    epoch.seconds = number_from(item.at("seconds"));
    if (item.contains("selection")) epoch.selection = number_from(item.at("selection"));
    record.epochs.push_back(epoch);
  }
  return record;
}

Json state_json(const Checkpoint& checkpoint) {
  return Json{{"format", kFormat},
              {"identity", checkpoint.identity},
              {"optimizer", checkpoint.optimizer},
              {"seed", checkpoint.seed},
              {"epoch", checkpoint.epoch},
              {"step", checkpoint.step},
              {"best_selection", number_json(checkpoint.best_selection)},
              {"record", record_json(checkpoint.record)}};
}

Checkpoint state_from(const Json& json) {
  Checkpoint checkpoint;
  checkpoint.identity = json.at("identity").get<std::string>();
  checkpoint.optimizer = json.at("optimizer").get<std::string>();
  checkpoint.seed = json.at("seed").get<std::uint64_t>();
  checkpoint.epoch = json.at("epoch").get<std::int64_t>();
  checkpoint.step = json.at("step").get<std::int64_t>();
  checkpoint.best_selection = number_from(json.at("best_selection"));
  checkpoint.record = record_from(json.at("record"));
  return checkpoint;
}

void append(tensor::NamedTensors& all, const std::string& prefix,
            const tensor::NamedTensors& part) {
  for (const auto& [name, tensor] : part) all.emplace_back(prefix + name, tensor);
}

tensor::NamedTensors extract(const tensor::NamedTensors& all, const std::string& prefix) {
  tensor::NamedTensors part;
  for (const auto& [name, tensor] : all) {
    if (name.starts_with(prefix)) part.emplace_back(name.substr(prefix.size()), tensor);
  }
  return part;
}

[[noreturn]] void refuse(const std::string& directory, const std::string& what,
                         const std::string& found, const std::string& expected) {
  throw Error(Code::kIncompatible, "the checkpoint in '" + directory + "' has " + what + " '" +
                                       found + "'; this run has '" + expected +
                                       "'. Start without resume, or in another directory")
      .at("file", directory)
      .at("found", found)
      .at("expected", expected);
}

void check_same_run(const std::string& directory, const Checkpoint& found,
                    const Checkpoint& expected) {
  if (found.identity != expected.identity) {
    refuse(directory, "identity", found.identity, expected.identity);
  }
  if (found.optimizer != expected.optimizer) {
    refuse(directory, "optimizer", found.optimizer, expected.optimizer);
  }
  if (found.seed != expected.seed) {
    refuse(directory, "seed", std::to_string(found.seed), std::to_string(expected.seed));
  }
}

Checkpoint read_state(const fs::path& file) {
  const Json json =
      parse_json(read_file(file, std::uint64_t{64} << 20), file.string(), Code::kDataError);
  try {
    const auto format = json.at("format").get<std::int64_t>();
    if (format != kFormat) {
      throw Error(Code::kIncompatible, file.string() + ": format " + std::to_string(format) +
                                           "; this build reads format " + std::to_string(kFormat))
          .at("file", file.string());
    }
    return state_from(json);
  } catch (const Json::exception& error) {
    throw Error(Code::kDataError, file.string() + ": not a checkpoint of theriac")
        .at("file", file.string())
        .caused_by(error.what());
  }
}

}  // namespace

Json record_json(const FitRecord& record) {
  Json epochs = Json::array();
  for (const EpochRecord& epoch : record.epochs) {
    Json item{{"epoch", epoch.epoch},
              {"loss", number_json(epoch.loss)},
              {"seconds", number_json(epoch.seconds)}};
    if (epoch.selection) item["selection"] = number_json(*epoch.selection);
    epochs.push_back(std::move(item));
  }
  return Json{{"best_epoch", record.best_epoch},
              {"selection_name", record.selection_name},
              {"stopped", record.stopped},
              {"epochs", std::move(epochs)}};
}

void check_checkpoint_directory(const std::string& directory) {
  std::error_code ignored;
  if (!fs::exists(directory, ignored)) return;
  if (fs::is_directory(directory, ignored) &&
      (fs::is_empty(directory, ignored) || fs::exists(fs::path(directory) / kStateFile, ignored))) {
    return;
  }
  throw Error(
      Code::kAlreadyExists,
      "'" + directory + "' is there and is no checkpoint; name a new directory for checkpoints")
      .at("file", directory);
}

void write_checkpoint(const std::string& directory, const Checkpoint& checkpoint) {
  tensor::NamedTensors all;
  append(all, "module/", checkpoint.module);
  append(all, "best/", checkpoint.best);
  append(all, "optimizer/", checkpoint.optimizer_state);
  replace_directory(directory, /*overwrite=*/true, [&](const fs::path& root) {
    tensor::write_tensors((root / kTensorFile).string(), all);
    replace_file(root / kStateFile, dump_json(state_json(checkpoint), 2) + "\n");
  });
}

std::optional<Checkpoint> read_checkpoint(const std::string& directory,
                                          const Checkpoint& expected) {
  const fs::path root = directory;
  std::error_code ignored;
  if (!fs::exists(root / kStateFile, ignored)) return std::nullopt;
  Checkpoint checkpoint = read_state(root / kStateFile);
  check_same_run(directory, checkpoint, expected);
  const tensor::NamedTensors all = tensor::read_tensors((root / kTensorFile).string());
  checkpoint.module = extract(all, "module/");
  checkpoint.best = extract(all, "best/");
  checkpoint.optimizer_state = extract(all, "optimizer/");
  return checkpoint;
}

}  // namespace theriac::train
