// Single tensors: autograd, layout, memory that Rust owns.
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>

#include "guard.h"
#include "shim.h"

using fullbore::guard;

extern "C" int fb_backward(at::Tensor* loss) {
  return guard([&] { loss->backward(); });
}

extern "C" int fb_channels_last(at::Tensor* t, at::Tensor** out) {
  return guard([&] { *out = new at::Tensor(t->contiguous(at::MemoryFormat::ChannelsLast)); });
}

extern "C" int fb_is_channels_last(at::Tensor* t, int* out) {
  return guard([&] { *out = t->is_contiguous(at::MemoryFormat::ChannelsLast) ? 1 : 0; });
}

extern "C" int fb_from_blob(void* data, const int64_t* sizes, size_t dims, int scalar_type, void (*release)(void*),
                            void* context, at::Tensor** out) {
  return guard([&] {
    *out = new at::Tensor(at::from_blob(data, at::IntArrayRef(sizes, dims), [release, context](void*) { release(context); },
                                        at::TensorOptions().dtype(static_cast<at::ScalarType>(scalar_type))));
  });
}
