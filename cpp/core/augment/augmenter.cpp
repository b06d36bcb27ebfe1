#include "cpp/core/augment/augmenter.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>

#include "cpp/core/base/error.h"
#include "cpp/core/base/hash.h"
#include "cpp/core/base/random.h"

namespace theriac::augment {
namespace {

const std::vector<std::string> kOps{"crop",   "reorder", "window",  "mask",   "substitute",
                                    "insert", "tmask_r", "tmask_b", "tnoise", "original"};
constexpr std::int64_t kMostCopies = 10'000;
constexpr std::size_t kMostIds = 100'000'000;  // of all copies together

[[noreturn]] void refuse(const std::string& option, const std::string& problem) {
  throw Error(Code::kInvalidArgument, "augmenter, " + option + ": " + problem).at("option", option);
}

std::uint64_t key_of(IdSpan history) {
  return hash64({reinterpret_cast<const char*>(history.data()), history.size_bytes()});
}

// C(n, k), or `most` + 1 where it is more.
std::uint64_t choices(std::uint64_t n, std::uint64_t k, std::uint64_t most) {
  std::uint64_t count = 1;
  for (std::uint64_t i = 1; i <= std::min(k, n - k); ++i) {
    count = count * (n - i + 1) / i;  // most < 2^31 and n < 2^32: no overflow
    if (count > most) return most + 1;
  }
  return count;
}

}  // namespace

const OptionTable<AugmenterOptions>& AugmenterOptions::table() {
  using O = AugmenterOptions;
  static const auto table =
      OptionTable<O>("augmenter", "Copies of a history whose predictions are averaged")
          .choice(
              "op", &O::op, kOps,
              "tmask_r removes items, tmask_b puts mask_id 0 in their place, mask puts mask_id, "
              "substitute a similar item; insert adds similar items, crop keeps a run, window "
              "a run of fixed length, reorder shuffles one; tnoise adds noise to item and user "
              "vectors, original changes nothing (see shift)")
          .real("ratio", &O::ratio, {0, 1, false, true},
                "share of the history that changes (crop: that is kept), rounded down")
          .real("ratio_high", &O::ratio_high, {0, 1, false, true},
                "above ratio: each copy draws its share between the two")
          .integer("copies", &O::copies, {1, kMostCopies}, "m, how many copies")
          .integer("window", &O::window, {1, 1'000'000}, "window: length of the run")
          .integer("inserts", &O::inserts, {1, 100}, "insert: most items in front of one")
          .integer("mask_id", &O::mask_id, {0, 2'147'483'647}, "mask: the id to put")
          .integer("min_changes", &O::min_changes, {0, 1},
                   "at least so many positions change (substitute, insert: always 1)")
          .real("original_weight", &O::original_weight, {0, 1},
                "weight of the history itself; the copies share the rest")
          .flag("protect_last", &O::protect_last,
                "leave the most recent item as it is (not of crop and window)")
          .integer("exhaustive", &O::exhaustive, {0, 10'000},
                   "where there are at most so many different copies, take each once instead of "
                   "drawing (tmask_r, tmask_b, mask, window)")
          .flag("dedup", &O::dedup, "make equal copies one, with their weights' sum")
          .integer("min_length", &O::min_length, {1, 1'000'000}, "shorter histories stay alone")
          .integer("max_length", &O::max_length, {0, 1'000'000},
                   "longer histories stay alone; 0: none is too long")
          .integer("seed", &O::seed, {}, "of the draws")
          .flag("coserec_start", &O::coserec_start,
                "crop, reorder: a run never reaches the last item, as in CoSeRec's code")
          .choice(
              "mask_as", &O::mask_as, {"id", "zero", "block"},
              "tmask_b: id 0 in the item's place, as the authors' code does; a vector of zeros; or "
              "a step that is skipped and never read from (the last two need a model)")
          .choice(
              "similar", &O::similar, {"host", "dot", "cosine", "item_cf", "item_cf_iuf", "hybrid"},
              "substitute, insert: whose similar items; the host's own table, or a model's: by its "
              "item vectors (dot, cosine), by users in common (item_cf, item_cf_iuf), hybrid: "
              "the better of dot and item_cf_iuf")
          .integer("input_copies", &O::input_copies, {0, kMostCopies},
                   "tnoise: copies with noise on item vectors")
          .integer("output_copies", &O::output_copies, {0, kMostCopies},
                   "tnoise: copies with noise on the user vector")
          .real("noise_low", &O::noise_low, {-1e6, 1e6}, "tnoise: item vectors, lower end")
          .real("noise_high", &O::noise_high, {-1e6, 1e6}, "tnoise: item vectors, upper end")
          .real("output_low", &O::output_low, {-1e6, 1e6}, "tnoise: user vector, lower end")
          .real("output_high", &O::output_high, {-1e6, 1e6}, "tnoise: user vector, upper end")
          .flag("expected_noise", &O::expected_noise,
                "tnoise: the mean of the noise on the user vector instead of draws")
          .real("shift", &O::shift, {-1e6, 1e6},
                "added to every dimension of the user vector (needs a model)");
  return table;
}

// The random numbers of one copy.
class Augmenter::Draws {
 public:
  Draws(std::int64_t seed, std::uint64_t key, std::size_t copy)
      : random_(static_cast<std::uint64_t>(seed), "augment " + std::to_string(copy), key) {}

  std::size_t below(std::size_t n) { return static_cast<std::size_t>(random_.below(n)); }
  double between(double low, double high) { return random_.uniform(low, high); }
  // k of n without replacement: the first k of a Fisher-Yates shuffle.
  Positions sample(std::size_t n, std::size_t k) {
    Positions all(n);
    std::iota(all.begin(), all.end(), 0U);
    for (std::size_t i = 0; i < k; ++i) std::swap(all[i], all[i + below(n - i)]);
    all.resize(k);
    return all;
  }
  template <class T>
  void shuffle(std::span<T> values) {
    for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }

 private:
  Random random_;
};

Augmenter::Augmenter(AugmenterOptions options, std::int32_t items,
                     std::shared_ptr<const SimilarityTable> similar)
    : options_(std::move(options)), op_(Op::kRemove), items_(items), similar_(std::move(similar)) {
  constexpr Op kOrder[] = {Op::kCrop,   Op::kReorder, Op::kWindow, Op::kMask,  Op::kSubstitute,
                           Op::kInsert, Op::kRemove,  Op::kMask,   Op::kNoise, Op::kOriginal};
  const auto named = std::find(kOps.begin(), kOps.end(), options_.op);
  if (named == kOps.end()) refuse("op", "'" + options_.op + "' is none");
  op_ = kOrder[named - kOps.begin()];
  if (options_.op == "tmask_b" && options_.mask_id != 0) {
    refuse("mask_id", "tmask_b puts id 0; 'mask' takes another");
  }
  const auto is_share = [](double share) { return share >= 0 && share < 1; };  // not NaN
  if (!is_share(options_.ratio)) refuse("ratio", "expected at least 0 and below 1");
  if (!is_share(options_.ratio_high)) refuse("ratio_high", "expected at least 0 and below 1");
  if (!(options_.original_weight >= 0 && options_.original_weight <= 1)) {
    refuse("original_weight", "expected 0 to 1");
  }
  if (options_.copies < 1 || options_.copies > kMostCopies) {
    refuse("copies", "expected 1 to " + std::to_string(kMostCopies));
  }
  if (options_.window < 1) refuse("window", "expected at least 1");
  if (options_.mask_as != "id" && options_.op != "tmask_b") {
    refuse("mask_as",
           "'" + options_.op + "' puts ids; only tmask_b knows '" + options_.mask_as + "'");
  }
  if (op_ == Op::kNoise) {
    const auto is_interval = [](double low, double high) { return low <= high; };  // not NaN
    if (!is_interval(options_.noise_low, options_.noise_high)) {
      refuse("noise_high", "expected at least noise_low");
    }
    if (!is_interval(options_.output_low, options_.output_high)) {
      refuse("output_high", "expected at least output_low");
    }
    if (options_.input_copies + options_.output_copies < 1) {
      refuse("input_copies", "expected at least one copy of either kind");
    }
  }
  if (!std::isfinite(options_.shift)) refuse("shift", "expected a finite number");
  const bool needs_similar = op_ == Op::kSubstitute || op_ == Op::kInsert;
  if (needs_similar && similar_ == nullptr && options_.similar != "host") return;
  if (needs_similar && similar_ == nullptr) {
    refuse("op", "'" + options_.op + "' needs a table of similar items");
  }
  if (needs_similar && items_ != 0 && similar_->items() != items_) {
    refuse("op", "the table of similar items is of " + std::to_string(similar_->items()) +
                     " items; the data has " + std::to_string(items_));
  }
  if (needs_similar) items_ = similar_->items();
}

bool Augmenter::marks_items() const noexcept { return options_.mask_as != "id"; }
bool Augmenter::adds_noise() const noexcept { return op_ == Op::kNoise; }
bool Augmenter::wants_table() const noexcept {
  return (op_ == Op::kSubstitute || op_ == Op::kInsert) && similar_ == nullptr;
}
Augmenter Augmenter::with_table(std::shared_ptr<const SimilarityTable> similar) const {
  const std::int32_t items = similar->items();
  return Augmenter(options_, items, std::move(similar));
}

void Noise::add_to(std::span<float> x, std::size_t token) const {
  if (high == low) {  // a constant
    for (float& value : x) value += static_cast<float>(low);
    return;
  }
  // What a token gets depends neither on the history's length nor on which other tokens there are.
  Random random(seed, "tnoise " + std::to_string(copy) + " " + std::to_string(token), key);
  for (float& value : x) value += static_cast<float>(random.uniform(low, high));
}

void Augmenter::check(IdSpan history) const {
  if (wants_table()) {
    throw Error(Code::kInvalidState,
                "augmenter, similar: '" + options_.similar +
                    "' is a model's table; set the augmenter on a session of one")
        .at("option", "similar");
  }
  if (history.empty()) throw Error(Code::kInvalidArgument, "the history is empty");
  for (std::size_t i = 0; i < history.size(); ++i) {
    const bool known = history[i] >= 1 && (items_ == 0 || history[i] <= items_);
    if (known) continue;
    throw Error(Code::kInvalidArgument,
                "history, position " + std::to_string(i) + ": item " + std::to_string(history[i]) +
                    "; expected " + (items_ == 0 ? "1 or more" : "1 to " + std::to_string(items_)))
        .at("position", i);
  }
}

std::size_t Augmenter::changeable(std::size_t length) const {
  return length - (options_.protect_last ? 1U : 0U);
}

// floor(ratio n), in double precision as the reference has it. At most n - 1: something must remain.
std::size_t Augmenter::changes(double ratio, std::size_t length) const {
  const bool always = op_ == Op::kSubstitute || op_ == Op::kInsert || op_ == Op::kCrop;
  const auto least = always ? 1U : static_cast<std::size_t>(options_.min_changes);
  const auto share = static_cast<std::size_t>(std::floor(ratio * static_cast<double>(length)));
  const bool keeps_length = op_ == Op::kSubstitute || op_ == Op::kInsert || op_ == Op::kReorder;
  const std::size_t most = keeps_length ? length : length - 1;
  return std::min({std::max(share, least), std::max<std::size_t>(most, op_ == Op::kCrop ? 1 : 0),
                   changeable(length)});
}

std::size_t Augmenter::start(std::size_t run, std::size_t length, Draws& draws) const {
  const std::size_t last = length - run;
  return draws.below(options_.coserec_start ? std::max<std::size_t>(last, 1) : last + 1);
}

Ids Augmenter::substituted(IdSpan history, const Positions& positions, Draws& draws) const {
  Ids by;
  for (const std::uint32_t position : positions) {
    const IdSpan similar = similar_->of(history[position]);
    by.push_back(similar.empty()
                     ? static_cast<std::int32_t>(1 + draws.below(static_cast<std::size_t>(items_)))
                     : similar.front());
  }
  return replaced(history, positions, by);
}

// max(1, inserts / k) items at most in front of each of the k.
Ids Augmenter::with_insertions(IdSpan history, const Positions& positions, Draws& draws) const {
  const auto inserts = static_cast<std::size_t>(options_.inserts);
  const std::size_t most =
      positions.empty() ? 1 : std::max<std::size_t>(1, inserts / positions.size());
  std::vector<Ids> before;
  for (const std::uint32_t position : positions) {
    const IdSpan similar = similar_->of(history[position]);
    const std::size_t wanted = 1 + draws.below(most);
    if (similar.empty()) {
      before.push_back(
          {static_cast<std::int32_t>(1 + draws.below(static_cast<std::size_t>(items_)))});
    } else {
      const std::size_t taken = std::min(wanted, similar.size());
      before.emplace_back(similar.begin(), similar.begin() + static_cast<std::ptrdiff_t>(taken));
    }
  }
  return inserted(history, positions, before);
}

Ids Augmenter::one(IdSpan history, Draws& draws) const {
  const std::size_t n = history.size();
  const bool drawn = options_.ratio_high > options_.ratio;
  const double ratio = drawn ? draws.between(options_.ratio, options_.ratio_high) : options_.ratio;
  const Ids whole(history.begin(), history.end());
  if (op_ == Op::kWindow) {
    const auto run = std::min(n, static_cast<std::size_t>(options_.window));
    const IdSpan part = history.subspan(draws.below(n - run + 1), run);
    return {part.begin(), part.end()};
  }
  const std::size_t k = changes(ratio, n);
  if (k == 0) return whole;
  if (op_ == Op::kCrop) {
    const IdSpan part = history.subspan(start(k, n, draws), k);
    return {part.begin(), part.end()};
  }
  if (op_ == Op::kReorder) {
    Ids out = whole;
    draws.shuffle(std::span(out).subspan(start(k, changeable(n), draws), k));
    return out;
  }
  const Positions positions = draws.sample(changeable(n), k);
  switch (op_) {
    case Op::kRemove:
      return without(history, positions);
    case Op::kMask:
      return replaced(history, positions, Ids(k, static_cast<std::int32_t>(options_.mask_id)));
    case Op::kSubstitute:
      return substituted(history, positions, draws);
    default:
      return with_insertions(history, positions, draws);
  }
}

// All copies there are, if that is asked for and they are few enough.
bool Augmenter::enumerate(IdSpan history, std::vector<Ids>& out) const {
  const auto most = static_cast<std::uint64_t>(options_.exhaustive);
  const std::size_t n = history.size();
  if (most == 0 || options_.ratio_high > options_.ratio) return false;
  if (op_ == Op::kWindow) {
    const auto run = std::min(n, static_cast<std::size_t>(options_.window));
    if (n - run + 1 > most || run > kMostIds / (n - run + 1)) return false;
    for (std::size_t first = 0; first + run <= n; ++first) {
      const IdSpan part = history.subspan(first, run);
      out.emplace_back(part.begin(), part.end());
    }
    return true;
  }
  if (op_ != Op::kRemove && op_ != Op::kMask) return false;
  const std::size_t k = changes(options_.ratio, n), from = changeable(n);
  const std::uint64_t all = choices(from, k, most);
  if (all > most || n > kMostIds / all) return false;
  Positions positions(k);
  std::iota(positions.begin(), positions.end(), 0U);
  const Ids masks(k, static_cast<std::int32_t>(options_.mask_id));
  for (;;) {  // combinations in lexicographic order
    out.push_back(op_ == Op::kRemove ? without(history, positions)
                                     : replaced(history, positions, masks));
    std::size_t i = k;
    while (i > 0 && positions[i - 1] == from - k + i - 1) --i;
    if (i == 0) return true;
    ++positions[i - 1];
    for (; i < k; ++i) positions[i] = positions[i - 1] + 1;
  }
}

// tmask_b put 0 where an item is masked, and no other id is 0.
void Augmenter::mark(Copies& copies) const {
  if (!marks_items()) return;
  const auto as =
      static_cast<std::uint8_t>(options_.mask_as == "block" ? Mark::kBlocked : Mark::kZero);
  copies.marks.resize(copies.ids.size());
  for (std::size_t i = 0; i < copies.ids.size(); ++i) copies.marks[i] = copies.ids[i] == 0 ? as : 0;
}

// TNoise (arXiv 2504.04843): copies whose item vectors are noisy, and as many clean ones as
// need be, all alike, with noise on their user vectors.
Copies Augmenter::with_noise(IdSpan history, std::uint64_t key) const {
  Copies out;
  const auto seed = static_cast<std::uint64_t>(options_.seed);
  const auto noisy = static_cast<std::size_t>(options_.input_copies);
  const auto clean = static_cast<std::size_t>(options_.output_copies);
  if (history.size() > kMostIds / (noisy + 1)) {
    refuse("input_copies", "so many copies of a history of " + std::to_string(history.size()) +
                               " items are more than " + std::to_string(kMostIds) + " ids");
  }
  const double copies_share = 1 - options_.original_weight;
  const double each = copies_share / static_cast<double>(noisy + clean);
  const auto add = [&](double weight, const Noise& noise) {
    out.ids.insert(out.ids.end(), history.begin(), history.end());
    out.offsets.push_back(out.ids.size());
    out.weights.push_back(weight);
    out.noise.push_back(noise);
  };
  const double alone = options_.original_weight + each * static_cast<double>(clean);
  if (alone > 0) add(alone, {});
  for (std::size_t c = 0; c < noisy; ++c) {
    // Items' noise and users' noise are of different streams: copies count on.
    add(each, {options_.noise_low, options_.noise_high, seed, key, c});
  }
  if (clean > 0 && options_.expected_noise) {
    const double mean = (options_.output_low + options_.output_high) / 2;
    out.output_noise.push_back({mean, mean, seed, key, 0});
    out.output_share = each * static_cast<double>(clean);
  } else {
    for (std::size_t c = 0; c < clean; ++c)
      out.output_noise.push_back({options_.output_low, options_.output_high, seed, key, noisy + c});
    out.output_share = each;
  }
  return out;
}

Copies Augmenter::apply(IdSpan history, std::optional<std::uint64_t> key) const {
  check(history);
  const auto length = static_cast<std::int64_t>(history.size());
  const bool outside =
      length < options_.min_length || (options_.max_length > 0 && length > options_.max_length);
  const bool alone = outside || options_.original_weight == 1 || op_ == Op::kOriginal;
  if (!alone && op_ == Op::kNoise) {
    Copies out = with_noise(history, key.value_or(key_of(history)));
    out.shift = options_.shift;
    return out;
  }
  std::vector<Ids> made;
  std::vector<double> weights;
  if (alone || options_.original_weight > 0) {
    made.emplace_back(history.begin(), history.end());
    weights.push_back(alone ? 1.0 : options_.original_weight);
  }
  if (!alone) {
    const std::size_t before = made.size();
    if (!enumerate(history, made)) {
      const auto copies = static_cast<std::size_t>(options_.copies);
      if (history.size() > kMostIds / copies) {
        throw Error(Code::kInvalidArgument, std::to_string(copies) + " copies of a history of " +
                                                std::to_string(history.size()) +
                                                " items are more than " + std::to_string(kMostIds) +
                                                " ids; shorten it or set max_length");
      }
      const std::uint64_t own = key.value_or(key_of(history));
      for (std::size_t c = 0; c < copies; ++c) {
        Draws draws(options_.seed, own, c);
        made.push_back(one(history, draws));
      }
    }
    const double each = (1 - options_.original_weight) / static_cast<double>(made.size() - before);
    weights.resize(made.size(), each);
  }
  Copies out;
  std::vector<std::size_t> first(made.size());
  std::iota(first.begin(), first.end(), std::size_t{0});
  if (options_.dedup) {  // each copy's first equal, by sorting
    std::vector<std::size_t> order = first;
    std::sort(order.begin(), order.end(), [&made](std::size_t a, std::size_t b) {
      return made[a] != made[b] ? made[a] < made[b] : a < b;
    });
    for (std::size_t i = 1; i < order.size(); ++i) {
      if (made[order[i]] == made[order[i - 1]]) first[order[i]] = first[order[i - 1]];
    }
  }
  std::vector<std::size_t> place(made.size());
  for (std::size_t c = 0; c < made.size(); ++c) {
    if (first[c] != c) {
      out.weights[place[first[c]]] += weights[c];
      continue;
    }
    place[c] = out.size();
    out.ids.insert(out.ids.end(), made[c].begin(), made[c].end());
    out.offsets.push_back(out.ids.size());
    out.weights.push_back(weights[c]);
  }
  mark(out);
  out.shift = outside ? 0 : options_.shift;
  return out;
}

}  // namespace theriac::augment
