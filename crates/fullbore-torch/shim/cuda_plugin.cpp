// libfullbore_cuda.so: the few calls that only libtorch_cuda offers. Built beside the program, embedded in it, and
// loaded after libtorch_cuda on machines with a driver, so that the program itself never needs CUDA to start.
#include <c10/cuda/CUDAException.h>
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
int fbcuda_abi_version() { return 2; }

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
}
