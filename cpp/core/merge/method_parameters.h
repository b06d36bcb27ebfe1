// What each merge method asks for: its parameters, whether it needs a base model, how many models it
// takes and what it does where tensors differ in shape. Declarations only; the arithmetic is in
// methods/. Recipes are checked against this table, and help, schemas and documentation are printed
// from it.
//
// Everything here is immutable and may be shared between threads.
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "cpp/core/base/json.h"
#include "cpp/core/base/options.h"

namespace theriac::merge {

// The value of one parameter, in the type that its declaration names.
using ParameterValue = std::variant<double, bool, std::string>;

// "0.5", "true", "l1": as recipes and messages write it.
std::string value_text(const ParameterValue& value);

enum class ParameterType { kNumber, kFlag, kText };
// A model parameter has a value for each model and may also be set for all of them at once; a global
// one has one value, and is ignored where a recipe gives it for a single model.
enum class ParameterScope { kGlobal, kModel };

struct ParameterDeclaration {
  std::string name;
  ParameterScope scope = ParameterScope::kGlobal;
  ParameterType type = ParameterType::kNumber;
  bool required = false;
  std::optional<ParameterValue> fallback;  // value where the recipe gives none; nothing: absent
  RealRange range;                         // of a number
  bool whole = false;                      // a number without a fraction
  std::vector<std::string> choices;        // of text; empty: any
  std::string when_true, when_false;       // text that a boolean stands for; empty: not accepted
  std::string doc;                         // one line
};

// What the base model is to a method.
enum class BaseRole {
  kDonor,      // gives config and tokenizer only, unless the recipe lists it among the models
  kMember,     // one of the merged models
  kReference,  // what differences are taken against; not counted among the models
};

// What happens to a tensor whose shape differs between the models.
enum class ShapeRule {
  kError,
  kCropToBase,      // cut the model's tensor to the base's rows and columns; too small is an error
  kSmallestCommon,  // cut all to the largest submatrix that they share
  kSkipModel,       // leave the model out for this tensor
};

struct MethodDeclaration {
  std::string name;
  std::string doc;    // one line
  std::string paper;  // arXiv id, or empty
  BaseRole base_role = BaseRole::kDonor;
  bool needs_base = false;
  int minimum_models = 1;  // kReference: beside the base; kMember: with it
  int maximum_models = std::numeric_limits<int>::max();
  ShapeRule embedding_shapes = ShapeRule::kError;  // embeddings and output heads
  ShapeRule other_shapes = ShapeRule::kError;
  std::vector<ParameterDeclaration> parameters;  // those of all methods included

  const ParameterDeclaration* find(std::string_view parameter) const noexcept;
};

// In the order of the documentation.
const std::vector<MethodDeclaration>& merge_methods();
const MethodDeclaration* find_method(std::string_view name);
std::vector<std::string> method_names();
std::vector<std::string> parameter_names(const MethodDeclaration& method);

// The parts of a sign-election convention. `ties` takes each part from its preset unless the recipe
// gives it.
struct TiesConvention {
  std::string preset;
  std::string scope;      // what the density is a share of: tensor | global (the whole model)
  std::string keep;       // exact: that many; ge: all that reach the threshold, ties included
  std::string zero_sign;  // of a sum of zero: plus | majority (the sign most elements elected)
  std::string reduce;     // of the agreeing entries: mean | sum | max
  std::string vote;       // weighted | unweighted
};
const std::vector<TiesConvention>& ties_conventions();
// Throws kInvalidArgument naming the nearest preset.
const TiesConvention& ties_convention(std::string_view preset);

// "a number, 0 to 1", "true or false", "one of 'l1', 'l2'": what a value may be.
std::string expected_value(const ParameterDeclaration& parameter);
// JSON Schema (draft 2020-12 subset) of a method's parameters, each as a scalar; a recipe may give a
// gradient or a list of filters for any number.
Json parameter_schema(const MethodDeclaration& method);
// A paragraph a method: name, doc, models, a line a parameter.
std::string methods_help();

}  // namespace theriac::merge
