#include "cpp/engine/clinical/augmented_scorer.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "cpp/core/base/error.h"
#include "cpp/core/base/hash.h"

namespace theriac::clinical {
namespace {

constexpr std::size_t kFields = 3;

[[noreturn]] void refuse(const char* option, const std::string& why) {
  throw Error(Code::kUnsupported, std::string("augmenter, ") + option + ": " + why)
      .at("option", option);
}

bool changes_codes(const augment::AugmenterOptions& options) {
  return options.op == "substitute" || options.op == "insert";
}

void check(const augment::Augmenter& augmenter) {
  const augment::AugmenterOptions& o = augmenter.options();
  if (augmenter.adds_noise())
    refuse("op", "'" + o.op + "' needs item vectors to add noise to; tmask_r suits coded visits");
  if (augmenter.shifts()) refuse("shift", "medication models have no user vector to add it to");
  const bool masks = o.op == "mask" || o.op == "tmask_b";
  if (masks && o.mask_id != 0)
    refuse("mask_id",
           "medication models have no code to mask with; leave it 0, codes are left out");
  if (changes_codes(o) && o.similar != "item_cf" && o.similar != "item_cf_iuf") {
    refuse("similar", "'" + o.similar +
                          "' is not of a medication model; expected item_cf or item_cf_iuf, codes "
                          "that visits of its training data had together");
  }
}

// A code of a past visit, or one similar to it that would stand there.
struct Place {
  std::uint32_t visit;
  std::uint8_t field;
  std::int32_t id;
};

std::span<const std::int32_t>& set_of(FrozenVisit& visit, int field) {
  return field == 0 ? visit.diagnoses : field == 1 ? visit.procedures : visit.medications;
}

// Scratch of one call; kept by thread, so that a session allocates it once.
struct Scratch {
  std::vector<Place> places;          // the patient's, then those of similar codes
  std::vector<std::int32_t> numbers;  // 1 ... the patient's places
  std::vector<FrozenVisit> visits;
  std::vector<Place> chosen;  // of one copy
  std::vector<std::int32_t> kept;
  std::vector<float> of_copy;
};

class AugmentedScorer final : public FrozenScorer {
 public:
  AugmentedScorer(std::shared_ptr<const FrozenScorer> scorer,
                  std::shared_ptr<const augment::Augmenter> augmenter, SimilarCodes similar)
      : scorer_(std::move(scorer)),
        augmenter_(std::move(augmenter)),
        similar_(std::move(similar)) {}

  std::int64_t classes() const noexcept override { return scorer_->classes(); }

  void score(std::span<const FrozenVisit> visits, FrozenWorkspace& workspace,
             std::span<float> probabilities, FrozenAttention* attention) const override {
    static thread_local Scratch own;
    own.visits.assign(visits.begin(), visits.end());
    const std::uint64_t key = list(own);
    // The model's attention is that to the patient as recorded.
    if (attention != nullptr || own.places.empty())
      scorer_->score(visits, workspace, probabilities, attention);
    if (own.places.empty()) return;
    const augment::Copies copies = copies_of(own, key);
    std::fill(probabilities.begin(), probabilities.end(), 0.0F);
    own.of_copy.resize(probabilities.size());
    for (std::size_t c = 0; c < copies.size(); ++c) {
      choose(copies, c, own);
      own.visits.assign(visits.begin(), visits.end());
      set_past(own);
      scorer_->score(own.visits, workspace, own.of_copy, nullptr);
      const auto weight = static_cast<float>(copies.weights[c]);
      for (std::size_t i = 0; i < probabilities.size(); ++i)
        probabilities[i] += weight * own.of_copy[i];
    }
    for (float& value : probabilities)
      value = std::min(value, 1.0F);  // weights sum to 1 but for rounding
  }

 private:
  // Fills places and numbers; returns the history's own key.
  static std::uint64_t list(Scratch& own) {
    own.places.clear();
    own.numbers.clear();
    std::uint64_t key = own.visits.size();
    for (std::size_t v = 0; v + 1 < own.visits.size(); ++v) {
      for (int field = 0; field < static_cast<int>(kFields); ++field) {
        const auto set = set_of(own.visits[v], field);
        key = hash64({reinterpret_cast<const char*>(set.data()), set.size_bytes()}, key + 1);
        for (const std::int32_t id : set) {
          own.places.push_back(
              {static_cast<std::uint32_t>(v), static_cast<std::uint8_t>(field), id});
          own.numbers.push_back(static_cast<std::int32_t>(own.places.size()));
        }
      }
    }
    return key;
  }

