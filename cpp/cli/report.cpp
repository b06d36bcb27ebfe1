#include "cpp/cli/report.h"

#include <cstdio>

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

}  // namespace

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
