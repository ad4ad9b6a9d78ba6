// BatchNorm, what is added to it and the ReLU behind it as one operation of the CPU: forward and backward read or write the
// image 8 times, libtorch's own operations 14 times. Images are f32 or bf16, all arithmetic is f32 or more.
#include <ATen/Parallel.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "guard.h"
#include "shim.h"

// The thread pool that libtorch computes with. Linking another OpenMP would start a second one.
extern "C" __attribute__((weak)) void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned flags);
extern "C" __attribute__((weak)) int omp_get_thread_num();
extern "C" __attribute__((weak)) int omp_get_num_threads();

// The loops below are compiled for each of these; the processor decides.
#if defined(__x86_64__) && defined(__GNUC__)
#define WIDE_VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE_VECTORS
#endif

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// Rows of f32, each from the beginning of a cache line: what is written and read again at once would else be slow.
class Floats {
 public:
  Floats(int64_t rows, int64_t length) : lines_((length + 15) / 16), all_(rows * lines_) {}
  float* row(int64_t i) { return all_[i * lines_].values; }
  const float* data() const { return all_[0].values; }

 private:
  struct alignas(64) Line {
    float values[16];
  };
  int64_t lines_;
  std::vector<Line> all_;
};

// An image in channels_last order: rows of several pixels, so that a row is long whatever the number of channels. The last
// may be shorter.
struct Rows {
  int64_t channels, pixels, wide, count;

  explicit Rows(const at::Tensor& x) {
    channels = x.size(1);
    pixels = x.numel() / channels;
    wide = std::max<int64_t>(1, 256 / channels) * channels;
    count = (x.numel() + wide - 1) / wide;
  }
  int64_t total() const { return channels * pixels; }

  // A value per channel, repeated along a row.
  Floats repeated(const std::vector<double>& values) const {
    Floats row(1, wide);
    for (int64_t i = 0; i < wide; ++i) row.row(0)[i] = static_cast<float>(values[i % channels]);
    return row;
  }

  // Sums per channel of what each part has summed per place in a row: two rows a part, of which the one at `from` counts.
  std::vector<double> folded(const std::vector<double>& of_parts, int parts, int64_t from) const {
    std::vector<double> sums(channels, 0.0);
    for (int part = 0; part < parts; ++part) {
      for (int64_t i = 0; i < wide; ++i) sums[i % channels] += of_parts[part * 2 * wide + from + i];
    }
    return sums;
  }
};

// Runs body(part, begin, end) over parts of the rows, one for each thread. It must not throw.
template <class Body>
void over_rows(const Rows& rows, int threads, const Body& body) {
  struct Work {
    const Rows& rows;
    const Body& body;
    int threads;
    void part(int i) const {
      const int64_t begin = rows.count * i / threads, end = rows.count * (i + 1) / threads;
      if (begin < end) body(i, begin, end);
    }
  } work{rows, body, threads};
  if (threads == 1 || !GOMP_parallel || !omp_get_thread_num || !omp_get_num_threads) {
    for (int i = 0; i < threads; ++i) work.part(i);
    return;
  }
  // As libtorch does, all of the pool for every size: a smaller team would end the other threads, to be started again.
  const auto run = [](void* data) {
    const Work& all = *static_cast<Work*>(data);
    for (int i = omp_get_thread_num(); i < all.threads; i += omp_get_num_threads()) all.part(i);
  };
  GOMP_parallel(run, &work, static_cast<unsigned>(at::get_num_threads()), 0);
}

int threads_for(const Rows& rows) {
  const int64_t worth_it = rows.total() / 16384;
  return static_cast<int>(std::clamp<int64_t>(worth_it, 1, at::get_num_threads()));
}

// Rows whose sums may stay in f32.
constexpr int64_t kShort = 32;

// Rows of floats that do not overlap.
using In = const float* __restrict;
using Out = float* __restrict;

// x - shift summed, and its square.
WIDE_VECTORS void add_squares(In x, In shift, Out sums, Out squares, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float d = x[i] - shift[i];
    sums[i] += d;
    squares[i] += d * d;
  }
}

// max(0, x * scale + offset), and with something added; NaN stays.
WIDE_VECTORS void scale_relu(In x, In scale, In offset, Out y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float v = x[i] * scale[i] + offset[i];
    y[i] = v < 0 ? 0 : v;
  }
}
WIDE_VECTORS void scale_add_relu(In x, In scale, In offset, In added, Out y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float v = x[i] * scale[i] + offset[i] + added[i];
    y[i] = v < 0 ? 0 : v;
  }
}

