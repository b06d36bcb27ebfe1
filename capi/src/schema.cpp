// theriac_schema: every configuration document, described.
#include "capi/src/handles.h"
#include "capi/src/schemas.h"
#include "cpp/core/base/options.h"
#include "cpp/core/merge/method_parameters.h"

namespace theriac::capi {
namespace {

constexpr std::string_view kMethodPrefix = "method.";
constexpr std::string_view kMergePrefix = "merge.";

// Parameters of a merge method, as a recipe gives them.
Json merge_method_schema(const std::string& name) {
  if (const auto* method = merge::find_method(name)) return merge::parameter_schema(*method);
  const std::string near = nearest_name(name, merge::method_names());
  throw Error(Code::kNotFound,
              "no merge method '" + name + "'" +
                  (near.empty() ? std::string() : "; did you mean '" + near + "'?"))
      .at("got", std::string(kMergePrefix) + name);
}

Json list_merge_methods() {
  Json out = Json::array();
  for (const merge::MethodDeclaration& method : merge::merge_methods()) {
    out.push_back(Json{{"name", method.name}, {"doc", method.doc}, {"paper", method.paper}});
  }
  return out;
}

Json model_fit_schema() {
  return Json::parse(R"({"title": "model.fit", "type": "object", "properties": {
    "checkpoint": {"type": "string", "default": "", "description": "folder for a checkpoint after every epoch; empty: none"},
    "resume": {"type": "boolean", "default": false, "description": "go on from the checkpoint if there is one"}}})");
}

Json engine_methods() {
  std::string text;
  load_engine({}).methods(text).or_throw();
  return Json::parse(text);
}

// Documents of the engine that are not a method's options ("model.evaluate", "session", "request")
// come in the list as entries of family "document".
Json from_engine(const std::string& name) {
  std::vector<std::string> names;
  for (const Json& entry : engine_methods()) {
    const std::string known =
        (entry.value("family", "") == "document" ? "" : std::string(kMethodPrefix)) +
        entry.at("name").get<std::string>();
    if (known == name) return entry.at("schema");
    names.push_back(known);
  }
  for (const char* front :
       {"context", "dataset.open", "dataset.generate", "dataset.split", "dataset.export",
        "model.fit", "merge", "merge.inspect", "merge.search", "merge.soup", "merger", "augmenter"})
    names.emplace_back(front);
  const std::string near = nearest_name(name, names);
  throw Error(Code::kNotFound,
              "no schema '" + name + "'" +
                  (near.empty() ? std::string() : "; did you mean '" + near + "'?"))
      .at("got", name);
}

Json list_kinds() {
  Json json{{"kinds",
             {"context", "dataset.open", "dataset.from_arrow", "dataset.generate", "dataset.split",
              "dataset.export", "model.fit", "merge", "merge.inspect", "merge.search", "merge.soup",
              "merger", "augmenter"}},
            {"methods", Json::array()},
            {"merge_methods", list_merge_methods()}};
  try {
    for (const Json& entry : engine_methods()) {
      if (entry.value("family", "") == "document") {
        json["kinds"].push_back(entry.at("name"));
        continue;
      }
      Json method = entry;
      method.erase("schema");
      json["methods"].push_back(std::move(method));
    }
  } catch (const Error& e) {
    json["methods_unavailable"] = e.what();
  }
  return json;
}

Json find_schema(const std::string& kind) {
  if (kind.empty()) return list_kinds();
  if (kind == "context") return context_schema();
  if (kind == "dataset.open") return dataset_open_schema();
  if (kind == "dataset.from_arrow") return dataset_from_arrow_schema();
  if (kind == "dataset.generate") return dataset_generate_schema();
  if (kind == "dataset.split") return dataset_split_schema();
  if (kind == "dataset.export") return dataset_export_schema();
  if (kind == "model.fit") return model_fit_schema();
  if (kind == "merge") return merge_schema();
  if (kind == "merge.inspect") return merge_inspect_schema();
  if (kind == "merge.search") return merge_search_schema();
  if (kind == "merge.soup") return merge_soup_schema();
  if (kind == "merger") return merger_schema();
  if (kind == "augmenter") return augmenter_schema();
  if (kind.starts_with(kMergePrefix)) {
    return merge_method_schema(kind.substr(kMergePrefix.size()));
  }
  return from_engine(kind);
}

}  // namespace
}  // namespace theriac::capi

theriac_status theriac_schema(const char* kind, size_t kind_length, theriac_bytes** out,
                              theriac_error** error) noexcept {
  using namespace theriac::
      capi;  // NOLINT(google-build-using-namespace): this file is the C boundary
  if (out != nullptr) *out = nullptr;
  return guard("theriac_schema", error, [&] {
    theriac_bytes*& target = need_out(out, "out");
    target =
        make_bytes(theriac::dump_json(find_schema(std::string(text(kind, kind_length, "kind")))));
  });
}
