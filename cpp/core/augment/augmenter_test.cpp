#include "cpp/core/augment/augmenter.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <numeric>
#include <set>
#include <sstream>

#include "cpp/core/augment/python_random_for_test.h"
#include "cpp/core/base/test_support.h"
#include "cpp/core/tensorfile/sha256_for_test.h"

namespace theriac::augment {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::PythonRandom;

template <class Call>
std::string failure_of(Call&& call) {
  const auto failure = testing_support::failure_of(std::forward<Call>(call));
  return failure ? failure->message : "";
}

const Ids kTen{11, 12, 13, 14, 15, 16, 17, 18, 19, 20};

AugmenterOptions options(const std::string& op, double ratio = 0.5) {
  AugmenterOptions out;
  out.op = op;
  out.ratio = ratio;
  out.dedup = false;
  return out;
}

std::shared_ptr<const SimilarityTable> ring(std::int32_t items, std::size_t width) {
  std::vector<std::int32_t> neighbours;
  for (std::int32_t item = 1; item <= items; ++item) {
    for (std::size_t k = 0; k < width; ++k) {
      neighbours.push_back((item + static_cast<std::int32_t>(k)) % items + 1);
    }
  }
  return std::make_shared<const SimilarityTable>(items, width, neighbours);
}

std::vector<Ids> all(const Copies& copies) {
  std::vector<Ids> out;
  for (std::size_t c = 0; c < copies.size(); ++c) {
    out.emplace_back(copies.copy(c).begin(), copies.copy(c).end());
  }
  return out;
}

bool is_subsequence(const Ids& part, const Ids& whole) {
  auto at = whole.begin();
  for (const std::int32_t id : part) {
    at = std::find(at, whole.end(), id);
    if (at == whole.end()) return false;
    ++at;
  }
  return true;
}
bool is_run(const Ids& part, const Ids& whole) {
  return std::search(whole.begin(), whole.end(), part.begin(), part.end()) != whole.end();
}

// ---- the reference -------------------------------------------------------------------------------

TEST(PythonRandom, NumbersOfTheSpecification) {
  PythonRandom first(2024);
  for (const std::uint32_t word :
       {2019024262U, 780421486U, 3127871324U, 2484006460U, 1304602151U}) {
    EXPECT_EQ(first.bits(32), word);
  }
  PythonRandom integers(2024);
  for (const std::uint32_t number : {7702U, 2978U, 11932U, 9476U, 4977U}) {
    EXPECT_EQ(integers.between(1, 12102), number);
  }
  PythonRandom samples(2024);
  EXPECT_THAT(samples.sample(6, 3), ElementsAre(3, 1, 2));
  EXPECT_THAT(samples.sample(6, 3), ElementsAre(1, 3, 2));
  EXPECT_THAT(samples.sample(6, 3), ElementsAre(4, 1, 3));
  const auto longer = samples.sample(40, 20);
  EXPECT_EQ(std::vector<std::uint32_t>(longer.begin(), longer.begin() + 6),
            (std::vector<std::uint32_t>{22, 26, 33, 13, 19, 34}));
}

std::vector<Ids> sequences_of(const std::string& file) {
  std::vector<Ids> out;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    Ids ids;
    for (std::int32_t id = 0; fields >> id;) ids.push_back(id);
    ids.erase(ids.begin());  // the user
    out.push_back(std::move(ids));
  }
  return out;
}

void add_line(IdSpan ids, std::string& text) {
  constexpr std::size_t kLongest = 50;
  const IdSpan kept = ids.subspan(ids.size() - std::min(ids.size(), kLongest));
  for (std::size_t i = 0; i < kept.size(); ++i)
    text += (i == 0 ? "" : " ") + std::to_string(kept[i]);
  text += '\n';
}

