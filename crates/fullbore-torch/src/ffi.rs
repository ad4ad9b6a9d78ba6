//! The shim's C functions, as declared in shim/shim.h.

use std::ffi::{c_char, c_int, c_void};

pub(crate) use torch_sys::C_tensor;

/// Code of an out-of-memory error, of the device or of the host (shim/guard.h).
pub(crate) const OUT_OF_MEMORY: i32 = 1;
/// Code of a call that libtorch refused (shim/guard.h).
pub(crate) const INVALID: i32 = 2;
/// Code of a failure of the accelerator or its driver (shim/guard.h).
pub(crate) const DEVICE: i32 = 3;

/// Numbers of `fb_rule` (shim/shim.h).
pub(crate) const ADAMW: c_int = 0;
pub(crate) const ADAM: c_int = 1;
pub(crate) const SGD: c_int = 2;
pub(crate) const RMSPROP: c_int = 3;

/// A vector of tensors on the C++ side.
#[repr(C)]
pub(crate) struct CList {
    _opaque: [u8; 0],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct AutocastState {
    device_type: c_int,
    enabled: c_int,
    dtype: c_int,
    cache: c_int,
}

#[repr(C)]
#[derive(Default)]
pub(crate) struct CCpuMemory {
    pub(crate) in_use: u64,
    pub(crate) peak: u64,
    pub(crate) cached: u64,
    pub(crate) budget: u64,
}

/// What the augmentation kernel needs once per launch (kernels/augment.cu).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct AugmentFrame {
    pub(crate) canvas_w: c_int,
    pub(crate) canvas_h: c_int,
    pub(crate) out_w: c_int,
    pub(crate) out_h: c_int,
    pub(crate) samples: c_int,
    pub(crate) channels: c_int,
    pub(crate) border: c_int,
    pub(crate) number: c_int,
    pub(crate) scale: [f32; 3],
    pub(crate) summand: [f32; 3],
}

#[repr(C)]
pub(crate) struct CGroup {
    pub(crate) end: usize,
    pub(crate) lr: f64,
    pub(crate) weight_decay: f64,
}

#[repr(C)]
pub(crate) struct CUpdate {
    pub(crate) rule: c_int,
    pub(crate) params: *const CList,
    pub(crate) momentum: *const CList,
    pub(crate) squares: *const CList,
    pub(crate) groups: *const CGroup,
    pub(crate) n_groups: usize,
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) eps: f64,
    pub(crate) nesterov: c_int,
    pub(crate) max_norm: f64,
    pub(crate) max_value: f64,
    pub(crate) loss: *mut C_tensor,
    pub(crate) step: *mut C_tensor,
    pub(crate) found_inf: *mut C_tensor,
    pub(crate) skipped_in_row: *mut C_tensor,
    pub(crate) skipped: *mut C_tensor,
    pub(crate) scale: *mut C_tensor,
    pub(crate) growth: *mut C_tensor,
}

/// A closure that libtorch calls.
#[repr(C)]
pub(crate) struct CBlock {
    pub(crate) run:
        unsafe extern "C" fn(*mut c_void, *const *mut C_tensor, c_int, *mut *mut C_tensor) -> c_int,
    pub(crate) free: unsafe extern "C" fn(*mut c_void),
    pub(crate) context: *mut c_void,
    pub(crate) n_inputs: usize,
}

