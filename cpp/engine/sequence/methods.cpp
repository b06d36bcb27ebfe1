#include "cpp/engine/sequence/methods.h"

#include <algorithm>

#include "cpp/engine/sequence/baselines.h"
#include "cpp/engine/sequence/frozen_linear.h"
#include "cpp/engine/sequence/gru4rec.h"
#include "cpp/engine/sequence/next_item_training.h"
#include "cpp/engine/sequence/sasrec.h"
#include "cpp/engine/sequence/sequence_model.h"

namespace theriac::sequence {
namespace {

// The training of the TTA4SR authors' code, but selected on validation from the first epoch on.
train::TrainOptions default_training() {
  train::TrainOptions train;
  train.epochs = 500;
  train.batch_size = 256;
  train.patience = 20;
  return train;
}

struct NetworkOptions {
  std::int64_t max_length = 50;
  std::string select = "ndcg@20";
  train::TrainOptions train = default_training();
};

struct SasrecOptions : NetworkOptions {
  std::int64_t hidden = 64, inner = 256, layers = 2, heads = 2;
  double dropout = 0.5, attention_dropout = 0.5;
  static const OptionTable<SasrecOptions>& table();
};

struct Gru4recOptions : NetworkOptions {
  std::int64_t embedding = 64, hidden = 128;
  double dropout = 0.3;
  static const OptionTable<Gru4recOptions>& table();
};

// A member of a base as a member of S, which template argument deduction does not do by itself.
template <class S, class T>
T S::*own(T NetworkOptions::*member) {
  return member;
}

template <class S>
void add_network(OptionTable<S>& table) {
  table
      .integer("max_length", own<S>(&NetworkOptions::max_length), {1, 10'000},
               "the latest items of a history that are read")
      .choice("select", own<S>(&NetworkOptions::select),
              {"ndcg@20", "ndcg@10", "ndcg@5", "hr@20", "hr@10", "hr@5"},
              "metric of the validation data that picks the epoch")
      .group("train", own<S>(&NetworkOptions::train), train::TrainOptions::table(), "the fit loop");
}

constexpr RealRange kDropout{0.0, 1.0, false, true};

const OptionTable<SasrecOptions>& SasrecOptions::table() {
  static const auto table = [] {
    OptionTable<SasrecOptions> t("sasrec", "Self-attentive sequential recommendation");
    t.integer("hidden", &SasrecOptions::hidden, {1, 4096}, "width of item and user vectors")
        .integer("inner", &SasrecOptions::inner, {1, 65'536}, "width of the feed-forward layer")
        .integer("layers", &SasrecOptions::layers, {1, 64}, "transformer blocks")
        .integer("heads", &SasrecOptions::heads, {1, 64}, "attention heads; they divide hidden")
        .real("dropout", &SasrecOptions::dropout, kDropout, "on embeddings and block outputs")
        .real("attention_dropout", &SasrecOptions::attention_dropout, kDropout,
              "on attention weights");
    add_network(t);
    return t;
  }();
  return table;
}

const OptionTable<Gru4recOptions>& Gru4recOptions::table() {
  static const auto table = [] {
    OptionTable<Gru4recOptions> t("gru4rec", "Recurrent sequential recommendation");
    t.integer("embedding", &Gru4recOptions::embedding, {1, 4096}, "width of item and user vectors")
        .integer("hidden", &Gru4recOptions::hidden, {1, 4096}, "width of the recurrent state")
        .real("dropout", &Gru4recOptions::dropout, kDropout, "on embedded items");
    add_network(t);
    return t;
  }();
  return table;
}

// What the networks have in common: Module is SasrecImpl or Gru4recImpl.
template <class Options, class Module>
class NetworkRecommender : public SequenceRecommender {
 public:
  explicit NetworkRecommender(Options options) : options_(std::move(options)) {}
  Json effective_options() const override { return Options::table().effective_json(options_); }

  void build(std::int64_t items, at::Device device, std::uint64_t seed) override {
    module_ = make(options_, items + 2, seed);
    module_->to(device);
    device_ = device;
  }

  Json fit(const FitData& data, const FitSettings& settings, Job& job, bool& usable) override {
    NextItemNetwork network;
    network.module = module_.get();
    network.item_vectors = module_->item_vectors();
    network.max_length = options_.max_length;
    network.device = device_;
    network.forward = [this](const TokenBatch& batch, const at::Generator& generator) {
      return module_->forward(batch, generator);
    };
    network.freeze = [this] { return freeze(); };
    NextItemTraining training(std::move(network), data, options_.select, settings.threads, job);
    train::FitRecord record;
    usable = true;
    try {
      train::fit(training, options_.train, settings.seed, settings.checkpointing, job, &record);
    } catch (...) {
      usable = !record.epochs.empty();
      throw;
    }
    return train::record_json(record);
  }

  tensor::NamedTensors state() const override { return tensor::state_of(*module_); }
  std::int64_t parameters() const override {
    std::int64_t count = 0;
    for (const at::Tensor& parameter : module_->parameters()) count += parameter.numel();
    return count;
  }
  void load(const tensor::NamedTensors& state) override {
    tensor::load_state(*module_, state);
    module_->eval();
  }
  std::shared_ptr<const NextItemScorer> freeze() const override {
    const std::vector<float> items = values(module_->item_vectors());
    return vector_scorer(sequence::freeze(*module_), items.data(),
                         static_cast<std::size_t>(module_->item_vectors().size(0)));
  }
  at::Tensor item_vectors() const override { return module_->item_vectors().detach().cpu(); }

 private:
  static std::shared_ptr<SasrecImpl> make(const SasrecOptions& o, std::int64_t rows,
                                          std::uint64_t seed) {
    return std::make_shared<SasrecImpl>(SasrecShape{rows, o.hidden, o.inner, o.layers, o.heads,
                                                    o.max_length, o.dropout, o.attention_dropout},
                                        seed);
  }
  static std::shared_ptr<Gru4recImpl> make(const Gru4recOptions& o, std::int64_t rows,
                                           std::uint64_t seed) {
    return std::make_shared<Gru4recImpl>(
        Gru4recShape{rows, o.embedding, o.hidden, o.max_length, o.dropout}, seed);
  }

  Options options_;
  std::shared_ptr<Module> module_;
  at::Device device_ = at::kCPU;
};

std::vector<float> take(const tensor::NamedTensors& state, const std::string& name,
                        std::int64_t count) {
  for (const auto& [key, tensor] : state) {
    if (key != name) continue;
    if (tensor.numel() == count) return values(tensor);
    throw Error(Code::kDataError, "tensor '" + name + "' has " + std::to_string(tensor.numel()) +
                                      " elements; expected " + std::to_string(count))
        .at("tensor", name);
  }
  throw Error(Code::kDataError, "the model lacks tensor '" + name + "'").at("tensor", name);
}

struct PopularityOptions {
  static const OptionTable<PopularityOptions>& table() {
    static const OptionTable<PopularityOptions> table("popularity", "Shares of items");
    return table;
  }
};

class PopularityRecommender : public SequenceRecommender {
 public:
  Json effective_options() const override { return Json::object(); }
  void build(std::int64_t items, at::Device, std::uint64_t) override {
    share_.assign(static_cast<std::size_t>(items) + 2, 0.0F);
  }
  Json fit(const FitData& data, const FitSettings&, Job& job, bool& usable) override {
    job.check();
    const auto& ids = data.train->columns().ids;
    std::vector<std::int64_t> counts(share_.size(), 0);
    for (const std::int32_t id : ids) ++counts[static_cast<std::size_t>(id)];
    const auto all = static_cast<double>(std::max<std::size_t>(ids.size(), 1));
    for (std::size_t i = 0; i < share_.size(); ++i)
      share_[i] = static_cast<float>(static_cast<double>(counts[i]) / all);
    usable = true;
    return Json::object();
  }
  tensor::NamedTensors state() const override { return {{"share", at::tensor(share_)}}; }
  std::int64_t parameters() const override { return static_cast<std::int64_t>(share_.size()) - 2; }
  void load(const tensor::NamedTensors& state) override {
    share_ = take(state, "share", static_cast<std::int64_t>(share_.size()));
  }
  std::shared_ptr<const NextItemScorer> freeze() const override {
    return popularity_scorer(share_);
  }

 private:
  std::vector<float> share_;  // [items + 2]
};

struct ItemKnnOptions {
  std::int64_t neighbours = 100, max_length = 50;
  double decay = 0.8;
  std::string weighting = "item_cf_iuf";
  static const OptionTable<ItemKnnOptions>& table() {
    static const auto table =
        OptionTable<ItemKnnOptions>("item_knn", "Items that the same users have")
            .integer("neighbours", &ItemKnnOptions::neighbours, {1, 10'000}, "kept of each item")
            .integer("max_length", &ItemKnnOptions::max_length, {1, 10'000},
                     "the latest items of a history that are read")
            .real("decay", &ItemKnnOptions::decay, {0.0, 1.0},
                  "what an item counts beside the one after it")
            .choice("weighting", &ItemKnnOptions::weighting, {"item_cf", "item_cf_iuf"},
                    "each user alike, or 1 / ln(1 + items of the user)");
    return table;
  }
};

class ItemKnnRecommender : public SequenceRecommender {
 public:
  explicit ItemKnnRecommender(ItemKnnOptions options) : options_(std::move(options)) {}
  Json effective_options() const override {
    return ItemKnnOptions::table().effective_json(options_);
  }
  void build(std::int64_t items, at::Device, std::uint64_t) override {
    items_ = items;
    width_ = std::min(options_.neighbours, items);
    neighbours_.assign(static_cast<std::size_t>(items_ * width_), 0);
    scores_.assign(neighbours_.size(), 0.0F);
  }
  Json fit(const FitData& data, const FitSettings&, Job& job, bool& usable) override {
    job.check();
    std::vector<augment::Ids> users;
    for (std::int64_t u = 0; u < data.train->users(); ++u) {
      const auto own = data.train->of(u);
      users.emplace_back(own.begin(), own.end());
    }
    const auto weighting = options_.weighting == "item_cf"
                               ? augment::CoOccurrence::kCount
                               : augment::CoOccurrence::kInverseUserFrequency;
    const augment::SimilarityTable table = augment::similar_by_users(
        users, static_cast<std::int32_t>(items_), static_cast<std::size_t>(width_), weighting);
    neighbours_.assign(table.neighbours().begin(), table.neighbours().end());
    scores_.assign(table.scores().begin(), table.scores().end());
    usable = true;
    return Json::object();
  }
  tensor::NamedTensors state() const override {
    return {{"neighbours", at::tensor(neighbours_, at::kInt).view({items_, width_})},
            {"scores", at::tensor(scores_).view({items_, width_})}};
  }
  std::int64_t parameters() const override { return items_ * width_; }
  void load(const tensor::NamedTensors& state) override {
    scores_ = take(state, "scores", items_ * width_);
    for (const auto& [key, tensor] : state) {
      if (key != "neighbours" || tensor.numel() != items_ * width_) continue;
      const at::Tensor flat = tensor.to(at::kCPU, at::kInt).contiguous().view(-1);
      std::copy_n(flat.const_data_ptr<std::int32_t>(), neighbours_.size(), neighbours_.begin());
      for (const std::int32_t id : neighbours_) {
        if (id < 0 || id > items_)
          throw Error(Code::kDataError, "tensor 'neighbours' names item " + std::to_string(id) +
                                            "; expected 0 to " + std::to_string(items_))
              .at("tensor", "neighbours");
      }
      return;
    }
    throw Error(Code::kDataError, "the model lacks tensor 'neighbours', or it has another size")
        .at("tensor", "neighbours");
  }
  std::shared_ptr<const NextItemScorer> freeze() const override {
    return item_knn_scorer(static_cast<std::size_t>(items_), static_cast<std::size_t>(width_),
                           neighbours_, scores_, options_.decay,
                           static_cast<std::size_t>(options_.max_length));
  }

 private:
  ItemKnnOptions options_;
  std::int64_t items_ = 0, width_ = 0;
  std::vector<std::int32_t> neighbours_;  // [items, width]
  std::vector<float> scores_;
};

std::unique_ptr<SequenceRecommender> new_sasrec(const Json& json) {
  SasrecOptions options = SasrecOptions::table().parse(json);
  if (options.hidden % options.heads != 0) {
    throw Error(Code::kInvalidArgument, "option 'heads' is " + std::to_string(options.heads) +
                                            ", which does not divide hidden (" +
                                            std::to_string(options.hidden) + ")")
        .at("option", "heads");
  }
  return std::make_unique<NetworkRecommender<SasrecOptions, SasrecImpl>>(std::move(options));
}
std::unique_ptr<SequenceRecommender> new_gru4rec(const Json& json) {
  return std::make_unique<NetworkRecommender<Gru4recOptions, Gru4recImpl>>(
      Gru4recOptions::table().parse(json));
}
std::unique_ptr<SequenceRecommender> new_popularity(const Json& json) {
  PopularityOptions::table().parse(json);
  return std::make_unique<PopularityRecommender>();
}
std::unique_ptr<SequenceRecommender> new_item_knn(const Json& json) {
  return std::make_unique<ItemKnnRecommender>(ItemKnnOptions::table().parse(json));
}

template <class Options>
Json schema_of() {
  return Options::table().schema();
}

}  // namespace

const std::vector<SequenceMethod>& sequence_method_table() {
  static const std::vector<SequenceMethod> methods = {
      {"sasrec", "sequence", "Causal transformer over a user's latest items",
       "Kang and McAuley, Self-Attentive Sequential Recommendation, ICDM 2018",
       schema_of<SasrecOptions>, new_sasrec},
      {"gru4rec", "sequence", "Recurrent network over a user's latest items",
       "Hidasi et al., Session-based Recommendations with Recurrent Neural Networks, ICLR 2016",
       schema_of<Gru4recOptions>, new_gru4rec},
      {"popularity", "baseline", "The most frequent items of training, the same for everybody", "",
       schema_of<PopularityOptions>, new_popularity},
      {"item_knn", "baseline", "Items that users of the history's items have in common",
       "Linden et al., Amazon.com Recommendations: Item-to-Item Collaborative Filtering, IEEE "
       "Internet Computing 2003",
       schema_of<ItemKnnOptions>, new_item_knn},
  };
  return methods;
}

std::vector<MethodEntry> sequence_methods() {
  std::vector<MethodEntry> entries;
  for (const SequenceMethod& method : sequence_method_table()) {
    MethodEntry entry;
    entry.name = method.name;
    entry.family = method.family;
    entry.dataset = "sequences";
    entry.doc = method.doc;
    entry.paper = method.paper;
    entry.schema = method.schema;
    entry.create = [&method](const Json& options, const ContextSettings& context) {
      return make_sequence_model(method, options, context);
    };
    entry.load = [&method](const train::ModelDirectory& directory, const Json& options,
                           const ContextSettings& context) {
      return load_sequence_model(method, directory, options, context);
    };
    entry.import = [&method](const std::string& file, const Dataset& dataset, const Json& options,
                             const ContextSettings& context) {
      return import_sequence_model(method, file, dataset, options, context);
    };
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace theriac::sequence
