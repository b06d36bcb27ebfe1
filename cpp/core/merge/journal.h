// merge.journal: what of a merge is done, so that one that was cancelled or killed goes on where it
// stopped. Lines of text, each with a hash of its own; the first says which merge it is.
//
// An entry says that a tensor's bytes have been handed to the operating system. They survive the
// end of the process; after a loss of power, only checksums tell.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cpp/core/base/json.h"

namespace theriac::merge {

struct JournalEntry {
  std::size_t tensor = 0;
  std::string name;
  std::string checksum;
  std::uint64_t changed = 0, lost = 0, non_finite_in = 0, non_finite_out = 0;
};

// Holds a lock on its file: one process at a time works in a staging folder. Not synchronised.
class Journal {
 public:
  // `identity`: an object whose members must all be equal for a merge to be resumed. Replaces what
  // is there. Throws kBusy where another process holds it, kIoError.
  static Journal create(const std::filesystem::path& file, const Json& identity);
  // Goes on with an existing one, or creates it where there is none or not even its first line is
  // whole; `entries` is empty then. A torn end is cut off. Throws kIncompatible naming the members
  // that differ.
  static Journal resume(const std::filesystem::path& file, const Json& identity);
  ~Journal();
  Journal(Journal&& other) noexcept;
  Journal& operator=(Journal&&) = delete;

  bool resumed() const noexcept { return resumed_; }
  const std::vector<JournalEntry>& entries() const noexcept { return entries_; }  // as found
  void add(const JournalEntry& entry);  // kept in memory until
  // Not synced: a killed process loses nothing that it wrote, and what a failing power supply loses, of
  // this file or the outputs, shows in the checksums. A sync would have the whole output written first.
  void write();
  void start_over(const Json& identity);

 private:
  explicit Journal(const std::filesystem::path& file);
  void read(const Json& identity);

  std::filesystem::path file_;
  int descriptor_ = -1;
  bool resumed_ = false;
  std::string pending_;
  std::vector<JournalEntry> entries_;
};

}  // namespace theriac::merge
