// Options of a struct, declared once: JSON parsing, JSON Schema, effective values and help text all
// come from one table.
//
//     struct SplitOptions {
//       double valid = 0.1;
//       std::string how = "patient";
//       static const OptionTable<SplitOptions>& table();
//     };
//     const OptionTable<SplitOptions>& SplitOptions::table() {
//       static const auto t = OptionTable<SplitOptions>("split", "How a data set is divided")
//           .real("valid", &SplitOptions::valid, {0.0, 1.0}, "share of patients for validation")
//           .choice("how", &SplitOptions::how, {"patient", "time"}, "unit of the split");
//       return t;
//     }
//     SplitOptions o = SplitOptions::table().parse(json);   // throws on unknown key, type, range
//
// Unknown keys are errors that name the nearest valid key; keys that start with "x-" are ignored.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/json.h"

namespace theriac {

struct IntRange {
  std::int64_t low = std::numeric_limits<std::int64_t>::min();
  std::int64_t high = std::numeric_limits<std::int64_t>::max();
};
struct RealRange {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool open_low = false;   // low itself is excluded
  bool open_high = false;  // high itself is excluded
};

// The nearest of `candidates` by edit distance, or empty if none is near.
std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates);

// One declared option, with the struct's type erased.
struct OptionField {
  std::string name;
  std::string doc;
  Json schema;  // JSON Schema of the value, with "default"
  std::function<void(void* object, const Json& value, const std::string& path)> set;
  std::function<Json(const void* object)> get;
  std::vector<OptionField> children;  // for groups: the nested fields, for help text
};

// The untyped half, so that the templates stay thin.
class OptionTableBase {
 public:
  OptionTableBase(std::string name, std::string doc)
      : name_(std::move(name)), doc_(std::move(doc)) {}
  const std::string& name() const { return name_; }
  const std::string& doc() const { return doc_; }
  const std::vector<OptionField>& fields() const { return fields_; }
  // JSON Schema (draft 2020-12 subset): type, properties, default, minimum, maximum, enum,
  // description.
  Json schema() const;
  // "  encoder.dim  integer, 1 to 4096, default 128: width of a code vector" a line each.
  std::string help() const;

 protected:
  void parse_into(void* object, const Json& value, const std::string& path) const;
  Json effective(const void* object) const;

  std::string name_, doc_;
  std::vector<OptionField> fields_;
};

namespace internal {
std::int64_t as_int(const Json& value, const std::string& path, IntRange range);
double as_real(const Json& value, const std::string& path, RealRange range);
bool as_flag(const Json& value, const std::string& path);
std::string as_text(const Json& value, const std::string& path);
std::string as_choice(const Json& value, const std::string& path,
                      const std::vector<std::string>& names);
std::vector<std::string> as_texts(const Json& value, const std::string& path);
std::vector<std::int64_t> as_ints(const Json& value, const std::string& path, IntRange range);
Json int_schema(IntRange range, std::int64_t fallback);
Json real_schema(RealRange range, double fallback);
}  // namespace internal

template <class S>
class OptionTable : public OptionTableBase {
 public:
  using OptionTableBase::OptionTableBase;

  OptionTable& integer(std::string name, std::int64_t S::*member, IntRange range, std::string doc) {
    return add(
        std::move(name), std::move(doc), internal::int_schema(range, S{}.*member), member,
        [range](const Json& v, const std::string& p) { return internal::as_int(v, p, range); });
  }
  OptionTable& real(std::string name, double S::*member, RealRange range, std::string doc) {
    return add(
        std::move(name), std::move(doc), internal::real_schema(range, S{}.*member), member,
        [range](const Json& v, const std::string& p) { return internal::as_real(v, p, range); });
  }
  OptionTable& flag(std::string name, bool S::*member, std::string doc) {
    return add(std::move(name), std::move(doc), Json{{"type", "boolean"}, {"default", S{}.*member}},
               member, internal::as_flag);
  }
  OptionTable& text(std::string name, std::string S::*member, std::string doc) {
    return add(std::move(name), std::move(doc), Json{{"type", "string"}, {"default", S{}.*member}},
               member, internal::as_text);
  }
  OptionTable& choice(std::string name, std::string S::*member, std::vector<std::string> names,
                      std::string doc) {
    Json schema{{"type", "string"}, {"enum", names}, {"default", S{}.*member}};
    return add(
        std::move(name), std::move(doc), std::move(schema), member,
        [names](const Json& v, const std::string& p) { return internal::as_choice(v, p, names); });
  }
  OptionTable& texts(std::string name, std::vector<std::string> S::*member, std::string doc) {
    Json schema{{"type", "array"}, {"items", {{"type", "string"}}}, {"default", S{}.*member}};
    return add(std::move(name), std::move(doc), std::move(schema), member, internal::as_texts);
  }
  OptionTable& integers(std::string name, std::vector<std::int64_t> S::*member, IntRange range,
                        std::string doc) {
    Json schema{{"type", "array"}, {"items", {{"type", "integer"}}}, {"default", S{}.*member}};
    return add(
        std::move(name), std::move(doc), std::move(schema), member,
        [range](const Json& v, const std::string& p) { return internal::as_ints(v, p, range); });
  }
  // A nested struct with its own table, reached as "name.key" (from "--set name.key=value") or as
  // an object.
  template <class T>
  OptionTable& group(std::string name, T S::*member, const OptionTable<T>& nested,
                     std::string doc) {
    OptionField field;
    field.name = std::move(name);
    field.doc = std::move(doc);
    field.schema = nested.schema();
    field.children = nested.fields();
    field.set = [member, &nested](void* object, const Json& value, const std::string& path) {
      nested.update(static_cast<S*>(object)->*member, value, path);
    };
    field.get = [member, &nested](const void* object) {
      return nested.effective_json(static_cast<const S*>(object)->*member);
    };
    fields_.push_back(std::move(field));
    return *this;
  }

  // `value` must be an object or null (all defaults). `path` prefixes the option's name in errors.
  S parse(const Json& value, const std::string& path = "") const {
    S object{};
    update(object, value, path);
    return object;
  }
  void update(S& object, const Json& value, const std::string& path = "") const {
    parse_into(&object, value, path);
  }
  Json effective_json(const S& object) const { return effective(&object); }

 private:
  template <class V, class Read>
  OptionTable& add(std::string name, std::string doc, Json schema, V S::*member, Read read) {
    OptionField field;
    schema["description"] = doc;
    field.name = std::move(name);
    field.doc = std::move(doc);
    field.schema = std::move(schema);
    field.set = [member, read](void* object, const Json& value, const std::string& path) {
      static_cast<S*>(object)->*member = read(value, path);
    };
    field.get = [member](const void* object) {
      return Json(static_cast<const S*>(object)->*member);
    };
    fields_.push_back(std::move(field));
    return *this;
  }
};

// Reads "a.b.c=value" pairs into a JSON object. A value that parses as JSON is taken as such (42,
// true, [1,2]), anything else as text. Throws kInvalidArgument on a missing '=' or a clash of
// paths.
Json json_from_settings(const std::vector<std::string>& settings);
// Deep merge: members of `over` win.
void merge_json(Json& base, const Json& over);

}  // namespace theriac
