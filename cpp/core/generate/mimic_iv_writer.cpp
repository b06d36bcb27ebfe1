#include <algorithm>

#include "cpp/core/base/csv.h"
#include "cpp/core/data/cohort.h"
#include "cpp/core/generate/cohort_writer.h"
#include "cpp/core/generate/output_file.h"

namespace theriac::generate {
namespace {

constexpr std::int64_t kPatientsPerHospital = 10'000'000;
constexpr int kPackages = 3;  // package sizes of a made-up drug; hospitals buy different ones

constexpr std::string_view kPatients =
    "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod\n";
constexpr std::string_view kAdmissions =
    "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admit_provider_id,"
    "admission_location,discharge_location,insurance,language,marital_status,race,edregtime,"
    "edouttime,hospital_expire_flag\n";
constexpr std::string_view kDiagnoses = "subject_id,hadm_id,seq_num,icd_code,icd_version\n";
constexpr std::string_view kProcedures =
    "subject_id,hadm_id,seq_num,chartdate,icd_code,icd_version\n";
constexpr std::string_view kPrescriptions =
    "subject_id,hadm_id,pharmacy_id,poe_id,poe_seq,order_provider_id,starttime,stoptime,drug_type,"
    "drug,formulary_drug_cd,gsn,ndc,prod_strength,form_rx,dose_val_rx,dose_unit_rx,form_val_disp,"
    "form_unit_disp,doses_per_24_hrs,route\n";

std::filesystem::path made(std::filesystem::path folder) {
  std::filesystem::create_directories(folder);
  return folder;
}

// Labeler 99999 is not assigned to anyone.
std::string ndc(int drug, int package) { return "99999" + padded(drug, 4) + padded(package, 2); }

// A comma-separated record; no text of this writer needs quotes unless csv_field says so.
class Row {
 public:
  Row& add(std::string_view text) {
    if (!text_.empty()) text_ += ',';
    text_ += text;
    return *this;
  }
  Row& add(std::int64_t value) { return add(std::to_string(value)); }
  Row& blank(int count = 1) {
    for (int i = 0; i < count; ++i) text_ += ',';
    return *this;
  }
  std::string line() const { return text_ + '\n'; }

 private:
  std::string text_;
};

int year_of(std::int64_t time) { return std::stoi(data::format_time(time).substr(0, 4)); }

// MIMIC groups a patient's first year in steps of three.
std::string year_group(int year) {
  const int first = 2008 + (year - 2008) / 3 * 3;
  return std::to_string(first) + " - " + std::to_string(first + 2);
}

class MimicIvWriter final : public CohortWriter {
 public:
  MimicIvWriter(const std::filesystem::path& folder, const CohortOptions& options)
      : hospital_(options.hospital),
        folder_(folder),
        compress_(options.compress),
        hosp_(made(folder / "hosp")),
        patients_(hosp_ / "patients.csv", options.compress),
        admissions_(hosp_ / "admissions.csv", options.compress),
        diagnoses_(hosp_ / "diagnoses_icd.csv", options.compress),
        procedures_(hosp_ / "procedures_icd.csv", options.compress),
        prescriptions_(hosp_ / "prescriptions.csv", options.compress) {
    patients_.write(kPatients);
    admissions_.write(kAdmissions);
    diagnoses_.write(kDiagnoses);
    procedures_.write(kProcedures);
    prescriptions_.write(kPrescriptions);
  }

  std::string patient_id(const Patient& patient) const override {
    return std::to_string(subject(patient));
  }
  std::string visit_id(const Patient& patient, const Visit& visit) const override {
    return std::to_string(subject(patient) * 100 + visit_tag(patient, visit));
  }

  void write(const Patient& patient) override {
    write_patient(patient);
    for (const Visit& visit : patient.visits) {
      const std::string keys = patient_id(patient) + "," + visit_id(patient, visit);
      write_admission(visit, keys);
      write_codes(visit, keys);
      write_prescriptions(patient, visit, keys);
    }
  }

  void finish() override {
    for (OutputFile* file :
         {&patients_, &admissions_, &diagnoses_, &procedures_, &prescriptions_}) {
      file->finish();
    }
    write_mapping();
  }

