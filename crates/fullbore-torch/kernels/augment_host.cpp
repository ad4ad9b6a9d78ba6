// The kernel's arithmetic compiled for the host, pixel by pixel: for its tests.
#include <cmath>
#include <cstring>

#include <c10/util/Half.h>

namespace {
unsigned short f16_bits_of_host(float v) { return c10::Half(v).x; }
#include "augment.cu"

template <int C>
void augment_all(const AugmentFrame& frame, const float* rows, const unsigned char* images, const unsigned char* masks, void* out,
                 unsigned char* out_masks) {
  for (int sample = 0; sample < frame.samples; ++sample)
    for (int y = 0; y < frame.out_h; ++y)
      for (int x = 0; x < frame.out_w; ++x) augment<C>(frame, rows, images, masks, out, out_masks, sample, x, y);
}
}  // namespace

extern "C" void fb_augment_on_host(const AugmentFrame* frame, const float* rows, const unsigned char* images,
                                   const unsigned char* masks, void* out, unsigned char* out_masks) {
  if (frame->channels == 1) augment_all<1>(*frame, rows, images, masks, out, out_masks);
  else augment_all<3>(*frame, rows, images, masks, out, out_masks);
}
