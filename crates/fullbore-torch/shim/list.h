// A list of tensors on the C++ side, behind the opaque fb_list.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace fullbore {

struct TensorList {
  std::vector<at::Tensor> tensors;
};

// Norm over all elements of all tensors, 0-dim. Of none: 0 on the CPU.
at::Tensor total_norm(at::TensorList tensors);

// The fused kernels walk raw memory: different strides or dtypes would give wrong values without an error. Throws when
// `other`, called `what` in the message, does not lie in memory as tensor `index`, `one`, does.
void check_same_layout(const at::Tensor& one, const at::Tensor& other, const char* what, size_t index);

}  // namespace fullbore