// All 223,630 sequences of the paper's Beauty run: the reference's stream and our operators.
TEST(Augmenter, SequencesOfTheReference) {
  const char* const data = std::getenv("THERIAC_DATA_DIR");
  const std::string file = std::string(data == nullptr ? "" : data) + "/tta4sr/Beauty.txt";
  if (data == nullptr || !std::ifstream(file))
    GTEST_SKIP() << "needs tta4sr/Beauty.txt (THERIAC_DATA_DIR)";
  const std::vector<Ids> users = sequences_of(file);
  ASSERT_EQ(users.size(), 22363U);
  constexpr std::uint32_t kItems = 12101;
  PythonRandom random(2024);
  const auto draw_negatives = [&random](const Ids& user, const std::set<std::int32_t>& own) {
    for (std::size_t i = 0; i + 1 < user.size(); ++i) {
      while (own.contains(static_cast<std::int32_t>(random.between(1, kItems + 1)))) {
      }
    }
  };
  for (const Ids& user : users) draw_negatives(user, {user.begin(), user.end()});
  std::string removed, masked;
  for (const Ids& user : users) {
    draw_negatives(user, {user.begin(), user.end()});
    const IdSpan history = IdSpan(user).first(user.size() - 1);
    const auto n = static_cast<std::uint32_t>(history.size());
    const auto k = static_cast<std::uint32_t>(std::floor(0.5 * n));
    for (int copy = 0; copy < 10; ++copy) {
      const Positions positions = random.sample(n, k);
      add_line(without(history, positions), removed);
      add_line(replaced(history, positions, Ids(k, 0)), masked);
    }
  }
  EXPECT_EQ(testing_support::sha256_hex(removed),
            "3f912a91851fd9a148da0a500031f9e1afc3027f252b160c6a8f8e03a8e7eeb1");
  EXPECT_EQ(testing_support::sha256_hex(masked),
            "87181962e7b9dea2709ea1ef5343a39ae25f6f10ad9071f7fa0dbc840d4bb2e3");
}

// ---- what each operator keeps --------------------------------------------------------------------

TEST(Augmenter, SharesAreRoundedDownInDoublePrecision) {
  const auto left = [](double ratio, std::size_t n) {
    Ids history(n);
    std::iota(history.begin(), history.end(), 1);
    return n - Augmenter(options("tmask_r", ratio)).apply(history).copy(0).size();
  };
  EXPECT_EQ(left(.5, 4), 2U);
  EXPECT_EQ(left(.5, 5), 2U);
  EXPECT_EQ(left(.5, 7), 3U);
  EXPECT_EQ(left(.6, 4), 2U);
  EXPECT_EQ(left(.6, 5), 3U);
  EXPECT_EQ(left(.7, 4), 2U);
  EXPECT_EQ(left(.7, 10), 7U);
  EXPECT_EQ(left(.7, 90), 62U);  // 63 in float32
  EXPECT_EQ(left(.99, 1), 0U);
}

TEST(Augmenter, EachOperatorKeepsWhatItMust) {
  const auto table = ring(30, 3);
  for (const std::string op :
       {"crop", "reorder", "window", "mask", "substitute", "insert", "tmask_r", "tmask_b"}) {
    for (const std::size_t n : {1U, 2U, 3U, 10U, 30U}) {
      Ids history(n);
      std::iota(history.begin(), history.end(), 1);
      for (const double ratio : {0., .2, .5, .99}) {
        AugmenterOptions o = options(op, ratio);
        o.mask_id = op == "mask" ? 31 : 0;
        o.inserts = 8;
        for (const Ids& copy : all(Augmenter(o, 30, table).apply(history))) {
          const auto k = static_cast<std::size_t>(std::floor(ratio * static_cast<double>(n)));
          if (op == "tmask_r") {
            EXPECT_EQ(copy.size(), n - std::min(k, n - 1));
            EXPECT_TRUE(is_subsequence(copy, history));
          } else if (op == "crop" || op == "window") {
            EXPECT_EQ(copy.size(),
                      op == "crop" ? std::clamp<std::size_t>(k, 1, std::max<std::size_t>(n - 1, 1))
                                   : std::min<std::size_t>(n, 4));
            EXPECT_TRUE(is_run(copy, history));
          } else if (op == "insert") {
            EXPECT_GT(copy.size(), n);
            EXPECT_TRUE(is_subsequence(history, copy));
          } else if (op == "reorder") {
            EXPECT_TRUE(
                std::is_permutation(copy.begin(), copy.end(), history.begin(), history.end()));
          } else {
            ASSERT_EQ(copy.size(), n);
            std::size_t changed = 0;
            for (std::size_t i = 0; i < n; ++i) {
              if (copy[i] == history[i]) continue;
              ++changed;
              EXPECT_EQ(copy[i], op == "substitute" ? table->of(history[i]).front()
                                 : op == "mask"     ? 31
                                                    : 0);
            }
            EXPECT_EQ(changed,
                      op == "substitute" ? std::max<std::size_t>(k, 1) : std::min(k, n - 1));
          }
        }
      }
    }
  }
}

