#include "cpp/core/data/cohort.h"
#include "cpp/core/generate/cohort_writer.h"
#include "cpp/core/generate/output_file.h"

namespace theriac::generate {
namespace {

constexpr std::string_view kIcd9 = "http://hl7.org/fhir/sid/icd-9-cm";
constexpr std::string_view kIcd9Procedures = "urn:oid:2.16.840.1.113883.6.104";
constexpr std::string_view kIcd10 = "http://hl7.org/fhir/sid/icd-10-cm";
constexpr std::string_view kIcd10Procedures = "http://www.cms.gov/Medicare/Coding/ICD10";
constexpr std::string_view kAtc = "http://www.whocc.no/atc";
constexpr std::string_view kTerminology = "http://terminology.hl7.org/CodeSystem/";
constexpr std::string_view kZone = "-05:00";

// Nothing written here needs escaping: every text is an id, a time, a code or a name of the table.
void append(std::string& out, std::initializer_list<std::string_view> parts) {
  for (const auto part : parts) out += part;
}

std::string date(std::int64_t time) { return data::format_time(time).substr(0, 10); }

std::string date_time(std::int64_t time) {
  std::string text = data::format_time(time);
  text[10] = 'T';
  return text.append(kZone);
}

// As people write codes: 428.0, E812.0, I50.21, 38.93; ICD-10-PCS has no dot.
std::string dotted(std::string_view code, bool procedure, bool icd10) {
  if (procedure && icd10) return std::string(code);
  std::size_t at = procedure ? 2 : 3;
  if (!procedure && !icd10 && code.front() == 'E') at = 4;
  std::string text(code);
  if (text.size() > at) text.insert(at, 1, '.');
  return text;
}

class FhirWriter final : public CohortWriter {
 public:
  FhirWriter(const std::filesystem::path& folder, const CohortOptions& options)
      : prefix_("h" + std::to_string(options.hospital) + "-p"),
        patients_(folder / "Patient.ndjson", options.compress),
        encounters_(folder / "Encounter.ndjson", options.compress),
        conditions_(folder / "Condition.ndjson", options.compress),
        procedures_(folder / "Procedure.ndjson", options.compress),
        requests_(folder / "MedicationRequest.ndjson", options.compress) {}

  std::string patient_id(const Patient& patient) const override {
    return prefix_ + padded(patient.index, 6);
  }
  std::string visit_id(const Patient& patient, const Visit& visit) const override {
    return patient_id(patient) + "-e" + padded(visit_tag(patient, visit), 2);
  }

  void write(const Patient& patient) override {
    write_patient(patient);
    for (const Visit& visit : patient.visits) {
      const std::string id = visit_id(patient, visit);
      // The part that every resource of a stay has in common.
      const std::string links = "\"subject\":{\"reference\":\"Patient/" + patient_id(patient) +
                                "\"},\"encounter\":{\"reference\":\"Encounter/" + id + "\"},";
      write_encounter(patient, visit, id);
      write_conditions(visit, id, links);
      write_procedures(visit, id, links);
      write_requests(visit, id, links);
    }
  }

  void finish() override {
    for (OutputFile* file : {&patients_, &encounters_, &conditions_, &procedures_, &requests_}) {
      file->finish();
    }
  }

 private:
  void write_patient(const Patient& patient) {
    line_.clear();
    append(line_,
           {"{\"resourceType\":\"Patient\",\"id\":\"", patient_id(patient), "\",\"gender\":\"",
            patient.female ? "female" : "male", "\",\"birthDate\":\"", date(patient.birth), "\""});
    if (patient.death) append(line_, {",\"deceasedDateTime\":\"", date_time(*patient.death), "\""});
    line_ += "}\n";
    patients_.write(line_);
  }

  void write_encounter(const Patient& patient, const Visit& visit, const std::string& id) {
    const bool short_stay = visit.discharge - visit.admit < kDay;
    line_.clear();
    append(line_, {"{\"resourceType\":\"Encounter\",\"id\":\"", id,
                   "\",\"status\":\"finished\",\"class\":{\"system\":\"", kTerminology,
                   "v3-ActCode\",\"code\":\"", short_stay ? "OBSENC" : "IMP",
                   "\"},\"subject\":{\"reference\":\"Patient/", patient_id(patient),
                   "\"},\"period\":{\"start\":\"", date_time(visit.admit), "\",\"end\":\"",
                   date_time(visit.discharge), "\"},\"diagnosis\":["});
    for (std::size_t i = 0; i < visit.diagnoses.size(); ++i) {
      append(line_, {i == 0 ? "" : ",", "{\"condition\":{\"reference\":\"Condition/", id, "-d",
                     std::to_string(i + 1), "\"},\"rank\":", std::to_string(i + 1), "}"});
    }
    line_ += "]}\n";
    encounters_.write(line_);
  }

