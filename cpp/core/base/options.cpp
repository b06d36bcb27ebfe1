#include "cpp/core/base/options.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <numeric>

namespace theriac {
namespace {

constexpr std::size_t kShownBytes = 64;                // of a rejected value in a message
constexpr double kExactIntegers = 9007199254740992.0;  // 2^53

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

// Optimal string alignment distance: insertions, deletions, substitutions, swaps of neighbours.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  std::iota(last.begin(), last.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    before.swap(last);
    last.swap(row);
  }
  return last[b.size()];
}

std::string joined(const std::string& path, const std::string& key) {
  return path.empty() ? key : path + "." + key;
}

std::string shown(const Json& value) {
  std::string text = dump_json(value);
  if (text.size() > kShownBytes) text = text.substr(0, kShownBytes) + "...";
  return text;
}

// Shortest decimal text that reads back as the same double ("0.1", not "0.100000").
std::string shown(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return std::string(text, end);
}

std::string shown(IntRange range) {
  const bool low = range.low != std::numeric_limits<std::int64_t>::min();
  const bool high = range.high != std::numeric_limits<std::int64_t>::max();
  if (low && high) return std::to_string(range.low) + " to " + std::to_string(range.high);
  if (low) return "at least " + std::to_string(range.low);
  if (high) return "at most " + std::to_string(range.high);
  return "";
}

std::string shown(RealRange range) {
  const std::string low = std::isinf(range.low) ? ""
                          : range.open_low      ? "above " + shown(range.low)
                                                : "at least " + shown(range.low);
  const std::string high = std::isinf(range.high) ? ""
                           : range.open_high      ? "below " + shown(range.high)
                                                  : "at most " + shown(range.high);
  if (!low.empty() && !high.empty() && !range.open_low && !range.open_high) {
    return shown(range.low) + " to " + shown(range.high);
  }
  return low + (low.empty() || high.empty() ? "" : " and ") + high;
}

std::string with_range(const std::string& type, const std::string& range) {
  return range.empty() ? type : type + ", " + range;
}

Error wrong_value(const std::string& path, const std::string& expected, const Json& got) {
  const std::string text = shown(got);
  return Error(Code::kInvalidArgument,
               "option '" + path + "' is " + text + "; expected " + expected)
      .at("option", path)
      .at("expected", expected)
      .at("got", text);
}

std::string list_of(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "'" : ", '") + name + "'";
  return out;
}

std::vector<std::string> names_of(const std::vector<OptionField>& fields) {
  std::vector<std::string> names;
  names.reserve(fields.size());
  for (const auto& field : fields) names.push_back(field.name);
  return names;
}