// Chi-square over 4,000 histories, 9 degrees of freedom: 27.9 is exceeded once in a thousand.
TEST(Augmenter, EveryPositionIsAsLikely) {
  const Augmenter augmenter(options("tmask_r", .3));
  std::map<std::int32_t, double> kept;
  for (std::uint64_t key = 0; key < 4000; ++key) {
    const Copies copies = augmenter.apply(kTen, key);
    for (const std::int32_t id : copies.copy(0)) ++kept[id];
  }
  double chi = 0;
  for (const std::int32_t id : kTen) chi += (kept[id] - 2800) * (kept[id] - 2800) / (2800 * .3);
  EXPECT_LT(chi, 27.9);
}

TEST(Augmenter, RunsReachTheLastItemUnlessAsInCoserec) {
  for (const bool coserec : {false, true}) {
    AugmenterOptions o = options("crop", .5);
    o.coserec_start = coserec;
    o.copies = 200;
    bool reaches = false;
    for (const Ids& copy : all(Augmenter(o).apply(kTen))) reaches = reaches || copy.back() == 20;
    EXPECT_EQ(reaches, !coserec);
  }
}

TEST(Augmenter, TheLastItemCanBeProtected) {
  for (const std::string op : {"reorder", "mask", "substitute", "tmask_r", "tmask_b"}) {
    AugmenterOptions o = options(op, .9);
    o.protect_last = true;
    o.copies = 50;
    for (const Ids& copy : all(Augmenter(o, 30, ring(30, 1)).apply(kTen))) {
      EXPECT_EQ(copy.back(), 20) << op;
    }
  }
}

// ---- weights and draws ---------------------------------------------------------------------------

TEST(Augmenter, NothingChangedIsTheHistoryAlone) {
  AugmenterOptions o = options("tmask_r", .2);
  o.dedup = true;
  const Copies copies = Augmenter(o).apply(Ids{5, 6, 7, 8});  // int(.8) = 0
  EXPECT_EQ(all(copies), (std::vector<Ids>{{5, 6, 7, 8}}));
  EXPECT_NEAR(copies.weights[0], 1, 1e-12);
}

TEST(Augmenter, WeightsSumToOne) {
  for (const double original : {0., .25, 1.}) {
    for (const bool dedup : {false, true}) {
      AugmenterOptions o = options("tmask_r");
      o.original_weight = original;
      o.dedup = dedup;
      const Copies copies = Augmenter(o).apply(Ids{1, 2, 3});
      EXPECT_NEAR(std::accumulate(copies.weights.begin(), copies.weights.end(), 0.0), 1, 1e-12);
      if (original > 0) {
        EXPECT_EQ(all(copies).front(), (Ids{1, 2, 3}));
        EXPECT_EQ(copies.weights.front(), original);
      }
      const auto made = all(copies);
      const std::size_t drawn = original == 1 ? 1 : original > 0 ? 11 : 10;
      EXPECT_EQ(made.size(), dedup ? std::set<Ids>(made.begin(), made.end()).size() : drawn);
    }
  }
}

TEST(Augmenter, DependsOnSeedKeyAndHistoryOnly) {
  const Augmenter one(options("tmask_r"));
  EXPECT_EQ(all(one.apply(kTen)), all(Augmenter(options("tmask_r")).apply(kTen)));
  EXPECT_NE(all(one.apply(kTen, 1)), all(one.apply(kTen, 2)));
  AugmenterOptions other = options("tmask_r");
  other.seed = 1;
  EXPECT_NE(all(one.apply(kTen, 1)), all(Augmenter(other).apply(kTen, 1)));
  AugmenterOptions more = options("tmask_r");
  more.copies = 20;
  const auto twenty = all(Augmenter(more).apply(kTen, 1));
  EXPECT_EQ(all(one.apply(kTen, 1)), (std::vector<Ids>{twenty.begin(), twenty.begin() + 10}));
}

