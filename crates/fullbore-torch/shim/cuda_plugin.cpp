// libfullbore_cuda.so: the few calls that only libtorch_cuda offers. Built beside the program, embedded in it, and
// loaded after libtorch_cuda on machines with a driver, so that the program itself never needs CUDA to start.
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>

#include "guard.h"

// The crossing lives in both libraries; each has its own copy of the thread's last message.
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
int fbcuda_abi_version() { return 1; }

const char* fbcuda_last_error() { return fullbore::last_error().c_str(); }

int fbcuda_set_memory_fraction(double fraction, int device) {
  return guard([&] {
    c10::cuda::CUDACachingAllocator::init(c10::cuda::device_count());
    c10::cuda::CUDACachingAllocator::setMemoryFraction(fraction, static_cast<c10::DeviceIndex>(device));
  });
}

// Name and compute capability (major * 10 + minor) of a device.
int fbcuda_device_name(int device, char* name, size_t capacity, int* capability) {
  return guard([&] {
    cudaDeviceProp properties{};
    C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
    snprintf(name, capacity, "%s", properties.name);
    *capability = properties.major * 10 + properties.minor;
  });
}

// Versions as CUDA counts them: 13000 is 13.0.
int fbcuda_versions(int* runtime, int* driver) {
  return guard([&] {
    C10_CUDA_CHECK(cudaRuntimeGetVersion(runtime));
    C10_CUDA_CHECK(cudaDriverGetVersion(driver));
  });
}
}
