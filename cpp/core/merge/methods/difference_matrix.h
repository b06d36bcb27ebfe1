// Differences of whole tensors as matrices, for methods that decompose them.
#pragma once

#include <string_view>

#include "cpp/core/merge/matrices.h"
#include "cpp/core/merge/method.h"

namespace theriac::merge::methods {

// Whether a tensor is a matrix with elements.
bool is_matrix(const TensorContext& context);
// Model minus base of a whole tensor, [rows, columns] as stored. Throws kNumericError naming method
// and tensor where not all of it is finite.
Matrix difference_matrix(std::string_view method, const TensorContext& context, const Block& block,
                         std::size_t model);

}  // namespace theriac::merge::methods
