// What a trained backbone hands over to be scored at batch 1 (frozen.h): plain tensors, float32, on
// the CPU, contiguous. The makers copy what they need, so the tensors may be dropped afterwards.
//
// GRU and Linear follow PyTorch: gates in the order r, z, n; h0 = 0; two bias vectors;
// h' = (1 - z) n + z h with n = tanh(W_n x + b_in + r (U_n h + b_hn)); Linear(x) = W x + b.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpp/engine/clinical/frozen.h"
#include "cpp/engine/tensor/tensor.h"

namespace theriac::clinical {

struct FrozenGruParts {
  at::Tensor weight_ih;  // [3 hidden, in]
  at::Tensor weight_hh;  // [3 hidden, hidden]
  at::Tensor bias_ih;    // [3 hidden]
  at::Tensor bias_hh;    // [3 hidden]
};

struct FrozenLinearParts {
  at::Tensor weight;  // [out, in]
  at::Tensor bias;    // [out]
};

// GAMENet (Shang et al., AAAI 2019; medication.md sections 5.1 and 6). With visits 1..T, codes c:
//   e_d(t) = pool of diagnoses[c] over D_t, plus FrozenVisit::diagnoses_extra; e_p(t) likewise
//   q(t)   = query(ReLU([GRU_d(e_d(1..t)); GRU_p(e_p(1..t))]))                 [m]
//   a      = softmax(memory q(T)); fact1 = memory^T a                          [V_m], [m]
//   w      = softmax over t < T of q(T).q(t); u = sum_t w_t multihot(M_t)      [T-1], [V_m]
//   fact2  = memory^T u if T > 1, else fact1
//   x      = [q(T); fact1; fact2]                                              [3m]
//   logits = output[0](x) for one output layer (no ReLU anywhere), or
//            output[1](ReLU(output[0](ReLU(x)))) for two (the original form)
// Empty sets pool to zero. FrozenAttention: visits = [w_1 .. w_{T-1}, 0], memory = a.
struct FrozenGamenetParts {
  bool mean_pooling = false;      // original form: mean over the set; extras are then always empty
  at::Tensor diagnoses;           // [V_d, d]
  at::Tensor procedures;          // [V_p, d]
  FrozenGruParts diagnoses_gru;   // d -> h
  FrozenGruParts procedures_gru;  // d -> h
  FrozenLinearParts query;        // [m, 2h]
  at::Tensor memory;              // [V_m, m], graph convolutions folded in
  std::vector<FrozenLinearParts> output;  // {[V_m, 3m]} or {[2m, 3m], [V_m, 2m]}
};
std::shared_ptr<const FrozenScorer> make_frozen_gamenet(const FrozenGamenetParts& parts);

// RETAIN (Choi et al., NeurIPS 2016; medication.md section 6, corrected). Per block, with visit
// vectors x_t:
//   g_alpha = GRU_alpha and g_beta = GRU_beta over x_T, x_{T-1}, ..., x_1, outputs put back in the
//   order of the visits (the state at t has seen T..t) alpha_t = softmax over t = 1..T of
//   alpha(g_alpha_t);  beta_t = tanh(beta(g_beta_t)) c       = sum_t alpha_t beta_t * x_t [d]
// logits = output([c_diagnoses; c_procedures]). FrozenAttention: visits = alpha of diagnoses,
// visits_procedures = alpha of procedures.
struct FrozenRetainBlockParts {
  at::Tensor table;          // [V, d]
  FrozenGruParts alpha_gru;  // d -> d
  FrozenGruParts beta_gru;   // d -> d
  FrozenLinearParts alpha;   // [1, d]
  FrozenLinearParts beta;    // [d, d]
};
struct FrozenRetainParts {
  FrozenRetainBlockParts diagnoses, procedures;
  FrozenLinearParts output;  // [V_m, 2d]
};
std::shared_ptr<const FrozenScorer> make_frozen_retain(const FrozenRetainParts& parts);

}  // namespace theriac::clinical
