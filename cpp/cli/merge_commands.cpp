// theriac merge: models merged as a recipe says, or what that would do. Takes every option of
// mergekit-yaml, so that scripts written for it run: those that mean nothing here say so.
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "cpp/cli/command.h"
#include "cpp/cli/report.h"
#include "cpp/cli/terminal.h"
#include "cpp/core/base/byte_count.h"
#include "cpp/core/base/file.h"

namespace theriac::cli {
namespace {

constexpr std::uint64_t kRecipeLimit = std::uint64_t{4} << 20;

// An option that sets a key of the document ("merge" in `theriac schema`).
struct FlagOption {
  const char* name;
  const char* key;
  const char* help;
  bool negatable;  // --no-NAME sets it to false
};
constexpr FlagOption kFlags[] = {
    {"resume", "resume", "go on with what a stopped run left", false},
    {"overwrite", "overwrite", "replace a model folder of that name", false},
    {"strict", "strict", "warnings of the recipe are errors", false},
    {"verify", "verify", "read the finished files again and compare checksums", false},
    {"allow-crimes", "allow_crimes", "merge models of different architectures", true},
    {"copy-tokenizer", "copy_tokenizer", "copy the tokenizer (on)", true},
    {"write-model-card", "write_card", "write README.md (on)", true},
};

// Options of mergekit-yaml without a meaning here.
struct IgnoredOption {
  const char* name;
  bool takes_value;
  const char* why;
};
constexpr IgnoredOption kIgnored[] = {
    {"lora-merge-cache", true, "adapters are applied while weights are read; nothing is cached"},
    {"cuda", false, "merging is bound by the disk and runs on the processor"},
    {"low-cpu-memory", false, "memory is always that of the blocks in work; see --memory-limit"},
    {"clone-tensors", false, "tensors are copied block by block"},
    {"trust-remote-code", false, "no code that comes with a model is ever run"},
    {"lazy-unpickle", false, "PyTorch files are always read tensor by tensor, and never executed"},
    {"safe-serialization", false, "only safetensors are written"},
    {"read-to-gpu", false, "merging runs on the processor"},
    {"multi-gpu", false, "merging runs on the processor"},
    {"gpu-rich", false, "merging runs on the processor"},
    {"async-write", false, "every thread writes its blocks where they belong"},
    {"write-threads", true, "every thread writes its blocks where they belong"},
};

std::int64_t bytes_of(const Call& call, const char* option) {
  try {
    return static_cast<std::int64_t>(parse_byte_count(call.text(option)));
  } catch (const Error& error) {
    throw UsageError(std::string("--") + option + ": " + error.what());
  }
}

std::int64_t number_of(const Call& call, const char* option) {
  const Json value = Json::parse(call.text(option), nullptr, false);
  if (!value.is_number_unsigned()) {
    throw UsageError(std::string("--") + option + " takes a whole number, not '" +
                     call.text(option) + "'");
  }
  return value.get<std::int64_t>();
}

void declare_merge(cxxopts::Options& options) {
  auto add = options.add_options();
  for (const FlagOption& flag : kFlags) {
    add(flag.name, flag.help);
    if (flag.negatable) add(std::string("no-") + flag.name, "not so");
  }
  const auto text = [] { return cxxopts::value<std::string>(); };
  add("out-shard-size", "bytes of an output file: 5B, 200M", text(), "SIZE");
  add("memory-limit", "bytes of all buffers together", text(), "SIZE");
  add("io-threads", "threads beside --threads, for more reads under way", text(), "N");
  add("report", "also write the report, as JSON", text(), "FILE");
  add("intermediate-dir,I", "keep the named documents' models here", text(), "DIR");
  add("transformers-cache", "where models of the hub lie (default: the hub client's)", text(),
      "DIR");
  add("lora-merge-dtype", "type that weights changed by an adapter count as", text(), "TYPE");
  add("random-seed", "as --seed", text(), "N");
  add("num-threads,j", "as --threads", text(), "N");
  add("verbose,v", "more words");
  for (const IgnoredOption& option : kIgnored) {
    const std::string help = std::string("accepted: ") + option.why;
    if (option.takes_value) {
      add(option.name, help, text(), "X");
    } else {
      add(option.name, help);
      add(std::string("no-") + option.name, "accepted");
    }
  }
}

void note(const std::string& line) { std::fprintf(stderr, "theriac: note: %s\n", line.c_str()); }

void note_ignored(const Call& call) {
  for (const IgnoredOption& option : kIgnored) {
    const std::string name = option.name;
    if (call.options.count(name) != 0 && name != "safe-serialization") {
      note("--" + name + " has no effect: " + option.why);
    }
  }
  if (call.options.count("no-safe-serialization") != 0) {
    note("--no-safe-serialization has no effect: only safetensors are written");
  }
  if (call.options.count("device") != 0 && call.text("device") != "cpu") {
    note("--device " + call.text("device") + " has no effect: merging runs on the processor");
  }
}

// Where the hub's client keeps models.
std::string default_hub_cache() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const char* folder = std::getenv(name)) return folder;
  }
  if (const char* home = std::getenv("HF_HOME")) return std::string(home) + "/hub";
  if (const char* cache = std::getenv("XDG_CACHE_HOME")) {
    return std::string(cache) + "/huggingface/hub";
  }
  const char* home = std::getenv("HOME");
  return home == nullptr ? "" : std::string(home) + "/.cache/huggingface/hub";
}

