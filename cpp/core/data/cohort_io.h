// A cohort on disk, and out of it (Arrow C data, JSON lines, CSV).
#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

#include "cpp/core/data/cohort.h"

namespace theriac::data {

// Directory: dataset.json (kind, format version, counts, vocabularies, accounting, provenance,
// fingerprint) and columns.bin (64-byte aligned little-endian columns, listed in dataset.json with
// offset, length and XXH3). Written whole or not at all. Throws kAlreadyExists unless `overwrite`.
void save_cohort(const Cohort& cohort, const std::filesystem::path& directory,
                 bool overwrite = false);
// Throws kNotFound, kDataError (truncated, checksum, offsets out of range), kIncompatible
// (version).
Cohort load_cohort(const std::filesystem::path& directory);

// Names of the tables that export knows: "patients", "visits", "codes", "vocabulary".
std::vector<std::string> table_names();
// "patients" as JSON lines:
// {"patient","visits":[{"id","admit","dx":[[version,code]],"px","atc3":[sorted]}]}, version "9" or
// "10" (the system's name for any other system).
void export_table(const Cohort& cohort, const std::string& table, const std::string& format,
                  std::ostream& out);

}  // namespace theriac::data
