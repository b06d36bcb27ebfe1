#include <algorithm>
#include <cmath>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "cpp/core/base/csv.h"
#include "cpp/core/base/error.h"
#include "cpp/core/base/random.h"
#include "cpp/core/generate/cohort.h"

namespace theriac::generate {
namespace {

using codes::MedicalCode;
using codes::System;

// The cohort of medication.md section 12.7.
constexpr double kCategoryDeviation = 3.0;
constexpr double kCategoryDensity = 0.15;  // share of non-zero entries of a category's vector
constexpr double kLeafDeviation = 0.3;
constexpr double kBiasMean = -2.2, kBiasDeviation = 0.6;
constexpr double kRankExponent = 0.8;
constexpr std::uint64_t kMostLeaves = 5;         // in one visit
constexpr std::int64_t kFirstVisit = 946684800;  // 2000-01-01; visits are a day apart

// Leaves of the official list: the four-digit rows whose is_leaf is 1 (3,661; another 221 end at
// three digits).
std::vector<std::string> listed_leaves(const std::filesystem::path& path) {
  CsvReader reader(open_source(path));
  const std::size_t code = reader.column("code"), leaf = reader.column("is_leaf");
  std::vector<std::string> leaves;
  while (reader.next()) {
    if (reader.field(leaf) != "1") continue;
    std::string text = codes::normalise(System::kIcd9proc, reader.field(code));
    if (text.size() < 3) throw reader.error(code, "a leaf needs at least three digits");
    if (text.size() != 4) continue;
    leaves.push_back(std::move(text));
  }
  if (leaves.size() < 30) {
    throw Error(Code::kDataError, "the code list has " + std::to_string(leaves.size()) +
                                      " leaves; expected an ICD-9 procedure list with at least 30")
        .at("file", path.string());
  }
  return leaves;
}

// Codes with the official list's shape: 100 categories, and below each about 37 leaves of three or
// four digits.
std::vector<std::string> generated_leaves(std::uint64_t seed) {
  std::vector<std::string> leaves;
  for (int category = 0; category < 100; ++category) {
    Random random(seed, "hierarchy claim codes", static_cast<std::uint64_t>(category));
    const std::string head = {static_cast<char>('0' + category / 10),
                              static_cast<char>('0' + category % 10)};
    for (char third = '0'; third <= '9'; ++third) {
      if (random.chance(0.25)) continue;
      if (random.chance(0.2)) {
        leaves.push_back(head + third);
        continue;
      }
      const auto count = static_cast<char>(2 + random.below(8));
      for (char fourth = '0'; fourth < '0' + count; ++fourth)
        leaves.push_back(head + third + fourth);
    }
  }
  return leaves;
}

using Logits = std::vector<double>;  // [classes]

// Category and leaf vectors and the bias: what labels depend on.
class LabelModel {
 public:
  LabelModel(std::uint64_t seed, std::int64_t classes)
      : seed_(seed), bias_(static_cast<std::size_t>(classes)) {
    Random random(seed, "hierarchy claim bias");
    for (double& value : bias_) value = kBiasMean + kBiasDeviation * random.normal();
  }

  std::vector<std::int32_t> draw_labels(const std::vector<const std::string*>& leaves,
                                        Random& random) {
    Logits logits = bias_;
    for (const std::string* leaf : leaves) {
      const Logits& effect = leaf_effect(*leaf);
      for (std::size_t m = 0; m < logits.size(); ++m) logits[m] += effect[m];
    }
    std::vector<std::int32_t> labels;
    for (std::size_t m = 0; m < logits.size(); ++m) {
      if (random.chance(1 / (1 + std::exp(-logits[m])))) {
        labels.push_back(static_cast<std::int32_t>(m));
      }
    }
    return labels;
  }

 private:
  // The vector of the leaf's category plus the leaf's own deviation from it.
  const Logits& leaf_effect(const std::string& leaf) {
    const auto [it, fresh] = effects_.try_emplace(leaf, bias_.size(), 0.0);
    if (!fresh) return it->second;
    const auto category = static_cast<std::uint64_t>(std::stoi(leaf.substr(0, 2)));
    Random shared(seed_, "hierarchy claim category", category);
    Random own(seed_, "hierarchy claim leaf " + leaf);
    for (double& value : it->second) {
      const double strength = kCategoryDeviation * shared.normal();
      value = shared.chance(kCategoryDensity) ? strength : 0.0;
      value += kLeafDeviation * own.normal();
    }
    return it->second;
  }

  std::uint64_t seed_;
  Logits bias_;
  std::unordered_map<std::string, Logits> effects_;
};

// Leaves of one set with their Zipf-like weights over a random ranking.
class LeafPool {
 public:
  LeafPool(std::vector<std::string> leaves, Random& random) : leaves_(std::move(leaves)) {
    random.shuffle(leaves_);
    double total = 0;
    for (std::size_t rank = 1; rank <= leaves_.size(); ++rank) {
      total += std::pow(static_cast<double>(rank), -kRankExponent);
      cumulative_.push_back(total);
    }
  }

