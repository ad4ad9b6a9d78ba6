// libfullbore_cuda.so, with cuda_graph.cpp: the few calls that only libtorch_cuda offers. Built beside the program, embedded
// in it, and loaded after libtorch_cuda on machines with a driver, so that the program itself never needs CUDA to start.
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "guard.h"

// guard.h wants these two; the plug-in has its own, as it shares no symbols with the program.
namespace fullbore {
std::string& last_error() {
  thread_local std::string message;
  return message;
}
bool says_out_of_memory(const std::string& message) { return message.find("out of memory") != std::string::npos; }
}  // namespace fullbore

using fullbore::guard;

extern "C" {

// Raised whenever a signature below changes; the program refuses a plug-in of another version.
int fbcuda_abi_version() { return 4; }

// Name and compute capability (major * 10 + minor) of a device.
int fbcuda_device_name(int device, char* name, size_t capacity, int* capability) {
  return guard([&] {
    cudaDeviceProp properties{};
    C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
    snprintf(name, capacity, "%s", properties.name);
    *capability = properties.major * 10 + properties.minor;
  });
}

// Page-locks host memory, for all devices; the memory must stay until it is unpinned.
int fbcuda_pin(void* start, size_t bytes) {
  return guard([&] { C10_CUDA_CHECK(cudaHostRegister(start, bytes, cudaHostRegisterPortable)); });
}
int fbcuda_unpin(void* start) {
  return guard([&] { C10_CUDA_CHECK(cudaHostUnregister(start)); });
}

// What the last failed call of this thread said.
const char* fbcuda_last_error() { return fullbore::last_error().c_str(); }

// Loads a kernel from PTX text, for all devices and for good.
int fbcuda_load_kernel(const char* ptx, const char* name, void** kernel) {
  return guard([&] {
    cudaLibrary_t library{};
    cudaKernel_t loaded{};
    C10_CUDA_CHECK(cudaLibraryLoadData(&library, ptx, nullptr, nullptr, 0, nullptr, nullptr, 0));
    C10_CUDA_CHECK(cudaLibraryGetKernel(&loaded, library, name));
    *kernel = loaded;
  });
}

// Starts a kernel on libtorch's current stream of a device. `arguments`: the address of each.
int fbcuda_launch(void* kernel, int device, const unsigned* grid, const unsigned* block, void** arguments) {
  return guard([&] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    const c10::cuda::CUDAGuard on_device(index);
    C10_CUDA_CHECK(cudaLaunchKernel(kernel, dim3(grid[0], grid[1], grid[2]), dim3(block[0], block[1], block[2]), arguments, 0,
                                    c10::cuda::getCurrentCUDAStream(index)));
  });
}
}
