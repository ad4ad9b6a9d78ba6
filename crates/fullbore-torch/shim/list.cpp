// Lists of tensors and what is done to all of them at once.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_foreach_sub.h>
#include <ATen/ops/_foreach_zero.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "guard.h"
#include "list.h"
#include "shim.h"

using fullbore::guard;
using fullbore::TensorList;

namespace {

// Same sizes, and elements in the same order in memory. The stride of a dimension of size one says nothing.
bool same_order(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return false;
  for (int64_t d = 0; d < a.dim(); ++d) {
    if (a.size(d) > 1 && a.stride(d) != b.stride(d)) return false;
  }
  return true;
}

}  // namespace

at::Tensor fullbore::total_norm(at::TensorList tensors) {
  if (tensors.empty()) return at::zeros({});
  return at::linalg_vector_norm(at::stack(at::_foreach_norm(tensors, 2)), 2);
}

void fullbore::check_same_layout(const at::Tensor& one, const at::Tensor& other, const char* what, size_t index) {
  TORCH_CHECK(same_order(one, other), what, " of tensor ", index, " has sizes ", other.sizes(), " strides ", other.strides(),
              ", the tensor itself has sizes ", one.sizes(), " strides ", one.strides());
  TORCH_CHECK(one.scalar_type() == other.scalar_type(), what, " of tensor ", index, " is ", other.scalar_type(),
              ", the tensor itself is ", one.scalar_type());
}

extern "C" int fb_list_new(at::Tensor* const* tensors, size_t n, fb_list** out) {
  return guard([&] {
    auto list = std::make_unique<TensorList>();
    list->tensors.reserve(n);
    for (size_t i = 0; i < n; ++i) list->tensors.push_back(*tensors[i]);
    *out = list.release();
  });
}

extern "C" void fb_list_free(fb_list* list) { delete list; }

extern "C" size_t fb_list_len(const fb_list* list) { return list->tensors.size(); }

extern "C" int fb_list_get(const fb_list* list, size_t i, at::Tensor** out) {
  return guard([&] { *out = new at::Tensor(list->tensors.at(i)); });
}

extern "C" int fb_list_zeros_like(const fb_list* list, fb_list** out) {
  return guard([&] {
    at::NoGradGuard no_grad;
    auto zeros = std::make_unique<TensorList>();
    for (const auto& t : list->tensors) zeros->tensors.push_back(at::zeros_like(t));
    *out = zeros.release();
  });
}

extern "C" int fb_list_clone(const fb_list* list, fb_list** out) {
  return guard([&] {
    at::NoGradGuard no_grad;
    auto copies = std::make_unique<TensorList>();
    for (const auto& t : list->tensors) copies->tensors.push_back(t.detach().clone());
    *out = copies.release();
  });
}

extern "C" int fb_list_drop_grads(const fb_list* list) {
  return guard([&] {
    for (const auto& t : list->tensors) t.mutable_grad().reset();
  });
}

extern "C" int fb_list_zero_grads(const fb_list* list) {
  return guard([&] {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> grads;
    for (const auto& t : list->tensors) {
      if (t.grad().defined()) grads.push_back(t.grad());
    }
    if (!grads.empty()) at::_foreach_zero_(grads);
  });
}

extern "C" int fb_foreach_copy(const fb_list* destination, const fb_list* source) {
  return guard([&] {
    at::NoGradGuard no_grad;
    at::_foreach_copy_(destination->tensors, source->tensors);
  });
}

extern "C" int fb_foreach_copy_if(const fb_list* destination, const fb_list* source, at::Tensor* when) {
  return guard([&] {
    at::NoGradGuard no_grad;
    const size_t n = destination->tensors.size();
    TORCH_CHECK(source->tensors.size() == n, "copy_if got ", n, " tensors and ", source->tensors.size(), " to copy from");
    if (n == 0) return;
    // to = from + (to - from) * (1 - when). In floats NaN * 0 would be NaN, and the sum would be rounded; with the bits as
    // integers, which wrap around, both ends are exact.
    std::vector<at::Tensor> to, from;
    for (size_t i = 0; i < n; ++i) {
      fullbore::check_same_layout(destination->tensors[i], source->tensors[i], "the source", i);
      TORCH_CHECK(destination->tensors[i].scalar_type() == at::kFloat, "copy_if got tensor ", i, " which is not f32");
      to.push_back(destination->tensors[i].view(at::kInt));
      from.push_back(source->tensors[i].view(at::kInt));
    }
    at::_foreach_sub_(to, from);
    at::_foreach_mul_(to, (1 - *when).to(at::kInt));
    at::_foreach_add_(to, from);
  });
}

extern "C" int fb_foreach_zero(const fb_list* list) {
  return guard([&] {
    at::NoGradGuard no_grad;
    at::_foreach_zero_(list->tensors);
  });
}

extern "C" int fb_foreach_scale(const fb_list* list, double factor) {
  return guard([&] {
    at::NoGradGuard no_grad;
    at::_foreach_mul_(list->tensors, factor);
  });
}

extern "C" int fb_foreach_lerp(const fb_list* list, const fb_list* towards, double weight, at::Tensor* unless) {
  return guard([&] {
    at::NoGradGuard no_grad;
    const size_t n = list->tensors.size();
    TORCH_CHECK(towards->tensors.size() == n, "lerp got ", n, " tensors and ", towards->tensors.size(), " to move towards");
    for (size_t i = 0; i < n; ++i) fullbore::check_same_layout(list->tensors[i], towards->tensors[i], "the goal", i);
    if (n == 0) return;
    // lerp with a switch on the device: gradient descent by `weight` on |list - towards|^2 / 2, whose gradient is
    // weight decay 1 minus `towards`. The kernel does nothing where `unless` is 1, and the host does not wait for it.
    std::optional<at::Tensor> found_inf;
    if (unless) found_inf = *unless;
    at::_fused_sgd_(list->tensors, towards->tensors, {}, /*weight_decay=*/1, /*momentum=*/0, /*lr=*/weight, /*dampening=*/0,
                    /*nesterov=*/false, /*maximize=*/true, /*is_first_step=*/false, /*grad_scale=*/{}, found_inf);
  });
}

extern "C" int fb_foreach_norm(const fb_list* list, at::Tensor** out) {
  return guard([&] {
    at::NoGradGuard no_grad;
    *out = new at::Tensor(fullbore::total_norm(list->tensors));
  });
}