// The same on every platform and for ever.
TEST(Augmenter, DrawsAreFixed) {
  AugmenterOptions o = options("tmask_r", .7);
  o.copies = 3;
  EXPECT_EQ(all(Augmenter(o).apply(kTen, 42)),
            (std::vector<Ids>{{13, 14, 18}, {14, 16, 17}, {12, 16, 19}}));
}

TEST(Augmenter, FewCopiesAreTakenOnceEach) {
  AugmenterOptions o = options("tmask_r");
  o.exhaustive = 6;
  const Copies first = Augmenter(o).apply(Ids{1, 2, 3, 4}, 1);
  EXPECT_EQ(all(first), (std::vector<Ids>{{3, 4}, {2, 4}, {2, 3}, {1, 4}, {1, 3}, {1, 2}}));
  EXPECT_THAT(first.weights, testing::Each(testing::DoubleNear(1.0 / 6, 1e-15)));
  o.seed = 5;
  EXPECT_EQ(all(first), all(Augmenter(o).apply(Ids{1, 2, 3, 4}, 9)));
  o.exhaustive = 5;
  EXPECT_EQ(Augmenter(o).apply(Ids{1, 2, 3, 4}, 9).size(), 10U);
  AugmenterOptions windows = options("window");
  windows.exhaustive = 100;
  EXPECT_EQ(Augmenter(windows).apply(kTen).size(), 7U);
}

// 5,001 windows of a million items would be 20 GB.
TEST(Augmenter, TooManyIdsAreNotEnumerated) {
  Ids history(1'005'000, 1);
  AugmenterOptions o = options("window");
  o.window = 1'000'000;
  o.exhaustive = 10'000;
  o.copies = 1;
  EXPECT_EQ(Augmenter(o).apply(history).size(), 1U);
}

TEST(Augmenter, SomeLengthsStayAlone) {
  AugmenterOptions o = options("tmask_r");
  o.min_length = 3;
  o.max_length = 5;
  for (const std::size_t n : {2U, 3U, 5U, 6U}) {
    Ids history(n);
    std::iota(history.begin(), history.end(), 1);
    EXPECT_EQ(Augmenter(o).apply(history).size(), n == 3 || n == 5 ? 10U : 1U);
  }
}

TEST(Augmenter, SharesCanBeDrawn) {
  AugmenterOptions o = options("tmask_r", .1);
  o.ratio_high = .9;
  o.copies = 300;
  std::set<std::size_t> lengths;
  for (const Ids& copy : all(Augmenter(o).apply(kTen))) lengths.insert(copy.size());
  EXPECT_THAT(lengths, ElementsAre(2, 3, 4, 5, 6, 7, 8, 9));
}

// ---- what needs a model --------------------------------------------------------------------------

TEST(Augmenter, MarksMaskedSteps) {
  AugmenterOptions o = options("tmask_b");
  const Ids history{4, 5, 6, 7};
  EXPECT_TRUE(Augmenter(o).apply(history).marks.empty());
  for (const auto& [as, mark] :
       {std::pair{"zero", Mark::kZero}, std::pair{"block", Mark::kBlocked}}) {
    o.mask_as = as;
    const Augmenter augmenter(o);
    EXPECT_TRUE(augmenter.marks_items());
    const Copies copies = augmenter.apply(history);
    ASSERT_EQ(copies.marks.size(), copies.ids.size());
    for (std::size_t i = 0; i < copies.ids.size(); ++i) {
      EXPECT_EQ(copies.marks[i],
                copies.ids[i] == 0 ? static_cast<std::uint8_t>(mark) : std::uint8_t{0});
    }
    EXPECT_EQ(std::count(copies.ids.begin(), copies.ids.end(), 0),
              static_cast<std::ptrdiff_t>(copies.ids.size()) / 2);
  }
}