  // Between one and five distinct leaves; drawing again on a repeat is drawing without replacement.
  std::vector<const std::string*> draw(Random& random) const {
    const std::size_t count = 1 + random.below(kMostLeaves);
    std::vector<const std::string*> drawn;
    while (drawn.size() < std::min(count, leaves_.size())) {
      const double at = random.uniform() * cumulative_.back();
      const auto it = std::upper_bound(cumulative_.begin(), cumulative_.end(), at);
      const std::string* leaf = &leaves_[static_cast<std::size_t>(it - cumulative_.begin())];
      if (std::find(drawn.begin(), drawn.end(), leaf) == drawn.end()) drawn.push_back(leaf);
    }
    return drawn;
  }

 private:
  std::vector<std::string> leaves_;
  std::vector<double> cumulative_;
};

struct Sample {
  std::vector<MedicalCode> procedures, medications;
};

// "M07", as wide as the largest needs.
std::string class_name(std::int64_t m, std::int64_t classes) {
  const std::size_t digits = std::max<std::size_t>(2, std::to_string(classes - 1).size());
  const std::string number = std::to_string(m);
  return "M" + std::string(digits - number.size(), '0') + number;
}

std::vector<Sample> draw_samples(std::int64_t count, const LeafPool& pool, LabelModel& model,
                                 std::int64_t classes, std::uint64_t seed,
                                 const std::string& purpose) {
  std::vector<Sample> samples;
  for (std::int64_t i = 0; i < count; ++i) {
    Random random(seed, purpose, static_cast<std::uint64_t>(i));
    Sample sample;
    const auto leaves = pool.draw(random);
    for (const std::string* leaf : leaves) sample.procedures.push_back({System::kIcd9proc, *leaf});
    for (const std::int32_t m : model.draw_labels(leaves, random)) {
      sample.medications.push_back({System::kLocal, class_name(m, classes)});
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

// All three parts share the vocabulary of the codes that occur in any of them, so that ids agree.
data::Vocabulary procedures_of(const std::vector<const std::vector<Sample>*>& parts) {
  std::unordered_set<MedicalCode> seen;
  for (const auto* part : parts) {
    for (const Sample& sample : *part)
      seen.insert(sample.procedures.begin(), sample.procedures.end());
  }
  std::vector<MedicalCode> sorted(seen.begin(), seen.end());
  std::sort(sorted.begin(), sorted.end());
  return data::Vocabulary(std::move(sorted));
}

data::Vocabulary class_vocabulary(std::int64_t classes) {
  std::vector<MedicalCode> names;
  for (std::int64_t m = 0; m < classes; ++m)
    names.push_back({System::kLocal, class_name(m, classes)});
  return data::Vocabulary(std::move(names));
}

data::Cohort build(const std::vector<Sample>& samples, const std::string& part,
                   const data::Vocabulary& procedures, const HierarchyClaimOptions& options) {
  data::CohortBuilder builder(data::Vocabulary(), procedures, class_vocabulary(options.classes));
  std::int64_t time = kFirstVisit;
  for (std::size_t i = 0; i < samples.size(); ++i, time += 86400) {
    const std::string id = part + "-" + std::to_string(i);
    builder.begin_patient(id);
    builder.add_visit(id, time, {}, samples[i].procedures, samples[i].medications);
  }
  builder.set_provenance(Json{{"generator", "hierarchy_claim"},
                              {"part", part},
                              {"options", HierarchyClaimOptions::table().effective_json(options)}});
  return std::move(builder).finish();
}

}  // namespace

const OptionTable<HierarchyClaimOptions>& HierarchyClaimOptions::table() {
  static const auto t =
      OptionTable<HierarchyClaimOptions>(
          "hierarchy_claim",
          "Labels that depend on code categories; test codes never seen in training")
          .integer("seed", &HierarchyClaimOptions::seed, {0}, "seed of everything random")
          .integer("train", &HierarchyClaimOptions::train, {1, 1'000'000}, "training visits")
          .integer("test", &HierarchyClaimOptions::test, {1, 1'000'000}, "visits of each test set")
          .integer("classes", &HierarchyClaimOptions::classes, {1, 10'000}, "medication classes");
  return t;
}

HierarchyClaim hierarchy_claim(const HierarchyClaimOptions& options,
                               const std::filesystem::path& list_csv) {
  const auto seed = static_cast<std::uint64_t>(options.seed);
  std::vector<std::string> leaves =
      list_csv.empty() ? generated_leaves(seed) : listed_leaves(list_csv);
  Random random(seed, "hierarchy claim leaves");
  random.shuffle(leaves);
  const auto held_out = static_cast<std::ptrdiff_t>(leaves.size() / 3);
  const LeafPool unseen({leaves.begin(), leaves.begin() + held_out}, random);
  const LeafPool seen({leaves.begin() + held_out, leaves.end()}, random);
  LabelModel model(seed, options.classes);
  const auto draw = [&](std::int64_t count, const LeafPool& pool, const std::string& purpose) {
    return draw_samples(count, pool, model, options.classes, seed, purpose);
  };
  const auto train = draw(options.train, seen, "hierarchy claim train");
  const auto test_seen = draw(options.test, seen, "hierarchy claim test seen");
  const auto test_unseen = draw(options.test, unseen, "hierarchy claim test unseen");
  const data::Vocabulary procedures = procedures_of({&train, &test_seen, &test_unseen});
  return {build(train, "train", procedures, options),
          build(test_seen, "test_seen", procedures, options),
          build(test_unseen, "test_unseen", procedures, options)};
}

}  // namespace theriac::generate
