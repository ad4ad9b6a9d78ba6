// Optimizer steps on PyTorch's fused kernels. Whether a step counts is decided on the device, where the kernels read it.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_amp_update_scale.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_clamp_max.h>
#include <ATen/ops/_foreach_clamp_min.h>
#include <ATen/ops/_foreach_div.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/zeros_like.h>

#include <limits>

#include "guard.h"
#include "list.h"
#include "shim.h"

namespace {

using Tensors = std::vector<at::Tensor>;

// torch.amp.GradScaler's defaults.
constexpr double kGrowth = 2, kBackoff = 0.5;
constexpr int64_t kGrowthInterval = 2000;

// The parameters of a group that have a gradient, with what belongs to them.
struct Group {
  Tensors params, grads, momentum, squares;
  double lr, weight_decay;
};

// On the CPU the fused kernels convert what is channels_last to NCHW, in every step. They work element by element: the same
// memory seen as NHWC is as good to them, and in order.
at::Tensor in_plain_order(const at::Tensor& t) {
  const bool other = t.is_cpu() && t.dim() == 4 && !t.is_contiguous() && t.is_contiguous(at::MemoryFormat::ChannelsLast);
  return other ? t.permute({0, 2, 3, 1}) : t;
}

std::vector<Group> with_gradients(const fb_update& u) {
  const size_t n = u.params->tensors.size();
  for (const fb_list* state : {u.momentum, u.squares}) {
    TORCH_CHECK(!state || state->tensors.size() == n, "the step got ", n, " parameters and ", state ? state->tensors.size() : 0,
                " tensors of state");
  }
  std::vector<Group> groups;
  size_t i = 0;
  for (size_t g = 0; g < u.n_groups; ++g) {
    const size_t end = u.groups[g].end;
    TORCH_CHECK(end >= i && end <= n, "group ", g, " ends at ", end, " of ", n, " parameters");
    Group group;
    group.lr = u.groups[g].lr;
    group.weight_decay = u.groups[g].weight_decay;
    for (; i < end; ++i) {
      const auto& param = u.params->tensors[i];
      const auto& grad = param.grad();
      if (!grad.defined()) continue;
      fullbore::check_same_layout(param, grad, "the gradient", i);
      group.params.push_back(in_plain_order(param));
      group.grads.push_back(in_plain_order(grad));
      if (u.momentum) {
        fullbore::check_same_layout(param, u.momentum->tensors[i], "the first moment", i);
        group.momentum.push_back(in_plain_order(u.momentum->tensors[i]));
      }
      if (u.squares) {
        fullbore::check_same_layout(param, u.squares->tensors[i], "the second moment", i);
        group.squares.push_back(in_plain_order(u.squares->tensors[i]));
      }
    }
    if (!group.params.empty()) groups.push_back(std::move(group));
  }
  TORCH_CHECK(i == n, "the groups hold ", i, " of ", n, " parameters");
  return groups;
}

// RMSprop is Adam without a first moment (beta1 = 0: `exp_avg` becomes the gradient, so the gradient's memory serves) and
// without bias correction (after endlessly many steps).
void rmsprop(const fb_update& u, const Group& g, const std::optional<at::Tensor>& grad_scale, const at::Tensor& found_inf) {
  const Tensors steps(g.params.size(), at::full_like(found_inf, std::numeric_limits<double>::infinity()));
  if (g.momentum.empty()) {
    at::_fused_adam_(g.params, g.grads, g.grads, g.squares, {}, steps, g.lr, 0, u.beta2, g.weight_decay, u.eps, false, false,
                     grad_scale, found_inf);
    return;
  }
  // The buffer takes the update's place: buffer * momentum + gradient / denominator is decoupled weight decay of
  // 1 - momentum and a learning rate of 1, upwards. What it then holds is subtracted from the parameters.
  if (grad_scale) at::_foreach_div_(g.grads, *grad_scale);
  if (g.weight_decay != 0) at::_foreach_add_(g.grads, g.params, g.weight_decay);
  at::_fused_adamw_(g.momentum, g.grads, g.grads, g.squares, {}, steps, -1.0, 0, u.beta2, u.beta1 - 1, u.eps, false, false, {},
                    found_inf);
  at::_fused_sgd_(g.params, g.momentum, {}, 0, 0, g.lr, 0, false, false, false, {}, found_inf);
}

void update(const fb_update& u, const Group& g, const std::optional<at::Tensor>& grad_scale, const at::Tensor& found_inf) {
  const bool amsgrad = false, maximize = false;
  switch (u.rule) {
    case fb_adamw:
      at::_fused_adamw_(g.params, g.grads, g.momentum, g.squares, {}, Tensors(g.params.size(), *u.step), g.lr, u.beta1, u.beta2,
                        g.weight_decay, u.eps, amsgrad, maximize, grad_scale, found_inf);
      return;
    case fb_adam:
      at::_fused_adam_(g.params, g.grads, g.momentum, g.squares, {}, Tensors(g.params.size(), *u.step), g.lr, u.beta1, u.beta2,
                       g.weight_decay, u.eps, amsgrad, maximize, grad_scale, found_inf);
      return;
    case fb_sgd:
      // A buffer that begins at zero becomes the gradient, so the first step needs no treatment of its own.
      at::_fused_sgd_(g.params, g.grads, g.momentum, g.weight_decay, g.momentum.empty() ? 0 : u.beta1, g.lr, /*dampening=*/0,
                      u.nesterov != 0, maximize, /*is_first_step=*/false, grad_scale, found_inf);
      return;
    case fb_rmsprop:
      rmsprop(u, g, grad_scale, found_inf);
      return;
    default:
      TORCH_CHECK(false, "there is no update rule ", u.rule);
  }
}

}  // namespace

