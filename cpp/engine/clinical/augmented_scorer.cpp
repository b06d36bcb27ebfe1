#include "cpp/engine/clinical/augmented_scorer.h"

#include <algorithm>
#include <string>

#include "cpp/core/base/error.h"
#include "cpp/core/base/hash.h"

namespace theriac::clinical {
namespace {

void check(const augment::Augmenter& augmenter) {
  const augment::AugmenterOptions& o = augmenter.options();
  const auto refuse = [](const char* option, const std::string& why) {
    throw Error(Code::kUnsupported, std::string("augmenter, ") + option + ": " + why)
        .at("option", option);
  };
  const bool leaves_out =
      o.op == "tmask_r" || o.op == "crop" || o.op == "window" || o.op == "original";
  if (!leaves_out) {
    refuse("op",
           "'" + o.op +
               "' does not suit coded visits, which are sets without an order or a padding code; "
               "use tmask_r, crop or window");
  }
  if (augmenter.shifts()) refuse("shift", "medication models have no user vector to add it to");
}

// The sets of the visits before the last, as one list of places.
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
  std::vector<Place> places;
  std::vector<std::int32_t> numbers;  // 1 ... places
  std::vector<FrozenVisit> visits;
  std::vector<std::int32_t> kept;
  std::vector<float> of_copy;
};

class AugmentedScorer final : public FrozenScorer {
 public:
  AugmentedScorer(std::shared_ptr<const FrozenScorer> scorer,
                  std::shared_ptr<const augment::Augmenter> augmenter)
      : scorer_(std::move(scorer)), augmenter_(std::move(augmenter)) {}

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
    const augment::Copies copies = augmenter_->apply(own.numbers, key);
    std::fill(probabilities.begin(), probabilities.end(), 0.0F);
    own.of_copy.resize(probabilities.size());
    for (std::size_t c = 0; c < copies.size(); ++c) {
      own.visits.assign(visits.begin(), visits.end());
      leave_out(copies.copy(c), own);
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
      for (int field = 0; field < 3; ++field) {
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

  // Past visits with the places named alone. `kept` must not move while spans point into it.
  static void leave_out(augment::IdSpan numbers, Scratch& own) {
    own.kept.assign(numbers.size(), 0);
    for (std::size_t v = 0; v + 1 < own.visits.size(); ++v) {
      for (int field = 0; field < 3; ++field) set_of(own.visits[v], field) = {};
    }
    for (std::size_t i = 0; i < numbers.size();) {
      const Place& first = own.places[static_cast<std::size_t>(numbers[i]) - 1];
      const std::size_t begin = i;
      for (; i < numbers.size(); ++i) {
        const Place& place = own.places[static_cast<std::size_t>(numbers[i]) - 1];
        if (place.visit != first.visit || place.field != first.field) break;
        own.kept[i] = place.id;
      }
      set_of(own.visits[first.visit], first.field) =
          std::span<const std::int32_t>(own.kept).subspan(begin, i - begin);
    }
  }

  std::shared_ptr<const FrozenScorer> scorer_;
  std::shared_ptr<const augment::Augmenter> augmenter_;
};

}  // namespace

std::shared_ptr<const FrozenScorer> augmented_scorer(
    std::shared_ptr<const FrozenScorer> scorer,
    std::shared_ptr<const augment::Augmenter> augmenter) {
  check(*augmenter);
  return std::make_shared<AugmentedScorer>(std::move(scorer), std::move(augmenter));
}

}  // namespace theriac::clinical
