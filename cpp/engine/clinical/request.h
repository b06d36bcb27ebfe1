// The recommendation request as a document (docs/recommendation.md).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/json.h"
#include "cpp/core/codes/code.h"
#include "cpp/core/data/cohort.h"

namespace theriac::clinical {

struct RequestEntry {
  std::int32_t visit = 0;  // 0-based
  data::Field field = data::Field::kDiagnoses;
  codes::MedicalCode code;  // normal form
  std::string as_given;     // text as the host wrote it, for the answer
};

struct Request {
  std::vector<std::string> dates;  // one a visit, as given; may be empty texts
  std::vector<RequestEntry> entries;
  std::int64_t k = -1;    // classes to list; 0 lists all; negative: the session's
  double threshold = -1;  // negative: the session's
};

// Throws kInvalidArgument with "json_path" in the details: unknown keys (with the nearest), wrong
// types, unknown systems, dates that decrease, more than 1,000 visits or 10,000 codes. Error texts
// carry paths, never the patient's codes.
Request parse_request(std::string_view json);

// JSON Schemas of the request and of a session's options, for theriac_schema.
Json request_schema();
Json session_schema();

}  // namespace theriac::clinical
