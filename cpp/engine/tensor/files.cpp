// Module state by dotted name, and safetensors files of it.
#include <array>
#include <cstring>
#include <limits>
#include <unordered_map>

#include "cpp/core/tensorfile/safetensors.h"
#include "cpp/engine/tensor/tensor.h"

namespace theriac::tensor {
namespace {

using tensorfile::DType;

struct TypePair {
  at::ScalarType torch;
  DType file;
};
constexpr std::array<TypePair, 18> kTypes = {{
    {at::kBool, DType::kBool},
    {at::kByte, DType::kU8},
    {at::kChar, DType::kI8},
    {at::kShort, DType::kI16},
    {at::kInt, DType::kI32},
    {at::kLong, DType::kI64},
    {at::kUInt16, DType::kU16},
    {at::kUInt32, DType::kU32},
    {at::kUInt64, DType::kU64},
    {at::kHalf, DType::kF16},
    {at::kBFloat16, DType::kBF16},
    {at::kFloat, DType::kF32},
    {at::kDouble, DType::kF64},
    {at::kComplexFloat, DType::kC64},
    {at::kFloat8_e4m3fn, DType::kF8E4M3},
    {at::kFloat8_e5m2, DType::kF8E5M2},
    {at::kFloat8_e4m3fnuz, DType::kF8E4M3Fnuz},
    {at::kFloat8_e5m2fnuz, DType::kF8E5M2Fnuz},
}};

DType file_type(const std::string& name, at::ScalarType type) {
  for (const TypePair& pair : kTypes) {
    if (pair.torch == type) return pair.file;
  }
  throw Error(Code::kUnsupported, "tensor '" + name + "' has element type " +
                                      std::string(c10::toString(type)) +
                                      ", which safetensors cannot hold")
      .at("tensor", name);
}

at::ScalarType torch_type(const tensorfile::TensorInfo& info) {
  for (const TypePair& pair : kTypes) {
    if (pair.file == info.dtype) return pair.torch;
  }
  throw Error(Code::kUnsupported, "tensor '" + info.name + "' has element type " +
                                      std::string(tensorfile::dtype_name(info.dtype)) +
                                      ", which LibTorch cannot hold")
      .at("tensor", info.name);
}

std::string shape_text(at::IntArrayRef shape) {
  std::string text = "[";
  for (const std::int64_t size : shape)
    text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

// The header's sizes as LibTorch's, whose products (also with zero dimensions taken as 1, for the
// strides) must fit 63 bits.
std::vector<std::int64_t> torch_shape(const tensorfile::TensorInfo& info) {
  std::vector<std::int64_t> shape;
  std::int64_t product = 1;
  for (const std::uint64_t size : info.shape) {
    if (size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max() / 16) ||
        __builtin_mul_overflow(product, std::max<std::int64_t>(1, static_cast<std::int64_t>(size)),
                               &product)) {
      throw Error(Code::kDataError, "tensor '" + info.name + "' has a shape too large to hold")
          .at("tensor", info.name);
    }
    shape.push_back(static_cast<std::int64_t>(size));
  }
  return shape;
}

at::Tensor read_tensor(const tensorfile::File& file, const tensorfile::TensorInfo& info) {
  const at::ScalarType type = torch_type(info);
  at::Tensor tensor = at::empty(torch_shape(info), type);
  const std::string_view bytes = file.bytes(info);
  if (tensor.nbytes() != bytes.size()) {
    throw Error(Code::kDataError, "tensor '" + info.name + "' has " + std::to_string(bytes.size()) +
                                      " bytes; its shape needs " + std::to_string(tensor.nbytes()))
        .at("tensor", info.name);
  }
  if (!bytes.empty()) std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

// The value for `name` if it fits `target`, else kDataError.
const at::Tensor& fitting(const std::unordered_map<std::string_view, const at::Tensor*>& state,
                          const std::string& name, const at::Tensor& target) {
  const auto found = state.find(name);
  if (found == state.end()) {
    throw Error(Code::kDataError, "tensor '" + name + "' is missing").at("tensor", name);
  }
  const at::Tensor& value = *found->second;
  if (value.sizes() != target.sizes()) {
    throw Error(Code::kDataError, "tensor '" + name + "' has shape " + shape_text(value.sizes()) +
                                      "; expected " + shape_text(target.sizes()))
        .at("tensor", name);
  }
  if (value.is_floating_point() != target.is_floating_point()) {
    throw Error(Code::kDataError, "tensor '" + name + "' has element type " +
                                      std::string(c10::toString(value.scalar_type())) +
                                      "; expected " +
                                      std::string(c10::toString(target.scalar_type())))
        .at("tensor", name);
  }
  return value;
}

}  // namespace

NamedTensors state_of(const torch::nn::Module& module) {
  NamedTensors state;
  for (const auto& item : module.named_parameters()) {
    state.emplace_back(item.key(), item.value().detach());
  }
  for (const auto& item : module.named_buffers()) {
    state.emplace_back(item.key(), item.value().detach());
  }
  return state;
}

NamedTensors snapshot_of(const torch::nn::Module& module) {
  NamedTensors state = state_of(module);
  for (auto& [name, tensor] : state) tensor = tensor.clone();
  return state;
}

void load_state(torch::nn::Module& module, const NamedTensors& state) {
  std::unordered_map<std::string_view, const at::Tensor*> by_name;
  for (const auto& [name, tensor] : state) by_name.emplace(name, &tensor);
  const NamedTensors targets = state_of(module);
  for (const auto& [name, target] : targets) fitting(by_name, name, target);
  const torch::NoGradGuard no_grad;
  for (const auto& [name, target] : targets) target.copy_(fitting(by_name, name, target));
}

void write_tensors(const std::string& path, const NamedTensors& tensors,
                   const std::map<std::string, std::string>& metadata) {
  std::vector<tensorfile::TensorToWrite> out;
  std::vector<at::Tensor> alive;  // what `out` points into
  for (const auto& [name, tensor] : tensors) {
    alive.push_back(tensor.detach().to(at::kCPU).contiguous());
    const at::Tensor& copy = alive.back();
    tensorfile::TensorToWrite entry;
    entry.name = name;
    entry.dtype = file_type(name, copy.scalar_type());
    for (const std::int64_t size : copy.sizes())
      entry.shape.push_back(static_cast<std::uint64_t>(size));
    entry.bytes = {static_cast<const char*>(copy.data_ptr()), copy.nbytes()};
    out.push_back(std::move(entry));
  }
  tensorfile::write_file(path, std::move(out), metadata);
}

NamedTensors read_tensors(const std::string& path, std::map<std::string, std::string>* metadata) {
  const tensorfile::File file(path);
  NamedTensors tensors;
  for (const tensorfile::TensorInfo& info : file.header().tensors) {
    tensors.emplace_back(info.name, read_tensor(file, info));
  }
  if (metadata) *metadata = file.header().metadata;
  return tensors;
}

}  // namespace theriac::tensor
