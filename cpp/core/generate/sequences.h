// Synthetic sequences (design 5.1): users who move between items along a Markov chain over clusters,
// which changes half-way for some of them, with popularity that follows a power law.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "cpp/core/base/job.h"
#include "cpp/core/base/options.h"
#include "cpp/core/data/sequences.h"

namespace theriac::generate {

struct SequenceOptions {
  std::int64_t users = 1000, items = 500, clusters = 20;
  double mean_length = 9;   // at least 5 items each, as in 5-core data
  double stickiness = 0.7;  // chance that the next item follows the chain; else by popularity
  double popularity = 0.8;  // exponent of the power law
  double drift = 0.2;       // share of clusters whose chain changes half-way through the period
  std::int64_t seed = 1;
  std::string format = "lines";  // lines | csv (with times)
  static const OptionTable<SequenceOptions>& table();
};

// Deterministic in the options. No user repeats an item. Item names are 1 ... items, also of those
// that nobody has. Throw kInvalidArgument for options out of range, which are also more clusters
// than items and a mean length of more than half the items.
data::Sequences generate_sequences(const SequenceOptions& options);
// Writes one file; same options, same bytes. For format csv with header user,item,time.
void write_sequences(const std::filesystem::path& file, const SequenceOptions& options, Job& job);

}  // namespace theriac::generate