extern "C" int fb_optimizer_step(const fb_update* update_, at::Tensor** grad_norm) {
  return fullbore::guard([&] {
    at::NoGradGuard no_grad;
    const fb_update& u = *update_;
    const std::vector<Group> groups = with_gradients(u);
    Tensors grads;
    grads.reserve(u.params->tensors.size());
    for (const auto& g : groups) grads.insert(grads.end(), g.grads.begin(), g.grads.end());
    at::Tensor norm = grads.empty() ? at::zeros_like(*u.loss) : fullbore::total_norm(grads);
    if (u.scale) norm = norm / *u.scale;

    // A norm that is not finite means that some gradient is inf or NaN: the kernels then leave weights and state alone,
    // and the step is not counted. Decided on the device: the host does not wait for it.
    u.found_inf->copy_((norm + *u.loss).isfinite().logical_not());
    u.step->add_(1 - *u.found_inf);
    u.skipped_in_row->add_(1).mul_(*u.found_inf);
    u.skipped->add_(*u.found_inf);

    // The kernels divide gradients by grad_scale: neither the loss scale nor clipping to max_norm costs a pass of its own.
    std::optional<at::Tensor> grad_scale;
    if (u.scale) grad_scale = *u.scale;
    if (u.max_norm > 0) {
      const at::Tensor excess = ((norm + 1e-6) / u.max_norm).clamp_min(1.0);
      grad_scale = u.scale ? excess * *u.scale : excess;
    }
    if (u.max_value > 0 && !grads.empty()) {
      if (grad_scale) at::_foreach_div_(grads, *grad_scale);
      grad_scale.reset();
      at::_foreach_clamp_min_(grads, -u.max_value);
      at::_foreach_clamp_max_(grads, u.max_value);
    }
    for (const auto& g : groups) update(u, g, grad_scale, *u.found_inf);
    // The scale is an argument of the kernels above: it may change only now.
    if (u.scale) at::_amp_update_scale_(*u.scale, *u.growth, *u.found_inf, kGrowth, kBackoff, kGrowthInterval);
    *grad_norm = new at::Tensor(norm);
  });
}
