#include "cpp/core/merge/json_text.h"

#include <algorithm>

#include "cpp/core/base/json.h"

namespace theriac::merge {

bool JsonText::set(const std::vector<std::string>& path, const std::string& value) {
  std::size_t at = skip(0);
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (text_[at] != '{') return false;
    const Member member = find(at, path[i]);
    if (member.found) {
      at = member.value;
    } else if (i + 1 == path.size()) {
      const std::string entry = dump_json(Json(path[i])) + ": " + value;
      const std::string indent = "\n" + std::string(2 * path.size(), ' ');
      text_.insert(member.last, (member.empty ? "" : ",") + indent + entry);
      return true;
    } else {
      return false;
    }
  }
  text_.replace(at, value_end(at) - at, value);
  return true;
}

bool JsonText::append(const std::vector<std::string>& path, const std::string& items) {
  std::size_t at = skip(0);
  for (const std::string& key : path) {
    if (text_[at] != '{') return false;
    const Member member = find(at, key);
    if (!member.found) return false;
    at = member.value;
  }
  if (text_[at] != '[' && text_[at] != '{') return false;
  const std::size_t close = value_end(at) - 1;
  const bool empty = skip(at + 1) == close;
  const std::size_t last = text_.find_last_not_of(" \t\r\n", close - 1) + 1;
  const std::string indent = "\n" + std::string(2 * path.size() + 2, ' ');
  text_.insert(last, (empty ? "" : ",") + indent + items);
  return true;
}

JsonText::Member JsonText::find(std::size_t object, std::string_view key) const {
  Member out;
  out.last = object + 1;
  for (std::size_t at = skip(object + 1); text_[at] == '"'; at = skip(at)) {
    const std::size_t end = value_end(at);
    const bool same = Json::parse(text_.substr(at, end - at)).get<std::string>() == key;
    const std::size_t value = skip(skip(end) + 1);  // past the colon
    if (same) {
      out.found = true;
      out.value = value;
      return out;
    }
    out.empty = false;
    out.last = at = value_end(value);
    at = skip(at);
    if (text_[at] == ',') ++at;
  }
  return out;
}

std::size_t JsonText::skip(std::size_t at) const {
  return std::min(text_.find_first_not_of(" \t\r\n", at), text_.size());
}

std::size_t JsonText::value_end(std::size_t at) const {
  int depth = 0;
  do {
    const char c = text_[at];
    if (c == '"') {
      at = string_end(at);
    } else if (c == '{' || c == '[') {
      ++depth;
      ++at;
    } else if (c == '}' || c == ']') {
      --depth;
      ++at;
    } else if (depth > 0 &&
               (c == ',' || c == ':' || c == ' ' || c == '\n' || c == '\t' || c == '\r')) {
      ++at;
    } else {
      at = std::min(text_.find_first_of(",:]} \t\r\n", at), text_.size());
    }
  } while (depth > 0 && at < text_.size());
  return at;
}

std::size_t JsonText::string_end(std::size_t at) const {
  for (++at; text_[at] != '"'; ++at) at += text_[at] == '\\' ? 1 : 0;
  return at + 1;
}

}  // namespace theriac::merge
