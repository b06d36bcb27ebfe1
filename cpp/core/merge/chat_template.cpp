#include "cpp/core/merge/chat_template.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "cpp/core/base/file.h"
#include "cpp/core/base/json.h"
#include "cpp/core/merge/json_text.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostBytes = std::uint64_t{64} << 20;

struct BuiltIn {
  std::string_view name, text;
};

constexpr BuiltIn kBuiltIn[] = {
    {"alpaca",
     "{% for message in messages %}"
     "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
     "{% elif message['role'] == 'user' %}"
     "{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}"
     "{% elif message['role'] == 'assistant' %}"
     "{{ '### Response:\\n' + message['content'] + '\\n\\n' }}"
     "{% endif %}{% endfor %}"
     "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"},
    {"chatml",
     "{% for message in messages %}"
     "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
     "{% endfor %}"
     "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"},
    {"exaone",
     "{% for message in messages %}"
     "{% if loop.first and message['role'] != 'system' %}{{ '[|system|][|endofturn|]\\n' }}"
     "{% endif %}"
     "{{ '[|' + message['role'] + '|]' + message['content'] }}"
     "{% if message['role'] == 'user' %}{{ '\\n' }}{% else %}{{ '[|endofturn|]\\n' }}{% endif %}"
     "{% endfor %}"
     "{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}"},
    {"llama3",
     "{{ bos_token }}{% for message in messages %}"
     "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + "
     "message['content'] | trim + '<|eot_id|>' }}"
     "{% endfor %}"
     "{% if add_generation_prompt %}"
     "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"},
    {"mistral",
     "{{ bos_token }}{% set ns = namespace(system='') %}{% for message in messages %}"
     "{% if message['role'] == 'system' %}{% set ns.system = message['content'] + '\\n\\n' %}"
     "{% elif message['role'] == 'user' %}"
     "{{ '[INST] ' + ns.system + message['content'] + ' [/INST]' }}{% set ns.system = '' %}"
     "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
     "{% endif %}{% endfor %}"},
};

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

Json parsed(const fs::path& path) {
  const JsonLimits limits{.bytes = static_cast<std::size_t>(kMostBytes)};
  return parse_json(read_file(path, kMostBytes), path.string(), Code::kDataError, limits);
}

// The member "chat_template": a text, or a list of {name, template}.
std::optional<std::string> member(const fs::path& path) {
  if (!is_there(path)) return std::nullopt;
  const Json json = parsed(path);
  const auto found = json.is_object() ? json.find("chat_template") : json.end();
  if (!json.is_object() || found == json.end() || found->is_null()) return std::nullopt;
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array()) {
    std::optional<std::string> first;
    for (const Json& entry : *found) {
      if (!entry.is_object() || !entry.contains("template")) continue;
      const Json& text = entry.at("template");
      if (!text.is_string()) continue;
      if (entry.value("name", Json()) == "default") return text.get<std::string>();
      if (!first) first = text.get<std::string>();
    }
    return first;
  }
  throw Error(Code::kDataError,
              "'" + path.string() + "': 'chat_template' is neither a text nor a list of them")
      .at("file", path.string());
}

std::string stripped(const std::string& text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto first = text.find_first_not_of(kSpace);
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

void set_member(const fs::path& path, const std::string& text) {
  JsonText json(read_file(path, kMostBytes));
  parsed(path);  // JsonText trusts what it edits
  if (json.set({"chat_template"}, dump_json(Json(text)))) replace_file(path, json.text());
}

}  // namespace

std::optional<std::string_view> built_in_template(std::string_view name) {
  for (const BuiltIn& entry : kBuiltIn) {
    if (entry.name == name) return entry.text;
  }
  return std::nullopt;
}

std::optional<std::string> chat_template_of(const fs::path& folder) {
  const fs::path jinja = folder / "chat_template.jinja";
  if (is_there(jinja)) return read_file(jinja, kMostBytes);
  if (auto found = member(folder / "tokenizer_config.json")) return found;
  return member(folder / "chat_template.json");
}

std::optional<std::string> most_frequent_template(const std::vector<fs::path>& folders) {
  std::vector<std::pair<std::string, int>> counts;
  for (const fs::path& folder : folders) {
    const auto text = chat_template_of(folder);
    if (!text || stripped(*text).empty()) continue;
    const std::string key = stripped(*text);
    const auto known = std::find_if(counts.begin(), counts.end(),
                                    [&key](const auto& entry) { return entry.first == key; });
    if (known == counts.end()) {
      counts.emplace_back(key, 1);
    } else {
      ++known->second;
    }
  }
  const auto most =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) {
        return a.second < b.second;  // of equal ones the first
      });
  return most == counts.end() ? std::nullopt : std::optional(most->first);
}

bool set_chat_template(const fs::path& folder, const std::string& text) {
  const fs::path config = folder / "tokenizer_config.json", jinja = folder / "chat_template.jinja";
  const bool configured = is_there(config);
  if (!configured && !is_there(folder / "tokenizer.json") &&
      !is_there(folder / "tokenizer.model") && !is_there(folder / "vocab.json") &&
      !is_there(folder / "vocab.txt")) {
    return false;
  }
  if (configured) set_member(config, text);
  if (is_there(folder / "chat_template.json")) set_member(folder / "chat_template.json", text);
  if (!configured || is_there(jinja)) replace_file(jinja, text);
  return true;
}

}  // namespace theriac::merge
