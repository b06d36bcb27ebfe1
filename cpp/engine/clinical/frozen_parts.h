// Pieces that frozen scorers share: linear layers, GRUs over visits, pooled code tables.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "cpp/engine/clinical/frozen.h"
#include "cpp/engine/clinical/frozen_scorers.h"
#include "cpp/engine/nn/dense_kernels.h"

namespace theriac::clinical::internal {

// float32, CPU, contiguous, of the given shape; kInternal otherwise.
std::span<const float> values(const at::Tensor& tensor, std::initializer_list<std::int64_t> shape,
                              const char* name);

// y = W x + b
struct FrozenLinear {
  nn::PackedMatrix weight;  // [out, in]
  std::vector<float> bias;  // [padded out]
  FrozenLinear() = default;
  explicit FrozenLinear(const FrozenLinearParts& parts);
  std::size_t out() const noexcept { return weight.out(); }
  std::size_t padded() const noexcept { return weight.padded_out(); }
  // x: [vectors, in] rows x_stride apart -> y: [vectors, padded()].
  void apply(const float* x, std::size_t x_stride, std::size_t vectors, float* y) const noexcept {
    nn::multiply(weight, x, x_stride, vectors, bias, y, padded());
  }
};

// Vectors of a vocabulary's codes, and their sum or mean over a visit's set.
class CodeTable {
 public:
  CodeTable() = default;
  explicit CodeTable(const at::Tensor& table);  // [codes, dim]
  std::size_t dim() const noexcept { return dim_; }
  // out[dim]; empty sets and no extra give zero.
  void pool(std::span<const std::int32_t> ids, std::span<const float> extra, bool mean,
            std::span<float> out) const noexcept;

 private:
  std::size_t dim_ = 0;
  std::vector<float> rows_;
};

// A GRU over the visits of one patient. Input gates of all visits are made in one pass over W_ih;
// the first step needs no pass over W_hh, since the state starts at zero.
class FrozenGru {
 public:
  FrozenGru() = default;
  explicit FrozenGru(const FrozenGruParts& parts);
  std::size_t hidden() const noexcept { return hidden_; }
  std::size_t scratch(std::size_t visits) const noexcept;  // floats that run() takes
  // x: [visits, in] -> states: [visits, hidden], rows `stride` apart, in the order of x;
  // `backwards` runs from the last visit to the first and writes each state at its visit.
  void run(const float* x, std::size_t x_stride, std::size_t visits, bool backwards,
           FrozenWorkspace& workspace, float* states, std::size_t stride) const;

 private:
  std::size_t in_ = 0, hidden_ = 0;
  nn::PackedMatrix weight_ih_, weight_hh_;  // [3 hidden, in], [3 hidden, hidden]
  std::vector<float> bias_ih_, bias_hh_;
};

}  // namespace theriac::clinical::internal
