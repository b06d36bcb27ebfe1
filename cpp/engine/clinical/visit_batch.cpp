#include "cpp/engine/clinical/visit_batch.h"

#include <algorithm>

namespace theriac::clinical {
namespace {

using data::Field;

// First visit of a sample's window: the patient's first, or so late that `max_visits` remain.
std::int64_t window_start(const data::Cohort& cohort, const Sample& sample,
                          std::int64_t max_visits) {
  return std::max(cohort.first_visit(sample.patient), sample.visit + 1 - max_visits);
}

// A visit's sets of one field over the padded places of a batch, on the CPU.
CodeSets gather_sets(const MappedCohort& cohort, Field field, std::span<const Sample> samples,
                     std::span<const std::int64_t> starts, std::int64_t visits) {
  std::vector<std::int64_t> ids, offsets{0};
  offsets.reserve(samples.size() * static_cast<std::size_t>(visits) + 1);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    for (std::int64_t t = 0; t < visits; ++t) {
      const std::int64_t visit = starts[i] + t;
      if (visit <= samples[i].visit) {
        const auto set = cohort.ids(field, visit);
        ids.insert(ids.end(), set.begin(), set.end());
      }
      offsets.push_back(static_cast<std::int64_t>(ids.size()));
    }
  }
  return {at::tensor(ids, at::kLong), at::tensor(offsets, at::kLong)};
}

at::Tensor gather_outside(const OutsideVectors& outside, std::span<const Sample> samples,
                          std::span<const std::int64_t> starts, std::int64_t visits) {
  if (outside.empty()) return {};
  const std::int64_t dim = outside.dim();
  at::Tensor sums = at::zeros({static_cast<std::int64_t>(samples.size()), visits, dim}, at::kFloat);
  auto* out = sums.mutable_data_ptr<float>();
  for (std::size_t i = 0; i < samples.size(); ++i) {
    for (std::int64_t visit = starts[i]; visit <= samples[i].visit; ++visit) {
      const auto vector = outside.of(visit);
      const std::int64_t place = static_cast<std::int64_t>(i) * visits + visit - starts[i];
      std::copy(vector.begin(), vector.end(), out + place * dim);
    }
  }
  return sums;
}

void set_bits(float* row, std::span<const std::int32_t> ids) {
  for (std::int32_t id : ids) row[id] = 1.0F;
}

// Multi-hot of the past visits' classes; the target visit's row stays 0.
at::Tensor gather_history(const MappedCohort& cohort, std::span<const Sample> samples,
                          std::span<const std::int64_t> starts, std::int64_t visits) {
  const std::int64_t classes = cohort.classes();
  at::Tensor history =
      at::zeros({static_cast<std::int64_t>(samples.size()), visits, classes}, at::kFloat);
  auto* out = history.mutable_data_ptr<float>();
  for (std::size_t i = 0; i < samples.size(); ++i) {
    for (std::int64_t visit = starts[i]; visit < samples[i].visit; ++visit) {
      const std::int64_t place = static_cast<std::int64_t>(i) * visits + visit - starts[i];
      set_bits(out + place * classes, cohort.ids(Field::kMedications, visit));
    }
  }
  return history;
}

at::Tensor gather_targets(const MappedCohort& cohort, std::span<const Sample> samples) {
  const std::int64_t classes = cohort.classes();
  at::Tensor targets = at::zeros({static_cast<std::int64_t>(samples.size()), classes}, at::kFloat);
  auto* out = targets.mutable_data_ptr<float>();
  for (std::size_t i = 0; i < samples.size(); ++i) {
    set_bits(out + static_cast<std::int64_t>(i) * classes,
             cohort.ids(Field::kMedications, samples[i].visit));
  }
  return targets;
}

CodeSets to_device(const CodeSets& sets, at::Device device) {
  return {sets.ids.to(device), sets.offsets.to(device)};
}

}  // namespace

MappedCohort::MappedCohort(const data::Cohort& cohort, const Vocabularies& vocabularies)
    : cohort_(&cohort), classes_(vocabularies.classes.size()) {
  for (const Field field : {Field::kDiagnoses, Field::kProcedures, Field::kMedications}) {
    map_field(field, vocabularies.field(field));
  }
}

void MappedCohort::map_field(Field field, const data::Vocabulary& vocabulary) {
  const auto f = static_cast<std::size_t>(field);
  const data::Vocabulary& theirs = cohort_->vocabulary(field);
  std::vector<bool> occurs(static_cast<std::size_t>(theirs.size()), false);
  for (std::int32_t id : cohort_->ids(field)) occurs[static_cast<std::size_t>(id)] = true;

  // Per code of the cohort: its id in our vocabulary, or -1 - its position outside.
  std::vector<std::int32_t> ours(occurs.size(), 0);
  for (std::int32_t id = 0; id < theirs.size(); ++id) {
    const auto at = static_cast<std::size_t>(id);
    if (!occurs[at]) continue;
    ours[at] = vocabulary.find(theirs.code(id));
    if (ours[at] >= 0) continue;
    ours[at] = -1 - static_cast<std::int32_t>(outside_codes_[f].size());
    outside_codes_[f].push_back(theirs.code(id));
  }

  for (std::int64_t v = 0; v < cohort_->visits(); ++v) {
    const data::VisitView visit = cohort_->visit(v);
    for (const std::int32_t id : visit.field(field)) {
      const std::int32_t our = ours[static_cast<std::size_t>(id)];
      if (our >= 0) {
        known_[f].ids.push_back(our);
      } else {
        outside_[f].ids.push_back(-1 - our);
      }
    }
    for (Sets* sets : {&known_[f], &outside_[f]}) {
      std::sort(sets->ids.begin() + sets->offsets.back(), sets->ids.end());
      sets->offsets.push_back(static_cast<std::int64_t>(sets->ids.size()));
    }
  }
}