// The gradient where the output is above zero, 0 elsewhere: from the output, or from what it was made of.
WIDE_VECTORS void pass_by_output(In gradient, In y, Out passed, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float g = gradient[i];
    passed[i] = y[i] <= 0 ? 0 : g;
  }
}
WIDE_VECTORS void pass_by_input(In gradient, In x, In scale, In offset, Out passed, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float g = gradient[i];
    passed[i] = x[i] * scale[i] + offset[i] <= 0 ? 0 : g;
  }
}

// The gradient summed, and summed times x - mean.
WIDE_VECTORS void add_gradients(In g, In x, In mean, Out sums, Out products, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    sums[i] += g[i];
    products[i] += g[i] * (x[i] - mean[i]);
  }
}

// The gradient of x: g * a + (x - mean) * b + c.
WIDE_VECTORS void input_gradient(In g, In x, In mean, In a, In b, In c, Out dx, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dx[i] = g[i] * a[i] + (x[i] - mean[i]) * b[i] + c[i];
}

// bf16, the upper half of f32, to f32 and back: rounded to the nearest, to even in the middle.
WIDE_VECTORS void widen(const uint16_t* __restrict x, Out y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = std::bit_cast<float>(static_cast<uint32_t>(x[i]) << 16);
}
WIDE_VECTORS void narrow(In x, uint16_t* __restrict y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(x[i]);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    y[i] = static_cast<uint16_t>(x[i] == x[i] ? rounded : 0x7fc0);
  }
}

// An image that is read by rows of f32: where it lies, or from bf16 through `work`.
struct Source {
  const float* f32 = nullptr;
  const uint16_t* bf16 = nullptr;

  Source() = default;
  explicit Source(const at::Tensor& t) {
    if (t.scalar_type() == at::kFloat) f32 = t.const_data_ptr<float>();
    else bf16 = static_cast<const uint16_t*>(t.const_data_ptr());
  }
  explicit operator bool() const { return f32 || bf16; }

  const float* row(int64_t at, int64_t length, float* work) const {
    if (f32) return f32 + at;
    widen(bf16 + at, work, length);
    return work;
  }
};

// One that is written: what belongs to row(at, work) goes there, then written() is told.
struct Target {
  float* f32 = nullptr;
  uint16_t* bf16 = nullptr;

  Target() = default;
  explicit Target(const at::Tensor& t) {
    if (t.scalar_type() == at::kFloat) f32 = t.mutable_data_ptr<float>();
    else bf16 = static_cast<uint16_t*>(t.mutable_data_ptr());
  }

  float* row(int64_t at, float* work) const { return f32 ? f32 + at : work; }
  void written(int64_t at, int64_t length, const float* row) const {
    if (bf16) narrow(row, bf16 + at, length);
  }
};

// Two sums for each channel, in f64 but for a few rows at a time: add(part, at, length, sums, more) adds those of a row.
template <class Add>
std::array<std::vector<double>, 2> two_sums(const Rows& rows, int threads, const Add& add) {
  std::vector<double> sums(threads * 2 * rows.wide, 0.0);
  Floats work(2 * threads, rows.wide);
  over_rows(rows, threads, [&](int part, int64_t begin, int64_t end) {
    double* whole = sums.data() + part * 2 * rows.wide;
    float *few = work.row(2 * part), *more = work.row(2 * part + 1);
    for (int64_t row = begin; row < end;) {
      for (const int64_t stop = std::min(end, row + kShort); row < stop; ++row) {
        const int64_t at = row * rows.wide;
        add(part, at, std::min(rows.wide, rows.total() - at), few, more);
      }
      for (int64_t i = 0; i < rows.wide; ++i) {
        whole[i] += few[i];
        whole[rows.wide + i] += more[i];
        few[i] = more[i] = 0;
      }
    }
  });
  return {rows.folded(sums, threads, 0), rows.folded(sums, threads, rows.wide)};
}

std::vector<double> values(const at::Tensor& t) {
  const at::Tensor row = t.contiguous();
  const float* data = row.const_data_ptr<float>();
  return std::vector<double>(data, data + row.numel());
}