std::string dtype_of(const Call& call) {
  std::string name = call.text("lora-merge-dtype");
  if (name.rfind("torch.", 0) == 0) name.erase(0, 6);
  return name;
}

Json document_of(const Call& call, const std::string& recipe) {
  Json document = call.settings;
  if (!recipe.empty()) document["name"] = recipe;
  for (const FlagOption& flag : kFlags) {
    if (call.options.count(flag.name) != 0) document[flag.key] = true;
    const std::string no = std::string("no-") + flag.name;
    if (flag.negatable && call.options.count(no) != 0) document[flag.key] = false;
  }
  if (call.options.count("out-shard-size") != 0)
    document["shard_bytes"] = bytes_of(call, "out-shard-size");
  if (call.options.count("memory-limit") != 0)
    document["memory_limit"] = bytes_of(call, "memory-limit");
  if (call.options.count("io-threads") != 0) document["io_threads"] = number_of(call, "io-threads");
  if (call.options.count("intermediate-dir") != 0)
    document["intermediate_folder"] = call.text("intermediate-dir");
  if (call.options.count("lora-merge-dtype") != 0) document["adapter_dtype"] = dtype_of(call);
  if (!document.contains("hub_cache"))
    document["hub_cache"] = call.text("transformers-cache", default_hub_cache());
  return document;
}

// Threads and seed under either name; the device is always the processor.
Context context_of(const Call& call) {
  Json document = Json::object();
  const auto take = [&](const char* key, const char* own, const char* other) {
    for (const char* option : {other, own}) {
      if (call.options.count(option) != 0) document[key] = number_of(call, option);
    }
  };
  take("threads", "threads", "num-threads");
  take("seed", "seed", "random-seed");
  return Context(dump_json(document));
}

std::string carry_out(const Call& call, const std::string& recipe, const Json& document) {
  note_ignored(call);
  const Context context = context_of(call);
  ProgressBar bar(call.quiet);
  const std::string text = recipe.empty() ? "" : read_file(recipe, kRecipeLimit);
  return context.merge(text, dump_json(document), bar.listener(), &interrupt_token());
}

int finish(const Call& call, const std::string& report) {
  if (call.options.count("report") != 0) replace_file(call.text("report"), report + "\n");
  if (call.json) {
    print_line(report);
    return kDone;
  }
  const Json json = Json::parse(report);
  for (const char* kind : {"warnings", "notes"}) {
    for (const Json& line : json.value(kind, Json::array())) print_line(line.get<std::string>());
  }
  if (call.options.count("verbose") != 0) {
    for (const char* key : {"bytes_read", "bytes_written", "tensors_resumed", "seconds"}) {
      if (json.contains(key)) print_line(std::string(key) + ": " + dump_json(json.at(key)));
    }
  }
  return kDone;
}

int carry_out_to(const Call& call, const std::string& recipe, const std::string& output,
                 Json document) {
  document["output"] = output;
  const int status = finish(call, carry_out(call, recipe, document));
  if (!call.json) print_line("written: " + output);
  return status;
}

int merge(const Call& call) {
  const std::string recipe = call.word(0, "RECIPE.yml"), output = call.word(1, "OUT");
  return carry_out_to(call, recipe, output, document_of(call, recipe));
}

// By the output's name alone: recipe and options are kept with what is unfinished.
int resume(const Call& call) {
  const std::string first = call.word(0, "OUT");
  if (call.words.size() == 1) {
    return carry_out_to(call, "", first, Json{{"resume", true}});
  }
  Json document = document_of(call, first);
  document["resume"] = true;
  return carry_out_to(call, first, call.word(1, "OUT"), std::move(document));
}

int plan(const Call& call) {
  const std::string recipe = call.word(0, "RECIPE.yml");
  Json document = document_of(call, recipe);
  document["dry_run"] = true;
  const std::string report = carry_out(call, recipe, document);
  if (!call.json) print_line(dump_json(Json::parse(report), 2));
  return finish(call, report);
}

}  // namespace

const std::vector<Command>& merge_commands() {
  static const auto* const commands = new std::vector<Command>{
      {"merge plan", "RECIPE.yml", "what a merge would do: bytes, memory, each tensor's parameters",
       declare_merge, plan},
      {"merge resume", "[RECIPE.yml] OUT", "goes on with a stopped merge into OUT", declare_merge,
       resume},
      {"merge", "RECIPE.yml OUT", "merges models as a recipe of mergekit's form says",
       declare_merge, merge},
  };
  return *commands;
}

}  // namespace theriac::cli
