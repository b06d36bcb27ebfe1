#include "cpp/core/generate/sequences.h"

#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "cpp/core/generate/output_file.h"
#include "cpp/core/generate/sequence_simulator.h"

namespace theriac::generate {
namespace {

data::Names numbered(std::int64_t count) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), std::int64_t{1});
  return data::Names(std::move(numbers));
}

std::string as_line(const std::string& user, const UserSequence& sequence) {
  std::string out = user;
  for (const std::int32_t item : sequence.items) out += " " + std::to_string(item);
  return out + "\n";
}

std::string as_rows(const std::string& user, const UserSequence& sequence) {
  std::string out;
  for (std::size_t i = 0; i < sequence.items.size(); ++i) {
    out += user + "," + std::to_string(sequence.items[i]) + "," +
           std::to_string(sequence.times[i]) + "\n";
  }
  return out;
}

}  // namespace

const OptionTable<SequenceOptions>& SequenceOptions::table() {
  static const auto t =
      OptionTable<SequenceOptions>("sequences", "Synthetic users who move between items")
          .integer("users", &SequenceOptions::users, {1, 10'000'000}, "number of users")
          .integer("items", &SequenceOptions::items, {10, 10'000'000}, "number of items")
          .integer("clusters", &SequenceOptions::clusters, {1, 1'000'000},
                   "groups of items between which users move; at most one an item")
          .real("mean_length", &SequenceOptions::mean_length, {5.0, 1000.0},
                "items of a user on average, at most half of all; each has at least 5")
          .real("stickiness", &SequenceOptions::stickiness, {0.0, 1.0},
                "chance that the next item follows the chain of clusters; else by popularity")
          .real("popularity", &SequenceOptions::popularity, {0.0, 4.0},
                "exponent of the power law of popularity; 0: all items alike")
          .real("drift", &SequenceOptions::drift, {0.0, 1.0},
                "share of clusters whose chain changes half-way through the period of four years")
          .integer("seed", &SequenceOptions::seed, {0}, "seed of everything random")
          .choice("format", &SequenceOptions::format, {"lines", "csv"},
                  "lines: a user and their items a line; csv: an interaction with its time a row");
  return t;
}

data::Sequences generate_sequences(const SequenceOptions& options) {
  SequenceSimulator simulator(options);
  data::SequenceColumns columns;
  columns.users = numbered(options.users);
  columns.items = numbered(options.items);
  for (std::int64_t user = 0; user < options.users; ++user) {
    const UserSequence sequence = simulator.user(user);
    columns.ids.insert(columns.ids.end(), sequence.items.begin(), sequence.items.end());
    columns.times.insert(columns.times.end(), sequence.times.begin(), sequence.times.end());
    columns.offsets.push_back(std::ssize(columns.ids));
  }
  columns.provenance = Json{{"generator", "sequences"},
                            {"options", SequenceOptions::table().effective_json(options)}};
  return data::Sequences(std::move(columns));
}

void write_sequences(const std::filesystem::path& file, const SequenceOptions& options, Job& job) {
  SequenceSimulator simulator(options);
  const bool csv = options.format == "csv";
  OutputFile out(file, false);
  if (csv) out.write("user,item,time\n");
  const auto total = static_cast<std::uint64_t>(options.users);
  for (std::int64_t user = 0; user < options.users; ++user) {
    const UserSequence sequence = simulator.user(user);
    const std::string name = std::to_string(user + 1);
    out.write(csv ? as_rows(name, sequence) : as_line(name, sequence));
    job.progress("generate", static_cast<std::uint64_t>(user) + 1, total);
  }
  out.finish();
}

}  // namespace theriac::generate