// Statistics that are updated on the way; none where null.
struct Running {
  const at::Tensor *mean, *var;
};

// relu(x * scale + offset + added), with a scale and an offset per channel.
at::Tensor scaled_relu(const at::Tensor& x, const std::vector<double>& scale, const std::vector<double>& offset,
                       const std::optional<at::Tensor>& added) {
  const Rows rows(x);
  const int threads = threads_for(rows);
  at::Tensor y = at::empty_like(x);
  const Source in(x), more = added ? Source(*added) : Source();
  const Target out(y);
  const Floats scales = rows.repeated(scale), offsets = rows.repeated(offset);
  Floats work(3 * threads, rows.wide);
  over_rows(rows, threads, [&](int part, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t at = row * rows.wide, length = std::min(rows.wide, rows.total() - at);
      const float* from = in.row(at, length, work.row(3 * part));
      float* to = out.row(at, work.row(3 * part + 1));
      if (more) scale_add_relu(from, scales.data(), offsets.data(), more.row(at, length, work.row(3 * part + 2)), to, length);
      else scale_relu(from, scales.data(), offsets.data(), to, length);
      out.written(at, length, to);
    }
  });
  return y;
}

struct NormRelu : torch::autograd::Function<NormRelu> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            const std::optional<at::Tensor>& added, Running running, double momentum, double eps) {
    const Rows rows(x);
    const int threads = threads_for(rows);
    const Source in(x);
    Floats work(threads, rows.wide);
    // Squares of small numbers lose no digits, and a pixel is not far from the mean.
    const float* pixel = in.row(0, rows.channels, work.row(0));
    const std::vector<double> first(pixel, pixel + rows.channels);
    const Floats shift = rows.repeated(first);
    const auto [sums, squares] = two_sums(rows, threads, [&](int part, int64_t at, int64_t length, float* some, float* more) {
      add_squares(in.row(at, length, work.row(part)), shift.data(), some, more, length);
    });
    const double n = static_cast<double>(rows.pixels);
    std::vector<double> mean(rows.channels), inverse(rows.channels), scale(rows.channels), offset(rows.channels);
    const std::vector<double> w = values(weight), b = values(bias);
    float* means = running.mean ? running.mean->mutable_data_ptr<float>() : nullptr;
    float* variances = running.var ? running.var->mutable_data_ptr<float>() : nullptr;
    for (int64_t c = 0; c < rows.channels; ++c) {
      const double d = sums[c] / n;
      // In this order NaN stays.
      const double variance = std::max(squares[c] / n - d * d, 0.0);
      mean[c] = first[c] + d;
      inverse[c] = 1 / std::sqrt(variance + eps);
      scale[c] = w[c] * inverse[c];
      offset[c] = b[c] - mean[c] * scale[c];
      if (means) means[c] = static_cast<float>(momentum * mean[c] + (1 - momentum) * means[c]);
      if (variances) {
        variances[c] = static_cast<float>(momentum * variance * n / (n - 1) + (1 - momentum) * variances[c]);
      }
    }
    const at::Tensor y = scaled_relu(x, scale, offset, added);
    // Where nothing was added, the input tells where the output is above zero. What was added to is kept by whatever reads
    // the output as well: no more memory than for ReLU itself.
    ctx->save_for_backward({x, weight, added ? y : at::Tensor()});
    ctx->saved_data["mean"] = mean;
    ctx->saved_data["inverse"] = inverse;
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["offset"] = offset;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &y = saved[2];
    const at::Tensor gradient = gradients[0].contiguous(at::MemoryFormat::ChannelsLast);
    const auto kept = [&](const char* name) { return ctx->saved_data[name].toDoubleVector(); };
    const std::vector<double> mean = kept("mean"), inverse = kept("inverse"), scale = kept("scale");
    const Rows rows(x);
    const int threads = threads_for(rows);
    const Source g(gradient), in(x), out = y.defined() ? Source(y) : Source();
    const Floats means = rows.repeated(mean), scales = rows.repeated(scale), offsets = rows.repeated(kept("offset"));
    Floats work(5 * threads, rows.wide);
    // What passes the ReLU, given the input's row.
    const auto pass = [&](int part, int64_t at, int64_t length, const float* from, float* passed) {
      const float* gradients = g.row(at, length, work.row(5 * part));
      if (out) pass_by_output(gradients, out.row(at, length, work.row(5 * part + 1)), passed, length);
      else pass_by_input(gradients, from, scales.data(), offsets.data(), passed, length);
    };
    const auto [sums, products] = two_sums(rows, threads, [&](int part, int64_t at, int64_t length, float* some, float* more) {
      const float* from = in.row(at, length, work.row(5 * part + 2));
      float* passed = work.row(5 * part + 3);
      pass(part, at, length, from, passed);
      add_gradients(passed, from, means.data(), some, more, length);
    });
    const double n = static_cast<double>(rows.pixels);
    at::Tensor dweight = at::empty_like(weight), dbias = at::empty_like(weight);
    float *dw = dweight.mutable_data_ptr<float>(), *db = dbias.mutable_data_ptr<float>();
    std::vector<double> b(rows.channels), c(rows.channels);
    for (int64_t i = 0; i < rows.channels; ++i) {
      dw[i] = static_cast<float>(products[i] * inverse[i]);
      db[i] = static_cast<float>(sums[i]);
      b[i] = -scale[i] * inverse[i] * inverse[i] * products[i] / n;
      c[i] = -scale[i] * sums[i] / n;
    }
    const bool adds = out && ctx->needs_input_grad(3);
    at::Tensor dx = at::empty_like(x), dadded = adds ? at::empty_like(x) : at::Tensor();
    const Target to(dx), to_added = adds ? Target(dadded) : Target();
    const Floats bs = rows.repeated(b), cs = rows.repeated(c);
    over_rows(rows, threads, [&](int part, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = row * rows.wide, length = std::min(rows.wide, rows.total() - at);
        const float* from = in.row(at, length, work.row(5 * part + 2));
        float* passed = to_added.row(at, work.row(5 * part + 3));
        pass(part, at, length, from, passed);
        to_added.written(at, length, passed);
        float* result = to.row(at, work.row(5 * part + 4));
        input_gradient(passed, from, means.data(), scales.data(), bs.data(), cs.data(), result, length);
        to.written(at, length, result);
      }
    });
    return {dx, dweight, dbias, dadded, {}, {}, {}};
  }
};

