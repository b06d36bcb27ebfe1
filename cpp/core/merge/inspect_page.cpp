#include "cpp/core/merge/inspect_page.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

namespace theriac::merge {
namespace {

constexpr std::size_t kColours = 8;
constexpr std::size_t kMostPairs = 28;  // rows of the chart of pairs over layers
constexpr std::size_t kMostCells = 16;  // models of a heat map with numbers in it

// Every colour stands in the style sheet, so that one place decides light and dark. The series
// colours are told apart by people with the usual kinds of colour blindness, too (Okabe and Ito).
constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark;--page:#fbfcfd;--ink:#17202c;--soft:#566273;--line:#d9e0e8;--card:#fff;
--c0:#0072b2;--c1:#d55e00;--c2:#00845f;--c3:#b0479b;--c4:#8a6d00;--c5:#3d7fc4;--c6:#5b5b5b;--c7:#a3341f;--bar:#8d5fb0}
@media(prefers-color-scheme:dark){:root{--page:#12171e;--ink:#e6ebf1;--soft:#9eabba;--line:#2c3642;--card:#19202a;
--c0:#56b4e9;--c1:#f0883e;--c2:#3ecf9f;--c3:#e48fd2;--c4:#e3c84a;--c5:#8fbcf5;--c6:#b8c0ca;--c7:#f27e6a;--bar:#b48ad6}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
main{max-width:66rem;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem}h2{font-size:1.15rem;margin:2.5rem 0 .25rem}h3{font-size:1rem;margin:0 0 .25rem}
p{margin:.25rem 0 .75rem}.soft{color:var(--soft)}code{font-size:.9em;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(12.5rem,1fr));gap:.75rem;margin:1.5rem 0}
.tile,.figure{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.9rem 1rem}
.tile b{display:block;font-size:1.7rem;line-height:1.2;font-variant-numeric:tabular-nums}
.tile span{display:block;font-weight:600}.tile small{color:var(--soft)}
.maps{display:grid;grid-template-columns:repeat(auto-fit,minmax(17rem,1fr));gap:.75rem}
.figure{margin:.75rem 0;overflow-x:auto}.chart svg{min-width:38rem}.maps .figure{margin:0}figcaption{color:var(--soft);font-size:.875rem;margin-top:.5rem}
svg{display:block;width:100%;height:auto;font:12px system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
svg text{fill:var(--soft)}svg .on-dark{fill:#fff}svg .on-light{fill:#17202c}svg .axis{stroke:var(--line);stroke-width:1}
svg .none{fill:none;stroke:var(--line)}svg .bar{fill:var(--bar)}svg .bar2{fill:none;stroke:var(--ink);stroke-width:1.5}
table{border-collapse:collapse;width:100%;font-size:.9rem}th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}thead th{color:var(--soft);font-weight:600}td{font-variant-numeric:tabular-nums}
.names td:nth-child(2),.names th:nth-child(2){text-align:left;white-space:normal;overflow-wrap:anywhere;min-width:10rem}.wide{overflow-x:auto}
.swatch{display:inline-block;width:.8rem;height:.8rem;border-radius:.2rem;margin-right:.4rem;vertical-align:-.05rem}
summary{cursor:pointer;padding:.4rem 0}ul{padding-left:1.2rem}dt{font-weight:600;margin-top:.6rem}dd{margin:0;color:var(--soft)}
.legend{display:flex;flex-wrap:wrap;gap:.25rem 1rem;font-size:.875rem;color:var(--soft);margin:.25rem 0 .5rem}
@media print{body{background:#fff}.tile,.figure{break-inside:avoid}}
)";

// ---- text --------------------------------------------------------------------------------------

std::string escaped(std::string_view text) {
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

template <class... Values>
std::string format(const char* form, Values... values) {
  std::array<char, 512> text{};
  std::snprintf(text.data(), text.size(), form, values...);
  return text.data();
}

std::optional<double> number(const Json& value) {
  return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
}
const Json& field(const Json& object, const char* key) {
  static const Json* const kNothing = new Json();
  const auto found = object.find(key);
  return found == object.end() ? *kNothing : *found;
}
const Json& entry(const Json& array, std::size_t i) {
  static const Json* const kNothing = new Json();
  return array.is_array() && i < array.size() ? array[i] : *kNothing;
}

std::string plain(const Json& value, const char* form = "%.3f") {
  const auto n = number(value);
  if (!n) return "–";
  const std::string text = format(form, *n);
  // "-0.00" is nothing.
  const bool zero = text.find_first_of("123456789") == std::string::npos;
  return zero && text.front() == '-' ? text.substr(1) : text;
}
std::string short_number(const Json& value) { return plain(value, "%.4g"); }
std::string percent(const Json& value) {
  const auto n = number(value);
  return n ? format("%.1f %%", *n * 100) : "–";
}
std::string percent_cell(const Json& value) {
  const auto n = number(value);
  return n ? format("%.0f%%", *n * 100) : "–";
}

// A, B, ... Z, AA, AB.
std::string letter(std::size_t i) {
  std::string out(1, static_cast<char>('A' + i % 26));
  return i < 26 ? out : static_cast<char>('A' + i / 26 - 1) + out;
}

std::string last_part(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const auto slash = path.rfind('/');
  return slash == std::string::npos || slash + 1 == path.size() ? path : path.substr(slash + 1);
}

// The end of a name says most about a tensor; cuts between characters of UTF-8.
std::string shortened(const std::string& text, std::size_t most) {
  if (text.size() <= most) return text;
  std::size_t from = text.size() - most;
  while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xc0U) == 0x80U) ++from;
  return "…" + text.substr(from);
}

std::string swatch(std::size_t i) {
  return "<span class=swatch style=\"background:var(--c" + std::to_string(i % kColours) +
         ")\"></span>";
}

// ---- colour scales -----------------------------------------------------------------------------

struct Colour {
  double r = 0, g = 0, b = 0;
};
Colour mixed(Colour a, Colour b, double t) {
  return {a.r + (b.r - a.r) * t, a.g + (b.g - a.g) * t, a.b + (b.b - a.b) * t};
}
std::string hex(Colour c) {
  return format("#%02x%02x%02x", static_cast<unsigned>(std::lround(c.r)),
                static_cast<unsigned>(std::lround(c.g)), static_cast<unsigned>(std::lround(c.b)));
}
bool dark(Colour c) { return 0.299 * c.r + 0.587 * c.g + 0.114 * c.b < 140; }

constexpr Colour kNeutral{243, 244, 246}, kPositive{15, 92, 158}, kNegative{190, 78, 20},
    kMuch{104, 52, 138};

Colour diverging(double t) {  // -1 to 1
  return mixed(kNeutral, t < 0 ? kNegative : kPositive, std::min(1.0, std::abs(t)));
}
Colour sequential(double t) { return mixed(kNeutral, kMuch, std::clamp(t, 0.0, 1.0)); }

// ---- heat maps ---------------------------------------------------------------------------------

struct HeatMap {
  std::string title, caption;
  std::function<Colour(double)> colour;
  std::function<std::string(const Json&)> shown;
};

std::string cell(double x, double y, double width, double height, const Json& value,
                 const HeatMap& map, const std::string& tooltip, bool with_number) {
  const auto n = number(value);
  std::string out = "<g><title>" + escaped(tooltip + ": " + map.shown(value)) + "</title>";
  if (!n) {
    return out +
           format("<rect class=none x=\"%.1f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\"/></g>", x,
                  y, width, height);
  }
  const Colour colour = map.colour(*n);
  out += format("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" fill=\"", x, y, width,
                height) +
         hex(colour) + "\"/>";
  if (with_number) {
    out += format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=middle class=on-%s>", x + width / 2,
                  y + height / 2 + 4, dark(colour) ? "dark" : "light") +
           map.shown(value) + "</text>";
  }
  return out + "</g>";
}

std::string heat_map(const HeatMap& map, const Json& matrix,
                     const std::vector<std::string>& names) {
  if (!matrix.is_array()) return "";
  const std::size_t n = names.size();
  const double margin = 26, side = 300;
  const double each = side / static_cast<double>(n);
  std::string svg = format("<svg viewBox=\"0 0 %.0f %.0f\" role=img aria-label=\"", margin + side,
                           margin + side) +
                    escaped(map.title) + "\">";
  for (std::size_t i = 0; i < n; ++i) {
    const double at = margin + each * static_cast<double>(i);
    svg += format("<text x=\"%.1f\" y=\"16\" text-anchor=middle>", at + each / 2) + letter(i) +
           format("</text><text x=\"%.1f\" y=\"%.1f\" text-anchor=end>", margin - 8,
                  at + each / 2 + 4) +
           letter(i) + "</text>";
    for (std::size_t j = 0; j < n; ++j) {
      svg += cell(margin + each * static_cast<double>(j) + 1, at + 1, each - 2, each - 2,
                  entry(entry(matrix, i), j), map, names[i] + " and " + names[j], n <= kMostCells);
    }
  }
  return "<figure class=figure><h3>" + escaped(map.title) + "</h3>" + svg + "</svg><figcaption>" +
         escaped(map.caption) + "</figcaption></figure>";
}

// ---- charts over the layers --------------------------------------------------------------------

constexpr double kWidth = 960, kLeft = 64, kRight = 12, kPlot = kWidth - kLeft - kRight;

// Ticks at 1, 2 or 5 times a power of ten, up to the first at or beyond `top`.
std::vector<double> ticks(double top) {
  if (!(top > 0)) top = 1;
  const double rough = top / 4, power = std::pow(10, std::floor(std::log10(rough)));
  const double step = power * (rough / power <= 1   ? 1
                               : rough / power <= 2 ? 2
                               : rough / power <= 5 ? 5
                                                    : 10);
  std::vector<double> out;
  for (int i = 0; i <= 10; ++i) {
    out.push_back(step * i);
    if (out.back() >= top * (1 - 1e-9)) break;
  }
  return out;
}

class LayerChart {
 public:
  LayerChart(const Json& layers, double height, std::string label)
      : layers_(layers), count_(std::min<std::size_t>(layers.size(), kMostRows)), height_(height) {
    longest_ = 0;
    for (std::size_t i = 0; i < count_; ++i) longest_ = std::max(longest_, label_of(i).size());
    label_ = std::move(label);
  }

  std::size_t count() const { return count_; }
  double step() const { return kPlot / static_cast<double>(std::max<std::size_t>(1, count_)); }
  double centre(std::size_t i) const { return kLeft + step() * (static_cast<double>(i) + 0.5); }
  double y(double value) const { return kTop + height_ * (1 - value / top_); }
  double floor() const { return kTop + height_; }
  std::string name(std::size_t i) const {
    return field(layers_[i], "name").is_string() ? layers_[i]["name"].get<std::string>() : "";
  }

  std::string scale(double top, bool as_percent) {
    std::string out;
    const auto values = ticks(top);
    top_ = values.back();
    for (const double value : values) {
      out += format("<line class=axis x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>", kLeft,
                    kWidth - kRight, y(value), y(value)) +
             format("<text x=\"%.0f\" y=\"%.1f\" text-anchor=end>", kLeft - 8, y(value) + 4) +
             (as_percent ? format("%g%%", value * 100) : format("%.3g", value)) + "</text>";
    }
    return out;
  }
  void body(std::string more) { body_ += std::move(more); }

  std::string finish() const {
    const std::size_t every = (count_ * 13 + static_cast<std::size_t>(kPlot) - 1) /
                              static_cast<std::size_t>(kPlot);  // 13 units a line of text
    std::string labels;
    const bool tilted = longest_ > 3;
    for (std::size_t i = 0; i < count_; i += std::max<std::size_t>(1, every)) {
      const double x = centre(i), at = floor() + 16;
      labels += tilted ? format(
                             "<text x=\"%.1f\" y=\"%.1f\" text-anchor=end "
                             "transform=\"rotate(-40 %.1f %.1f)\">",
                             x + 4, at - 2, x + 4, at - 2)
                       : format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=middle>", x, at);
      labels += escaped(label_of(i)) + "</text>";
    }
    const double foot =
        tilted ? 22 + 4.6 * static_cast<double>(std::min<std::size_t>(longest_, 20)) : 26;
    return format("<svg viewBox=\"0 0 %.0f %.0f\" role=img aria-label=\"", kWidth, floor() + foot) +
           escaped(label_) + "\">" + body_ + labels + "</svg>";
  }

 private:
  // Layers by number, what stands outside them by the end of its name.
  std::string label_of(std::size_t i) const {
    const auto index = number(field(layers_[i], "layer"));
    if (index) return format("%.0f", *index);
    const std::string whole = name(i);
    const auto dot = whole.rfind('.');
    return shortened(dot == std::string::npos ? whole : whole.substr(dot + 1), 14);
  }

  static constexpr double kTop = 12;
  const Json& layers_;
  std::size_t count_;
  double height_, top_ = 1;
  std::size_t longest_;
  std::string label_, body_;
};

std::string figure(const std::string& title, const std::string& legend, const std::string& svg,
                   const std::string& caption) {
  return "<figure class=\"figure chart\"><h3>" + title + "</h3>" + legend + svg + "<figcaption>" +
         caption + "</figcaption></figure>";
}

std::string model_legend(const std::vector<std::string>& names) {
  std::string out = "<div class=legend>";
  for (std::size_t i = 0; i < names.size(); ++i) {
    out += "<span>" + swatch(i) + letter(i) + " " + escaped(shortened(names[i], 40)) + "</span>";
  }
  return out + "</div>";
}

// One line a model, broken where a value is missing; dashed from the ninth model on.
std::string line_of(const LayerChart& chart, const Json& layers, std::size_t model,
                    const std::string& name) {
  const std::string colour = "var(--c" + std::to_string(model % kColours) + ")";
  std::string path, dots;
  bool open = false;
  for (std::size_t i = 0; i < chart.count(); ++i) {
    const auto value = number(entry(field(layers[i], "norm_ratio"), model));
    if (!value) {
      open = false;
      continue;
    }
    const double x = chart.centre(i), at = chart.y(*value);
    path += format("%s%.1f %.1f", open ? "L" : "M", x, at);
    open = true;
    dots += format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"", x, at) + colour +
            "\"><title>" + escaped(name + ", " + chart.name(i)) + format(": %.4g", *value) +
            "</title></circle>";
  }
  return "<path fill=none stroke-width=2 stroke=\"" + colour + "\" d=\"" + path + "\"" +
         (model >= kColours ? format(" stroke-dasharray=\"%zu 3\"", 3 * (model / kColours)) : "") +
         "/>" + (chart.count() <= 120 ? dots : "");
}

std::string norm_chart(const Json& layers, const std::vector<std::string>& names) {
  double top = 0;
  for (const Json& layer : layers) {
    for (const Json& value : field(layer, "norm_ratio"))
      top = std::max(top, number(value).value_or(0));
  }
  LayerChart chart(layers, 220, "Relative size of each task vector, layer by layer");
  chart.body(chart.scale(top, false));
  for (std::size_t m = 0; m < names.size(); ++m) chart.body(line_of(chart, layers, m, names[m]));
  return figure(
      "How far each model moved", model_legend(names), chart.finish(),
      "Norm of the task vector over the norm of the base, by layer. Layers that stand out "
      "dominate an average; those near zero could be copied from the base.");
}

std::string conflict_chart(const Json& layers, bool trimmed) {
  double top = 0;
  for (const Json& layer : layers) {
    for (const char* key : {"sign_conflict", "sign_conflict_trimmed"}) {
      top = std::max(top, number(field(layer, key)).value_or(0));
    }
  }
  LayerChart chart(layers, 200, "Share of elements whose signs conflict, layer by layer");
  chart.body(chart.scale(top, true));
  const double width = std::max(0.5, chart.step() * 0.62);
  for (std::size_t i = 0; i < chart.count(); ++i) {
    const double x = chart.centre(i) - width / 2;
    if (const auto value = number(field(layers[i], "sign_conflict"))) {
      chart.body(
          format("<rect class=bar x=\"%.1f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\"><title>", x,
                 chart.y(*value), width, chart.floor() - chart.y(*value)) +
          escaped(chart.name(i)) + format(": %.1f %%</title></rect>", *value * 100));
    }
    if (const auto value = number(field(layers[i], "sign_conflict_trimmed"))) {
      chart.body(
          format("<path class=bar2 d=\"M%.1f %.1fh%.2f\"><title>", x, chart.y(*value), width) +
          escaped(chart.name(i)) +
          format(", after trimming: %.1f %%</title></path>", *value * 100));
    }
  }
  return figure(
      "Where signs conflict", "", chart.finish(),
      std::string("Bars: share of elements that some model raises and another lowers.") +
          (trimmed ? " Strokes: the same among what is left after trimming, which is what "
                     "sign election has to settle."
                   : ""));
}

std::string pair_chart(const Json& layers, const std::vector<std::string>& names,
                       const HeatMap& map) {
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  for (std::size_t i = 0; i < names.size(); ++i) {
    for (std::size_t j = i + 1; j < names.size(); ++j) pairs.emplace_back(i, j);
  }
  if (pairs.empty() || pairs.size() > kMostPairs) return "";
  const double each = 22;
  LayerChart chart(layers, each * static_cast<double>(pairs.size()),
                   "Cosine of each pair of task vectors, layer by layer");
  const double gap = chart.step() > 6 ? 1 : 0;
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    const auto [i, j] = pairs[p];
    const double y = 12 + each * static_cast<double>(p);
    chart.body(format("<text x=\"%.0f\" y=\"%.1f\" text-anchor=end>", kLeft - 8, y + each / 2 + 4) +
               letter(i) + "–" + letter(j) + "</text>");
    for (std::size_t l = 0; l < chart.count(); ++l) {
      const Json& value = entry(entry(field(layers[l], "cosine"), i), j);
      chart.body(cell(chart.centre(l) - chart.step() / 2, y, chart.step() - gap, each - 1, value,
                      map, letter(i) + "–" + letter(j) + ", " + chart.name(l), chart.step() >= 40));
    }
  }
  return figure("Where models agree", "", chart.finish(),
                "Cosine of each pair by layer, on the scale of the map above: blue agrees, orange "
                "opposes.");
}

// ---- tables and tiles --------------------------------------------------------------------------

std::string tile(const std::string& value, const std::string& name, const std::string& note) {
  return "<div class=tile><b>" + value + "</b><span>" + name + "</span><small>" + note +
         "</small></div>";
}

Json mean_off_diagonal(const Json& matrix) {
  double sum = 0;
  std::size_t count = 0;
  for (std::size_t i = 0; matrix.is_array() && i < matrix.size(); ++i) {
    for (std::size_t j = i + 1; j < matrix.size(); ++j) {
      const auto value = number(entry(matrix[i], j));
      if (!value) continue;
      sum += *value;
      ++count;
    }
  }
  return count == 0 ? Json() : Json(sum / static_cast<double>(count));
}

std::string tiles(const Json& report, std::size_t models) {
  const Json& all = report["global"];
  std::string out = "<div class=tiles>";
  out += tile(plain(mean_off_diagonal(field(all, "cosine"))), "mean cosine",
              "of pairs of task vectors: 1 same direction, 0 unrelated, -1 opposed");
  out += tile(percent(field(all, "sign_conflict")), "sign conflict",
              "of all elements are raised by one model and lowered by another");
  if (number(field(all, "overlap"))) {
    const double d = report["density"].get<double>();
    const double none = std::pow(1 - d, static_cast<double>(models));
    const double one =
        static_cast<double>(models) * d * std::pow(1 - d, static_cast<double>(models) - 1);
    const double chance = none < 1 ? (1 - none - one) / (1 - none) : 1;
    out += tile(percent(field(all, "overlap")), "overlap",
                format("of what the largest %.3g %% of any model touch, two or more touch; "
                       "%.1f %% would by chance",
                       d * 100, chance * 100));
  }
  if (number(field(all, "sti"))) {
    out += tile(short_number(field(all, "sti")), "singular task interference",
                "mean of " + std::to_string(field(all, "matrices").get<std::size_t>()) +
                    " matrices; 0 where the models' singular vectors do not meet");
  }
  return out + "</div>";
}

std::string models_table(const Json& report, const std::vector<std::string>& paths) {
  const Json& all = report["global"];
  const bool spectral = field(all, "sar").is_array();
  std::string out =
      "<div class=wide><table class=names><thead><tr><th scope=col>Model</th><th scope=col>"
      "Path</th><th scope=col>Norm of tau</th><th scope=col>over the base's</th>"
      "<th scope=col>Elements changed</th>";
  if (spectral) out += "<th scope=col>Subspace alignment</th>";
  out += "</tr></thead><tbody>";
  for (std::size_t i = 0; i < paths.size(); ++i) {
    out += "<tr><td>" + swatch(i) + letter(i) + "</td><td><code>" + escaped(paths[i]) +
           "</code></td><td>" + short_number(entry(field(all, "norms"), i)) + "</td><td>" +
           short_number(entry(field(all, "norm_ratio"), i)) + "</td><td>" +
           percent(entry(field(all, "changed"), i)) + "</td>";
    if (spectral) out += "<td>" + plain(entry(field(all, "sar"), i)) + "</td>";
    out += "</tr>";
  }
  return out + "</tbody></table></div>";
}

std::string layer_table(const Json& layers, std::size_t models) {
  std::string out =
      "<details><summary>All numbers by layer</summary><div class=wide><table><thead><tr>"
      "<th scope=col>Layer</th><th scope=col>Elements</th>";
  for (std::size_t m = 0; m < models; ++m) out += "<th scope=col>Norm ratio " + letter(m) + "</th>";
  out +=
      "<th scope=col>Mean cosine</th><th scope=col>Sign conflict</th><th scope=col>after "
      "trimming</th><th scope=col>Overlap</th><th scope=col>STI</th><th scope=col>Mean SAR</th>"
      "</tr></thead><tbody>";
  for (std::size_t i = 0; i < std::min<std::size_t>(layers.size(), kMostRows); ++i) {
    const Json& layer = layers[i];
    out += "<tr><td><code>" + escaped(layer.value("name", "")) + "</code></td><td>" +
           std::to_string(layer.value("elements", std::uint64_t{0})) + "</td>";
    for (std::size_t m = 0; m < models; ++m) {
      out += "<td>" + short_number(entry(field(layer, "norm_ratio"), m)) + "</td>";
    }
    double sar = 0;
    std::size_t counted = 0;
    for (std::size_t m = 0; m < models; ++m) {
      if (const auto value = number(entry(field(layer, "sar"), m))) {
        sar += *value;
        ++counted;
      }
    }
    out += "<td>" + plain(mean_off_diagonal(field(layer, "cosine"))) + "</td><td>" +
           percent(field(layer, "sign_conflict")) + "</td><td>" +
           percent(field(layer, "sign_conflict_trimmed")) + "</td><td>" +
           percent(field(layer, "overlap")) + "</td><td>" + short_number(field(layer, "sti")) +
           "</td><td>" + (counted == 0 ? "–" : format("%.3f", sar / static_cast<double>(counted))) +
           "</td></tr>";
  }
  return out + "</tbody></table></div></details>";
}

std::string notes(const Json& report) {
  std::string out;
  for (const Json& note : field(report, "notes")) {
    out += "<li>" + escaped(note.get<std::string>()) + "</li>";
  }
  if (!out.empty()) out = "<h2>Notes</h2><ul>" + out + "</ul>";
  const Json& skipped = field(report, "skipped");
  if (!skipped.is_array() || skipped.empty()) return out;
  out += "<details><summary>Tensors that are not compared</summary><ul>";
  for (const Json& tensor : skipped) {
    out += "<li><code>" + escaped(tensor.value("tensor", "")) +
           "</code>: " + escaped(tensor.value("reason", "")) + "</li>";
  }
  return out + "</ul></details>";
}

constexpr std::string_view kDefinitions = R"(<details><summary>What the numbers are</summary><dl>
<dt>Task vector</dt><dd>tau, a model's weights minus the base's.</dd>
<dt>Sign conflict</dt><dd>Share of elements where some tau is above zero and some other below. After trimming: the same among the
elements that any model keeps when each keeps its largest by magnitude, tensor by tensor (TIES, arXiv 2306.01708).</dd>
<dt>Overlap</dt><dd>Of the elements that any model keeps after trimming, the share that two or more keep; of a pair, the share of the
smaller set that both keep.</dd>
<dt>Singular task interference (STI)</dt><dd>Entrywise sum of |(U'U - I) S (V'V - I)| over the models' top singular vectors side by side
(arXiv 2412.00081). Grows with the size of the task vectors.</dd>
<dt>Subspace alignment ratio (SAR)</dt><dd>Share of a task vector's norm inside the top left singular subspace of the sum of all
(arXiv 2502.04959). Near 1, the sum keeps what the model learned.</dd></dl></details>)";

}  // namespace