  void write_conditions(const Visit& visit, const std::string& id, const std::string& links) {
    const std::string recorded = date_time(visit.admit);
    int number = 0;
    for (const CodedEntry& coded : visit.diagnoses) {
      const auto& condition =
          ClinicalIndex::shared().conditions[static_cast<std::size_t>(coded.entry)];
      line_.clear();
      append(line_,
             {"{\"resourceType\":\"Condition\",\"id\":\"",
              id,
              "-d",
              std::to_string(++number),
              "\",\"clinicalStatus\":{\"coding\":[{\"system\":\"",
              kTerminology,
              "condition-clinical\",\"code\":\"active\"}]},\"verificationStatus\":{\"coding\":[{"
              "\"system\":\"",
              kTerminology,
              "condition-ver-status\",\"code\":\"confirmed\"}]},\"category\":[{\"coding\":[{"
              "\"system\":\"",
              kTerminology,
              "condition-category\",\"code\":\"encounter-diagnosis\"}]}],\"code\":{\"coding\":[{"
              "\"system\":\"",
              visit.icd10 ? kIcd10 : kIcd9,
              "\",\"code\":\"",
              dotted(coded.code, false, visit.icd10),
              "\"}],\"text\":\"",
              condition.table->name,
              "\"},",
              links,
              "\"recordedDate\":\"",
              recorded,
              "\"}\n"});
      conditions_.write(line_);
    }
  }

  void write_procedures(const Visit& visit, const std::string& id, const std::string& links) {
    int number = 0;
    for (const CodedEntry& done : visit.procedures) {
      const auto& procedure =
          ClinicalIndex::shared().procedures[static_cast<std::size_t>(done.entry)];
      line_.clear();
      append(line_,
             {"{\"resourceType\":\"Procedure\",\"id\":\"", id, "-p", std::to_string(++number),
              "\",\"status\":\"completed\",\"code\":{\"coding\":[{\"system\":\"",
              visit.icd10 ? kIcd10Procedures : kIcd9Procedures, "\",\"code\":\"",
              dotted(done.code, true, visit.icd10), "\"}],\"text\":\"", procedure.table->name,
              "\"},", links, "\"performedDateTime\":\"", date(done.time), "\"}\n"});
      procedures_.write(line_);
    }
  }

  void write_requests(const Visit& visit, const std::string& id, const std::string& links) {
    int number = 0;
    for (const Order& order : visit.orders) {
      const Drug& drug = drugs()[static_cast<std::size_t>(order.drug)];
      begin_request(id, ++number);
      append(line_, {"\"coding\":[{\"system\":\"", kAtc, "\",\"code\":\"",
                     order.class_only ? drug.atc.substr(0, 5) : drug.atc, "\"}],\"text\":\"",
                     drug.name, "\"},", links, "\"authoredOn\":\"", date_time(order.time),
                     "\",\"dosageInstruction\":[{\"route\":{\"text\":\"", drug.route, "\"}}]}\n"});
      requests_.write(line_);
    }
    for (const std::string_view text : visit.uncoded) {
      begin_request(id, ++number);
      append(line_, {"\"text\":\"", text, "\"},", links, "\"authoredOn\":\"",
                     date_time(visit.admit), "\"}\n"});
      requests_.write(line_);
    }
  }

  void begin_request(const std::string& id, int number) {
    line_.clear();
    append(line_,
           {"{\"resourceType\":\"MedicationRequest\",\"id\":\"", id, "-m", std::to_string(number),
            "\",\"status\":\"completed\",\"intent\":\"order\",\"medicationCodeableConcept\":{"});
  }

  std::string prefix_;
  OutputFile patients_, encounters_, conditions_, procedures_, requests_;
  std::string line_;
};

}  // namespace

std::unique_ptr<CohortWriter> make_fhir_writer(const std::filesystem::path& folder,
                                               const CohortOptions& options) {
  return std::make_unique<FhirWriter>(folder, options);
}

}  // namespace theriac::generate
