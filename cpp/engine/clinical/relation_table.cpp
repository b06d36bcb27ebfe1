#include "cpp/engine/clinical/relation_table.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "cpp/core/base/csv.h"
#include "cpp/core/base/file.h"
#include "cpp/core/base/hash.h"
#include "cpp/core/tensorfile/safetensors.h"

namespace theriac::clinical {
namespace {

constexpr std::string_view kPrefix = "tables/relation.";
constexpr std::string_view kVectorsSuffix = ".safetensors";
constexpr std::string_view kNodesSuffix = ".nodes.csv";
constexpr char kTensor[] = "relation";

std::string system_text(codes::System system) { return std::string(codes::system_name(system)); }

Error bad_file(const std::string& file, const std::string& what) {
  return Error(Code::kDataError, file + ": " + what).at("file", file);
}

std::string_view bytes_of(const at::Tensor& vectors) {
  return {reinterpret_cast<const char*>(vectors.const_data_ptr<float>()),
          static_cast<std::size_t>(vectors.numel()) * sizeof(float)};
}

std::string content_hash(std::string_view bytes) { return Fingerprint().add(bytes).hex(); }

std::string vectors_file(const RelationTable& table) {
  const std::string_view bytes = bytes_of(table.vectors);
  return tensorfile::serialise({{kTensor,
                                 tensorfile::DType::kF32,
                                 {static_cast<std::uint64_t>(table.vectors.size(0)),
                                  static_cast<std::uint64_t>(table.vectors.size(1))},
                                 bytes}},
                               {{"system", system_text(table.system)},
                                {"key", table.key},
                                {"tree", table.tree.fingerprint()},
                                {"content", content_hash(bytes)},
                                {"record", dump_json(table.record)}});
}

std::string nodes_file(const codes::Hierarchy& tree) {
  std::string text = "code,parent,name\n";
  for (std::size_t i = 0; i < tree.size(); ++i) {
    const std::int32_t parent = tree.parent_index(i);
    text += csv_field(tree.node(i));
    text += ',';
    if (parent >= 0) text += csv_field(tree.node(static_cast<std::size_t>(parent)));
    text += ',';
    text += csv_field(tree.title(i));
    text += '\n';
  }
  return text;
}

const std::string& metadata(const tensorfile::Header& header, const std::string& key,
                            const std::string& file) {
  const auto at = header.metadata.find(key);
  if (at == header.metadata.end()) throw bad_file(file, "no \"" + key + "\" in the metadata");
  return at->second;
}

void check_shape(const tensorfile::Header& header, std::size_t nodes, const std::string& file) {
  const bool one = header.tensors.size() == 1 && header.tensors[0].name == kTensor &&
                   header.tensors[0].dtype == tensorfile::DType::kF32 &&
                   header.tensors[0].shape.size() == 2;
  if (!one) {
    throw bad_file(file, "expected one tensor \"relation\" of F32 [nodes, dim]");
  }
  const std::uint64_t rows = header.tensors[0].shape[0];
  const std::uint64_t dim = header.tensors[0].shape[1];
  if (rows != nodes) {
    throw bad_file(
        file, std::to_string(rows) + " rows for a tree of " + std::to_string(nodes) + " nodes");
  }
  if (dim == 0 || dim > 4096) {
    throw bad_file(file, "vectors of width " + std::to_string(dim) + "; expected 1 to 4096");
  }
}

at::Tensor copy_vectors(std::string_view bytes, const tensorfile::Header& header,
                        const std::string& file) {
  const tensorfile::TensorInfo& info = header.tensors[0];
  const std::string_view values =
      bytes.substr(header.buffer_offset + info.begin, info.end - info.begin);
  if (content_hash(values) != metadata(header, "content", file)) {
    throw bad_file(file, "the values are not those that were saved (content hash differs)");
  }
  at::Tensor vectors = at::empty(
      {static_cast<std::int64_t>(info.shape[0]), static_cast<std::int64_t>(info.shape[1])},
      at::kFloat);
  std::memcpy(vectors.data_ptr<float>(), values.data(), values.size());
  const float* value = vectors.const_data_ptr<float>();
  if (!std::all_of(value, value + vectors.numel(), [](float v) { return std::isfinite(v); })) {
    throw bad_file(file, "a value is not finite");
  }
  return vectors;
}

// A table from the bytes of its vectors and the tree they belong to.
std::shared_ptr<const RelationTable> parse_table(std::string_view bytes, codes::Hierarchy tree,
                                                 const std::string& file) {
  const auto header = tensorfile::Header::parse(bytes, bytes.size());
  check_shape(header, tree.size(), file);
  if (metadata(header, "system", file) != codes::system_name(tree.system())) {
    throw bad_file(file, "a table of another code system than its name says");
  }
  if (metadata(header, "tree", file) != tree.fingerprint()) {
    throw bad_file(file, "the vectors belong to another tree than the list of nodes beside them");
  }
  auto table = std::make_shared<RelationTable>();
  table->system = tree.system();
  table->vectors = copy_vectors(bytes, header, file);
  table->key = metadata(header, "key", file);
  table->record = parse_json(metadata(header, "record", file), file, Code::kDataError);
  table->tree = std::move(tree);
  return table;
}

// A file that lives as long as this object: hierarchies are read from paths.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string_view bytes)
      : path_((std::filesystem::temp_directory_path() / "theriac-nodes-XXXXXX").string()) {
    const int descriptor = ::mkstemp(path_.data());
    if (descriptor < 0) {
      throw Error(Code::kIoError, "cannot make a temporary file in " +
                                      std::filesystem::temp_directory_path().string());
    }
    const bool whole = write_all(descriptor, bytes);
    ::close(descriptor);
    if (!whole) {
      ::unlink(path_.c_str());
      throw Error(Code::kIoError, "cannot write a temporary file beside " + path_);
    }
  }
  ~TemporaryFile() { ::unlink(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  static bool write_all(int descriptor, std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
      if (written < 0 && errno != EINTR) return false;
      if (written > 0) bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return true;
  }
  std::string path_;
};

codes::Hierarchy parse_nodes(codes::System system, std::string_view bytes,
                             const std::string& file) {
  const TemporaryFile copy(bytes);
  try {
    return codes::Hierarchy::from_csv(system, copy.path());
  } catch (const Error& error) {
    if (error.code() != Code::kDataError) throw;
    throw Error(Code::kDataError, file + " is not a list of nodes")
        .at("file", file)
        .caused_by(error.what());
  }
}

// "tables/relation.icd9cm.safetensors" -> "icd9cm"; nothing for other names.
std::optional<std::string_view> stem(std::string_view name, std::string_view suffix) {
  if (!name.starts_with(kPrefix) || !name.ends_with(suffix)) return std::nullopt;
  if (name.size() < kPrefix.size() + suffix.size()) return std::nullopt;
  return name.substr(kPrefix.size(), name.size() - kPrefix.size() - suffix.size());
}

std::string table_file(codes::System system, std::string_view suffix) {
  return std::string(kPrefix) + system_text(system) + std::string(suffix);
}

// The cached table of `key`, or null when there is none that can be used.
std::shared_ptr<const RelationTable> read_cached(const std::filesystem::path& path,
                                                 const codes::Hierarchy& tree,
                                                 const std::string& key) {
  if (!std::filesystem::exists(path)) return nullptr;
  try {
    auto table = parse_table(read_file(path), tree, path.string());
    return table->key == key ? table : nullptr;
  } catch (const Error& error) {
    if (error.code() == Code::kDataError) return nullptr;
    throw;
  }
}

}  // namespace

const RelationTable* find_table(const RelationTables& tables, codes::System system) noexcept {
  for (const auto& table : tables) {
    if (table->system == system) return table.get();
  }
  return nullptr;
}

std::string relation_key(const codes::Hierarchy& tree, const TreeOptions& options,
                         std::uint64_t seed) {
  constexpr std::int64_t kAlgorithm = 1;  // raise it when the same inputs give other vectors
  return Fingerprint()
      .add("relation")
      .add(kAlgorithm)
      .add(codes::system_name(tree.system()))
      .add(tree.fingerprint())
      .add(dump_json(TreeOptions::table().effective_json(options)))
      .add(static_cast<std::int64_t>(seed))
      .hex();
}

std::shared_ptr<const RelationTable> pretrain(const codes::Hierarchy& tree,
                                              const TreeOptions& options, std::uint64_t seed,
                                              Job& job) {
  TreeTraining training = pretrain_tree(tree, options, seed, job);
  auto table = std::make_shared<RelationTable>();
  table->system = tree.system();
  table->tree = tree;
  table->vectors = std::move(training.vectors);
  table->key = relation_key(tree, options, seed);
  table->record = Json{{"options", TreeOptions::table().effective_json(options)},
                       {"seed", seed},
                       {"nodes", tree.size()},
                       {"losses", training.losses},
                       {"quality", to_json(measure(*table))}};
  return table;
}

std::shared_ptr<const RelationTable> pretrain_or_load(const codes::Hierarchy& tree,
                                                      const TreeOptions& options,
                                                      std::uint64_t seed,
                                                      const std::filesystem::path& cache_directory,
                                                      Job& job) {
  if (cache_directory.empty()) return pretrain(tree, options, seed, job);
  const std::string key = relation_key(tree, options, seed);
  const std::filesystem::path path =
      cache_directory / ("relation." + system_text(tree.system()) + "." + key + ".safetensors");
  if (auto cached = read_cached(path, tree, key)) return cached;
  auto table = pretrain(tree, options, seed, job);
  std::filesystem::create_directories(cache_directory);
  replace_file(path, vectors_file(*table));
  return table;
}

TreeQuality measure(const RelationTable& table) { return measure(table.tree, table.vectors); }

Json to_json(const TreeQuality& quality) {
  return Json{{"link_auc", quality.link_auc},
              {"parent_cosine", quality.parent_cosine},
              {"sibling_cosine", quality.sibling_cosine},
              {"random_cosine", quality.random_cosine},
              {"mean_norm", quality.mean_norm}};
}

std::map<std::string, std::string> relation_files(const RelationTables& tables) {
  std::map<std::string, std::string> files;
  for (const auto& table : tables) {
    if (!files.emplace(table_file(table->system, kVectorsSuffix), vectors_file(*table)).second) {
      throw Error(Code::kInvalidArgument, "two relation tables of the system " +
                                              system_text(table->system) +
                                              "; expected one a system");
    }
    files.emplace(table_file(table->system, kNodesSuffix), nodes_file(table->tree));
  }
  return files;
}

RelationTables relation_tables(const std::map<std::string, std::string>& files) {
  RelationTables tables;
  for (const auto& [name, bytes] : files) {
    const auto text = stem(name, kVectorsSuffix);
    if (!text) continue;
    const auto system = codes::system_from_name(*text);
    if (!system || codes::system_name(*system) != *text) {
      throw bad_file(name, "not named after a code system");
    }
    const std::string nodes_name = table_file(*system, kNodesSuffix);
    const auto nodes = files.find(nodes_name);
    if (nodes == files.end()) throw bad_file(name, "no list of nodes beside it: " + nodes_name);
    tables.push_back(parse_table(bytes, parse_nodes(*system, nodes->second, nodes_name), name));
  }
  return tables;
}

}  // namespace theriac::clinical
