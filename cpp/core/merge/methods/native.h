// Methods whose factors follow from reductions over a tensor, under Accumulate::kNative: the operations
// of mergekit 0.1.4 one by one, each rounded to the tensor's type, for byte-by-byte comparison with it.
//
// Rounded intermediate tensors depend on each other through several reductions, so these need their
// tensor whole; memory is that of a few more models' tensors. Reductions over elements are made in
// float64 and rounded once, where torch's order of summation depends on the machine.
#pragma once

#include <string_view>

#include "cpp/core/merge/methods/methods.h"

namespace theriac::merge::methods {

// nullptr where accumulation is not native, or the method's usual kernel rounds natively itself.
Made make_native(std::string_view method, const TensorContext& context);

}  // namespace theriac::merge::methods