// 7 noisy copies and 5 clean ones with noise on the user vector, each with a share of 1 / 12.
TEST(Augmenter, NoiseInTwoBranches) {
  AugmenterOptions o = options("tnoise");
  const Ids history{4, 5, 6};
  const Copies copies = Augmenter(o).apply(history, 9);
  ASSERT_EQ(copies.size(), 8U);
  ASSERT_EQ(copies.noise.size(), 8U);
  EXPECT_NEAR(copies.weights[0], 5.0 / 12, 1e-12);
  EXPECT_EQ(copies.noise[0].high, copies.noise[0].low);
  std::set<std::uint64_t> streams;
  for (std::size_t c = 1; c < 8; ++c) {
    EXPECT_NEAR(copies.weights[c], 1.0 / 12, 1e-12);
    EXPECT_EQ(Ids(copies.copy(c).begin(), copies.copy(c).end()), history);
    EXPECT_EQ(copies.noise[c].low, 0.5);
    EXPECT_EQ(copies.noise[c].high, 1);
    streams.insert(copies.noise[c].copy);
  }
  ASSERT_EQ(copies.output_noise.size(), 5U);
  EXPECT_NEAR(copies.output_share, 1.0 / 12, 1e-12);
  for (const Noise& noise : copies.output_noise) streams.insert(noise.copy);
  EXPECT_EQ(streams.size(), 12U);  // no two share their draws
  EXPECT_NEAR(std::accumulate(copies.weights.begin(), copies.weights.end(), 0.0), 1, 1e-12);

  o.expected_noise = true;
  const Copies expected = Augmenter(o).apply(history, 9);
  ASSERT_EQ(expected.output_noise.size(), 1U);
  EXPECT_NEAR(expected.output_share, 5.0 / 12, 1e-12);
  std::vector<float> x(4, 1);
  expected.output_noise[0].add_to(x, 0);
  EXPECT_THAT(x, ElementsAre(1.75F, 1.75F, 1.75F, 1.75F));

  o.output_copies = 0;
  EXPECT_EQ(Augmenter(o).apply(history).size(), 7U);
  EXPECT_TRUE(Augmenter(o).apply(history).output_noise.empty());
  o.original_weight = 0.25;
  EXPECT_NEAR(Augmenter(o).apply(history).weights[0], 0.25, 1e-12);
}

TEST(Augmenter, NoiseIsOfItsStreamAlone) {
  const Noise noise{-1, 1, 3, 4, 5};
  std::vector<float> a(1000), b(1000), other(1000);
  noise.add_to(a, 7);
  noise.add_to(b, 7);
  EXPECT_EQ(a, b);
  EXPECT_LT(*std::max_element(a.begin(), a.end()), 1);
  EXPECT_GE(*std::min_element(a.begin(), a.end()), -1);
  EXPECT_NEAR(std::accumulate(a.begin(), a.end(), 0.0) / 1000, 0, 0.06);
  for (const auto& [changed, token] :
       {std::pair{Noise{-1, 1, 2, 4, 5}, 7}, std::pair{Noise{-1, 1, 3, 5, 5}, 7},
        std::pair{Noise{-1, 1, 3, 4, 6}, 7}, std::pair{noise, 8}}) {
    std::fill(other.begin(), other.end(), 0.0F);
    changed.add_to(other, static_cast<std::size_t>(token));
    EXPECT_NE(a, other);
  }
}

TEST(Augmenter, AShiftIsOfWholeUsersWithinTheLengths) {
  AugmenterOptions o = options("original");
  o.shift = 0.3;
  o.min_length = 2;
  const Augmenter augmenter(o);
  EXPECT_TRUE(augmenter.shifts());
  EXPECT_EQ(augmenter.apply(Ids{1, 2}).shift, 0.3);
  EXPECT_EQ(augmenter.apply(Ids{1, 2}).size(), 1U);
  EXPECT_EQ(augmenter.apply(Ids{1}).shift, 0);
}

