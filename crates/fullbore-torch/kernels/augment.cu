// Augmentation in one pass, from canvas bytes to network input. The arithmetic is defined in fullbore-augment's params.rs.
//
// NVRTC compiles this file for a GPU, without any header. A host compiler takes it too (augment_host.cpp), so that the
// arithmetic is tested where there is no GPU; __CUDACC__ tells the two apart.

#ifdef __CUDACC__
#define FB_FUNCTION __device__ __forceinline__
#else
#define FB_FUNCTION static inline
#endif

// What is the same for every pixel. Mirrored by src/ffi.rs.
struct AugmentFrame {
  int canvas_w, canvas_h, out_w, out_h;
  int samples;
  int channels;  // 1 or 3
  int border;    // BORDER_...
  int number;    // NUMBER_...
  float scale[3], summand[3];  // the normalisation: scale r + summand
};

enum { BORDER_CONSTANT, BORDER_REFLECT, BORDER_EDGE };
enum { NUMBER_F32, NUMBER_BF16, NUMBER_F16 };

// Places in a row of parameters, as in fullbore-augment's params::row.
enum {
  ROW_MATRIX = 0,
  ROW_COLOUR = 6,
  ROW_GAMMA = 18,
  ROW_NOISE_STD = 19,
  ROW_NOISE_KEY = 20,
  ROW_ERASE = 22,
  ROW_ERASE_END = 38,
  ROW_ELASTIC_ALPHA = 40,
  ROW_ELASTIC_CELLS = 41,
  ROW_ELASTIC_KEY = 42,
  ROW_LEN = 48,
};

// A number that is none becomes `lo`.
FB_FUNCTION float clamped(float v, float lo, float hi) { return fminf(fmaxf(v, lo), hi); }

FB_FUNCTION unsigned keyed_hash(const float* key, unsigned n) {
  unsigned h = n * 0x9E3779B1u + (unsigned)key[0];
  h = (h ^ (h >> 16)) * 0x7FEB352Du;
  h = (h ^ (h >> 15) ^ (unsigned)key[1]) * 0x846CA68Bu;
  return h ^ (h >> 16);
}

FB_FUNCTION float normal_of(unsigned hash) {
  const unsigned sum = (hash & 0xFF) + ((hash >> 8) & 0xFF) + ((hash >> 16) & 0xFF) + (hash >> 24);
  return (float)((int)sum - 510) * (1.0f / 147.80054f);
}

// Movement of a node of the displacement grid along one axis, in -1..1.
FB_FUNCTION float node(const float* row, int i, int j, int axis) {
  const int cells = (int)row[ROW_ELASTIC_CELLS];
  const unsigned hash = keyed_hash(row + ROW_ELASTIC_KEY, 2u * ((cells + 1) * j + i) + axis);
  return (float)(hash >> 8) * (1.0f / 8388608.0f) - 1.0f;
}

// The cell around a pixel, and the smooth weight of its far node.
FB_FUNCTION int cell(int position, int side, int cells, float* weight) {
  const float g = clamped(((float)position + 0.5f) * (float)cells / (float)side, 0.0f, (float)cells);
  const int i = g < (float)cells ? (int)g : cells - 1;
  const float f = g - (float)i;
  *weight = f * f * (3.0f - 2.0f * f);
  return i;
}

FB_FUNCTION void displace(const AugmentFrame& frame, const float* row, int x, int y, float* px, float* py) {
  const int cells = (int)row[ROW_ELASTIC_CELLS];
  float s, t, moved[2];
  const int i = cell(x, frame.out_w, cells, &s), j = cell(y, frame.out_h, cells, &t);
  for (int axis = 0; axis < 2; ++axis) {
    const float near = (1.0f - s) * node(row, i, j, axis) + s * node(row, i + 1, j, axis);
    const float far = (1.0f - s) * node(row, i, j + 1, axis) + s * node(row, i + 1, j + 1, axis);
    moved[axis] = row[ROW_ELASTIC_ALPHA] * ((1.0f - t) * near + t * far);
  }
  *px += moved[0];
  *py += moved[1];
}

// Mirrors about the outer pixel edges: a distance from the first edge, between 0 and `side`.
FB_FUNCTION float mirrored(float p, float side) {
  const float from_edge = p + 0.5f, period = 2.0f * side;
  const float turned = from_edge - period * floorf(from_edge / period);
  return fminf(turned, period - turned);
}

// The point on the canvas that is shown for (u, v), along one axis.
FB_FUNCTION float shown(const AugmentFrame& frame, float p, int side) {
  if (frame.border == BORDER_REFLECT) p = mirrored(p, (float)side) - 0.5f;
  return clamped(p, 0.0f, (float)(side - 1));
}

FB_FUNCTION float cover(float p, int side) { return clamped(fminf(p + 1.0f, (float)side - p), 0.0f, 1.0f); }

FB_FUNCTION bool inside(float p, int side) { return p >= -0.5f && p < (float)side - 0.5f; }

FB_FUNCTION bool erased(const float* row, int x, int y) {
  const float px = (float)x, py = (float)y;
  bool any = false;
  for (const float* b = row + ROW_ERASE; b < row + ROW_ERASE_END; b += 4)
    any |= px >= b[0] && px < b[2] && py >= b[1] && py < b[3];
  return any;
}

