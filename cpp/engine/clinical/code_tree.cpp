#include "cpp/engine/clinical/code_tree.h"

#include <chrono>

#include "cpp/engine/clinical/relation_table.h"

namespace theriac::clinical {
namespace {

constexpr char kMethod[] = "code_tree";

// Codes of one system in all of a cohort's vocabularies.
std::vector<std::string> codes_in(const data::Cohort& cohort, codes::System system) {
  std::vector<std::string> texts;
  for (int field = 0; field < data::kFieldCount; ++field) {
    for (const auto& code : cohort.vocabulary(static_cast<data::Field>(field)).codes()) {
      const bool fits = code.system == system && codes::has_code_shape(system, code.text);
      if (fits) texts.push_back(code.text);
    }
  }
  return texts;
}

// Fitted: one relation table. `fit` needs exclusive use; the rest may run concurrently afterwards.
class CodeTree final : public Model {
 public:
  CodeTree(CodeTreeOptions options, std::uint64_t seed)
      : options_(std::move(options)), seed_(seed) {}
  CodeTree(CodeTreeOptions options, std::uint64_t seed, std::shared_ptr<const RelationTable> table,
           Json training)
      : options_(std::move(options)),
        seed_(seed),
        table_(std::move(table)),
        training_(std::move(training)) {}

  Outcome fit(const Dataset* train, const Dataset*, std::string_view, Job& job) noexcept override {
    return tensor::guarded([&] {
      const auto begin = std::chrono::steady_clock::now();
      table_ = pretrain_or_load(tree(train), options_, seed_, options_.cache, job);
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
      training_ = Json{{"seed", seed_}, {"seconds", taken.count()}};
      if (train != nullptr && train->cohort && options_.list.empty()) {
        training_["data"] = train->cohort->fingerprint();
      }
    });
  }

  Outcome save(const std::string& directory, bool overwrite) const noexcept override {
    return tensor::guarded([&] {
      train::ModelDirectory contents;
      contents.config =
          Json{{"method", kMethod}, {"options", effective()}, {"training", training_}};
      contents.files = relation_files({fitted()});
      train::save_model_directory(directory, contents, overwrite);
    });
  }

  Outcome evaluate(const Dataset&, std::string_view, Job&, std::string&) const noexcept override {
    return tensor::guarded([] {
      throw Error(
          Code::kUnsupported,
          "code_tree recommends nothing, so it cannot be evaluated on data; the quality of its "
          "vectors is under \"quality\" in the model's info");
    });
  }

  Outcome info(std::string& json) const noexcept override {
    return tensor::guarded([&] {
      Json info{{"method", kMethod}, {"fitted", table_ != nullptr}, {"options", effective()}};
      if (table_ != nullptr) {
        info["training"] = training_;
        info["key"] = table_->key;
        info["nodes"] = table_->tree.size();
        info["dim"] = table_->dim();
        for (const char* member : {"losses", "quality"}) info[member] = table_->record.at(member);
      }
      json = dump_json(info);
    });
  }

  Outcome tensor(std::string_view name, TensorView& view) const noexcept override {
    return tensor::guarded([&] {
      if (name != "relation") {
        throw Error(Code::kNotFound, "code_tree has no tensor '" + std::string(name) +
                                         "'; it has 'relation' [nodes, dim]");
      }
      view = TensorView{};
      view.owner = fitted();
      view.data = fitted()->vectors.const_data_ptr<float>();
      view.shape = fitted()->vectors.sizes().vec();
      view.strides = fitted()->vectors.strides().vec();
    });
  }

  Outcome open_session(std::string_view, std::unique_ptr<Session>&) const noexcept override {
    return tensor::guarded([] {
      throw Error(Code::kUnsupported,
                  "code_tree recommends nothing; give it to a medication method, which can open a "
                  "session");
    });
  }

 private:
  codes::Hierarchy tree(const Dataset* train) const {
    const codes::System system = *codes::system_from_name(options_.system);
    if (!options_.list.empty()) return codes::Hierarchy::from_list(system, options_.list);
    if (train == nullptr || !train->cohort) {
      throw Error(Code::kInvalidArgument,
                  "code_tree needs codes: set the option \"list\" to an official list, or fit on a "
                  "cohort that uses " +
                      options_.system)
          .at("option", "list");
    }
    const std::vector<std::string> codes = codes_in(*train->cohort, system);
    if (codes.empty()) {
      throw Error(Code::kDataError, "the cohort has no code of the system " + options_.system +
                                        "; set \"system\" to one it uses, or \"list\"");
    }
    return codes::Hierarchy::closure(system, codes);
  }

  const std::shared_ptr<const RelationTable>& fitted() const {
    if (table_ == nullptr) {
      throw Error(Code::kInvalidState, "the code_tree model is not fitted; call fit first");
    }
    return table_;
  }

  Json effective() const { return CodeTreeOptions::table().effective_json(options_); }

  CodeTreeOptions options_;
  std::uint64_t seed_;
  std::shared_ptr<const RelationTable> table_;
  Json training_ = Json::object();
};

std::unique_ptr<Model> load_code_tree(const train::ModelDirectory& directory, const Json&,
                                      const ContextSettings&) {
  const RelationTables tables = relation_tables(directory.files);
  const Json& config = directory.config;
  const bool complete = config.contains("options") && config.contains("training") &&
                        config["training"].contains("seed") &&
                        config["training"]["seed"].is_number_unsigned();
  if (tables.size() != 1 || !complete) {
    throw Error(Code::kDataError,
                "a code_tree model directory needs one relation table, and \"options\" and "
                "\"training\" with its seed in config.json");
  }
  return std::make_unique<CodeTree>(CodeTreeOptions::table().parse(config["options"], "options"),
                                    config["training"]["seed"].get<std::uint64_t>(), tables[0],
                                    config["training"]);
}

}  // namespace

const OptionTable<CodeTreeOptions>& CodeTreeOptions::table() {
  static const auto table = [] {
    OptionTable<CodeTreeOptions> t("code_tree", "Relation vectors of a code system's tree");
    t.choice("system", &CodeTreeOptions::system,
             {"icd9cm", "icd9proc", "icd10cm", "icd10pcs", "atc"}, "code system");
    t.text(
        "list", &CodeTreeOptions::list,
        "official list of the system (CSV with code,parent, or a CMS order file); without one the "
        "codes of the data set and their ancestors by rule");
    t.text("cache", &CodeTreeOptions::cache, "directory of tables made before, and for this one");
    add_tree_options(t);
    return t;
  }();
  return table;
}

MethodEntry code_tree_method() {
  MethodEntry entry;
  entry.name = kMethod;
  entry.family = "hierarchy";
  entry.doc =
      "Vectors of a code system's tree, learned from the tree alone, for the medication methods.";
  entry.paper =
      "Liang et al., Self-supervised Hierarchical Representation for Medication Recommendation, "
      "DASFAA 2025";
  entry.schema = [] { return CodeTreeOptions::table().schema(); };
  entry.create = [](const Json& options, const ContextSettings& context) -> std::unique_ptr<Model> {
    return std::make_unique<CodeTree>(CodeTreeOptions::table().parse(options), context.seed);
  };
  entry.load = load_code_tree;
  return entry;
}

}  // namespace theriac::clinical