TEST(Augmenter, AModelsTableCanComeLater) {
  AugmenterOptions o = options("substitute");
  o.similar = "item_cf";
  const Augmenter without(o);
  EXPECT_TRUE(without.wants_table());
  EXPECT_THAT(failure_of([&] { without.apply(Ids{1}); }),
              HasSubstr("'item_cf' is a model's table"));
  const Augmenter with = without.with_table(ring(6, 1));
  EXPECT_FALSE(with.wants_table());
  EXPECT_EQ(with.apply(Ids{1}).copy(0).front(), ring(6, 1)->of(1).front());
  EXPECT_THAT(failure_of([&] { with.apply(Ids{7}); }), HasSubstr("expected 1 to 6"));
}

// ---- bad input -----------------------------------------------------------------------------------

TEST(Augmenter, RefusesWhatMakesNoSense) {
  const auto bad = [](auto change) {
    AugmenterOptions o = options("tmask_r");
    change(o);
    return failure_of([&] { Augmenter(o, 5); });
  };
  EXPECT_THAT(bad([](auto& o) { o.ratio = 1; }),
              HasSubstr("ratio: expected at least 0 and below 1"));
  EXPECT_THAT(bad([](auto& o) { o.ratio = std::nan(""); }), HasSubstr("ratio"));
  EXPECT_THAT(bad([](auto& o) { o.ratio_high = -1; }), HasSubstr("ratio_high"));
  EXPECT_THAT(bad([](auto& o) { o.original_weight = std::nan(""); }), HasSubstr("original_weight"));
  EXPECT_THAT(bad([](auto& o) { o.copies = 0; }), HasSubstr("copies"));
  EXPECT_THAT(bad([](auto& o) { o.op = "noise"; }), HasSubstr("'noise'"));
  EXPECT_THAT(bad([](auto& o) { o.op = "insert"; }), HasSubstr("table of similar items"));
  EXPECT_THAT(bad([](auto& o) { o.mask_as = "block"; }), HasSubstr("mask_as"));
  EXPECT_THAT(bad([](auto& o) { o.op = "tnoise", o.noise_low = 2; }), HasSubstr("noise_high"));
  EXPECT_THAT(bad([](auto& o) { o.op = "tnoise", o.output_high = std::nan(""); }),
              HasSubstr("output_high"));
  EXPECT_THAT(bad([](auto& o) { o.op = "tnoise", o.input_copies = o.output_copies = 0; }),
              HasSubstr("input_copies"));
  EXPECT_THAT(bad([](auto& o) { o.shift = std::nan(""); }), HasSubstr("shift"));
  EXPECT_THAT(bad([](auto& o) { o.op = "tmask_b", o.mask_id = 6; }), HasSubstr("mask_id"));
  EXPECT_THAT(failure_of([] { Augmenter(options("insert"), 5, ring(6, 1)); }),
              HasSubstr("6 items; the data has 5"));
  const Augmenter augmenter(options("tmask_r"), 5);
  EXPECT_THAT(failure_of([&] { augmenter.apply({}); }), HasSubstr("the history is empty"));
  EXPECT_THAT(failure_of([&] {
                augmenter.apply(Ids{1, 6});
              }),
              HasSubstr("position 1: item 6; expected 1 to 5"));
  EXPECT_THAT(failure_of([&] { augmenter.apply(Ids{0}); }), HasSubstr("item 0"));
  EXPECT_THAT(failure_of([&] { augmenter.apply(Ids{-7}); }), HasSubstr("item -7"));
}