// One output pixel of C channels. `canvas`: bytes [H, W, C] of its sample; `finished`: its channels, normalised.
template <int C>
FB_FUNCTION void augment_pixel(const AugmentFrame& frame, const float* row, const unsigned char* canvas, int x, int y, float u,
                               float v, float (&finished)[C]) {
  float share = 1.0f;
  if (frame.border == BORDER_CONSTANT) share = cover(u, frame.canvas_w) * cover(v, frame.canvas_h);
  if (!(share > 0.0f) || erased(row, x, y)) {
    for (int c = 0; c < C; ++c) finished[c] = 0.0f;
    return;
  }

  u = shown(frame, u, frame.canvas_w);
  v = shown(frame, v, frame.canvas_h);
  const int x0 = (int)u, y0 = (int)v;
  const int right = x0 + 1 < frame.canvas_w ? C : 0;
  const long long below = y0 + 1 < frame.canvas_h ? (long long)frame.canvas_w * C : 0;
  const float fx = u - (float)x0, fy = v - (float)y0;
  const unsigned char* corner = canvas + ((long long)y0 * frame.canvas_w + x0) * C;
  float rgb[3];
  for (int c = 0; c < C; ++c) {
    const float a = corner[c], b = corner[right + c], d = corner[below + c], e = corner[below + right + c];
    const float top = a + (b - a) * fx, low = d + (e - d) * fx;
    rgb[c] = (top + (low - top) * fy) * (1.0f / 255.0f);
  }
  if (C == 1) rgb[1] = rgb[2] = rgb[0];

  const float gamma = row[ROW_GAMMA], noise_std = row[ROW_NOISE_STD];
  for (int c = 0; c < C; ++c) {
    const float* k = row + ROW_COLOUR + 4 * c;
    float r = clamped(k[0] * rgb[0] + k[1] * rgb[1] + k[2] * rgb[2] + k[3], 0.0f, 1.0f);
    if (gamma != 1.0f) r = powf(r, gamma);
    if (noise_std > 0.0f) {
      const unsigned n = 4u * ((unsigned)frame.out_w * (unsigned)y + (unsigned)x) + (unsigned)c;
      r = clamped(r + noise_std * normal_of(keyed_hash(row + ROW_NOISE_KEY, n)), 0.0f, 1.0f);
    }
    finished[c] = (frame.scale[c] * r + frame.summand[c]) * share;
  }
}

// The mask's value. `canvas`: bytes [H, W] of its sample.
FB_FUNCTION unsigned char augment_label(const AugmentFrame& frame, const unsigned char* canvas, float u, float v) {
  if (frame.border == BORDER_CONSTANT && !(inside(u, frame.canvas_w) && inside(v, frame.canvas_h))) return 255;
  const int column = (int)(shown(frame, u, frame.canvas_w) + 0.5f);
  const int line = (int)(shown(frame, v, frame.canvas_h) + 0.5f);
  return canvas[(long long)line * frame.canvas_w + column];
}

FB_FUNCTION unsigned short bf16_bits(float v) {
#ifdef __CUDACC__
  const unsigned bits = __float_as_uint(v);
#else
  unsigned bits;
  memcpy(&bits, &v, sizeof bits);
#endif
  return (unsigned short)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

FB_FUNCTION unsigned short f16_bits(float v) {
#ifdef __CUDACC__
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(v));
  return bits;
#else
  return f16_bits_of_host(v);
#endif
}

FB_FUNCTION void store(void* out, long long place, int number, float v) {
  if (number == NUMBER_F32) ((float*)out)[place] = v;
  else ((unsigned short*)out)[place] = number == NUMBER_BF16 ? bf16_bits(v) : f16_bits(v);
}

// Everything of pixel (x, y) of a sample with C channels. `rows` f32 [b, ROW_LEN]; `images` u8 [b, H, W, C] to `out`
// [b, h, w, C]; `masks` u8 [b, H, W] to `out_masks` u8 [b, h, w]. Either pair may be null.
template <int C>
FB_FUNCTION void augment(const AugmentFrame& frame, const float* rows, const unsigned char* images, const unsigned char* masks,
                         void* out, unsigned char* out_masks, int sample, int x, int y) {
  const float* row = rows + (long long)sample * ROW_LEN;
  const long long canvas = (long long)sample * frame.canvas_w * frame.canvas_h;
  const long long place = ((long long)sample * frame.out_h + y) * frame.out_w + x;

  float px = (float)x, py = (float)y;
  if (row[ROW_ELASTIC_ALPHA] > 0.0f) displace(frame, row, x, y, &px, &py);
  const float* m = row + ROW_MATRIX;
  const float u = m[0] * px + (m[1] * py + m[2]);
  const float v = m[3] * px + (m[4] * py + m[5]);

  if (images) {
    float finished[C];
    augment_pixel<C>(frame, row, images + canvas * C, x, y, u, v, finished);
    for (int c = 0; c < C; ++c) store(out, place * C + c, frame.number, finished[c]);
  }
  if (masks) out_masks[place] = augment_label(frame, masks + canvas, u, v);
}

#ifdef __CUDACC__
// One thread per pixel, one layer of the grid per sample.
extern "C" __global__ void fullbore_augment(AugmentFrame frame, const float* rows, const unsigned char* images,
                                            const unsigned char* masks, void* out, unsigned char* out_masks) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x;
  const int y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= frame.out_w || y >= frame.out_h) return;
  if (frame.channels == 1) augment<1>(frame, rows, images, masks, out, out_masks, blockIdx.z, x, y);
  else augment<3>(frame, rows, images, masks, out, out_masks, blockIdx.z, x, y);
}
#endif
