// Vocabularies and interaction tables as files of a model directory.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "cpp/core/base/json.h"
#include "cpp/core/codes/interactions.h"
#include "cpp/engine/clinical/visit_batch.h"
#include "cpp/engine/train/model_directory.h"

namespace theriac::clinical {

// vocab.diagnoses.txt, vocab.procedures.txt, vocab.classes.txt: "system code" a line, in the order
// of ids.
void write_vocabularies(const Vocabularies& vocabularies, train::ModelDirectory& directory);
// Throws kIncompatible when a vocabulary is not the one that config.json was written with.
Vocabularies read_vocabularies(const train::ModelDirectory& directory);
// {"diagnoses": {"size", "fingerprint"}, ...}: member "vocabularies" of config.json.
Json describe(const Vocabularies& vocabularies);

// tables/interactions.csv in the host form of InteractionTable::from_csv, and member "interactions"
// of config.json; null and no file for a model without one.
void write_interactions(const std::optional<codes::InteractionTable>& table,
                        train::ModelDirectory& directory);
std::optional<codes::InteractionTable> read_interactions(const train::ModelDirectory& directory);
Json describe(const std::optional<codes::InteractionTable>& table);

}  // namespace theriac::clinical