TEST(Augmenter, LongHistories) {
  Ids history(100'000);
  std::iota(history.begin(), history.end(), 1);
  const Copies copies = Augmenter(options("tmask_r")).apply(history);
  EXPECT_EQ(copies.ids.size(), 500'000U);
  AugmenterOptions many = options("tmask_r");
  many.copies = 10'000;
  EXPECT_THAT(failure_of([&] { Augmenter(many).apply(history); }), HasSubstr("max_length"));
}

// ---- similar items -------------------------------------------------------------------------------

TEST(SimilarityTable, ItemsOfTheSameUsers) {
  // Users of 1: 3, of 2: 2, of 3: 2, of 4: 1.
  const std::vector<Ids> users{{1, 2}, {2, 1, 1, 3}, {1, 3, 4}};
  const SimilarityTable counts = similar_by_users(users, 5, 2, CoOccurrence::kCount);
  EXPECT_THAT(counts.of(1), ElementsAre(2, 3));  // 2 / sqrt(6) each, 1 / sqrt(3)
  EXPECT_THAT(counts.of(2), ElementsAre(1, 3));  // 2 / sqrt(6), 1 / 2
  EXPECT_THAT(counts.of(4), ElementsAre(3, 1));  // 1 / sqrt(2), 1 / sqrt(3)
  EXPECT_TRUE(counts.of(5).empty());
  // 2 and 3 have one user each, who has 1 as well; that of 3 has fewer items.
  const std::vector<Ids> lengths{{1, 2, 4}, {1, 3}};
  EXPECT_EQ(similar_by_users(lengths, 4, 1, CoOccurrence::kCount).of(1).front(), 2);
  EXPECT_EQ(similar_by_users(lengths, 4, 1, CoOccurrence::kInverseUserFrequency).of(1).front(), 3);
  EXPECT_THAT(failure_of([&] { similar_by_users(users, 3, 2, CoOccurrence::kCount); }),
              HasSubstr("sequence 2 has item 4; expected 1 to 3"));
}

TEST(SimilarityTable, KeepsScores) {
  const std::vector<Ids> users{{1, 2}, {2, 1, 1, 3}, {1, 3, 4}};
  const SimilarityTable counts = similar_by_users(users, 5, 2, CoOccurrence::kCount);
  ASSERT_EQ(counts.scores().size(), 10U);
  EXPECT_NEAR(counts.scores()[0], 2 / std::sqrt(6.0), 1e-6);
  EXPECT_NEAR(counts.scores()[6], 1 / std::sqrt(2.0), 1e-6);  // 4 and 3
  EXPECT_EQ(counts.scores()[9], 0);                           // 5 has nobody
  EXPECT_THAT(failure_of([] { SimilarityTable(2, 1, {2, 1}, {0.5F}); }), HasSubstr("1 scores"));
}

// First neighbours by one table: scores 0 to 10; by the other: 1 to 2.
TEST(SimilarityTable, HybridTakesTheRelativelyBetter) {
  const SimilarityTable a(3, 1, {2, 3, 1}, {0, 6, 10}), b(3, 1, {3, 1, 0}, {1, 2, 0});
  const SimilarityTable both = hybrid(a, b);
  EXPECT_THAT(both.of(1), ElementsAre(2));  // 0 and 0: the first table
  EXPECT_THAT(both.of(2), ElementsAre(1));  // .6 against 1
  EXPECT_THAT(both.of(3), ElementsAre(1));  // the other has none
  EXPECT_THAT(failure_of([&] {
                hybrid(a, SimilarityTable(3, 1, {2, 3, 1}));
              }),
              HasSubstr("with scores"));
}

TEST(SimilarityTable, RefusesTablesThatAreNone) {
  const auto bad = [](std::int32_t items, std::size_t width, std::vector<std::int32_t> n) {
    return failure_of([&] { SimilarityTable(items, width, n); });
  };
  EXPECT_THAT(bad(2, 1, {2}), HasSubstr("has 1 entries"));
  EXPECT_THAT(bad(2, 1, {2, 2}), HasSubstr("item 2: neighbour 2"));
  EXPECT_THAT(bad(2, 1, {2, 3}), HasSubstr("neighbour 3"));
  EXPECT_THAT(bad(3, 2, {2, 2, 1, 0, 0, 0}), HasSubstr("item 1: neighbour 2"));
  EXPECT_THAT(bad(3, 2, {0, 2, 1, 0, 0, 0}), HasSubstr("item 1: neighbour 2"));
  EXPECT_EQ(bad(3, 2, {2, 3, 1, 0, 0, 0}), "");
}

TEST(Augmenter, ItemsWithoutNeighboursGetAnyItem) {
  const auto empty = std::make_shared<const SimilarityTable>(4, 1, std::vector<std::int32_t>(4));
  for (const std::string op : {"substitute", "insert"}) {
    for (const Ids& copy : all(Augmenter(options(op), 4, empty).apply(Ids{1, 2, 3}))) {
      for (const std::int32_t id : copy) EXPECT_TRUE(id >= 1 && id <= 4);
    }
  }
}

}  // namespace
}  // namespace theriac::augment
