#include "cpp/core/generate/cohort_writer.h"

namespace theriac::generate {

int visit_tag(const Patient& patient, const Visit& visit) {
  // 37 is prime to 100, so that different visits of a patient get different tags.
  return static_cast<int>((visit.number * 37 + patient.index % 100 * 13) % 100);
}

std::string padded(std::int64_t value, int digits) {
  std::string text = std::to_string(value);
  if (text.size() < static_cast<std::size_t>(digits)) {
    text.insert(0, static_cast<std::size_t>(digits) - text.size(), '0');
  }
  return text;
}

}  // namespace theriac::generate
