// A session over a fitted model of item sequences: a history in, ranked items out.
#pragma once

#include <memory>
#include <string_view>

#include "cpp/core/engine.h"
#include "cpp/engine/sequence/sequence_state.h"

namespace theriac::sequence {

// Options: {"k": integer, "exclude_seen": bool, "augment": {...}}. Throws kInvalidArgument.
// threads: of data sets; one user takes one.
std::unique_ptr<Session> make_session(std::shared_ptr<const SequenceState> state,
                                      std::string_view options_json, int threads);

// The documents of this family for theriac_schema: [{"name", "family": "document", "schema"}].
Json sequence_documents();

}  // namespace theriac::sequence
