#include "cpp/engine/clinical/history.h"

#include <algorithm>

namespace theriac::clinical {
namespace {

// Codes outside the vocabulary whose vectors one session keeps; enough for a hospital's day, a few
// MB.
constexpr std::size_t kCachedCodes = 4096;
constexpr std::size_t kClassLength = 4;  // ATC level 3: "C09A"

bool contains(const std::vector<std::int32_t>& ids, std::int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

const char* reason(EntryReading::How how) noexcept {
  switch (how) {
    case EntryReading::How::kRepeated:
      return "same code twice in this visit";
    case EntryReading::How::kUnknown:
      return "not known to the model";
    case EntryReading::How::kCurrentMedication:
      return "medication of the current visit";
    case EntryReading::How::kTooOld:
      return "before the latest visits that the model reads";
    case EntryReading::How::kWrongField:
      return "code system does not belong in this list";
    default:
      return "";
  }
}

HistoryReader::HistoryReader(const MedicationState& state) : state_(state) {}

void HistoryReader::begin(std::int32_t visits) {
  // Codes of the patient being read are referred to by address, so a full cache is emptied only
  // between patients.
  for (auto& cache : cache_) {
    if (cache.size() > kCachedCodes) cache.clear();
  }
  count_ = visits;
  first_ = static_cast<std::int32_t>(std::max<std::int64_t>(0, visits - state_.max_visits));
  const auto read = static_cast<std::size_t>(count_ - first_);
  if (visits_.size() < read) visits_.resize(read);
  for (std::size_t v = 0; v < read; ++v) {
    for (auto& ids : visits_[v].ids) ids.clear();
    for (auto& codes : visits_[v].outside) codes.clear();
    for (auto& extra : visits_[v].extra) extra.clear();
  }
}

EntryReading HistoryReader::add(std::int32_t visit, data::Field field,
                                const codes::MedicalCode& code) {
  using How = EntryReading::How;
  const bool medication = field == data::Field::kMedications;
  if (medication != (code.system == codes::System::kAtc) && code.system != codes::System::kLocal) {
    if (medication || code.system == codes::System::kAtc) return {How::kWrongField, nullptr};
  }
  if (visit < first_) return {How::kTooOld, nullptr};
  if (medication && visit == count_ - 1) return {How::kCurrentMedication, nullptr};
  Visit& target = visits_[static_cast<std::size_t>(visit - first_)];
  const int f = static_cast<int>(field);
  const data::Vocabulary& vocabulary = medication                         ? state_.classes
                                       : field == data::Field::kDiagnoses ? state_.diagnoses
                                                                          : state_.procedures;
  std::int32_t id = -1;
  if (medication && code.system == codes::System::kAtc && code.text.size() > kClassLength) {
    id = vocabulary.find({code.system, code.text.substr(0, kClassLength)});
  } else {
    id = vocabulary.find(code);
  }
  if (id < 0)
    return medication ? EntryReading{How::kUnknown, nullptr} : add_outside(target, f, code);
  if (contains(target.ids[f], id)) return {How::kRepeated, nullptr};
  target.ids[f].push_back(id);
  return {How::kUsed, nullptr};
}

EntryReading HistoryReader::add_outside(Visit& visit, int field, const codes::MedicalCode& code) {
  using How = EntryReading::How;
  const CodeEncoder* encoder =
      field == 0 ? state_.diagnoses_encoder.get() : state_.procedures_encoder.get();
  if (encoder == nullptr) return {How::kUnknown, nullptr};
  const OutsideCode& known = outside(field, code);
  if (!known.reading.counts()) return known.reading;
  std::vector<const void*>& met = visit.outside[field];
  if (std::find(met.begin(), met.end(), &known) != met.end()) return {How::kRepeated, nullptr};
  met.push_back(&known);
  return known.reading;
}

const HistoryReader::OutsideCode& HistoryReader::outside(int field,
                                                         const codes::MedicalCode& code) {
  auto& cache = cache_[field];
  if (const auto found = cache.find(code); found != cache.end()) return found->second;
  OutsideCode made;
  const CodeEncoder& encoder = field == 0 ? *state_.diagnoses_encoder : *state_.procedures_encoder;
  made.vector.assign(static_cast<std::size_t>(encoder.dim()), 0.0F);
  const CodeReading reading = encoder.add_code(code, made.vector);
  made.node = reading.relation_node;
  switch (reading.how) {
    case CodeReading::How::kKnown:
    case CodeReading::How::kUnseen:
      made.reading.how = EntryReading::How::kUnseen;
      break;
    case CodeReading::How::kSubstituted:
      made.reading.how = EntryReading::How::kSubstituted;
      break;
    case CodeReading::How::kUnusable:
      made.reading.how = EntryReading::How::kUnknown;
      break;
  }
  OutsideCode& kept = cache.emplace(code, std::move(made)).first->second;
  kept.reading.node = &kept.node;
  return kept;
}

std::span<const FrozenVisit> HistoryReader::finish() {
  const auto read = static_cast<std::size_t>(count_ - first_);
  frozen_.resize(read);
  for (std::size_t v = 0; v < read; ++v) {
    Visit& visit = visits_[v];
    for (auto& ids : visit.ids) std::sort(ids.begin(), ids.end());
    for (int f = 0; f < 2; ++f) {
      // Sorted by code, so that the sum does not depend on the order of entries.
      auto& met = visit.outside[f];
      if (met.empty()) continue;
      std::sort(met.begin(), met.end(), [](const void* a, const void* b) {
        const auto& x = static_cast<const OutsideCode*>(a)->vector;
        const auto& y = static_cast<const OutsideCode*>(b)->vector;
        return std::lexicographical_compare(x.begin(), x.end(), y.begin(), y.end());
      });
      visit.extra[f].assign(static_cast<const OutsideCode*>(met.front())->vector.size(), 0.0F);
      for (const void* code : met) {
        const auto& vector = static_cast<const OutsideCode*>(code)->vector;
        for (std::size_t i = 0; i < vector.size(); ++i) visit.extra[f][i] += vector[i];
      }
    }
    frozen_[v] = {visit.ids[0], visit.ids[1], visit.ids[2], visit.extra[0], visit.extra[1]};
  }
  return frozen_;
}

}  // namespace theriac::clinical