  augment::Copies copies_of(Scratch& own, std::uint64_t key) const {
    if (!augmenter_->wants_table()) return augmenter_->apply(own.numbers, key);
    // A table over this patient's places: the neighbours of each are places of similar codes, added
    // behind it. A code that is like no other has its own equal, so that it stays as it is.
    std::size_t width = 1;
    for (const auto& table : similar_) width = std::max(width, table ? table->width() : 0);
    const std::size_t count = own.places.size();
    std::vector<std::int32_t> neighbours(count * width);
    for (std::size_t p = 0; p < count; ++p) {
      const Place place = own.places[p];
      const auto& table = similar_[place.field];
      const augment::IdSpan similar = table ? table->of(place.id + 1) : augment::IdSpan();
      for (std::size_t n = 0; n < std::max<std::size_t>(similar.size(), 1); ++n) {
        const std::int32_t id = similar.empty() ? place.id : similar[n] - 1;
        own.places.push_back({place.visit, place.field, id});
        neighbours[p * width + n] = static_cast<std::int32_t>(own.places.size());
      }
    }
    neighbours.resize(own.places.size() * width);
    const auto rows = static_cast<std::int32_t>(own.places.size());
    return augmenter_
        ->with_table(
            std::make_shared<const augment::SimilarityTable>(rows, width, std::move(neighbours)))
        .apply(own.numbers, key);
  }

  // The places of a copy, by visit and field, in the copy's order there; none twice.
  void choose(const augment::Copies& copies, std::size_t c, Scratch& own) const {
    own.chosen.clear();
    const augment::IdSpan numbers = copies.copy(c);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const bool masked =
          numbers[i] == 0 || (!copies.marks.empty() && copies.marks[copies.offsets[c] + i] != 0);
      if (!masked) own.chosen.push_back(own.places[static_cast<std::size_t>(numbers[i]) - 1]);
    }
    if (augmenter_->options().op == "reorder") deal(own);
    const auto slot = [](const Place& place) { return place.visit * kFields + place.field; };
    std::stable_sort(own.chosen.begin(), own.chosen.end(),
                     [&](const Place& a, const Place& b) { return slot(a) < slot(b); });
    // Sets are small; a code may come from two others, or be there already.
    std::size_t kept = 0;
    for (const Place& place : own.chosen) {
      bool old = false;
      for (std::size_t i = kept; i-- > 0 && slot(own.chosen[i]) == slot(place);)
        old = old || own.chosen[i].id == place.id;
      if (!old) own.chosen[kept++] = place;
    }
    own.chosen.resize(kept);
  }

  // The codes of each kind, in the copy's order, to the visits that had such codes.
  static void deal(Scratch& own) {
    std::array<std::size_t, kFields> next{};
    for (Place& place : own.chosen) {
      std::size_t& at = next[place.field];
      while (own.places[at].field != place.field) ++at;
      place.visit = own.places[at++].visit;
    }
  }

  // Past visits with the chosen codes. `kept` must not move while spans point into it.
  static void set_past(Scratch& own) {
    own.kept.assign(own.chosen.size(), 0);
    for (std::size_t v = 0; v + 1 < own.visits.size(); ++v) {
      for (int field = 0; field < static_cast<int>(kFields); ++field)
        set_of(own.visits[v], field) = {};
    }
    for (std::size_t i = 0; i < own.chosen.size();) {
      const Place first = own.chosen[i];
      const std::size_t begin = i;
      for (; i < own.chosen.size(); ++i) {
        if (own.chosen[i].visit != first.visit || own.chosen[i].field != first.field) break;
        own.kept[i] = own.chosen[i].id;
      }
      set_of(own.visits[first.visit], first.field) =
          std::span<const std::int32_t>(own.kept).subspan(begin, i - begin);
    }
  }

  std::shared_ptr<const FrozenScorer> scorer_;
  std::shared_ptr<const augment::Augmenter> augmenter_;
  SimilarCodes similar_;
};

}  // namespace

std::shared_ptr<const FrozenScorer> augmented_scorer(
    std::shared_ptr<const FrozenScorer> scorer, std::shared_ptr<const augment::Augmenter> augmenter,
    const SimilarCodeTables& similar) {
  check(*augmenter);
  SimilarCodes chosen;
  if (changes_codes(augmenter->options())) {
    chosen = augmenter->options().similar == "item_cf" ? similar.item_cf : similar.item_cf_iuf;
    if (!chosen[0] && !chosen[1] && !chosen[2]) {
      refuse("similar", "this model has no table '" + augmenter->options().similar +
                            "'; models that were saved before there were such tables have none, "
                            "fit it again");
    }
  }
  return std::make_shared<AugmentedScorer>(std::move(scorer), std::move(augmenter),
                                           std::move(chosen));
}

std::vector<std::string> operators_of(const SimilarCodeTables& similar) {
  std::vector<std::string> all{"crop",    "reorder", "window",  "mask",
                               "tmask_r", "tmask_b", "original"};
  for (const auto& table : similar.item_cf) {
    if (!table) continue;
    all.insert(all.end(), {"substitute", "insert"});
    break;
  }
  return all;
}

}  // namespace theriac::clinical
