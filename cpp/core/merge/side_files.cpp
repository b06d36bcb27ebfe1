#include "cpp/core/merge/side_files.h"

#include <algorithm>
#include <array>
#include <system_error>

#include "cpp/core/base/file.h"
#include "cpp/core/base/hash.h"
#include "cpp/core/merge/chat_template.h"
#include "cpp/core/merge/json_text.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostBytes = std::uint64_t{256} << 20;

// ---- the card ----------------------------------------------------------------------------------

std::string fenced(const std::string& text) {
  std::size_t longest = 2, run = 0;
  for (const char c : text) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  const std::string fence(longest + 1, '`');
  return fence + "yaml\n" + text + (text.ends_with('\n') ? "" : "\n") + fence + "\n";
}

std::string card(const Prepared& prepared, const std::string& name, const Json& report) {
  std::string hub, list;
  for (const InputModel& model : prepared.models) {
    const std::string& path = model.reference.path;
    if (is_hub_name(path)) hub += "- " + dump_json(Json(path)) + "\n";
    Fingerprint headers;
    for (const InputFile& file : model.inputs) {
      headers.add(static_cast<std::int64_t>(file.bytes)).add(file.header);
    }
    list += "* `" + model.reference.text() + "` (headers " + headers.hex() + ")\n";
  }
  const MergeRecipe& recipe = prepared.recipe;
  const MethodDeclaration& method = *prepared.plan.method;
  std::string out = "---\n";
  if (!hub.empty()) out += "base_model:\n" + hub;
  out += "library_name: transformers\ntags:\n- mergekit\n- merge\n---\n# " + name + "\n\n";
  out += "A merge of language models or other networks, made with Theriac" +
         (report.at("version") == "" ? "" : " " + report.at("version").get<std::string>()) +
         ".\n\n## Method\n\n`" + method.name + "`: " + method.doc;
  if (!method.paper.empty()) {
    out += " ([arXiv:" + method.paper + "](https://arxiv.org/abs/" + method.paper + "))";
  }
  out += ".\n";
  if (recipe.base_model) out += "\nBase: `" + recipe.base_model->text() + "`\n";
  out += "\n## Models\n\n" + list + "\n## Recipe\n\n" + fenced(prepared.source);
  out += "\n## Result\n\n" + std::to_string(prepared.layout.tensors.size()) + " tensors, " +
         std::to_string(prepared.layout.tensor_bytes) + " bytes.";
  if (report.contains("fraction_lost") && report.at("fraction_lost").is_number()) {
    out += " Share of changes that rounding undid: " + dump_json(report.at("fraction_lost")) + ".";
  }
  out += "\n";
  for (const char* kind : {"notes", "warnings"}) {
    for (const Json& note : report.at(kind)) out += "\n* " + note.get<std::string>();
  }
  return out + (report.at("notes").empty() && report.at("warnings").empty() ? "" : "\n");
}

// ---- tokenizer and generation ------------------------------------------------------------------

// Of the files beside a model, those that are not its tokenizer's.
bool is_general(const std::string& name) {
  constexpr std::array<std::string_view, 4> kGeneral{
      "generation_config.json", "video_preprocessor_config.json", "preprocessor_config.json",
      "processor_config.json"};
  return std::find(kGeneral.begin(), kGeneral.end(), name) != kGeneral.end();
}

// Durable and whole, or an error: the kernel's own copy leaves a part behind on a full disk.
void copy_over(const fs::path& from, const fs::path& to) {
  replace_file(to, read_file(from, kMostBytes));
}

void write_generation_config(const Prepared& prepared, const fs::path& from, const fs::path& to) {
  if (!prepared.tokenizer || prepared.tokenizer->generation_edits.empty())
    return copy_over(from, to);
  JsonText text(read_file(from, kMostBytes));  // parsed when the edits were made
  for (const ConfigEdit& edit : prepared.tokenizer->generation_edits) {
    text.set({edit.key}, dump_json(edit.value));
  }
  replace_file(to, text.text());
}

void copy_general(const Prepared& prepared, const fs::path& folder) {
  const auto& donor = prepared.donor().files;
  for (const std::string& name : donor.side_files()) {
    if (!is_general(name)) continue;
    const fs::path from = donor.folder() / name;
    if (name == "generation_config.json") {
      write_generation_config(prepared, from, folder / name);
    } else {
      copy_over(from, folder / name);
    }
  }
}

// A tokenizer's file with the tokens that the merge appends.
std::string with_appended(const std::string& name, const fs::path& from,
                          const std::vector<AddedToken>& tokens) {
  const std::string text = read_file(from, kMostBytes);
  if (name == "tokenizer.json") return with_tokens(text, tokens);
  // The editor trusts what it edits; tokenizer.json was parsed for its vocabulary.
  const Json json = parse_json(text, from.string(), Code::kDataError);
  if (!json.is_object()) return text;
  return name == "added_tokens.json" ? list_with_tokens(text, tokens)
                                     : config_with_tokens(text, tokens);
}

void copy_tokenizer(const Prepared& prepared, const fs::path& folder) {
  const auto& tokenizer = prepared.tokenizer;
  const auto& model = tokenizer ? prepared.models[tokenizer->plan.source] : prepared.donor();
  for (const std::string& name : model.files.side_files()) {
    if (is_general(name)) continue;
    const fs::path from = model.files.folder() / name;
    const bool lists_tokens =
        name == "tokenizer.json" || name == "tokenizer_config.json" || name == "added_tokens.json";
    if (!tokenizer || tokenizer->plan.appended.empty() || !lists_tokens) {
      copy_over(from, folder / name);
    } else {
      replace_file(folder / name, with_appended(name, from, tokenizer->plan.appended));
    }
  }
}

void apply_chat_template(const Prepared& prepared, const fs::path& folder,
                         std::vector<std::string>& notes) {
  const std::string& wanted = prepared.recipe.chat_template;
  if (wanted.empty()) return;
  std::string text = wanted;
  if (wanted == "auto") {
    std::vector<fs::path> folders;
    for (const InputModel& model : prepared.models) folders.push_back(model.files.folder());
    const auto found = most_frequent_template(folders);
    if (!found) {
      notes.emplace_back("chat_template is 'auto', but no model has a chat template");
      return;
    }
    text = *found;
  } else if (const auto known = built_in_template(wanted)) {
    text = std::string(*known);
  }
  if (!set_chat_template(folder, text)) {
    notes.emplace_back("chat_template is not saved: the output has no tokenizer");
  }
}

}  // namespace

std::vector<std::string> write_side_files(const Prepared& prepared, const fs::path& folder,
                                          const std::string& name, const MergeOptions& options,
                                          const Json& report) {
  std::vector<std::string> notes;
  if (const std::string config = prepared.config_text(); !config.empty()) {
    replace_file(folder / "config.json", config);
  }
  if (options.copy_side_files) {
    copy_general(prepared, folder);
    // A vocabulary that was asked for belongs to the weights.
    if (options.copy_tokenizer || prepared.tokenizer) copy_tokenizer(prepared, folder);
  }
  apply_chat_template(prepared, folder, notes);
  replace_file(folder / "mergekit_config.yml", prepared.source);
  if (options.write_card) replace_file(folder / "README.md", card(prepared, name, report));
  return notes;
}

}  // namespace theriac::merge