unsafe extern "C" {
    pub(crate) fn fb_augment_on_host(
        frame: *const AugmentFrame,
        rows: *const c_void,
        images: *const c_void,
        masks: *const c_void,
        out: *mut c_void,
        out_masks: *mut c_void,
    );

    pub(crate) fn fb_last_error() -> *const c_char;
    pub(crate) fn fb_set_last_error(text: *const c_char);
    pub(crate) fn fb_says_out_of_memory(text: *const c_char) -> c_int;

    pub(crate) fn fb_backward(loss: *mut C_tensor) -> c_int;
    pub(crate) fn fb_recompute(
        block: *const CBlock,
        tensors: *const *mut C_tensor,
        n: usize,
        out: *mut *mut C_tensor,
    ) -> c_int;
    pub(crate) fn fb_norm_relu(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        added: *const C_tensor,
        running_mean: *const C_tensor,
        running_var: *const C_tensor,
        training: c_int,
        momentum: f64,
        eps: f64,
        out: *mut *mut C_tensor,
    ) -> c_int;
    pub(crate) fn fb_repeat_pixels(x: *const C_tensor, times: i64, out: *mut *mut C_tensor) -> c_int;
    pub(crate) fn fb_channels_last(t: *mut C_tensor, out: *mut *mut C_tensor) -> c_int;
    pub(crate) fn fb_is_channels_last(t: *mut C_tensor, out: *mut c_int) -> c_int;
    pub(crate) fn fb_from_blob(
        data: *mut c_void,
        sizes: *const i64,
        dims: usize,
        scalar_type: c_int,
        release: unsafe extern "C" fn(*mut c_void),
        context: *mut c_void,
        out: *mut *mut C_tensor,
    ) -> c_int;

    pub(crate) fn fb_autocast_enter(
        device_type: c_int,
        enabled: c_int,
        dtype: c_int,
        previous: *mut AutocastState,
    ) -> c_int;
    pub(crate) fn fb_autocast_exit(previous: *const AutocastState) -> c_int;

    pub(crate) fn fb_list_new(tensors: *const *mut C_tensor, n: usize, out: *mut *mut CList) -> c_int;
    pub(crate) fn fb_list_free(list: *mut CList);
    pub(crate) fn fb_list_len(list: *const CList) -> usize;
    pub(crate) fn fb_list_get(list: *const CList, i: usize, out: *mut *mut C_tensor) -> c_int;
    pub(crate) fn fb_list_zeros_like(list: *const CList, out: *mut *mut CList) -> c_int;
    pub(crate) fn fb_list_clone(list: *const CList, out: *mut *mut CList) -> c_int;
    pub(crate) fn fb_list_drop_grads(list: *const CList) -> c_int;
    pub(crate) fn fb_list_zero_grads(list: *const CList) -> c_int;
    pub(crate) fn fb_foreach_copy(destination: *const CList, source: *const CList) -> c_int;
    pub(crate) fn fb_foreach_zero(list: *const CList) -> c_int;
    pub(crate) fn fb_foreach_scale(list: *const CList, factor: f64) -> c_int;
    pub(crate) fn fb_foreach_copy_if(
        destination: *const CList,
        source: *const CList,
        when: *mut C_tensor,
    ) -> c_int;
    pub(crate) fn fb_foreach_lerp(
        list: *const CList,
        towards: *const CList,
        weight: f64,
        unless: *mut C_tensor,
    ) -> c_int;
    pub(crate) fn fb_foreach_norm(list: *const CList, out: *mut *mut C_tensor) -> c_int;
    pub(crate) fn fb_optimizer_step(update: *const CUpdate, grad_norm: *mut *mut C_tensor) -> c_int;

    pub(crate) fn fb_cpu_allocator_install();
    pub(crate) fn fb_cpu_memory_read(out: *mut CCpuMemory);
    pub(crate) fn fb_cpu_memory_set_budget(bytes: u64);
    pub(crate) fn fb_cpu_memory_reset_peak();
    pub(crate) fn fb_cpu_memory_release_cached();

    pub(crate) fn fb_set_deterministic(on: c_int, previous: *mut c_int) -> c_int;
    pub(crate) fn fb_is_deterministic() -> c_int;
    pub(crate) fn fb_set_kernel_search(on: c_int, previous: *mut c_int) -> c_int;
    pub(crate) fn fb_set_tf32(on: c_int) -> c_int;
    pub(crate) fn fb_tf32() -> c_int;
    pub(crate) fn fb_manual_seed(seed: u64) -> c_int;
    pub(crate) fn fb_rng_state(device_type: c_int, device_index: c_int, out: *mut *mut C_tensor) -> c_int;
    pub(crate) fn fb_set_rng_state(device_type: c_int, device_index: c_int, state: *mut C_tensor) -> c_int;
    pub(crate) fn fb_library_folder() -> *const c_char;
    pub(crate) fn fb_parallel_info() -> *const c_char;
    pub(crate) fn fb_cpu_capability() -> *const c_char;

    pub(crate) fn fb_host_reads_begin(hook: *mut u64) -> c_int;
    pub(crate) fn fb_host_reads_end(hook: u64, reads: *mut u64, copies: *mut u64) -> c_int;
    pub(crate) fn fb_layouts_begin(hook: *mut u64) -> c_int;
    pub(crate) fn fb_layouts_end(hook: u64, seen: *mut crate::layouts::Layouts) -> c_int;

    pub(crate) fn fb_device_memory(index: c_int, free_bytes: *mut u64, total_bytes: *mut u64) -> c_int;
    pub(crate) fn fb_device_allocator(
        index: c_int,
        in_use: *mut u64,
        reserved: *mut u64,
        peak: *mut u64,
    ) -> c_int;
    pub(crate) fn fb_device_synchronize(index: c_int) -> c_int;
    pub(crate) fn fb_device_empty_cache() -> c_int;
    pub(crate) fn fb_device_reset_peak(index: c_int) -> c_int;
    pub(crate) fn fb_side_stream(index: c_int) -> c_int;
    pub(crate) fn fb_event_record(index: c_int, event: *mut *mut c_void) -> c_int;
    pub(crate) fn fb_event_await(event: *mut c_void, index: c_int) -> c_int;
    pub(crate) fn fb_event_free(event: *mut c_void);
    pub(crate) fn fb_tensor_used_here(tensor: *mut C_tensor) -> c_int;
}

/// libtorch's number for a device's type (c10/core/DeviceType.h).
pub(crate) fn device_type(device: tch::Device) -> c_int {
    match device {
        tch::Device::Cpu => 0,
        tch::Device::Cuda(_) => 1,
        tch::Device::Mps => 13,
        tch::Device::Vulkan => 10,
    }
}

/// The device's index, -1 for the CPU.
pub(crate) fn device_index(device: tch::Device) -> c_int {
    match device {
        tch::Device::Cuda(index) => index as c_int,
        _ => -1,
    }
}
