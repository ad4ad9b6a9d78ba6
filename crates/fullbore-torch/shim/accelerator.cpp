// Readings of whatever accelerator is loaded, through the interface that libtorch_cpu has for all of them.
#include <ATen/DeviceAccelerator.h>
#include <c10/core/CachingDeviceAllocator.h>

#include "guard.h"
#include "shim.h"

using fullbore::guard;

namespace {
constexpr auto kAggregate = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);

c10::DeviceIndex index_of(int device_index) { return static_cast<c10::DeviceIndex>(device_index); }
}  // namespace

extern "C" int fb_device_memory(int device_index, uint64_t* free_bytes, uint64_t* total_bytes) {
  return guard([&] {
    const auto [free, total] = at::accelerator::getMemoryInfo(index_of(device_index));
    *free_bytes = free;
    *total_bytes = total;
  });
}

extern "C" int fb_device_allocator(int device_index, uint64_t* in_use, uint64_t* reserved, uint64_t* peak) {
  return guard([&] {
    const auto stats = at::accelerator::getDeviceStats(index_of(device_index));
    *in_use = static_cast<uint64_t>(stats.allocated_bytes[kAggregate].current);
    *reserved = static_cast<uint64_t>(stats.reserved_bytes[kAggregate].current);
    *peak = static_cast<uint64_t>(stats.allocated_bytes[kAggregate].peak);
  });
}

extern "C" int fb_device_synchronize(int device_index) {
  return guard([&] { at::accelerator::synchronizeDevice(index_of(device_index)); });
}

extern "C" int fb_device_empty_cache() {
  return guard([&] { at::accelerator::emptyCache(); });
}

extern "C" int fb_device_reset_peak(int device_index) {
  return guard([&] { at::accelerator::resetPeakStats(index_of(device_index)); });
}
