// State of the whole process: determinism, random generators, what libtorch says of itself.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/CPUAllocator.h>
#include <dlfcn.h>

#include "guard.h"
#include "shim.h"

using fullbore::guard;

extern "C" int fb_set_deterministic(int on, int* previous) {
  return guard([&] {
    auto& context = at::globalContext();
    *previous = context.deterministicAlgorithms() ? 1 : 0;
    context.setDeterministicAlgorithms(on != 0, /*warn_only=*/false);
    context.setDeterministicCuDNN(on != 0);
  });
}

extern "C" int fb_is_deterministic() { return at::globalContext().deterministicAlgorithms() ? 1 : 0; }

extern "C" int fb_set_kernel_search(int on, int* previous) {
  return guard([&] {
    auto& context = at::globalContext();
    *previous = context.benchmarkCuDNN() ? 1 : 0;
    context.setBenchmarkCuDNN(on != 0);
  });
}

extern "C" int fb_set_tf32(int on) {
  return guard([&] {
    at::globalContext().setAllowTF32CuBLAS(on != 0);
    at::globalContext().setAllowTF32CuDNN(on != 0);
  });
}

extern "C" int fb_tf32() {
  auto& context = at::globalContext();
  return context.allowTF32CuBLAS() && context.allowTF32CuDNN() ? 1 : 0;
}

extern "C" int fb_manual_seed(uint64_t seed) {
  return guard([&] { at::manual_seed(seed); });
}

extern "C" int fb_rng_state(int device_type, int device_index, at::Tensor** out) {
  return guard([&] {
    auto generator = at::globalContext().defaultGenerator(
        at::Device(static_cast<at::DeviceType>(device_type), static_cast<at::DeviceIndex>(device_index)));
    std::lock_guard lock(generator.mutex());
    *out = new at::Tensor(generator.get_state());
  });
}

extern "C" int fb_set_rng_state(int device_type, int device_index, at::Tensor* state) {
  return guard([&] {
    auto generator = at::globalContext().defaultGenerator(
        at::Device(static_cast<at::DeviceType>(device_type), static_cast<at::DeviceIndex>(device_index)));
    std::lock_guard lock(generator.mutex());
    generator.set_state(*state);
  });
}

extern "C" const char* fb_library_folder() {
  static const std::string folder = [] {
    Dl_info info{};
    if (!dladdr(reinterpret_cast<void*>(&c10::GetDefaultCPUAllocator), &info) || !info.dli_fname) return std::string();
    const std::string file = info.dli_fname;
    return file.substr(0, file.rfind('/'));
  }();
  return folder.c_str();
}

extern "C" const char* fb_parallel_info() {
  thread_local std::string text;
  text = at::get_parallel_info();
  return text.c_str();
}

extern "C" const char* fb_cpu_capability() {
  static const std::string text = at::get_cpu_capability();
  return text.c_str();
}
