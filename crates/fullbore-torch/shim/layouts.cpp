// Counts where the order of a tensor's memory stands in the way of channels_last, through libtorch's own record hooks.
#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

#include <atomic>
#include <cstring>
#include <vector>

#include "guard.h"
#include "shim.h"

namespace {

constexpr char kBackward[] = "aten::convolution_backward";

std::atomic<uint64_t> convolutions{0};
std::atomic<uint64_t> in_other_order{0};
std::atomic<uint64_t> conversions{0};
std::atomic<uint64_t> in_upsampling{0};

// Of the convolution whose backward runs in this thread, and how many backwards of upsampling do.
thread_local std::vector<int64_t> weight;
thread_local int upsampling = 0;

bool is_upsampling(const char* name) {
  return std::strncmp(name, "aten::upsample_", 15) == 0 && std::strstr(name, "_backward");
}

// Where there is one channel or one pixel both orders are the same memory.
bool is_channels_last(const at::Tensor& t) { return t.is_contiguous(at::MemoryFormat::ChannelsLast); }

// A part of another tensor's channels has gaps, but is in order.
bool is_in_order(const at::Tensor& t) {
  return is_channels_last(t) || t.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
}

bool is_image(const at::IValue& value) {
  return value.isTensor() && value.toTensor().defined() && value.toTensor().dim() == 4;
}

// `count` inputs from the first on: input and weight, or gradient, input and weight.
void look_at_convolution(c10::ArrayRef<const at::IValue> inputs, size_t count) {
  ++convolutions;
  bool other = false;
  for (size_t i = 0; i < count && i < inputs.size(); ++i) {
    other |= is_image(inputs[i]) && !is_in_order(inputs[i].toTensor());
  }
  if (other) ++in_other_order;
}

void look_at_copy(c10::ArrayRef<const at::IValue> inputs) {
  if (inputs.size() < 2 || !is_image(inputs[0]) || !is_image(inputs[1])) return;
  const at::Tensor &to = inputs[0].toTensor(), &from = inputs[1].toTensor();
  // The gradient of a weight is put in order once it is whole: no image is touched.
  if (!to.sizes().equals(from.sizes()) || to.sizes().equals(weight)) return;
  const bool forth = from.is_contiguous() && !is_channels_last(from) && is_channels_last(to) && !to.is_contiguous();
  const bool back = is_channels_last(from) && !from.is_contiguous() && to.is_contiguous() && !is_channels_last(to);
  if (forth || back) ++(upsampling ? in_upsampling : conversions);
}

std::unique_ptr<at::ObserverContext> on_begin(const at::RecordFunction& fn) {
  const char* name = fn.name();
  if (std::strcmp(name, "aten::convolution") == 0) look_at_convolution(fn.inputs(), 2);
  if (std::strcmp(name, kBackward) == 0) {
    look_at_convolution(fn.inputs(), 3);
    weight = fn.inputs()[2].toTensor().sizes().vec();
  }
  if (is_upsampling(name)) ++upsampling;
  // Whatever converts ends here: contiguous, clone, to.
  if (std::strcmp(name, "aten::copy_") == 0) look_at_copy(fn.inputs());
  return nullptr;
}

void on_end(const at::RecordFunction& fn, at::ObserverContext*) {
  if (std::strcmp(fn.name(), kBackward) == 0) weight.clear();
  if (is_upsampling(fn.name())) --upsampling;
}

}  // namespace

extern "C" int fb_layouts_begin(uint64_t* hook) {
  return fullbore::guard([&] {
    convolutions = in_other_order = conversions = in_upsampling = 0;
    *hook = at::addGlobalCallback(
        at::RecordFunctionCallback(on_begin, on_end).scopes({at::RecordScope::FUNCTION}).needsInputs(true));
  });
}

extern "C" int fb_layouts_end(uint64_t hook, fb_layouts* seen) {
  return fullbore::guard([&] {
    at::removeCallback(hook);
    *seen = {convolutions, in_other_order, conversions, in_upsampling};
  });
}