const OptionField* find_field(const std::vector<OptionField>& fields, const std::string& name) {
  for (const auto& field : fields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

Error unknown_option(const std::vector<OptionField>& fields, const std::string& path,
                     const std::string& key) {
  const std::string full = joined(path, key);
  const std::vector<std::string> names = names_of(fields);
  const std::string nearest = nearest_name(key, names);
  const std::size_t dot = key.find('.');
  std::string advice;
  if (dot != std::string::npos && find_field(fields, key.substr(0, dot)) != nullptr) {
    advice = "write it as a member of the object '" + joined(path, key.substr(0, dot)) + "'";
  } else if (!nearest.empty()) {
    advice = "did you mean '" + joined(path, nearest) + "'?";
  } else if (names.empty()) {
    advice = "no options are known here";
  } else {
    advice = "valid ones are " + list_of(names);
  }
  Error error = Error(Code::kInvalidArgument, "unknown option '" + full + "'; " + advice)
                    .at("option", full)
                    .at("expected", nearest.empty() ? list_of(names) : joined(path, nearest))
                    .at("got", full);
  return error;
}

std::string help_type(const Json& schema) {
  if (schema.contains("enum")) {
    std::string names;
    for (const auto& name : schema["enum"]) {
      names += (names.empty() ? "" : "|") + name.get<std::string>();
    }
    return names;
  }
  const std::string type = schema.value("type", "value");
  if (type == "boolean") return "true|false";
  if (type == "string") return "text";
  if (type == "array") return "list of " + schema["items"].value("type", "value") + "s";
  if (type == "integer") {
    IntRange range;
    if (schema.contains("minimum")) range.low = schema["minimum"].get<std::int64_t>();
    if (schema.contains("maximum")) range.high = schema["maximum"].get<std::int64_t>();
    return with_range(type, shown(range));
  }
  RealRange range;
  range.open_low = schema.contains("exclusiveMinimum");
  range.open_high = schema.contains("exclusiveMaximum");
  range.low = schema.value(range.open_low ? "exclusiveMinimum" : "minimum", range.low);
  range.high = schema.value(range.open_high ? "exclusiveMaximum" : "maximum", range.high);
  return with_range(type, shown(range));
}

void append_help(const std::vector<OptionField>& fields, const std::string& path,
                 std::string& out) {
  for (const auto& field : fields) {
    const std::string full = joined(path, field.name);
    if (!field.children.empty()) {
      append_help(field.children, full, out);
      continue;
    }
    out += "  " + full + "  " + help_type(field.schema);
    if (field.schema.contains("default")) out += ", default " + dump_json(field.schema["default"]);
    out += ": " + field.doc + "\n";
  }
}

// The object that holds the last part of a dotted path, made on the way.
Json& parent_of(Json& root, const std::vector<std::string>& parts, const std::string& path) {
  Json* at = &root;
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
    Json& next = (*at)[parts[i]];
    if (next.is_null()) next = Json::object();
    if (!next.is_object()) {
      throw Error(Code::kInvalidArgument, "setting '" + path + "' clashes with an earlier one: '" +
                                              parts[i] + "' already has a value, not members")
          .at("option", path);
    }
    at = &next;
  }
  return *at;
}

std::vector<std::string> split_path(const std::string& path, const std::string& setting) {
  constexpr std::size_t kMaxParts = 32;
  std::vector<std::string> parts;
  for (std::size_t start = 0; start <= path.size();) {
    const std::size_t dot = std::min(path.find('.', start), path.size());
    parts.push_back(path.substr(start, dot - start));
    if (parts.back().empty() || parts.size() > kMaxParts) {
      throw Error(Code::kInvalidArgument,
                  "setting '" + setting.substr(0, kShownBytes) +
                      "' is malformed; expected key=value or group.key=value")
          .at("option", path);
    }
    start = dot + 1;
  }
  return parts;
}

Json value_of(const std::string& text) {
  try {
    return parse_json(text, "setting");
  } catch (const Error&) {
    return Json(text);  // a bare word is text; quotes are not asked of a shell user
  }
}

}  // namespace

std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates) {
  constexpr std::size_t kLongestWord = 256;
  if (word.empty() || word.size() > kLongestWord) return "";
  const std::string wanted = lower(word);
  std::size_t best = wanted.size() / 3 + 1;  // farther than a third of the word is another word
  const std::string* nearest = nullptr;
  for (const auto& candidate : candidates) {
    const std::size_t gap = candidate.size() > wanted.size() ? candidate.size() - wanted.size()
                                                             : wanted.size() - candidate.size();
    if (gap > best) continue;
    const std::size_t distance = edit_distance(wanted, lower(candidate));
    if (distance < best || (distance == best && nearest == nullptr)) {
      best = distance;
      nearest = &candidate;
    }
  }
  // A word none of whose letters is right is not near, however short.
  return nearest == nullptr || best >= wanted.size() ? "" : *nearest;
}

Json OptionTableBase::schema() const {
  Json out{{"type", "object"}, {"title", name_}, {"description", doc_}};
  Json& properties = out["properties"] = Json::object();
  for (const auto& field : fields_) {
    properties[field.name] = field.schema;
    properties[field.name]["description"] = field.doc;
  }
  out["patternProperties"] = {{"^x-", true}};
  out["additionalProperties"] = false;
  return out;
}

std::string OptionTableBase::help() const {
  std::string out;
  append_help(fields_, "", out);
  return out;
}

void OptionTableBase::parse_into(void* object, const Json& value, const std::string& path) const {
  if (value.is_null()) return;
  if (!value.is_object()) {
    const std::string what = path.empty() ? name_ : path;
    throw wrong_value(what, "an object with the options of " + name_, value);
  }
  for (const auto& [key, member] : value.items()) {
    if (key.rfind("x-", 0) == 0) continue;
    const OptionField* field = find_field(fields_, key);
    if (field == nullptr) throw unknown_option(fields_, path, key);
    field->set(object, member, joined(path, key));
  }
}

Json OptionTableBase::effective(const void* object) const {
  Json out = Json::object();
  for (const auto& field : fields_) out[field.name] = field.get(object);
  return out;
}

