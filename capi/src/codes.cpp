// Questions about code systems.
#include <map>

#include "capi/src/handles.h"
#include "cpp/core/base/csv.h"
#include "cpp/core/base/file.h"
#include "cpp/core/base/options.h"
#include "cpp/core/codes/hierarchy.h"

namespace theriac::capi {
namespace {

struct CodesRequest {
  std::string op = "info", system, list, format = "csv", path;
  std::vector<std::string> codes;
  static const OptionTable<CodesRequest>& table() {
    static const auto* const t = new OptionTable<CodesRequest>(
        OptionTable<CodesRequest>("codes", "A question about a code system")
            .choice("op", &CodesRequest::op, {"info", "ancestors", "import"}, "what to do")
            .text("system", &CodesRequest::system, "icd9cm, icd9proc, icd10cm, icd10pcs or atc")
            .text("list", &CodesRequest::list, "official list; empty: the structural hierarchy")
            .choice("format", &CodesRequest::format, {"csv", "cms-order"}, "layout of the list")
            .text("path", &CodesRequest::path, "import: file to write")
            .texts("codes", &CodesRequest::codes, "ancestors: the codes asked for"));
    return *t;
  }
};

codes::Hierarchy hierarchy_of(const CodesRequest& request, codes::System system) {
  if (request.list.empty()) return codes::Hierarchy::structural(system);
  return request.format == "cms-order" ? codes::Hierarchy::from_order_file(system, request.list)
                                       : codes::Hierarchy::from_csv(system, request.list);
}

Json describe(const codes::Hierarchy& tree) {
  Json json{{"system", codes::system_name(tree.system())},
            {"structural", tree.is_structural()},
            {"nodes", tree.size()}};
  std::map<int, std::int64_t> levels;
  for (std::size_t i = 0; i < tree.size(); ++i) ++levels[tree.depth(tree.node(i))];
  for (const auto& [level, count] : levels) json["levels"][std::to_string(level)] = count;
  json["fingerprint"] = tree.fingerprint();
  return json;
}

Json ancestors(const codes::Hierarchy& tree, const std::vector<std::string>& wanted) {
  Json rows = Json::array();
  for (const std::string& raw : wanted) {
    const std::string code = codes::normalise(tree.system(), raw);
    Json row{{"code", code}, {"shape", codes::has_code_shape(tree.system(), code)}};
    if (!tree.is_structural()) {
      row["listed"] = tree.listed(code);
      const auto nearest = tree.nearest_listed(code);
      row["nearest_listed"] = nearest ? Json(*nearest) : Json(nullptr);
    }
    row["ancestors"] = tree.ancestors(code);
    rows.push_back(std::move(row));
  }
  return rows;
}

void write_list(const codes::Hierarchy& tree, const std::string& path) {
  if (path.empty())
    throw Error(Code::kInvalidArgument, "option 'path' is missing; it names the file to write")
        .at("option", "path");
  if (tree.is_structural())
    throw Error(Code::kInvalidArgument,
                "option 'list' is missing; it names the official list to import")
        .at("option", "list");
  std::string text = "code,parent,level,name\n";
  for (std::size_t i = 0; i < tree.size(); ++i) {
    const std::int32_t parent = tree.parent_index(i);
    text += csv_field(tree.node(i)) + "," +
            (parent < 0 ? std::string() : csv_field(tree.node(static_cast<std::size_t>(parent)))) +
            "," + std::to_string(tree.depth(tree.node(i))) + "," + csv_field(tree.title(i)) + "\n";
  }
  replace_file(path, text);
}

}  // namespace
}  // namespace theriac::capi

using namespace theriac;        // NOLINT(google-build-using-namespace): this file is the C boundary
using namespace theriac::capi;  // NOLINT(google-build-using-namespace)

theriac_status theriac_codes_query(const theriac_context* context, const char* request_json,
                                   size_t request_length, theriac_bytes** out,
                                   theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_codes_query", error, [&] {
    need(context, "context");
    theriac_bytes*& target = need_out(out, "out");
    const CodesRequest request =
        CodesRequest::table().parse(options(request_json, request_length, "request_json"));
    const auto system = codes::system_from_name(request.system);
    if (!system) {
      throw Error(Code::kInvalidArgument,
                  "option 'system' is '" + request.system +
                      "'; expected icd9cm, icd9proc, icd10cm, icd10pcs or atc")
          .at("option", "system")
          .at("got", request.system);
    }
    const codes::Hierarchy tree = hierarchy_of(request, *system);
    Json answer = capi::describe(tree);
    if (request.op == "ancestors") answer["codes"] = capi::ancestors(tree, request.codes);
    if (request.op == "import") write_list(tree, request.path);
    target = make_bytes(dump_json(answer));
  });
}
