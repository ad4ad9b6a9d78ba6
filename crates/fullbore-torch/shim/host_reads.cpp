// Counts what makes the host wait for the device, through libtorch's own record hooks.
#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

#include <atomic>
#include <cstring>

#include "guard.h"
#include "shim.h"

namespace {

std::atomic<uint64_t> reads{0};
std::atomic<uint64_t> copies{0};

bool copies_to_host(const at::RecordFunction& fn) {
  const auto inputs = fn.inputs();
  if (inputs.size() < 2 || !inputs[0].isTensor() || !inputs[1].isTensor()) return false;
  const at::Tensor &to = inputs[0].toTensor(), &from = inputs[1].toTensor();
  return to.defined() && from.defined() && to.is_cpu() && !from.is_cpu();
}

// PyTorch's fused optimizers read the step count on the host where the host is the device. On CUDA their kernels do.
thread_local int inside_fused = 0;

bool is_fused(const char* name) { return std::strncmp(name, "aten::_fused_", 13) == 0; }

bool reads_on_cpu(const at::RecordFunction& fn) {
  const auto inputs = fn.inputs();
  return !inputs.empty() && inputs[0].isTensor() && inputs[0].toTensor().is_cpu();
}

std::unique_ptr<at::ObserverContext> on_begin(const at::RecordFunction& fn) {
  const char* name = fn.name();
  if (is_fused(name)) ++inside_fused;
  if (inside_fused && reads_on_cpu(fn)) return nullptr;
  // Every `item` of a tensor ends in the first; the others have to know values before they can return.
  for (const char* reader : {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal"}) {
    if (std::strcmp(name, reader) == 0) ++reads;
  }
  if (std::strcmp(name, "aten::copy_") == 0 && copies_to_host(fn)) ++copies;
  return nullptr;
}

void on_end(const at::RecordFunction& fn, at::ObserverContext*) {
  if (is_fused(fn.name())) --inside_fused;
}

}  // namespace

extern "C" int fb_host_reads_begin(uint64_t* hook) {
  return fullbore::guard([&] {
    reads = copies = 0;
    *hook = at::addGlobalCallback(
        at::RecordFunctionCallback(on_begin, on_end).scopes({at::RecordScope::FUNCTION}).needsInputs(true));
  });
}

extern "C" int fb_host_reads_end(uint64_t hook, uint64_t* reads_, uint64_t* copies_) {
  return fullbore::guard([&] {
    at::removeCallback(hook);
    *reads_ = reads;
    *copies_ = copies;
  });
}
