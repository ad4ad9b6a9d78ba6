// Lists of tensors and what is done to all of them at once.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_foreach_zero.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>

#include "guard.h"
#include "shim.h"

namespace fullbore {
struct TensorList {
  std::vector<at::Tensor> tensors;
};
}  // namespace fullbore

using fullbore::guard;
using fullbore::TensorList;

namespace {

at::Tensor total_norm(at::TensorList tensors) {
  if (tensors.empty()) return at::zeros({});
  return at::linalg_vector_norm(at::stack(at::_foreach_norm(tensors, 2)), 2);
}

// Same sizes, and elements in the same order in memory. The stride of a dimension of size one says nothing.
bool same_order(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return false;
  for (int64_t d = 0; d < a.dim(); ++d) {
    if (a.size(d) > 1 && a.stride(d) != b.stride(d)) return false;
  }
  return true;
}

// The fused kernels walk raw memory: different strides or dtypes would give wrong weights without an error.
void check_same_layout(const at::Tensor& param, const at::Tensor& other, const char* what, size_t index) {
  TORCH_CHECK(same_order(param, other), what, " of parameter ", index, " has sizes ",
              other.sizes(), " strides ", other.strides(), ", the parameter has sizes ", param.sizes(), " strides ", param.strides());
  TORCH_CHECK(param.scalar_type() == other.scalar_type(), what, " of parameter ", index, " is ", other.scalar_type(),
              ", the parameter is ", param.scalar_type());
}

}  // namespace

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

extern "C" int fb_foreach_copy(const fb_list* destination, const fb_list* source) {
  return guard([&] {
    at::NoGradGuard no_grad;
    at::_foreach_copy_(destination->tensors, source->tensors);
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

extern "C" int fb_foreach_lerp(const fb_list* list, const fb_list* towards, double weight) {
  return guard([&] {
    at::NoGradGuard no_grad;
    at::_foreach_lerp_(list->tensors, towards->tensors, weight);
  });
}

extern "C" int fb_foreach_norm(const fb_list* list, at::Tensor** out) {
  return guard([&] {
    at::NoGradGuard no_grad;
    *out = new at::Tensor(total_norm(list->tensors));
  });
}

extern "C" int fb_adamw_step(const fb_list* params, const fb_list* exp_avgs, const fb_list* exp_avg_sqs, at::Tensor* step,
                             double lr, double beta1, double beta2, double weight_decay, double eps, double max_norm,
                             at::Tensor** grad_norm) {
  return guard([&] {
    at::NoGradGuard no_grad;
    const size_t n = params->tensors.size();
    TORCH_CHECK(exp_avgs->tensors.size() == n && exp_avg_sqs->tensors.size() == n, "AdamW got ", n, " parameters, ",
                exp_avgs->tensors.size(), " first and ", exp_avg_sqs->tensors.size(), " second moments");
    std::vector<at::Tensor> with_grad, grads, first, second;
    for (auto* v : {&with_grad, &grads, &first, &second}) v->reserve(n);
    for (size_t i = 0; i < n; ++i) {
      const auto& param = params->tensors[i];
      const auto& grad = param.grad();
      if (!grad.defined()) continue;
      check_same_layout(param, grad, "the gradient", i);
      check_same_layout(param, exp_avgs->tensors[i], "the first moment", i);
      check_same_layout(param, exp_avg_sqs->tensors[i], "the second moment", i);
      with_grad.push_back(param);
      grads.push_back(grad);
      first.push_back(exp_avgs->tensors[i]);
      second.push_back(exp_avg_sqs->tensors[i]);
    }
    const at::Tensor norm = total_norm(grads);
    *grad_norm = new at::Tensor(norm);
    if (grads.empty()) return;
    // A non-finite norm means that some gradient is inf or NaN: the kernel then leaves weights and moments alone,
    // and the step is not counted. Decided on the device: the host does not wait for it.
    const at::Tensor found_inf = norm.isfinite().logical_not().to(at::kFloat);
    step->add_(1 - found_inf);
    // The kernel divides gradients by grad_scale: clipping to max_norm costs no pass of its own.
    std::optional<at::Tensor> grad_scale;
    if (max_norm > 0) grad_scale = ((norm + 1e-6) / max_norm).clamp_min(1.0);
    const std::vector<at::Tensor> steps(grads.size(), *step);
    at::_fused_adamw_(with_grad, grads, first, second, {}, steps, lr, beta1, beta2, weight_decay, eps, /*amsgrad=*/false,
                      /*maximize=*/false, grad_scale, found_inf);
  });
}
