// theriac: what the library does, from a shell. What this command can not do, no host can.
#include <cstdio>
#include <cstdlib>

#include "cpp/cli/command.h"
#include "cpp/cli/terminal.h"
#include "cpp/core/base/file.h"
#include "cpp/core/base/options.h"

namespace theriac::cli {
namespace {

std::vector<Command> all_commands() {
  std::vector<Command> all;
  for (const auto& group :
       {data_commands(), codes_commands(), model_commands(), recommend_commands(),
        sequence_commands(), merge_commands(), inspect_commands()})
    all.insert(all.end(), group.begin(), group.end());
  return all;
}

void print_usage() {
  print_line("theriac " + std::string(theriac_version()) +
             ": recommendation of medications and items, in your own process and on your own "
             "device\n");
  for (const Command& command : all_commands()) {
    std::string line = std::string("  theriac ") + command.words + " " + command.operands;
    if (line.size() < 58) line.resize(58, ' ');
    print_line(line + "  " + command.summary);
  }
  print_line(
      "\nEverywhere: --set key=value (repeatable), --config FILE.json, --seed N, --threads N, "
      "--device cpu|cuda|cuda:N, --json, --quiet.\n"
      "`theriac COMMAND --help` lists a command's options, `theriac schema KIND` a document's "
      "keys.\n"
      "Exit status: 0 done, 1 the input or the data is at fault, 2 usage, 3 internal, 130 "
      "interrupted.");
}

// The command whose words open the argument list, longest first.
const Command* find_command(const std::vector<Command>& commands,
                            const std::vector<std::string>& arguments, std::size_t& used) {
  for (const std::size_t count : {std::size_t{2}, std::size_t{1}}) {
    if (arguments.size() < count) continue;
    std::string words = arguments[0];
    if (count == 2) words += " " + arguments[1];
    for (const Command& command : commands) {
      if (words == command.words) {
        used = count;
        return &command;
      }
    }
  }
  return nullptr;
}

cxxopts::Options declare(const Command& command) {
  cxxopts::Options options(std::string("theriac ") + command.words, command.summary);
  options.custom_help(command.operands).positional_help("");
  options.add_options()("set", "an option of the document, as key=value (repeatable)",
                        cxxopts::value<std::vector<std::string>>(), "KEY=VALUE")(
      "config", "options from a JSON file; --set wins", cxxopts::value<std::string>(), "FILE")(
      "seed", "seed of everything random", cxxopts::value<std::string>(), "N")(
      "threads", "thread budget", cxxopts::value<std::string>(), "N")(
      "device", "cpu, cuda or cuda:N", cxxopts::value<std::string>(), "DEVICE")(
      "json", "one JSON document on stdout and nothing else")("quiet", "no progress")("h,help",
                                                                                      "this text");
  options.add_options()("words", "", cxxopts::value<std::vector<std::string>>());
  if (command.declare != nullptr) command.declare(options);
  options.parse_positional({"words"});
  return options;
}

Json gather_settings(const cxxopts::ParseResult& parsed) {
  Json settings = Json::object();
  if (parsed.count("config") != 0) {
    const auto path = parsed["config"].as<std::string>();
    settings = parse_json(read_file(path, 64U << 20), path);
    if (!settings.is_object()) throw UsageError("--config " + path + ": must hold a JSON object");
  }
  if (parsed.count("set") != 0)
    merge_json(settings, json_from_settings(parsed["set"].as<std::vector<std::string>>()));
  return settings;
}

int run(const Command& command, const std::vector<std::string>& arguments) {
  cxxopts::Options options = declare(command);
  std::vector<const char*> raw{"theriac"};
  for (const std::string& argument : arguments) raw.push_back(argument.c_str());
  Call call;
  call.options = options.parse(static_cast<int>(raw.size()), raw.data());
  if (call.options.count("help") != 0) {
    print(options.help());
    return kDone;
  }
  if (call.options.count("words") != 0)
    call.words = call.options["words"].as<std::vector<std::string>>();
  call.settings = gather_settings(call.options);
  call.json = call.options.count("json") != 0;
  call.quiet = call.json || call.options.count("quiet") != 0;
  interrupt_token();
  return command.run(call);
}

// Exit status of a failed call of the library.
int exit_status(theriac_status status) {
  switch (status) {
    case THERIAC_CANCELLED:
      return kInterrupted;
    case THERIAC_INVALID_ARGUMENT:
      return kUsage;
    case THERIAC_INTERNAL:
      return kInternal;
    default:
      return kInputFault;
  }
}

int guarded_main(const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h" ||
      arguments[0] == "help") {
    print_usage();
    return arguments.empty() ? kUsage : kDone;
  }
  if (arguments[0] == "--version") {
    print_line(theriac_version());
    return kDone;
  }
  const std::vector<Command> commands = all_commands();
  std::size_t used = 0;
  const Command* command = find_command(commands, arguments, used);
  if (command == nullptr) {
    std::vector<std::string> names;
    for (const Command& known : commands) names.emplace_back(known.words);
    const std::string given =
        arguments[0] +
        (arguments.size() > 1 && arguments[1].rfind('-', 0) != 0 ? " " + arguments[1] : "");
    const std::string near = nearest_name(given, names);
    throw UsageError("no command '" + given + "'" +
                     (near.empty() ? std::string() : "; did you mean '" + near + "'?"));
  }
  return run(*command, {arguments.begin() + static_cast<std::ptrdiff_t>(used), arguments.end()});
}

}  // namespace

}  // namespace theriac::cli

int main(int argc, char** argv) {
  using theriac::cli::UsageError;
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  int status = theriac::cli::kInternal;
  try {
    status = theriac::cli::guarded_main(arguments);
  } catch (const UsageError& e) {
    std::fprintf(stderr, "theriac: %s. See theriac --help\n", e.what());
    status = theriac::cli::kUsage;
  } catch (const cxxopts::exceptions::exception& e) {
    std::fprintf(stderr, "theriac: %s. See theriac --help\n", e.what());
    status = theriac::cli::kUsage;
  } catch (const theriac::Exception& e) {
    std::fprintf(stderr, "theriac: %s\n", e.what());
    status = theriac::cli::exit_status(e.status());
  } catch (const theriac::Error& e) {
    std::fprintf(stderr, "theriac: %s\n", e.what());
    status = theriac::cli::exit_status(static_cast<theriac_status>(e.code()));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "theriac: internal error: %s\n", e.what());
  }
  if (std::fflush(stdout) != 0 && status == theriac::cli::kDone) status = theriac::cli::kInputFault;
  return status;
}
