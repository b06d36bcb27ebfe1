// Sums of a table's rows: what an embedding of sets is.
#pragma once

#include "cpp/engine/tensor/tensor.h"

namespace theriac::nn {

// out[s] = sum of table[ids[i]] for offsets[s] <= i < offsets[s + 1], in that order; an empty set is
// exactly 0. table [rows, dim], ids int64 [total], offsets int64 [sets + 1], ascending from 0 to total.
// Gradients reach the table. On the CPU in float32 one pass over memory each way, without a sort of the
// ids, and the same bits for any number of threads; elsewhere LibTorch's embedding_bag.
at::Tensor summed_rows(const at::Tensor& table, const at::Tensor& ids, const at::Tensor& offsets);

}  // namespace theriac::nn