bool fits(const at::Tensor& t) {
  const bool known = t.scalar_type() == at::kFloat || t.scalar_type() == at::kBFloat16;
  return known && t.device().is_cpu() && t.dim() == 4 && t.numel() > 0 && t.is_contiguous(at::MemoryFormat::ChannelsLast);
}

// With statistics that are given, where nobody will ask for gradients.
at::Tensor evaluated(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const std::optional<at::Tensor>& added,
                     const at::Tensor& mean, const at::Tensor& var, double eps) {
  std::vector<double> scale = values(weight), offset = values(bias);
  const std::vector<double> means = values(mean), variances = values(var);
  for (size_t c = 0; c < scale.size(); ++c) {
    scale[c] /= std::sqrt(variances[c] + eps);
    offset[c] -= means[c] * scale[c];
  }
  return scaled_relu(x, scale, offset, added);
}

}  // namespace

extern "C" int fb_norm_relu(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, const at::Tensor* added,
                            const at::Tensor* running_mean, const at::Tensor* running_var, int training, double momentum,
                            double eps, at::Tensor** out) {
  return fullbore::guard([&] {
    const bool ours = fits(*x) && weight->scalar_type() == at::kFloat &&
                      (!added || (fits(*added) && added->scalar_type() == x->scalar_type() && added->sizes() == x->sizes()));
    const std::optional<at::Tensor> more = added ? std::optional(*added) : std::nullopt;
    const bool one_pixel = x->numel() == x->size(1);
    if (ours && training && !one_pixel) {
      const Running running{running_mean, running_var};
      *out = new at::Tensor(NormRelu::apply(*x, *weight, *bias, more, running, momentum, eps));
      return;
    }
    if (ours && !training && running_mean && !at::GradMode::is_enabled()) {
      *out = new at::Tensor(evaluated(*x, *weight, *bias, more, *running_mean, *running_var, eps));
      return;
    }
    const at::Tensor none;
    at::Tensor y = at::batch_norm(*x, *weight, *bias, running_mean ? *running_mean : none, running_var ? *running_var : none,
                                  training, momentum, eps, /*cudnn_enabled=*/true);
    if (added) y.add_(*added);
    *out = new at::Tensor(y.relu_());
  });
}
