// The template by which a chat becomes text, as it lies beside a tokenizer.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace theriac::merge {

// Jinja text of a built-in template (alpaca, chatml, exaone, llama3, mistral), or nothing. They write
// the publicly documented turn formats of these names.
std::optional<std::string_view> built_in_template(std::string_view name);

// A model folder's own: of chat_template.jinja, else of tokenizer_config.json (the one called
// "default" where there are several), else of chat_template.json. Nothing where there is none.
// Throws kDataError for a file that is no such thing.
std::optional<std::string> chat_template_of(const std::filesystem::path& folder);

// The most frequent of the folders' templates, the first of several; without white space around it.
std::optional<std::string> most_frequent_template(
    const std::vector<std::filesystem::path>& folders);

// Makes it the template of the tokenizer in `folder`: in each of the files above that is there, and
// as chat_template.jinja where none of them can hold it. False, and nothing written, where the folder
// has no tokenizer.
bool set_chat_template(const std::filesystem::path& folder, const std::string& text);

}  // namespace theriac::merge
