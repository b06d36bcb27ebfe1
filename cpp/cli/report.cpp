#include "cpp/cli/report.h"

#include <cstdio>

#include "cpp/cli/terminal.h"
#include "theriac/theriac.hpp"

namespace theriac::cli {
namespace {

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string shown(const Json& value) {
  if (value.is_string()) return escaped(value.get<std::string>());
  if (!value.is_number_float()) return escaped(dump_json(value));
  char text[64];
  std::snprintf(text, sizeof text, "%.4f", value.get<double>());
  return text;
}

// A metric's interval from the report's bootstrap section, or nothing.
std::string interval(const Json& report, const std::string& metric) {
  const Json bootstrap = report.value("bootstrap", Json::object());
  if (!bootstrap.is_object() || !bootstrap.contains(metric)) return "";
  const Json& entry = bootstrap.at(metric);
  if (!entry.is_object()) return "";
  std::string text;
  if (entry.contains("std")) text += "&plusmn; " + shown(entry.at("std"));
  if (entry.contains("low") && entry.contains("high"))
    text += " [" + shown(entry.at("low")) + ", " + shown(entry.at("high")) + "]";
  return text;
}

// A bar for metrics between 0 and 1.
std::string bar(const Json& value) {
  if (!value.is_number() || value.get<double>() < 0 || value.get<double>() > 1) return "";
  char text[160];
  std::snprintf(text, sizeof text,
                "<div class=track><div class=bar style=\"width:%.1f%%\"></div></div>",
                value.get<double>() * 100);
  return text;
}

std::string section(const char* title, const Json& object) {
  if (!object.is_object() || object.empty()) return "";
  std::string html = std::string("<h2>") + title + "</h2><table>";
  for (const auto& [key, value] : object.items()) {
    html += "<tr><th>" + escaped(key) + "</th><td>" +
            (value.is_object() ? "<code>" + escaped(dump_json(value)) + "</code>" : shown(value)) +
            "</td></tr>";
  }
  return html + "</table>";
}

// Metrics of sequences by the length of their histories.
void print_lengths(const Json& lengths) {
  if (lengths.empty()) return;
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
  for (const Json& entry : lengths) {
    header.clear();
    rows.emplace_back();
    for (const auto& [key, value] : entry.items()) {
      header.push_back(key);
      rows.back().push_back(value.is_number_float() ? number(value.get<double>())
                            : value.is_string()     ? value.get<std::string>()
                                                    : dump_json(value));
    }
  }
  print_table(header, rows);
}

// Whether an operator goes by "ratio".
bool takes_share(const std::string& op) {
  return op != "window" && op != "tnoise" && op != "original";
}

}  // namespace

std::string augmenter_text(const Json& augmenter) {
  if (augmenter.is_null()) return "plain prediction";
  static const Json defaults = Json::parse(Augmenter(Context()).info());
  const auto op = augmenter.at("op").get<std::string>();
  std::string text = op;
  for (const auto& [key, value] : augmenter.items()) {
    const bool named = key == "ratio" ? takes_share(op) : value != defaults.value(key, Json());
    if (key != "op" && named)
      text += " " + key + "=" + (value.is_string() ? value.get<std::string>() : value.dump());
  }
  return text;
}

void print_report(const Json& report) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> header{"metric", "value"};
  const Json bootstrap = report.value("bootstrap", Json::object());
  const bool spread = bootstrap.is_object() && !bootstrap.empty();
  if (spread) header.insert(header.end(), {"std", "95 % of rounds"});
  for (const auto& [name, value] : report.at("metrics").items()) {
    std::vector<std::string> row{
        name, value.is_number() ? number(value.get<double>()) : dump_json(value)};
    row.resize(header.size());
    if (spread && bootstrap.contains(name) && bootstrap.at(name).is_object()) {
      const Json& entry = bootstrap.at(name);
      if (entry.contains("std")) row[2] = number(entry.at("std").get<double>());
      if (entry.contains("low"))
        row[3] =
            number(entry.at("low").get<double>()) + " to " + number(entry.at("high").get<double>());
    }
    rows.push_back(std::move(row));
  }
  print_table(header, rows);
  print_pairs(report.value("counts", Json::object()));
  print_lengths(report.value("by_length", Json::array()));
  Json config = report.value("config", Json::object());
  if (config.contains("augment")) config["augment"] = augmenter_text(config.at("augment"));
  print_pairs(config);
  if (report.contains("limits")) print_line("limits: " + report.at("limits").get<std::string>());
}

std::string html_report(const Json& report, const std::string& model, const std::string& data) {
  std::string html =
      "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
      "content=\"width=device-width\"><title>Theriac evaluation</title><style>"
      "body{font:15px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 "
      "1rem;color:#1c2430}h1{font-size:1.4rem}h2{font-size:1.05rem;margin-top:2rem}"
      "table{border-collapse:collapse;width:100%}th{text-align:left;font-weight:500;padding:.25rem "
      ".75rem .25rem 0;vertical-align:top;white-space:nowrap}"
      "td{padding:.25rem "
      ".5rem;font-variant-numeric:tabular-nums}code{font-size:.85em;overflow-wrap:anywhere}.track{"
      "background:#e6ebf1;width:12rem;height:.6rem;border-radius:.3rem}"
      ".bar{background:#2f6f9f;height:.6rem;border-radius:.3rem}.limits{border-left:4px solid "
      "#b5651d;background:#fbf3ea;padding:.5rem 1rem}</style>";
  html += "<h1>Evaluation of " + escaped(model) + "</h1><p>on " + escaped(data) + "</p>";
  if (report.contains("limits")) html += "<p class=limits>" + shown(report.at("limits")) + "</p>";
  html += "<h2>Metrics</h2><table>";
  for (const auto& [key, value] : report.at("metrics").items()) {
    html += "<tr><th>" + escaped(key) + "</th><td>" + shown(value) + "</td><td>" +
            interval(report, key) + "</td><td>" + bar(value) + "</td></tr>";
  }
  html += "</table>";
  html += section("Counts", report.value("counts", Json::object()));
  html += section("Ground truth", report.value("ground_truth", Json::object()));
  html += section("Configuration", report.value("config", Json::object()));
  return html + "</html>\n";
}

}  // namespace theriac::cli
