// Mixed-precision regions. The state is thread-local in libtorch; Rust's guard restores what it found.
#include <ATen/autocast_mode.h>

#include "guard.h"
#include "shim.h"

using fullbore::guard;

extern "C" int fb_autocast_enter(int device_type, int enabled, int dtype, fb_autocast_state* previous) {
  return guard([&] {
    const auto device = static_cast<at::DeviceType>(device_type);
    previous->device_type = device_type;
    previous->enabled = at::autocast::is_autocast_enabled(device) ? 1 : 0;
    previous->dtype = static_cast<int>(at::autocast::get_autocast_dtype(device));
    previous->cache = at::autocast::is_autocast_cache_enabled() ? 1 : 0;
    at::autocast::set_autocast_enabled(device, enabled != 0);
    if (enabled) at::autocast::set_autocast_dtype(device, static_cast<at::ScalarType>(dtype));
    at::autocast::set_autocast_cache_enabled(true);
    at::autocast::increment_nesting();
  });
}

extern "C" int fb_autocast_exit(const fb_autocast_state* previous) {
  return guard([&] {
    const auto device = static_cast<at::DeviceType>(previous->device_type);
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device, previous->enabled != 0);
    at::autocast::set_autocast_dtype(device, static_cast<at::ScalarType>(previous->dtype));
    at::autocast::set_autocast_cache_enabled(previous->cache != 0);
  });
}
