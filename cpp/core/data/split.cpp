#include "cpp/core/data/split.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "cpp/core/base/error.h"
#include "cpp/core/base/random.h"
#include "cpp/core/data/split_parts.h"

namespace theriac::data {
namespace {

using Positions = std::vector<std::int64_t>;

struct Parts {
  Positions train, valid, test;
};

Positions slice(const Positions& order, std::size_t first, std::size_t last) {
  Positions part(order.begin() + static_cast<std::ptrdiff_t>(first),
                 order.begin() + static_cast<std::ptrdiff_t>(last));
  std::sort(part.begin(), part.end());
  return part;
}

// Train first, then validation, then test along `order`.
Parts by_share(const Positions& order, const SplitOptions& options) {
  const std::size_t n = order.size();
  const std::size_t train = share_of(1 - options.valid - options.test, n);
  const std::size_t valid = std::max(train, share_of(1 - options.test, n));
  return {slice(order, 0, train), slice(order, train, valid), slice(order, valid, n)};
}

Parts by_file_order(const Positions& order) {
  const std::size_t n = order.size();
  const std::size_t train = 2 * n / 3;
  const std::size_t test = train + (n - train) / 2;
  return {slice(order, 0, train), slice(order, test, n), slice(order, train, test)};
}

// Admission of each patient's last visit; kNoTime, the smallest value, when there is none.
std::vector<std::int64_t> last_times(const Cohort& cohort) {
  std::vector<std::int64_t> latest(static_cast<std::size_t>(cohort.patients()), kNoTime);
  for (std::int64_t p = 0; p < cohort.patients(); ++p) {
    std::int64_t& time = latest[static_cast<std::size_t>(p)];
    for (std::int64_t v = cohort.first_visit(p); v < cohort.last_visit(p); ++v) {
      time = std::max(time, cohort.times()[static_cast<std::size_t>(v)]);
    }
  }
  return latest;
}

// Cross-validation: `order` dealt out to the folds like cards.
Parts by_fold(const Positions& order, const SplitOptions& options) {
  const auto refuse = [](const char* option, const std::string& what) {
    throw Error(Code::kInvalidArgument, std::string("option '") + option + "' is " + what)
        .at("option", option);
  };
  const auto patients = static_cast<std::int64_t>(order.size());
  if (options.folds > patients)
    refuse("folds", std::to_string(options.folds) + "; the data set has only " +
                        std::to_string(patients) + " patients");
  if (options.fold >= options.folds)
    refuse("fold", std::to_string(options.fold) + "; the last of " + std::to_string(options.folds) +
                       " folds is " + std::to_string(options.folds - 1));
  Positions test, rest;
  for (std::int64_t i = 0; i < patients; ++i)
    (i % options.folds == options.fold ? test : rest).push_back(order[static_cast<std::size_t>(i)]);
  const std::size_t valid = std::min(rest.size(), share_of(options.valid, order.size()));
  return {slice(rest, 0, rest.size() - valid), slice(rest, rest.size() - valid, rest.size()),
          slice(test, 0, test.size())};
}

Parts divide(const Cohort& cohort, const SplitOptions& options) {
  Positions order(static_cast<std::size_t>(cohort.patients()));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  if (options.how == "file_order") return by_file_order(order);
  if (options.how == "patient") {
    Random(static_cast<std::uint64_t>(options.seed), "split").shuffle(order);
    return by_share(order, options);
  }
  if (options.how == "fold") {
    Random(static_cast<std::uint64_t>(options.seed), "split").shuffle(order);
    return by_fold(order, options);
  }
  if (options.how == "time") {
    const std::vector<std::int64_t> times = last_times(cohort);
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
      return times[static_cast<std::size_t>(a)] < times[static_cast<std::size_t>(b)];
    });
    return by_share(order, options);
  }
  throw Error(Code::kInvalidArgument,
              "option 'how' is '" + options.how + "'; expected patient, time, file_order or fold")
      .at("option", "how");
}

// Copies visit `v` of `from` to the end of `to`; both share vocabularies.
void append_visit(CohortColumns& to, const Cohort& from, std::int64_t v) {
  const VisitView visit = from.visit(v);
  to.visit_ids.emplace_back(visit.id);
  to.times.push_back(visit.time);
  for (int f = 0; f < kFieldCount; ++f) {
    const auto field = static_cast<std::size_t>(f);
    const std::span<const std::int32_t> ids = visit.field(static_cast<Field>(f));
    to.ids[field].insert(to.ids[field].end(), ids.begin(), ids.end());
    to.offsets[field].push_back(static_cast<std::int64_t>(to.ids[field].size()));
  }
}

Cohort select(const Cohort& cohort, const Positions& patients, Json provenance) {
  CohortColumns columns;
  columns.vocabularies = cohort.columns().vocabularies;
  columns.accounting = cohort.accounting();
  columns.provenance = std::move(provenance);
  for (const std::int64_t patient : patients) {
    if (patient < 0 || patient >= cohort.patients()) {
      throw Error(Code::kInvalidArgument, "patient position " + std::to_string(patient) +
                                              " is outside the cohort of " +
                                              std::to_string(cohort.patients()));
    }
    columns.patient_ids.emplace_back(cohort.patient_id(patient));
    for (std::int64_t v = cohort.first_visit(patient); v < cohort.last_visit(patient); ++v) {
      append_visit(columns, cohort, v);
    }
    columns.patient_offsets.push_back(static_cast<std::int64_t>(columns.visit_ids.size()));
  }
  return Cohort(std::move(columns));
}

Json provenance_of_part(const Cohort& cohort, Json how) {
  return part_provenance(cohort.provenance(), cohort.fingerprint(), std::move(how));
}

}  // namespace

const OptionTable<SplitOptions>& SplitOptions::table() {
  static const auto options =
      OptionTable<SplitOptions>("split", "How a cohort is divided into train, valid and test")
          .choice("how", &SplitOptions::how, {"patient", "time", "file_order", "fold"},
                  "shuffled patients, patients by the date of their last visit, the order of "
                  "the file (2/3, then halves), or one fold of a cross-validation")
          .real("valid", &SplitOptions::valid, {0.0, 1.0, false, true},
                "share of patients for validation; not used by file_order")
          .real("test", &SplitOptions::test, {0.0, 1.0, false, true},
                "share of patients for testing; not used by file_order and fold")
          .integer("seed", &SplitOptions::seed, {}, "seed of the shuffle")
          .integer("folds", &SplitOptions::folds, {2, 1000000},
                   "fold: test sets that the patients are divided into")
          .integer("fold", &SplitOptions::fold, {0, 999999}, "fold: which of them is the test set");
  return options;
}

SplitParts split_cohort(const Cohort& cohort, const SplitOptions& options) {
  check_shares(options.valid, options.how == "fold" ? 0 : options.test);
  const Parts parts = divide(cohort, options);
  const auto part = [&](const Positions& patients, const char* name) {
    Json how = SplitOptions::table().effective_json(options);
    how["part"] = name;
    return select(cohort, patients, provenance_of_part(cohort, std::move(how)));
  };
  return {part(parts.train, "train"), part(parts.valid, "valid"), part(parts.test, "test")};
}

Cohort select_patients(const Cohort& cohort, const std::vector<std::int64_t>& patients) {
  return select(cohort, patients, provenance_of_part(cohort, Json{{"part", "selection"}}));
}

}  // namespace theriac::data
