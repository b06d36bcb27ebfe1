// A session over a fitted medication model: requests in, ranked classes and their basis out.
#pragma once

#include <memory>
#include <string_view>

#include "cpp/core/engine.h"
#include "cpp/engine/clinical/medication_state.h"

namespace theriac::clinical {

// threads: of data sets; one patient takes one.
//
// Options: {"threshold": number (the model's when absent), "k": integer}. Throws kInvalidArgument.
std::unique_ptr<Session> make_session(std::shared_ptr<const MedicationState> state,
                                      std::string_view options_json, int threads);

// The documents of this family for theriac_schema: [{"name", "family": "document", "schema"}].
Json medication_documents();

}  // namespace theriac::clinical