namespace internal {

std::int64_t as_int(const Json& value, const std::string& path, IntRange range) {
  const std::string expected = with_range("an integer", shown(range));
  std::int64_t number = 0;
  if (value.is_number_unsigned()) {
    const auto big = value.get<std::uint64_t>();
    if (big > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      throw wrong_value(path, expected, value);
    }
    number = static_cast<std::int64_t>(big);
  } else if (value.is_number_integer()) {
    number = value.get<std::int64_t>();
  } else if (value.is_number_float()) {  // 1e3 and 5.0 are integers to JSON Schema
    const double real = value.get<double>();
    if (std::trunc(real) != real || std::fabs(real) > kExactIntegers) {
      throw wrong_value(path, expected, value);
    }
    number = static_cast<std::int64_t>(real);
  } else {
    throw wrong_value(path, expected, value);
  }
  if (number < range.low || number > range.high) throw wrong_value(path, expected, value);
  return number;
}

double as_real(const Json& value, const std::string& path, RealRange range) {
  const std::string expected = with_range("a number", shown(range));
  if (!value.is_number()) throw wrong_value(path, expected, value);
  const double number = value.get<double>();
  const bool above = range.open_low ? number > range.low : number >= range.low;
  const bool below = range.open_high ? number < range.high : number <= range.high;
  if (!above || !below) throw wrong_value(path, expected, value);
  return number;
}

bool as_flag(const Json& value, const std::string& path) {
  if (!value.is_boolean()) throw wrong_value(path, "true or false", value);
  return value.get<bool>();
}

std::string as_text(const Json& value, const std::string& path) {
  if (!value.is_string()) throw wrong_value(path, "text", value);
  return value.get<std::string>();
}

std::string as_choice(const Json& value, const std::string& path,
                      const std::vector<std::string>& names) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    if (std::find(names.begin(), names.end(), text) != names.end()) return text;
    if (const std::string nearest = nearest_name(text, names); !nearest.empty()) {
      throw wrong_value(path, "one of " + list_of(names) + " (did you mean '" + nearest + "'?)",
                        value);
    }
  }
  throw wrong_value(path, "one of " + list_of(names), value);
}

std::vector<std::string> as_texts(const Json& value, const std::string& path) {
  if (!value.is_array()) throw wrong_value(path, "a list of texts", value);
  std::vector<std::string> out;
  out.reserve(value.size());
  for (std::size_t i = 0; i < value.size(); ++i) {
    out.push_back(as_text(value[i], path + "[" + std::to_string(i) + "]"));
  }
  return out;
}

std::vector<std::int64_t> as_ints(const Json& value, const std::string& path, IntRange range) {
  if (!value.is_array()) throw wrong_value(path, "a list of integers", value);
  std::vector<std::int64_t> out;
  out.reserve(value.size());
  for (std::size_t i = 0; i < value.size(); ++i) {
    out.push_back(as_int(value[i], path + "[" + std::to_string(i) + "]", range));
  }
  return out;
}

Json int_schema(IntRange range, std::int64_t fallback) {
  Json schema{{"type", "integer"}};
  if (range.low != std::numeric_limits<std::int64_t>::min()) schema["minimum"] = range.low;
  if (range.high != std::numeric_limits<std::int64_t>::max()) schema["maximum"] = range.high;
  schema["default"] = fallback;
  return schema;
}

Json real_schema(RealRange range, double fallback) {
  Json schema{{"type", "number"}};
  if (!std::isinf(range.low)) schema[range.open_low ? "exclusiveMinimum" : "minimum"] = range.low;
  if (!std::isinf(range.high))
    schema[range.open_high ? "exclusiveMaximum" : "maximum"] = range.high;
  schema["default"] = fallback;
  return schema;
}

}  // namespace internal

Json json_from_settings(const std::vector<std::string>& settings) {
  Json root = Json::object();
  for (const auto& setting : settings) {
    const std::size_t equals = setting.find('=');
    if (equals == std::string::npos) {
      throw Error(Code::kInvalidArgument,
                  "setting '" + setting.substr(0, kShownBytes) + "' has no '='; expected key=value")
          .at("option", setting.substr(0, kShownBytes));
    }
    const std::string path = setting.substr(0, equals);
    const std::vector<std::string> parts = split_path(path, setting);
    Json& slot = parent_of(root, parts, path)[parts.back()];
    Json value = value_of(setting.substr(equals + 1));
    if (slot.is_object() && !value.is_object()) {
      throw Error(Code::kInvalidArgument,
                  "setting '" + path + "' clashes with an earlier one that gives it members")
          .at("option", path);
    }
    merge_json(slot, value);
  }
  return root;
}

void merge_json(Json& base, const Json& over) {
  if (!base.is_object() || !over.is_object()) {
    base = over;
    return;
  }
  for (const auto& [key, value] : over.items()) merge_json(base[key], value);
}

}  // namespace theriac
