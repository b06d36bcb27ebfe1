#include "cpp/core/generate/ground_truth.h"

#include <map>

#include "cpp/core/data/cohort.h"

namespace theriac::generate {
namespace {

std::string_view condition_name(int id) {
  return ClinicalIndex::shared().conditions[static_cast<std::size_t>(id)].table->name;
}

// Names of the table need no escaping.
void quote(std::string& out, std::string_view text) { out.append("\"").append(text).append("\""); }

void comma(std::string& out) {
  if (out.back() != '[' && out.back() != '{') out += ',';
}

void append_classes(std::string& out, const Visit& visit) {
  std::map<std::string_view, std::vector<std::string_view>> reasons;
  for (const Order& order : visit.orders) {
    reasons[drugs()[static_cast<std::size_t>(order.drug)].atc.substr(0, 4)].push_back(order.reason);
  }
  out += "\"classes\":{";
  for (const auto& [atc3, because] : reasons) {
    comma(out);
    quote(out, atc3);
    out += ":[";
    for (const auto reason : because) {
      comma(out);
      quote(out, reason);
    }
    out += ']';
  }
  out += '}';
}

void append_withheld(std::string& out, const Visit& visit) {
  out += ",\"withheld\":[";
  for (const Withheld& held : visit.withheld) {
    comma(out);
    out += "{\"class\":";
    quote(out, held.atc3);
    out += ",\"because\":";
    quote(out, held.because);
    out += held.interaction ? ",\"kind\":\"interaction\"}" : ",\"kind\":\"contraindication\"}";
  }
  out += ']';
}

void append_visit(std::string& out, const Visit& visit, const std::string& id) {
  comma(out);
  out += "{\"id\":";
  quote(out, id);
  out += ",\"admit\":";
  quote(out, data::format_time(visit.admit));
  out += ",\"reason\":";
  quote(out, condition_name(visit.reason));
  out += ",\"conditions\":[";
  for (const int condition : visit.present) {
    comma(out);
    quote(out, condition_name(condition));
  }
  out += "],";
  append_classes(out, visit);
  append_withheld(out, visit);
  out += '}';
}

}  // namespace

std::string ground_truth_line(const Patient& patient, const CohortWriter& writer) {
  std::string out = "{\"patient\":";
  quote(out, writer.patient_id(patient));
  out += patient.female ? ",\"sex\":\"female\",\"birth\":" : ",\"sex\":\"male\",\"birth\":";
  quote(out, data::format_time(patient.birth).substr(0, 10));
  out += ",\"chronic\":[";
  for (const ChronicOnset& chronic : patient.chronic) {
    comma(out);
    out += "{\"condition\":";
    quote(out, condition_name(chronic.condition));
    out += ",\"onset\":";
    quote(out, data::format_time(chronic.time).substr(0, 10));
    out += '}';
  }
  out += "],\"visits\":[";
  for (const Visit& visit : patient.visits) {
    append_visit(out, visit, writer.visit_id(patient, visit));
  }
  return out += "]}\n";
}

}  // namespace theriac::generate
