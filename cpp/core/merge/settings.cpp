#include "cpp/core/merge/settings.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "cpp/core/base/error.h"

namespace theriac::merge {
namespace {

[[noreturn]] void refuse(const SettingValue& value, const std::string& expected,
                         std::string_view file, std::string_view key_path) {
  throw error_at(file, value.mark, key_path,
                 "is " + quoted_for_message(value.text) + "; expected " + expected)
      .at("expected", expected);
}

bool in_range(double value, const RealRange& range) {
  const bool above = range.open_low ? value > range.low : value >= range.low;
  const bool below = range.open_high ? value < range.high : value <= range.high;
  return above && below;
}

// A boolean is 1 or 0 where a number is due.
std::optional<double> number_of(const SettingValue& value) {
  if (const auto truth = yaml_flag(value.text, value.quoted)) return *truth ? 1.0 : 0.0;
  return yaml_number(value.text, value.quoted);
}

double typed_number(const SettingValue& value, const ParameterDeclaration& declaration,
                    std::string_view file, std::string_view key_path) {
  const auto number = number_of(value);
  if (!number) refuse(value, expected_value(declaration), file, key_path);
  if (!std::isfinite(*number)) refuse(value, "a finite number", file, key_path);
  const bool fits = in_range(*number, declaration.range) &&
                    (!declaration.whole || std::trunc(*number) == *number);
  if (!fits) refuse(value, expected_value(declaration), file, key_path);
  return *number;
}

// 0 and 1 are booleans to recipes written for a reader that keeps numbers only.
bool typed_flag(const SettingValue& value, const ParameterDeclaration& declaration,
                std::string_view file, std::string_view key_path) {
  const auto number = number_of(value);
  if (!number || !std::isfinite(*number)) {
    refuse(value, expected_value(declaration), file, key_path);
  }
  return *number != 0;
}

std::string typed_text(const SettingValue& value, const ParameterDeclaration& declaration,
                       std::string_view file, std::string_view key_path) {
  std::string text = value.text;
  if (!declaration.when_true.empty()) {
    if (const auto number = number_of(value)) {
      text = *number != 0 ? declaration.when_true : declaration.when_false;
    }
  }
  const auto& choices = declaration.choices;
  if (choices.empty() || std::find(choices.begin(), choices.end(), text) != choices.end()) {
    return text;
  }
  const std::string nearest = nearest_name(text, choices);
  refuse(
      value,
      expected_value(declaration) + (nearest.empty() ? "" : " (did you mean '" + nearest + "'?)"),
      file, key_path);
}

// Where position t falls among `size` equally spaced values, size at least 1.
struct Neighbours {
  std::size_t below, above;
  double share;  // of the one above
};
Neighbours neighbours(std::size_t size, double t) {
  const std::size_t last = size - 1;
  // Not std::clamp, which hands a NaN through.
  const double position = t > 0 ? (t < 1 ? t : 1.0) * static_cast<double>(last) : 0.0;
  const auto below = std::min(static_cast<std::size_t>(position), last);
  return {below, std::min(below + 1, last), position - static_cast<double>(below)};
}

double gradient_value(const SettingValue& value, const ParameterDeclaration& declaration,
                      std::string_view file, std::string_view key_path) {
  const ParameterValue typed = typed_value(value, declaration, file, key_path);
  const auto* truth = std::get_if<bool>(&typed);
  return truth == nullptr ? std::get<double>(typed) : (*truth ? 1.0 : 0.0);
}

const ParameterValue* default_of(const ParameterDeclaration& declaration) {
  return declaration.fallback ? &*declaration.fallback : nullptr;
}

// Slice, module and global level, in this order.
std::optional<ParameterValue> shared_value(const ParameterDeclaration& declaration,
                                           const SettingScopes& scopes,
                                           std::string_view output_name, double t) {
  for (const ParameterSet* level : {scopes.slice, scopes.module, scopes.global}) {
    const Setting* setting = level == nullptr ? nullptr : level->find(declaration.name);
    if (setting == nullptr) continue;
    if (auto value = evaluate(*setting, declaration, output_name, t, scopes.file)) return value;
  }
  return std::nullopt;
}

void set_or_require(Parameters& out, const MethodDeclaration& method,
                    const ParameterDeclaration& declaration, std::optional<ParameterValue> value,
                    std::string_view tensor, const SettingScopes& scopes, bool waived) {
  if (value) {
    out.set(declaration, *std::move(value));
  } else if (const ParameterValue* fallback = default_of(declaration)) {
    out.set(declaration, *fallback);
  } else if (declaration.required && !waived) {
    throw error_at(scopes.file, {}, "",
                   "the method " + method.name + " needs the parameter '" + declaration.name +
                       "' (" + expected_value(declaration) + "), which is not given for tensor " +
                       quoted_for_message(tensor) +
                       (declaration.scope == ParameterScope::kModel
                            ? "; give it under 'parameters' of each model, or of the recipe"
                            : "; give it under 'parameters' of the recipe"))
        .at("parameter", declaration.name)
        .at("tensor", std::string(tensor));
  }
}

}  // namespace

void Parameters::set(const ParameterDeclaration& declaration, ParameterValue value) {
  values_.emplace_back(&declaration, std::move(value));
}

const ParameterValue* Parameters::find(std::string_view name) const noexcept {
  for (const auto& [declaration, value] : values_) {
    if (declaration->name == name) return &value;
  }
  return nullptr;
}

namespace {
template <class T>
const T& value_as(const Parameters& parameters, std::string_view name) {
  const ParameterValue* value = parameters.find(name);
  const T* held = value == nullptr ? nullptr : std::get_if<T>(value);
  if (held == nullptr) {
    throw Error(Code::kInternal, "the parameter '" + std::string(name) +
                                     "' is absent or of another type than asked for")
        .at("parameter", std::string(name));
  }
  return *held;
}
}  // namespace

double Parameters::number(std::string_view name) const { return value_as<double>(*this, name); }
bool Parameters::flag(std::string_view name) const { return value_as<bool>(*this, name); }
const std::string& Parameters::text(std::string_view name) const {
  return value_as<std::string>(*this, name);
}
double Parameters::number_or(std::string_view name, double fallback) const {
  return has(name) ? number(name) : fallback;
}

std::string Parameters::described() const {
  std::string out;
  for (const auto& [declaration, value] : values_) {
    out += (out.empty() ? "" : " ") + declaration->name + "=" + value_text(value);
  }
  return out;
}

double gradient_at(std::span<const double> values, double t) {
  const Neighbours at = neighbours(values.size(), t);
  return std::lerp(values[at.below], values[at.above], at.share);
}

double layer_position(std::int64_t index, std::int64_t layers) {
  return layers <= 1 ? 1.0 : static_cast<double>(index) / static_cast<double>(layers - 1);
}

const SettingEntry* entry_for(const Setting& setting, std::string_view tensor) noexcept {
  for (const SettingEntry& entry : setting.entries) {
    if (!entry.filter || *entry.filter == "*" ||
        tensor.find(*entry.filter) != std::string_view::npos) {
      return &entry;
    }
  }
  return nullptr;
}

ParameterValue typed_value(const SettingValue& value, const ParameterDeclaration& declaration,
                           std::string_view file, std::string_view key_path) {
  switch (declaration.type) {
    case ParameterType::kNumber:
      return typed_number(value, declaration, file, key_path);
    case ParameterType::kFlag:
      return typed_flag(value, declaration, file, key_path);
    case ParameterType::kText:
      break;
  }
  return typed_text(value, declaration, file, key_path);
}

std::optional<ParameterValue> evaluate(const Setting& setting,
                                       const ParameterDeclaration& declaration,
                                       std::string_view tensor, double t, std::string_view file) {
  const SettingEntry* entry = entry_for(setting, tensor);
  if (entry == nullptr) return std::nullopt;
  if (!entry->gradient || declaration.type == ParameterType::kText) {
    return typed_value(entry->values.front(), declaration, file, setting.key_path);
  }
  // Only the two that count are converted: a gradient may be as long as a recipe.
  const Neighbours at = neighbours(entry->values.size(), t);
  const double number = std::lerp(
      gradient_value(entry->values[at.below], declaration, file, setting.key_path),
      gradient_value(entry->values[at.above], declaration, file, setting.key_path), at.share);
  if (declaration.type == ParameterType::kFlag) return number != 0;
  return declaration.whole ? std::round(number) : number;
}

void check_setting(const Setting& setting, const ParameterDeclaration& declaration,
                   std::string_view file) {
  for (const SettingEntry& entry : setting.entries) {
    if (entry.gradient && declaration.type == ParameterType::kText) {
      throw error_at(file, entry.values.front().mark, setting.key_path,
                     "a list of values over the layers; expected " + expected_value(declaration));
    }
    for (const SettingValue& value : entry.values) {
      typed_value(value, declaration, file, setting.key_path);
    }
  }
}

Parameters resolve_global(const MethodDeclaration& method, const SettingScopes& scopes,
                          std::string_view output_name, double t) {
  Parameters out;
  for (const ParameterDeclaration& declaration : method.parameters) {
    if (declaration.scope != ParameterScope::kGlobal) continue;
    set_or_require(out, method, declaration, shared_value(declaration, scopes, output_name, t),
                   output_name, scopes, false);
  }
  return out;
}

Parameters resolve_model(const MethodDeclaration& method, const ParameterSet* own,
                         const SettingScopes& scopes, std::string_view input_name,
                         std::string_view output_name, double t, bool waived) {
  Parameters out;
  for (const ParameterDeclaration& declaration : method.parameters) {
    if (declaration.scope != ParameterScope::kModel) continue;
    std::optional<ParameterValue> value;
    if (const Setting* setting = own == nullptr ? nullptr : own->find(declaration.name)) {
      value = evaluate(*setting, declaration, input_name, t, scopes.file);
    }
    if (!value) value = shared_value(declaration, scopes, output_name, t);
    set_or_require(out, method, declaration, std::move(value), output_name, scopes, waived);
  }
  return out;
}

}  // namespace theriac::merge
