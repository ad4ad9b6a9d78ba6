// The C face of the shim. Tensors cross as at::Tensor* (opaque here); functions return a Code from guard.h,
// results go to out-parameters, messages are read with fb_last_error. Mirrored by src/ffi.rs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace at {
class Tensor;
}
namespace fullbore {
struct TensorList;
}
using fb_list = fullbore::TensorList;

extern "C" {
// errors
const char* fb_last_error();                 // of this thread, valid until its next shim call
void fb_set_last_error(const char* text);     // before a callback into Rust returns a code other than 0
int fb_says_out_of_memory(const char* text);  // 1 when a message that lost its type means out-of-memory

// autograd
int fb_backward(at::Tensor* loss);
// A closure of Rust's from `n_inputs` tensors to one. `run` returns a Code, and the result as a new tensor; `again` is 1
// in a second run. Threads take turns in calling it.
struct fb_block {
  int (*run)(void* context, const at::Tensor* const* inputs, int again, at::Tensor** out);
  void (*free)(void* context);
  void* context;
  size_t n_inputs;  // at least 1
};
// Runs the block without recording it; the backward pass runs it again. `tensors`: its inputs, then the parameters that
// it uses. The context is freed with the graph, also when this fails.
int fb_recompute(const fb_block* block, at::Tensor* const* tensors, size_t n, at::Tensor** out);

// relu(batch_norm(x) + added); `added` and the running statistics may be null.
int fb_norm_relu(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, const at::Tensor* added,
                 const at::Tensor* running_mean, const at::Tensor* running_var, int training, double momentum, double eps,
                 at::Tensor** out);

// `upsample_nearest2d` by a whole number, with a backward that stays in channels_last.
int fb_repeat_pixels(const at::Tensor* x, int64_t times, at::Tensor** out);

// layout and memory
int fb_channels_last(at::Tensor* t, at::Tensor** out);
int fb_is_channels_last(at::Tensor* t, int* out);
int fb_from_blob(void* data, const int64_t* sizes, size_t dims, int scalar_type, void (*release)(void*), void* context,
                 at::Tensor** out);

// autocast: one region per enter/exit pair, properly nested on one thread
struct fb_autocast_state {
  int device_type;
  int enabled;
  int dtype;
  int cache;
};
int fb_autocast_enter(int device_type, int enabled, int dtype, fb_autocast_state* previous);
int fb_autocast_exit(const fb_autocast_state* previous);

// lists of tensors, kept on the C++ side so that a step over thousands of tensors is one crossing
int fb_list_new(at::Tensor* const* tensors, size_t n, fb_list** out);
void fb_list_free(fb_list* list);
size_t fb_list_len(const fb_list* list);
int fb_list_get(const fb_list* list, size_t i, at::Tensor** out);
int fb_list_zeros_like(const fb_list* list, fb_list** out);
int fb_list_clone(const fb_list* list, fb_list** out);
int fb_list_drop_grads(const fb_list* list);
int fb_list_zero_grads(const fb_list* list);  // those that there are
int fb_foreach_copy(const fb_list* destination, const fb_list* source);
int fb_foreach_zero(const fb_list* list);
int fb_foreach_scale(const fb_list* list, double factor);
// Only where the 0-dim f32 tensor `when` is 1; it is 0 or 1.
int fb_foreach_copy_if(const fb_list* destination, const fb_list* source, at::Tensor* when);
// Nothing happens where the 0-dim f32 tensor `unless` is 1; null: always.
int fb_foreach_lerp(const fb_list* list, const fb_list* towards, double weight, at::Tensor* unless);
int fb_foreach_norm(const fb_list* list, at::Tensor** out);

// One optimizer step, without a host sync: loss scale, norm, clipping, update. Lists run parallel to `params`.
enum fb_rule { fb_adamw, fb_adam, fb_sgd, fb_rmsprop };
struct fb_group {
  size_t end;  // parameters from the end of the group before up to here
  double lr;
  double weight_decay;
};
struct fb_update {
  int rule;
  const fb_list* params;
  const fb_list* momentum;  // adam, adamw: exp_avg; sgd, rmsprop: momentum buffer, null: momentum 0
  const fb_list* squares;   // adam, adamw: exp_avg_sq; rmsprop: square_avg; sgd: null
  const fb_group* groups;
  size_t n_groups;
  double beta1;  // sgd, rmsprop: momentum
  double beta2;  // rmsprop: alpha
  double eps;
  int nesterov;
  double max_norm;   // <= 0: no clipping by norm
  double max_value;  // <= 0: no clipping by value
  const at::Tensor* loss;  // the step changes nothing when it is not finite
  // 0-dim f32 on the parameters' device
  at::Tensor* step;           // updates so far
  at::Tensor* found_inf;      // 1 when this step changed nothing, else 0
  at::Tensor* skipped_in_row;  // steps up to this one that changed nothing
  at::Tensor* skipped;        // such steps so far
  at::Tensor* scale;          // what the loss was multiplied by; null: nothing
  at::Tensor* growth;         // i32: finite steps since the scale last changed; null without scale
};
int fb_optimizer_step(const fb_update* update, at::Tensor** grad_norm);

// CPU memory
struct fb_cpu_memory {
  uint64_t in_use;   // bytes held by tensors
  uint64_t peak;     // highest in_use since the last reset
  uint64_t cached;   // bytes kept for reuse
  uint64_t budget;   // 0: none
};
void fb_cpu_allocator_install();
void fb_cpu_memory_read(fb_cpu_memory* out);
void fb_cpu_memory_set_budget(uint64_t bytes);
void fb_cpu_memory_reset_peak();
void fb_cpu_memory_release_cached();

// process-wide state
int fb_set_deterministic(int on, int* previous);
int fb_is_deterministic();
int fb_set_kernel_search(int on, int* previous);  // cuDNN's, among its algorithms
int fb_set_tf32(int on);
int fb_tf32();
int fb_manual_seed(uint64_t seed);
int fb_rng_state(int device_type, int device_index, at::Tensor** out);
int fb_set_rng_state(int device_type, int device_index, at::Tensor* state);
const char* fb_library_folder();  // where libtorch_cpu.so was loaded from
const char* fb_parallel_info();
const char* fb_cpu_capability();

// What makes the host wait for the device, of all threads from begin to end: values read, copies to the host.
int fb_host_reads_begin(uint64_t* hook);
int fb_host_reads_end(uint64_t hook, uint64_t* reads, uint64_t* copies);

// Convolutions and copies of 4-D tensors, of all threads from begin to end.
typedef struct {
  uint64_t convolutions;    // forward and backward
  uint64_t in_other_order;  // with a tensor that is not channels_last
  uint64_t conversions;     // copies from one order to the other, but for gradients of weights
  uint64_t in_upsampling;   // such copies in the backward of upsampling, not counted above
} fb_layouts;
int fb_layouts_begin(uint64_t* hook);
int fb_layouts_end(uint64_t hook, fb_layouts* seen);

// any accelerator, through libtorch_cpu's generic interface
int fb_device_memory(int device_index, uint64_t* free_bytes, uint64_t* total_bytes);
int fb_device_allocator(int device_index, uint64_t* in_use, uint64_t* reserved, uint64_t* peak);
int fb_device_synchronize(int device_index);
int fb_device_empty_cache();
int fb_device_reset_peak(int device_index);

// streams of any accelerator
int fb_side_stream(int device_index);                // work of this thread goes to a stream of its own from now on
int fb_event_record(int device_index, void** event); // after all work that this thread has given to the device
int fb_event_await(void* event, int device_index);   // before all work that this thread will give to the device
void fb_event_free(void* event);
int fb_tensor_used_here(at::Tensor* t);  // its memory is not given away before this thread's work so far is done
}
