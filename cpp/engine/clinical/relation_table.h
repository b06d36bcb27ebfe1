// Relation vectors of a code system's tree, and their files. A table is a function of (system, dim,
// seed, options, tree); its key names these inputs, so that one pre-training serves every backbone
// that asks.
//
// Files, under "tables/" of a model directory:
//   relation.<system>.safetensors  tensor "relation" [nodes, dim] F32; metadata: system, key, tree,
//   record relation.<system>.nodes.csv    code,parent,name in row order
// In a cache directory: relation.<system>.<key>.safetensors alone; the tree is at hand there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cpp/core/base/job.h"
#include "cpp/core/base/json.h"
#include "cpp/core/codes/hierarchy.h"
#include "cpp/engine/clinical/tree_pretraining.h"

namespace theriac::clinical {

// Relation vectors of one code system's tree. Immutable.
struct RelationTable {
  codes::System system = codes::System::kUnknown;
  codes::Hierarchy tree;         // listed
  at::Tensor vectors;            // [nodes, dim] float32, CPU
  std::string key;               // of (system, dim, seed, options, tree fingerprint)
  Json record = Json::object();  // "options", "seed", "nodes", "losses" of the epochs, "quality"

  std::int64_t dim() const { return vectors.size(1); }
  // Vector of a node [dim].
  const float* row(std::size_t node) const {
    return vectors.const_data_ptr<float>() + static_cast<std::int64_t>(node) * dim();
  }
};
using RelationTables = std::vector<std::shared_ptr<const RelationTable>>;  // at most one a system

// The table of a system, or null.
const RelationTable* find_table(const RelationTables& tables, codes::System system) noexcept;

std::string relation_key(const codes::Hierarchy& tree, const TreeOptions& options,
                         std::uint64_t seed);

std::shared_ptr<const RelationTable> pretrain(const codes::Hierarchy& tree,
                                              const TreeOptions& options, std::uint64_t seed,
                                              Job& job);

// Reads the table of these inputs from the cache directory, or makes it and leaves it there (an
// empty path: no cache). A cached file that is damaged or of other inputs is made anew.
std::shared_ptr<const RelationTable> pretrain_or_load(const codes::Hierarchy& tree,
                                                      const TreeOptions& options,
                                                      std::uint64_t seed,
                                                      const std::filesystem::path& cache_directory,
                                                      Job& job);

TreeQuality measure(const RelationTable& table);
Json to_json(const TreeQuality& quality);

// Relative name -> bytes of a model directory's files, and back. The second takes all files of a
// directory and reads those named like relation tables; it trusts none of them and throws
// kDataError naming the file.
std::map<std::string, std::string> relation_files(const RelationTables& tables);
RelationTables relation_tables(const std::map<std::string, std::string>& files);

}  // namespace theriac::clinical
