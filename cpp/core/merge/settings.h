// What a parameter is for one tensor: filters, gradients over the layers, precedence, defaults.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cpp/core/merge/method_parameters.h"
#include "cpp/core/merge/recipe.h"

namespace theriac::merge {

// Values by name, in the order of the declarations. Refers to the declarations, which outlive it.
class Parameters {
 public:
  void set(const ParameterDeclaration& declaration, ParameterValue value);
  bool has(std::string_view name) const noexcept { return find(name) != nullptr; }
  const ParameterValue* find(std::string_view name) const noexcept;
  // Throw kInternal where the parameter is absent or of another type: the caller asks for something
  // that its method does not declare.
  double number(std::string_view name) const;
  bool flag(std::string_view name) const;
  const std::string& text(std::string_view name) const;
  double number_or(std::string_view name, double fallback) const;
  std::size_t size() const noexcept { return values_.size(); }
  // "weight=0.5 density=1": for dry runs and reports.
  std::string described() const;
  friend bool operator==(const Parameters&, const Parameters&) = default;

 private:
  std::vector<std::pair<const ParameterDeclaration*, ParameterValue>> values_;
};

// Linear between the two neighbours of position t in [0, 1]. `values` is not empty; outside [0, 1]
// (and for NaN) the ends hold.
double gradient_at(std::span<const double> values, double t);

// Position of layer `index` among `layers`, 0 to 1; 1 for a single layer. Outside the layers, t = 0.
double layer_position(std::int64_t index, std::int64_t layers);

// The entry for a tensor: the first without filter, with filter "*", or with a filter that is a part
// of the name. nullptr where none matches.
const SettingEntry* entry_for(const Setting& setting, std::string_view tensor) noexcept;

// One value in the type of its declaration. Throws kInvalidArgument, with the place, for another
// type, a number that is not finite or out of range, a text that is no choice.
ParameterValue typed_value(const SettingValue& value, const ParameterDeclaration& declaration,
                           std::string_view file, std::string_view key_path);

// The setting's value for a tensor, or nothing where no filter matches.
std::optional<ParameterValue> evaluate(const Setting& setting,
                                       const ParameterDeclaration& declaration,
                                       std::string_view tensor, double t, std::string_view file);

// Checks every value of a setting that the method declares. Throws as typed_value does, also for a
// gradient of a parameter that is not a number or a flag.
void check_setting(const Setting& setting, const ParameterDeclaration& declaration,
                   std::string_view file);

// The levels that hold for a tensor. A null pointer is an absent level.
struct SettingScopes {
  const ParameterSet* slice = nullptr;
  const ParameterSet* module = nullptr;
  const ParameterSet* global = nullptr;
  std::string_view file;
};

// Global parameters of a method for an output tensor: slice, module, global, default. Throws
// kInvalidArgument naming method, parameter and tensor where a required one is missing.
Parameters resolve_global(const MethodDeclaration& method, const SettingScopes& scopes,
                          std::string_view output_name, double t);
// Model parameters for one source of it: the source's own settings, matched against the name of its
// tensor, then as above, matched against the output's. `waived`: the source is the base, for which
// nothing is required; what is not given stays absent unless it has a default.
Parameters resolve_model(const MethodDeclaration& method, const ParameterSet* own,
                         const SettingScopes& scopes, std::string_view input_name,
                         std::string_view output_name, double t, bool waived = false);

}  // namespace theriac::merge
