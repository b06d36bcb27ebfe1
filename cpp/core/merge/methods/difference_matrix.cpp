#include "cpp/core/merge/methods/difference_matrix.h"

#include "cpp/core/merge/methods/methods.h"

namespace theriac::merge::methods {
namespace {

using Stored = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

}  // namespace

bool is_matrix(const TensorContext& context) {
  return context.shape.size() == 2 && context.elements() > 0;
}

Matrix difference_matrix(std::string_view method, const TensorContext& context, const Block& block,
                         std::size_t model) {
  const auto rows = static_cast<Eigen::Index>(context.shape[0]);
  const auto columns = static_cast<Eigen::Index>(context.shape[1]);
  const Eigen::Map<const Stored> x(block.models[model], rows, columns);
  const Eigen::Map<const Stored> base(block.base, rows, columns);
  Matrix out = x.cast<double>() - base.cast<double>();
  if (!out.allFinite()) {
    refuse(Code::kNumericError, method, context, "",
           "has NaN or infinite differences, which no decomposition takes");
  }
  return out;
}

}  // namespace theriac::merge::methods