OutsideVectors::OutsideVectors(const MappedCohort& cohort, Field field, const CodeEncoder& encoder)
    : dim_(encoder.dim()) {
  const auto& codes = cohort.outside_codes(field);
  if (codes.empty()) return;
  const auto dim = static_cast<std::size_t>(dim_);
  std::vector<float> vectors(codes.size() * dim, 0.0F);  // [codes, dim]
  std::vector<CodeReading::How> how;
  how.reserve(codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    how.push_back(encoder.add_code(codes[i], std::span<float>(vectors).subspan(i * dim, dim)).how);
  }

  const std::int64_t visits = cohort.cohort().visits();
  row_of_visit_.assign(static_cast<std::size_t>(visits), -1);
  for (std::int64_t v = 0; v < visits; ++v) {
    for (std::int32_t place : cohort.outside(field, v)) {
      const auto at = static_cast<std::size_t>(place);
      unusable_ += how[at] == CodeReading::How::kUnusable ? 1 : 0;
      substituted_ += how[at] == CodeReading::How::kSubstituted ? 1 : 0;
      if (how[at] == CodeReading::How::kUnusable) continue;
      std::int32_t& row = row_of_visit_[static_cast<std::size_t>(v)];
      if (row < 0) {
        row = static_cast<std::int32_t>(sums_.size() / dim);
        sums_.resize(sums_.size() + dim, 0.0F);
      }
      float* sum = sums_.data() + static_cast<std::size_t>(row) * dim;
      for (std::size_t k = 0; k < dim; ++k) sum[k] += vectors[at * dim + k];
    }
  }
}

std::span<const float> OutsideVectors::of(std::int64_t visit) const {
  if (sums_.empty()) return {};
  const std::int32_t row = row_of_visit_[static_cast<std::size_t>(visit)];
  if (row < 0) return {};
  const auto dim = static_cast<std::size_t>(dim_);
  return std::span<const float>(sums_).subspan(static_cast<std::size_t>(row) * dim, dim);
}

std::vector<Sample> training_samples(const data::Cohort& cohort) {
  std::vector<Sample> samples;
  for (std::int64_t p = 0; p < cohort.patients(); ++p) {
    for (std::int64_t v = cohort.first_visit(p); v < cohort.last_visit(p); ++v) {
      if (!cohort.visit(v).medications.empty()) samples.push_back({p, v});
    }
  }
  return samples;
}

VisitBatch make_batch(const ReadCohort& cohort, std::span<const Sample> samples,
                      std::int64_t max_visits, at::Device device) {
  const MappedCohort& mapped = *cohort.mapped;
  std::vector<std::int64_t> starts, lengths;
  for (const Sample& sample : samples) {
    starts.push_back(window_start(mapped.cohort(), sample, max_visits));
    lengths.push_back(sample.visit + 1 - starts.back());
  }
  const std::int64_t visits =
      lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());

  VisitBatch batch;
  batch.batch = static_cast<std::int64_t>(samples.size());
  batch.visits = visits;
  batch.classes = mapped.classes();
  batch.lengths = at::tensor(lengths, at::kLong).to(device);
  batch.diagnoses =
      to_device(gather_sets(mapped, Field::kDiagnoses, samples, starts, visits), device);
  batch.procedures =
      to_device(gather_sets(mapped, Field::kProcedures, samples, starts, visits), device);
  const at::Tensor dx = gather_outside(cohort.diagnoses, samples, starts, visits);
  const at::Tensor px = gather_outside(cohort.procedures, samples, starts, visits);
  if (dx.defined()) batch.diagnoses_outside = dx.to(device);
  if (px.defined()) batch.procedures_outside = px.to(device);
  batch.history = gather_history(mapped, samples, starts, visits).to(device);
  batch.targets = gather_targets(mapped, samples).to(device);
  return batch;
}

void frozen_visits(const ReadCohort& cohort, const Sample& sample, std::int64_t max_visits,
                   std::vector<FrozenVisit>& visits) {
  const MappedCohort& mapped = *cohort.mapped;
  visits.clear();
  for (std::int64_t v = window_start(mapped.cohort(), sample, max_visits); v <= sample.visit; ++v) {
    FrozenVisit visit;
    visit.diagnoses = mapped.ids(Field::kDiagnoses, v);
    visit.procedures = mapped.ids(Field::kProcedures, v);
    if (v < sample.visit) visit.medications = mapped.ids(Field::kMedications, v);
    visit.diagnoses_extra = cohort.diagnoses.of(v);
    visit.procedures_extra = cohort.procedures.of(v);
    visits.push_back(visit);
  }
}

}  // namespace theriac::clinical
