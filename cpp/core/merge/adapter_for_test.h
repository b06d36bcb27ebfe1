// Small adapters in PEFT's folder layout, for tests.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cpp/core/merge/toy_for_test.h"
#include "cpp/core/tensorfile/adapter.h"

namespace theriac::merge::toy {

// A and B of a linear module [out, in]; `after` follows lora_A and lora_B (".weight").
inline void add_module(std::vector<Spec>& specs, const std::string& module, std::uint64_t out,
                       std::uint64_t in, std::uint64_t rank, DType dtype = DType::kF32) {
  specs.push_back({"base_model.model." + module + ".lora_A.weight", dtype, {rank, in}});
  specs.push_back({"base_model.model." + module + ".lora_B.weight", dtype, {out, rank}});
}

inline void write_adapter(const std::filesystem::path& folder, const std::vector<Spec>& specs,
                          std::uint64_t seed, const std::string& config) {
  std::filesystem::create_directories(folder);
  std::vector<std::string> bytes;
  for (const Spec& spec : specs) bytes.push_back(values(spec, seed));
  std::vector<tensorfile::TensorToWrite> tensors;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    tensors.push_back({specs[i].name, specs[i].dtype, specs[i].shape, bytes[i]});
  }
  tensorfile::write_file(folder / "adapter_model.safetensors", tensors, {{"format", "pt"}});
  replace_file(folder / "adapter_config.json", config);
}

}  // namespace theriac::merge::toy
