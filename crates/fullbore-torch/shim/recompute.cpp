// Blocks of a network whose inner results are not kept for the backward pass but computed again in it.
//
// The gradients of the block's parameters leave through the outer graph, as those of any other operation do: what hangs
// on a parameter's gradient (accumulation, hooks) sees each of them once.
#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Generator.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <memory>
#include <mutex>
#include <vector>

#include "guard.h"
#include "shim.h"

using fullbore::guard;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// Autocast as it was in the first run, until the end of the scope. The cache of cast weights is off: the first run, which
// records nothing, would leave casts without a history in it, the second casts whose history is freed.
class Autocast {
 public:
  Autocast(at::DeviceType device, bool enabled, at::ScalarType dtype)
      : device_(device),
        enabled_(at::autocast::is_autocast_enabled(device)),
        dtype_(at::autocast::get_autocast_dtype(device)),
        cache_(at::autocast::is_autocast_cache_enabled()) {
    set(enabled, dtype, false);
  }
  ~Autocast() { set(enabled_, dtype_, cache_); }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  void set(bool enabled, at::ScalarType dtype, bool cache) {
    at::autocast::set_autocast_enabled(device_, enabled);
    at::autocast::set_autocast_dtype(device_, dtype);
    at::autocast::set_autocast_cache_enabled(cache);
  }
  at::DeviceType device_;
  bool enabled_;
  at::ScalarType dtype_;
  bool cache_;
};

at::Tensor random_state(at::Device device) {
  auto generator = at::globalContext().defaultGenerator(device);
  std::lock_guard lock(generator.mutex());
  return generator.get_state();
}

void set_random_state(at::Device device, const at::Tensor& state) {
  auto generator = at::globalContext().defaultGenerator(device);
  std::lock_guard lock(generator.mutex());
  generator.set_state(state);
}

// The generator in the state of the first run, until the end of the scope.
class Random {
 public:
  Random(at::Device device, const at::Tensor& state) : device_(device), before_(random_state(device)) {
    set_random_state(device, state);
  }
  ~Random() { set_random_state(device_, before_); }
  Random(const Random&) = delete;
  Random& operator=(const Random&) = delete;

 private:
  at::Device device_;
  at::Tensor before_;
};

// Rust's closure, with the state that its first run found.
class Block : public torch::CustomClassHolder {
 public:
  Block(const fb_block& closure, at::Device device)
      : closure_(closure),
        device_(device),
        autocast_(at::autocast::is_autocast_enabled(device.type())),
        dtype_(at::autocast::get_autocast_dtype(device.type())) {}
  ~Block() override { closure_.free(closure_.context); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  size_t n_inputs() const { return closure_.n_inputs; }

  at::Tensor run(at::TensorList inputs) {
    random_ = random_state(device_);
    const Autocast autocast(device_.type(), autocast_, dtype_);
    return call(inputs, false);
  }

  at::Tensor run_again(at::TensorList inputs) {
    const Random random(device_, random_);
    const Autocast autocast(device_.type(), autocast_, dtype_);
    return call(inputs, true);
  }

 private:
  at::Tensor call(at::TensorList inputs, bool again) {
    std::vector<const at::Tensor*> pointers;
    for (const auto& input : inputs) pointers.push_back(&input);
    at::Tensor* out = nullptr;
    if (const int code = closure_.run(closure_.context, pointers.data(), again ? 1 : 0, &out)) {
      throw fullbore::Failed(code, fullbore::last_error());
    }
    return *std::unique_ptr<at::Tensor>(out);
  }

  fb_block closure_;
  at::Device device_;
  bool autocast_;
  at::ScalarType dtype_;
  at::Tensor random_;
};

struct Recompute : torch::autograd::Function<Recompute> {
  // libtorch has switched recording off here. `tensors`: the block's inputs, then its parameters.
  static at::Tensor forward(AutogradContext* context, const c10::intrusive_ptr<Block>& block, at::TensorList tensors) {
    context->saved_data["block"] = at::IValue::make_capsule(block);
    context->save_for_backward(tensors.vec());
    return block->run(tensors.slice(0, block->n_inputs()));
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto block = c10::static_intrusive_pointer_cast<Block>(context->saved_data.at("block").toCapsule());
    auto tensors = context->get_saved_variables();
    // Leaves of a graph of their own, which ends at the block's inputs.
    for (size_t i = 0; i < block->n_inputs(); ++i) {
      tensors[i] = tensors[i].detach().set_requires_grad(tensors[i].requires_grad());
    }
    variable_list wanted;
    for (const auto& tensor : tensors) {
      if (tensor.requires_grad()) wanted.push_back(tensor);
    }
    const at::AutoGradMode record(true);
    const auto out = block->run_again(at::TensorList(tensors).slice(0, block->n_inputs()));
    const auto found = torch::autograd::grad({out}, wanted, gradients, /*retain_graph=*/false,
                                             /*create_graph=*/false, /*allow_unused=*/true);
    variable_list result(1);  // the block itself has none
    auto next = found.begin();
    for (const auto& tensor : tensors) result.push_back(tensor.requires_grad() ? *next++ : at::Tensor());
    return result;
  }
};

}  // namespace

extern "C" int fb_recompute(const fb_block* closure, at::Tensor* const* tensors, size_t n, at::Tensor** out) {
  return guard([&] {
    const auto block = c10::make_intrusive<Block>(*closure, tensors[0]->device());
    std::vector<at::Tensor> all;
    for (size_t i = 0; i < n; ++i) all.push_back(*tensors[i]);
    *out = new at::Tensor(Recompute::apply(block, at::TensorList(all)));
  });
}
