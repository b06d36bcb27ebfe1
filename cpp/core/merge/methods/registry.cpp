#include <algorithm>
#include <array>

#include "cpp/core/merge/methods/methods.h"

namespace theriac::merge {

std::uint64_t TensorContext::elements() const {
  std::uint64_t product = 1;
  for (const std::uint64_t size : shape) product *= size;
  return product;
}

std::uint64_t TensorContext::row_length() const { return shape.empty() ? 1 : shape.back(); }

namespace methods {

Members::Members(const TensorContext& context)
    : size_(context.models() + (context.has_base ? 1U : 0U)),
      base_(size_),
      parameters_(context.model_parameters) {
  if (!context.has_base) return;
  base_ = context.models();
  for (std::size_t i = 0; i < context.model_keys.size(); ++i) {
    if (context.model_keys[i] != i) {
      base_ = std::min(base_, i);
      break;
    }
  }
  parameters_.insert(parameters_.begin() + static_cast<std::ptrdiff_t>(base_),
                     context.base_parameters);
}

void refuse(Code code, std::string_view method, const TensorContext& context,
            std::string_view parameter, const std::string& what) {
  Error error(code, "method '" + std::string(method) + "', tensor '" + context.name + "': " + what);
  if (parameter.empty()) {
    throw std::move(error).at("method", std::string(method)).at("tensor", context.name);
  }
  throw std::move(error)
      .at("method", std::string(method))
      .at("tensor", context.name)
      .at("parameter", std::string(parameter));
}

}  // namespace methods

namespace {

constexpr std::array kKernels{
    MethodKernel{"linear", methods::make_linear},
    MethodKernel{"passthrough", methods::make_passthrough},
    MethodKernel{"nearswap", methods::make_nearswap},
    MethodKernel{"magmax", methods::make_magmax},
    MethodKernel{"task_arithmetic", methods::make_task_arithmetic},
    MethodKernel{"expo", methods::make_expo},
    MethodKernel{"ties", methods::make_ties, methods::make_ties_statistics},
    MethodKernel{"dare_linear", methods::make_dare_linear},
    MethodKernel{"dare_ties", methods::make_dare_ties},
    MethodKernel{"breadcrumbs", methods::make_breadcrumbs},
    MethodKernel{"breadcrumbs_ties", methods::make_breadcrumbs_ties},
    MethodKernel{"della", methods::make_della},
    MethodKernel{"della_linear", methods::make_della_linear},
    MethodKernel{"slerp", methods::make_slerp},
    MethodKernel{"nuslerp", methods::make_nuslerp},
    MethodKernel{"multislerp", methods::make_multislerp},
    MethodKernel{"karcher", methods::make_karcher},
    MethodKernel{"model_stock", methods::make_model_stock},
    MethodKernel{"sce", methods::make_sce},
    MethodKernel{"ram", methods::make_ram},
    MethodKernel{"ramplus_tl", methods::make_ramplus_tl},
    MethodKernel{"arcee_fusion", methods::make_arcee_fusion},
    MethodKernel{"metagpt", methods::make_metagpt, methods::make_metagpt_statistics},
    MethodKernel{"lines", methods::make_lines, methods::make_lines_statistics},
    MethodKernel{"emr", methods::make_emr, methods::make_emr_statistics},
    MethodKernel{"tall_masks", methods::make_tall_masks},
    MethodKernel{"consensus", methods::make_consensus},
    MethodKernel{"pcb", methods::make_pcb, methods::make_pcb_statistics},
    MethodKernel{"tsv_m", methods::make_tsv_m},
    MethodKernel{"iso_c", methods::make_iso_c},
    MethodKernel{"iso_cts", methods::make_iso_cts},
    MethodKernel{"star", methods::make_star},
    MethodKernel{"knots", methods::make_knots, methods::make_knots_statistics},
    MethodKernel{"wudi", methods::make_wudi},
    MethodKernel{"fisher", methods::make_fisher, methods::make_fisher_statistics},
    MethodKernel{"regmean", methods::make_regmean, methods::make_regmean_statistics},
};

}  // namespace

const MethodKernel* find_kernel(std::string_view method) {
  const auto* found = std::find_if(kKernels.begin(), kKernels.end(),
                                   [method](const MethodKernel& k) { return k.name == method; });
  return found == kKernels.end() ? nullptr : found;
}

}  // namespace theriac::merge