 private:
  std::int64_t subject(const Patient& patient) const {
    return (hospital_ + 1) * kPatientsPerHospital + patient.index;
  }

  void write_patient(const Patient& patient) {
    const std::int64_t anchor =
        patient.visits.empty() ? patient.birth : patient.visits.front().admit;
    const int year = year_of(anchor);
    const std::string death = patient.death ? data::format_time(*patient.death).substr(0, 10) : "";
    patients_.write(Row()
                        .add(patient_id(patient))
                        .add(patient.female ? "F" : "M")
                        .add(static_cast<std::int64_t>(patient.age_at(anchor)))
                        .add(std::int64_t{year})
                        .add(year_group(year))
                        .add(death)
                        .line());
  }

  void write_admission(const Visit& visit, const std::string& keys) {
    admissions_.write(Row()
                          .add(keys)
                          .add(data::format_time(visit.admit))
                          .add(data::format_time(visit.discharge))
                          .add(visit.died ? data::format_time(visit.discharge) : "")
                          .add("URGENT")
                          .blank()
                          .add("EMERGENCY ROOM")
                          .add(visit.died ? "DIED" : "HOME")
                          .add("Other")
                          .add("ENGLISH")
                          .blank(1)
                          .add("UNKNOWN")
                          .blank(2)
                          .add(visit.died ? "1" : "0")
                          .line());
  }

  void write_codes(const Visit& visit, const std::string& keys) {
    const std::string_view version = visit.icd10 ? "10" : "9";
    std::int64_t number = 0;
    for (const CodedEntry& coded : visit.diagnoses) {
      diagnoses_.write(Row().add(keys).add(++number).add(coded.code).add(version).line());
    }
    number = 0;
    for (const CodedEntry& done : visit.procedures) {
      const std::string day = data::format_time(done.time).substr(0, 10);
      procedures_.write(Row().add(keys).add(++number).add(day).add(done.code).add(version).line());
    }
  }

  void write_prescriptions(const Patient& patient, const Visit& visit, const std::string& keys) {
    const std::string stop = data::format_time(visit.discharge);
    for (const Order& order : visit.orders) {
      const Drug& drug = drugs()[static_cast<std::size_t>(order.drug)];
      const auto package = static_cast<int>((patient.index + order.drug + hospital_) % kPackages);
      write_prescription(keys, data::format_time(order.time), stop, "MAIN", drug.name,
                         ndc(order.drug, package + 1), drug.route);
    }
    for (const std::string_view text : visit.uncoded) {
      write_prescription(keys, data::format_time(visit.admit), stop, "BASE", text, "0", "IV");
    }
  }

  void write_prescription(const std::string& keys, const std::string& start,
                          const std::string& stop, std::string_view type, std::string_view drug,
                          const std::string& code, std::string_view route) {
    prescriptions_.write(Row()
                             .add(keys)
                             .add(++pharmacy_)
                             .blank(3)
                             .add(start)
                             .add(stop)
                             .add(type)
                             .add(csv_field(drug))
                             .blank(2)
                             .add(code)
                             .blank(7)
                             .add(route)
                             .line());
  }

  void write_mapping() {
    OutputFile mapping(folder_ / "ndc_atc.csv", compress_);
    mapping.write("ndc11,atc4,atc5\n");
    const int count = static_cast<int>(drugs().size());
    for (int drug = 0; drug < count; ++drug) {
      const std::string_view atc = drugs()[static_cast<std::size_t>(drug)].atc;
      for (int package = 1; package <= kPackages; ++package) {
        mapping.write(Row().add(ndc(drug, package)).add(atc.substr(0, 5)).add(atc).line());
      }
    }
    mapping.finish();
  }

  std::int64_t hospital_;
  std::filesystem::path folder_;
  bool compress_;
  std::filesystem::path hosp_;
  OutputFile patients_, admissions_, diagnoses_, procedures_, prescriptions_;
  std::int64_t pharmacy_ = 10'000'000;
};

}  // namespace

std::unique_ptr<CohortWriter> make_mimic_iv_writer(const std::filesystem::path& folder,
                                                   const CohortOptions& options) {
  return std::make_unique<MimicIvWriter>(folder, options);
}

}  // namespace theriac::generate
