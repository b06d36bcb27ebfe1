// Precompiled once for the whole engine: the LibTorch headers that models and training use.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/nn.h>
#include <torch/optim.h>