std::string inspect_page(const Json& given) {
  const Json report = Json::parse(dump_json(given));  // text becomes valid UTF-8, NaN null
  const auto paths = report.at("models").get<std::vector<std::string>>();
  std::vector<std::string> names;
  for (const std::string& path : paths) names.push_back(last_part(path));
  const Json &all = report.at("global"), &layers = report.at("layers");
  const bool trimmed = number(field(all, "overlap")).has_value();
  const HeatMap cosine{"Cosine",
                       "Blue: the models pull in the same direction. Orange: against each other.",
                       diverging, [](const Json& v) { return plain(v, "%.2f"); }};
  const HeatMap conflict{"Sign conflict", "Share of elements that one raises and the other lowers.",
                         [](double v) { return sequential(v * 2); }, percent_cell};
  const HeatMap overlap{"Overlap",
                        "Share of the largest elements of one that are among the largest of "
                        "the other.",
                        sequential, percent_cell};

  std::string html =
      "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport "
      "content=\"width=device-width,initial-scale=1\"><title>Task vectors of " +
      std::to_string(names.size()) + " models</title><style>" + std::string(kStyle) +
      "</style></head><body><main><h1>Task vectors of " + std::to_string(names.size()) +
      (names.size() == 1 ? " model" : " models") +
      "</h1><p class=soft>What fine-tuning changed in "
      "<code>" +
      escaped(report.at("base").get<std::string>()) +
      "</code>, and how well the changes "
      "agree. " +
      std::to_string(field(all, "elements").get<std::uint64_t>()) + " elements in " +
      std::to_string(report.at("tensors").size()) + " tensors.</p>";
  html += tiles(report, names.size()) + models_table(report, paths);
  if (names.size() > 1) {
    html += "<h2>Between the models</h2><div class=maps>" +
            heat_map(cosine, field(all, "cosine"), names) +
            heat_map(conflict, field(all, "sign_conflicts"), names) +
            (trimmed ? heat_map(overlap, field(all, "overlaps"), names) : "") + "</div>";
  }
  html += "<h2>Layer by layer</h2>" + norm_chart(layers, names);
  if (names.size() > 1) {
    html += conflict_chart(layers, trimmed) + pair_chart(layers, names, cosine);
  }
  if (layers.size() > kMostRows) {
    html += "<p class=soft>The first " + std::to_string(kMostRows) + " of " +
            std::to_string(layers.size()) + " layers are shown.</p>";
  }
  html += layer_table(layers, names.size()) + notes(report) + std::string(kDefinitions);
  const std::string version = report.value("version", "");
  html += "<p class=soft>Made with Theriac" + (version.empty() ? "" : " " + escaped(version)) +
          ".</p></main></body></html>\n";
  return html;
}

}  // namespace theriac::merge
