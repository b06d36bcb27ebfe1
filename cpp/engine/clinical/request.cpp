#include "cpp/engine/clinical/request.h"

#include "cpp/core/base/options.h"

namespace theriac::clinical {
namespace {

constexpr std::size_t kMaxVisits = 1000, kMaxEntries = 10000, kMaxCodeBytes = 64;
constexpr JsonLimits kLimits{std::size_t{16} << 20, 64};

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw Error(Code::kInvalidArgument, "request, " + path + ": " + what).at("json_path", path);
}

// The object at `path` with only these keys.
void check_object(const Json& value, const std::string& path,
                  const std::vector<std::string>& keys) {
  if (!value.is_object()) refuse(path, std::string("must be an object, not ") + value.type_name());
  for (const auto& [key, unused] : value.items()) {
    if (key.rfind("x-", 0) == 0) continue;
    bool known = false;
    for (const std::string& allowed : keys) known = known || key == allowed;
    if (known) continue;
    const std::string near = nearest_name(key, keys);
    refuse(path + "." + key,
           "unknown key" + (near.empty() ? std::string() : "; did you mean '" + near + "'?"));
  }
}

std::string text_at(const Json& object, const char* key, const std::string& path, bool required) {
  const auto found = object.find(key);
  if (found == object.end()) {
    if (required) refuse(path, std::string("lacks '") + key + "'");
    return {};
  }
  if (!found->is_string())
    refuse(path + "." + key, std::string("must be text, not ") + found->type_name());
  return found->get<std::string>();
}

// Default systems make {"code": "A10B"} enough for medications; diagnoses and procedures must say
// which.
RequestEntry read_entry(const Json& value, const std::string& path, std::int32_t visit,
                        data::Field field) {
  check_object(value, path, {"system", "code", "display"});
  RequestEntry entry;
  entry.visit = visit;
  entry.field = field;
  entry.as_given = text_at(value, "code", path, true);
  if (entry.as_given.size() > kMaxCodeBytes)
    refuse(path + ".code", "is longer than " + std::to_string(kMaxCodeBytes) + " bytes");
  std::string system = text_at(value, "system", path, field != data::Field::kMedications);
  if (system.empty()) system = "atc";
  auto known = codes::system_from_name(system);
  if (!known) known = codes::system_from_uri(system, field == data::Field::kProcedures);
  if (!known)
    refuse(path + ".system",
           "unknown code system; expected a name such as icd10cm, icd9cm, icd10pcs, icd9proc, atc, "
           "local, or a FHIR URI");
  entry.code = {*known, codes::normalise(*known, entry.as_given)};
  if (entry.code.text.empty()) refuse(path + ".code", "is empty");
  return entry;
}

void read_visit(const Json& value, const std::string& path, std::int32_t visit, Request& request) {
  check_object(value, path, {"date", "diagnoses", "procedures", "medications"});
  request.dates.push_back(text_at(value, "date", path, false));
  const std::pair<const char*, data::Field> lists[] = {{"diagnoses", data::Field::kDiagnoses},
                                                       {"procedures", data::Field::kProcedures},
                                                       {"medications", data::Field::kMedications}};
  for (const auto& [key, field] : lists) {
    const auto found = value.find(key);
    if (found == value.end() || found->is_null()) continue;
    const std::string list = path + "." + key;
    if (!found->is_array())
      refuse(list, std::string("must be an array, not ") + found->type_name());
    for (std::size_t i = 0; i < found->size(); ++i) {
      if (request.entries.size() >= kMaxEntries)
        refuse(list, "more than " + std::to_string(kMaxEntries) + " codes in all");
      request.entries.push_back(
          read_entry((*found)[i], list + "[" + std::to_string(i) + "]", visit, field));
    }
  }
}

void check_dates(const Request& request) {
  std::int64_t last = data::kNoTime;
  for (std::size_t v = 0; v < request.dates.size(); ++v) {
    if (request.dates[v].empty()) continue;
    const std::string path = "patient.visits[" + std::to_string(v) + "].date";
    std::int64_t time = 0;
    try {
      time = data::parse_time(request.dates[v]);
    } catch (const Error&) {
      refuse(path, "is not a date; expected YYYY-MM-DD, with a time if wanted");
    }
    if (time < last)
      refuse(
          path,
          "is before the date of an earlier visit; visits go from the oldest to the current one");
    last = time;
  }
}

}  // namespace

Request parse_request(std::string_view json) {
  const Json document = parse_json(json, "request", Code::kInvalidArgument, kLimits);
  check_object(document, "$", {"patient", "k", "threshold"});
  Request request;
  if (const auto k = document.find("k"); k != document.end()) {
    if (!k->is_number_integer() || *k < 0 || *k > 100000)
      refuse("k", "must be a whole number from 0 (all) to 100000");
    request.k = k->get<std::int64_t>();
  }
  if (const auto threshold = document.find("threshold"); threshold != document.end()) {
    if (!threshold->is_number() || *threshold < 0 || *threshold > 1)
      refuse("threshold", "must be a number from 0 to 1");
    request.threshold = threshold->get<double>();
  }
  const auto patient = document.find("patient");
  if (patient == document.end()) refuse("$", "lacks 'patient'");
  check_object(*patient, "patient", {"visits", "id"});
  const auto visits = patient->find("visits");
  if (visits == patient->end() || !visits->is_array() || visits->empty()) {
    refuse("patient.visits", "must be an array with at least the current visit");
  }
  if (visits->size() > kMaxVisits)
    refuse("patient.visits", "more than " + std::to_string(kMaxVisits) + " visits");
  for (std::size_t v = 0; v < visits->size(); ++v) {
    read_visit((*visits)[v], "patient.visits[" + std::to_string(v) + "]",
               static_cast<std::int32_t>(v), request);
  }
  check_dates(request);
  return request;
}

Json request_schema() {
  const Json entry{
      {"type", "object"},
      {"properties",
       {{"system",
         {{"type", "string"},
          {"description",
           "icd10cm, icd9cm, icd10pcs, icd9proc, atc, local, or a FHIR URI; atc when absent from a "
           "medication"}}},
        {"code", {{"type", "string"}, {"description", "with or without dots, any case"}}}}},
      {"required", {"code"}}};
  const Json list{{"type", "array"}, {"items", entry}};
  const Json visit{{"type", "object"},
                   {"properties",
                    {{"date", {{"type", "string"}}},
                     {"diagnoses", list},
                     {"procedures", list},
                     {"medications", list}}}};
  return {{"title", "request"},
          {"type", "object"},
          {"properties",
           {{"patient",
             {{"type", "object"},
              {"properties", {{"visits", {{"type", "array"}, {"items", visit}, {"minItems", 1}}}}},
              {"required", {"visits"}}}},
            {"k",
             {{"type", "integer"},
              {"minimum", 0},
              {"default", 20},
              {"description", "classes to list; 0 lists all"}}},
            {"threshold",
             {{"type", "number"},
              {"minimum", 0},
              {"maximum", 1},
              {"description",
               "classes at or above it are marked as recommended; the session's when absent"}}}}},
          {"required", {"patient"}}};
}

}  // namespace theriac::clinical
