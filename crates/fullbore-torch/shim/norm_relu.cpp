// BatchNorm, what is added to it and the ReLU behind it as one operation of the CPU: forward and backward read or write the
// image 8 times, libtorch's own operations 14 times.
#include <ATen/Parallel.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "guard.h"
#include "shim.h"

// The thread pool that libtorch computes with. Linking another OpenMP would start a second one.
extern "C" __attribute__((weak)) void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned flags);
extern "C" __attribute__((weak)) int omp_get_thread_num();
extern "C" __attribute__((weak)) int omp_get_num_threads();

// The loops below are compiled for each of these; the processor decides.
#if defined(__x86_64__) && defined(__GNUC__)
#define WIDE_VECTORS __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#else
#define WIDE_VECTORS
#endif

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// An image in channels_last order: rows of several pixels, so that a row is long whatever the number of channels. The last
// may be shorter.
struct Rows {
  int64_t channels, pixels, wide, count;

  explicit Rows(const at::Tensor& x) {
    channels = x.size(1);
    pixels = x.numel() / channels;
    wide = std::max<int64_t>(1, 128 / channels) * channels;
    count = (x.numel() + wide - 1) / wide;
  }
  int64_t total() const { return channels * pixels; }

  // A value per channel, repeated along a row.
  std::vector<float> repeated(const std::vector<double>& values) const {
    std::vector<float> row(wide);
    for (int64_t i = 0; i < wide; ++i) row[i] = static_cast<float>(values[i % channels]);
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

// Two sums for each channel, in f64 but for a few rows at a time: add(at, length, work) adds those of a row to the two rows
// of `work`, and may write to the third.
template <class Add>
std::array<std::vector<double>, 2> two_sums(const Rows& rows, int threads, const Add& add) {
  std::vector<double> sums(threads * 2 * rows.wide, 0.0);
  std::vector<float> works(threads * 3 * rows.wide, 0.0f);
  over_rows(rows, threads, [&](int part, int64_t begin, int64_t end) {
    double* whole = sums.data() + part * 2 * rows.wide;
    float* work = works.data() + part * 3 * rows.wide;
    for (int64_t row = begin; row < end;) {
      for (const int64_t stop = std::min(end, row + kShort); row < stop; ++row) {
        const int64_t at = row * rows.wide;
        add(at, std::min(rows.wide, rows.total() - at), work);
      }
      for (int64_t i = 0; i < 2 * rows.wide; ++i) {
        whole[i] += work[i];
        work[i] = 0;
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

struct NormRelu : torch::autograd::Function<NormRelu> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            const std::optional<at::Tensor>& added, Running running, double momentum, double eps) {
    const Rows rows(x);
    const int threads = threads_for(rows);
    const float* in = x.const_data_ptr<float>();
    // Squares of small numbers lose no digits, and a pixel is not far from the mean.
    const std::vector<double> first(in, in + rows.channels);
    const std::vector<float> shift = rows.repeated(first);
    const auto [sums, squares] = two_sums(rows, threads, [&](int64_t at, int64_t length, float* work) {
      add_squares(in + at, shift.data(), work, work + rows.wide, length);
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
    at::Tensor y = at::empty_like(x);
    float* out = y.mutable_data_ptr<float>();
    const float* more = added ? added->const_data_ptr<float>() : nullptr;
    const std::vector<float> scales = rows.repeated(scale), offsets = rows.repeated(offset);
    over_rows(rows, threads, [&](int, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = row * rows.wide, length = std::min(rows.wide, rows.total() - at);
        if (more) scale_add_relu(in + at, scales.data(), offsets.data(), more + at, out + at, length);
        else scale_relu(in + at, scales.data(), offsets.data(), out + at, length);
      }
    });
    // Where nothing was added, the input tells where the output is above zero. What was added to is kept by whatever reads
    // the output as well: no more memory than for ReLU itself.
    ctx->save_for_backward({x, weight, more ? y : at::Tensor()});
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
    const float *g = gradient.const_data_ptr<float>(), *in = x.const_data_ptr<float>();
    const float* out = y.defined() ? y.const_data_ptr<float>() : nullptr;
    const std::vector<float> means = rows.repeated(mean), scales = rows.repeated(scale), offsets = rows.repeated(kept("offset"));
    const auto pass = [&](int64_t at, int64_t length, float* passed) {
      if (out) pass_by_output(g + at, out + at, passed, length);
      else pass_by_input(g + at, in + at, scales.data(), offsets.data(), passed, length);
    };
    const auto [sums, products] = two_sums(rows, threads, [&](int64_t at, int64_t length, float* work) {
      float* passed = work + 2 * rows.wide;
      pass(at, length, passed);
      add_gradients(passed, in + at, means.data(), work, work + rows.wide, length);
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
    float *to = dx.mutable_data_ptr<float>(), *to_added = adds ? dadded.mutable_data_ptr<float>() : nullptr;
    const std::vector<float> bs = rows.repeated(b), cs = rows.repeated(c);
    std::vector<float> row_of_part(threads * rows.wide);
    over_rows(rows, threads, [&](int part, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = row * rows.wide, length = std::min(rows.wide, rows.total() - at);
        float* passed = adds ? to_added + at : row_of_part.data() + part * rows.wide;
        pass(at, length, passed);
        input_gradient(passed, in + at, means.data(), scales.data(), bs.data(), cs.data(), to + at, length);
      }
    });
    return {dx, dweight, dbias, dadded, {}, {}, {}};
  }
};

bool fits(const at::Tensor& t) {
  return t.device().is_cpu() && t.scalar_type() == at::kFloat && t.dim() == 4 && t.numel() > 0 &&
         t.is_contiguous(at::MemoryFormat::ChannelsLast);
}

}  // namespace

extern "C" int fb_norm_relu(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, const at::Tensor* added,
                            const at::Tensor* running_mean, const at::Tensor* running_var, int training, double momentum,
                            double eps, at::Tensor** out) {
  return fullbore::guard([&] {
    const bool one_pixel = x->numel() == x->size(1);
    const bool ours = training && !one_pixel && fits(*x) && weight->scalar_type() == at::kFloat &&
                      (!added || (fits(*added) && added->sizes() == x->sizes()));
    if (ours) {
      const std::optional<at::Tensor> more = added ? std::optional(*added) : std::nullopt;
      const Running running{running_mean, running_var};
      *out = new at::Tensor(NormRelu::apply(*x, *weight, *bias, more, running, momentum, eps));
      return;
    }
    const at::Tensor none;
    at::Tensor y = at::batch_norm(*x, *weight, *bias, running_mean ? *running_mean : none, running_var ? *running_var : none,
                                  training, momentum, eps, /*cudnn_enabled=*/true);
    if (added) y.add_(*added);
    *out = new at::Tensor(y.relu_());
  });
}
