#include "cpp/core/tensorfile/pickle.h"

#include <optional>
#include <unordered_set>
#include <utility>

#include "cpp/core/base/utf8.h"
#include "cpp/core/tensorfile/layout.h"
#include "cpp/core/tensorfile/pickle_machine.h"

namespace theriac::tensorfile {
namespace {

using internal::Kind;
using internal::Machine;
using internal::shown;
using internal::Value;

// Takes the tensors out of what the machine made.
class Collector {
 public:
  Collector(const Machine& machine, const PickleLimits& limits)
      : machine_(machine), limits_(limits) {}
  PickledTensors collect(Value root);

 private:
  std::optional<Value> nested(Value root) const;
  bool has_tensors(Value dictionary) const;
  std::string name_of(Value key) const;
  PickledTensor tensor_of(std::string name, Value value) const;

  const Machine& machine_;
  const PickleLimits& limits_;
};

bool Collector::has_tensors(Value dictionary) const {
  const auto& items = machine_.items(dictionary);
  for (std::size_t i = 1; i < items.size(); i += 2) {
    if (items[i].kind == Kind::kTensor) return true;
  }
  return false;
}

std::optional<Value> Collector::nested(Value root) const {
  const auto& items = machine_.items(root);
  for (const std::string_view wanted : {"state_dict", "model"}) {
    for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
      const bool here = items[i].kind == Kind::kText && machine_.text(items[i]) == wanted;
      if (here && items[i + 1].kind == Kind::kDict && has_tensors(items[i + 1]))
        return items[i + 1];
    }
  }
  return std::nullopt;
}

std::string Collector::name_of(Value key) const {
  std::string name(machine_.text(key));
  const auto reject = [&](const std::string& why) {
    throw Error(Code::kDataError, "pickle: tensor " + shown(name) + ": the name " + why)
        .at("tensor", name.substr(0, 4096));
  };
  if (name.empty()) reject("is empty");
  if (name.size() > limits_.name_bytes) {
    reject("is longer than " + std::to_string(limits_.name_bytes) + " bytes");
  }
  if (find_invalid_utf8(name) != std::string_view::npos) reject("is not UTF-8");
  return name;
}

PickledTensor Collector::tensor_of(std::string name, Value value) const {
  const internal::Tensor& tensor = machine_.tensor(value);
  return {.name = std::move(name),
          .dtype = tensor.dtype,
          .shape = tensor.shape,
          .strides = tensor.strides,
          .first = tensor.first,
          .storage = std::string(machine_.storage(tensor.storage).key),
          .storage_elements = tensor.storage_elements};
}

PickledTensors Collector::collect(Value root) {
  if (root.kind != Kind::kDict) {
    throw Error(Code::kDataError, "pickle: it holds " + std::string(kind_name(root.kind)) +
                                      "; expected a dictionary of named tensors (a state_dict)");
  }
  const auto& items = machine_.items(nested(root).value_or(root));
  PickledTensors out;
  std::unordered_set<std::string_view> names;
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    const bool named = items[i].kind == Kind::kText;
    if (items[i + 1].kind != Kind::kTensor) {
      constexpr std::size_t kMostIgnored = 100, kShown = 120;
      if (out.ignored.size() < kMostIgnored) {
        out.ignored.emplace_back(named ? machine_.text(items[i]).substr(0, kShown)
                                       : kind_name(items[i].kind));
      }
      continue;
    }
    if (!named) {
      throw Error(Code::kDataError, "pickle: a tensor's key is " +
                                        std::string(kind_name(items[i].kind)) +
                                        "; expected its name");
    }
    std::string name = name_of(items[i]);
    if (!names.insert(machine_.text(items[i])).second) {
      throw Error(Code::kDataError, "pickle: tensor " + shown(name) + ": the name appears twice")
          .at("tensor", name);
    }
    out.tensors.push_back(tensor_of(std::move(name), items[i + 1]));
  }
  if (out.tensors.empty() && !items.empty()) {
    throw Error(Code::kDataError,
                "pickle: the dictionary holds no tensor, neither itself nor under 'state_dict' or "
                "'model'");
  }
  return out;
}

}  // namespace

PickledTensors read_pickle(std::string_view bytes, const PickleLimits& limits) {
  Machine machine(bytes, limits);
  const Value root = machine.run();
  return Collector(machine, limits).collect(root);
}

}  // namespace theriac::tensorfile
