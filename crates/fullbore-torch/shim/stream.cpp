// Streams and events of any accelerator, through c10's registry of devices: the program needs no CUDA symbol for them.
#include <ATen/DeviceAccelerator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "guard.h"
#include "shim.h"

using fullbore::guard;

namespace {
c10::Device device_of(int index) { return {at::accelerator::getAccelerator(true).value(), static_cast<c10::DeviceIndex>(index)}; }

c10::Stream current_stream(c10::Device device) { return c10::impl::VirtualGuardImpl(device.type()).getStream(device); }
}  // namespace

extern "C" int fb_side_stream(int device_index) {
  return guard([&] {
    const auto device = device_of(device_index);
    const c10::impl::VirtualGuardImpl devices(device.type());
    devices.setDevice(device);
    devices.exchangeStream(devices.getStreamFromGlobalPool(device));
  });
}

extern "C" int fb_event_record(int device_index, void** event) {
  return guard([&] {
    const auto device = device_of(device_index);
    auto recorded = std::make_unique<c10::Event>(device.type());
    recorded->record(current_stream(device));
    *event = recorded.release();
  });
}

extern "C" int fb_event_await(void* event, int device_index) {
  return guard([&] { static_cast<c10::Event*>(event)->block(current_stream(device_of(device_index))); });
}

extern "C" void fb_event_free(void* event) { delete static_cast<c10::Event*>(event); }

extern "C" int fb_tensor_used_here(at::Tensor* tensor) {
  return guard([&] { tensor->record_stream(current_stream(tensor->device())); });
}
