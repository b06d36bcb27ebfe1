// A cohort as one model reads it, and batches of visit prefixes for training and batched inference.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "cpp/core/data/cohort.h"
#include "cpp/engine/clinical/code_encoder.h"
#include "cpp/engine/clinical/frozen.h"
#include "cpp/engine/tensor/tensor.h"

namespace theriac::clinical {

// The vocabularies of a model: diagnoses, procedures, and the classes it recommends.
struct Vocabularies {
  data::Vocabulary diagnoses, procedures, classes;
  const data::Vocabulary& field(data::Field f) const {
    return f == data::Field::kDiagnoses    ? diagnoses
           : f == data::Field::kProcedures ? procedures
                                           : classes;
  }
};

// A cohort with its codes as the ids of a model's vocabularies, sorted within a visit, so that the
// order of codes in a record cannot change a sum. Codes outside a vocabulary are kept apart.
// Immutable; may be shared. Borrows the cohort.
class MappedCohort {
 public:
  MappedCohort(const data::Cohort& cohort, const Vocabularies& vocabularies);

  const data::Cohort& cohort() const { return *cohort_; }
  std::int64_t classes() const { return classes_; }
  std::span<const std::int32_t> ids(data::Field field, std::int64_t visit) const {
    return slice(known_[static_cast<std::size_t>(field)], visit);
  }
  // Positions in `outside_codes(field)` of the visit's codes that the vocabulary lacks.
  std::span<const std::int32_t> outside(data::Field field, std::int64_t visit) const {
    return slice(outside_[static_cast<std::size_t>(field)], visit);
  }
  const std::vector<codes::MedicalCode>& outside_codes(data::Field field) const {
    return outside_codes_[static_cast<std::size_t>(field)];
  }
  // Set members over all visits: known and outside.
  std::int64_t known_entries(data::Field field) const {
    return static_cast<std::int64_t>(known_[static_cast<std::size_t>(field)].ids.size());
  }

 private:
  struct Sets {
    std::vector<std::int64_t> offsets{0};  // [visits + 1]
    std::vector<std::int32_t> ids;
  };
  static std::span<const std::int32_t> slice(const Sets& sets, std::int64_t visit) {
    const auto begin = static_cast<std::size_t>(sets.offsets[static_cast<std::size_t>(visit)]);
    const auto end = static_cast<std::size_t>(sets.offsets[static_cast<std::size_t>(visit) + 1]);
    return std::span<const std::int32_t>(sets.ids).subspan(begin, end - begin);
  }
  void map_field(data::Field field, const data::Vocabulary& vocabulary);

  const data::Cohort* cohort_;
  std::int64_t classes_;
  std::array<Sets, data::kFieldCount> known_, outside_;
  std::array<std::vector<codes::MedicalCode>, data::kFieldCount> outside_codes_;
};

// Sums of the vectors of codes outside the vocabulary, for the visits that have such codes. Made
// from an encoder's present weights; immutable.
class OutsideVectors {
 public:
  OutsideVectors() = default;  // no visit has any
  OutsideVectors(const MappedCohort& cohort, data::Field field, const CodeEncoder& encoder);

  // [dim], or empty when the visit has no usable code outside the vocabulary.
  std::span<const float> of(std::int64_t visit) const;
  std::int64_t dim() const { return dim_; }
  bool empty() const { return sums_.empty(); }
  // How many of the cohort's entries outside the vocabulary were read how.
  std::int64_t substituted() const { return substituted_; }
  std::int64_t unusable() const { return unusable_; }

 private:
  std::int64_t dim_ = 0, substituted_ = 0, unusable_ = 0;
  std::vector<std::int32_t> row_of_visit_;  // [visits], -1: none
  std::vector<float> sums_;                 // [rows, dim]
};

// A cohort with everything a scorer reads, for one set of weights.
struct ReadCohort {
  const MappedCohort* mapped = nullptr;
  OutsideVectors diagnoses, procedures;
};

// One prediction: medications of `visit` from the patient's visits up to it.
struct Sample {
  std::int64_t patient = 0, visit = 0;  // visit: number in the cohort
};
// Every visit with at least one medication, first visits included, patient by patient.
std::vector<Sample> training_samples(const data::Cohort& cohort);

// Sets over the places of a batch, row-major [batch, visits]. Padding places are empty sets.
struct CodeSets {
  at::Tensor ids;      // int64 [total]
  at::Tensor offsets;  // int64 [batch * visits + 1]
};

// Prefixes of patients padded to the longest. All tensors are on one device.
struct VisitBatch {
  std::int64_t batch = 0, visits = 0, classes = 0;
  at::Tensor lengths;              // int64 [batch], in 1..visits
  CodeSets diagnoses, procedures;  // vocabulary ids
  at::Tensor diagnoses_outside;    // float [batch, visits, dim], or undefined: no codes outside
  at::Tensor procedures_outside;
  at::Tensor history;  // float 0/1 [batch, visits, classes]; 0 at the target visit and padding
  at::Tensor targets;  // float 0/1 [batch, classes]
};

// At most `max_visits` visits a sample, the latest ones.
VisitBatch make_batch(const ReadCohort& cohort, std::span<const Sample> samples,
                      std::int64_t max_visits, at::Device device);

// The same prefix for a FrozenScorer. `visits` is overwritten; its spans borrow from the cohort.
void frozen_visits(const ReadCohort& cohort, const Sample& sample, std::int64_t max_visits,
                   std::vector<FrozenVisit>& visits);

}  // namespace theriac::clinical
