//! What is set once per process, and what libtorch says of itself.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::cuda::{self, CudaState};
use crate::error::{Result, check};
use crate::ffi;
use crate::tensor::Tensor;
use crate::{Device, Error};

/// What [`start`] found and set up.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// CUDA's state; decides which devices exist.
    pub cuda: CudaState,
}

impl Runtime {
    /// The best device there is: the first GPU, else the CPU.
    pub fn best_device(&self) -> Device {
        match &self.cuda {
            CudaState::Ready(devices) if !devices.is_empty() => Device::Cuda(devices[0].index),
            _ => Device::Cpu,
        }
    }
}

/// Sets libtorch up: CUDA's libraries if there is a driver, the CPU allocator. Runs once; later calls return the
/// first result. Must come before any other use of this crate.
pub fn start() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let cuda = cuda::load(&library_folder());
        // SAFETY: tensors made before keep their own deleter; the allocator itself is never freed.
        unsafe { ffi::fb_cpu_allocator_install() };
        Runtime { cuda }
    })
}

/// Tells the C library to keep freed memory instead of returning it to the system at once: oneDNN's work areas are
/// allocated and freed in every step, outside libtorch's allocator. Call early in `main`.
pub fn keep_freed_memory() {
    // SAFETY: mallopt takes plain values; both options exist in glibc.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 512 << 20);
    }
}

/// Says whether CUDA's convolutions and matrix products of fp32 tensors may round their factors to TF32: 10 bits of mantissa
/// instead of 23. Of its own accord libtorch rounds in convolutions and not in matrix products. Holds for the whole
/// process; nothing else computes in TF32.
pub fn set_tf32(on: bool) -> Result<()> {
    // SAFETY: a plain value.
    check("set_tf32", unsafe { ffi::fb_set_tf32(on.into()) })
}

/// Whether both may.
pub fn tf32() -> bool {
    // SAFETY: no arguments.
    unsafe { ffi::fb_tf32() != 0 }
}

/// Seeds the default generators of all devices (`torch.manual_seed`).
pub fn manual_seed(seed: u64) -> Result<()> {
    // SAFETY: a plain value.
    check("manual_seed", unsafe { ffi::fb_manual_seed(seed) })
}

/// State of a device's default random generator, a u8 CPU tensor.
pub fn rng_state(device: Device) -> Result<Tensor> {
    // SAFETY: plain values.
    Tensor::from_shim("rng_state", |out| unsafe {
        ffi::fb_rng_state(ffi::device_type(device), ffi::device_index(device), out)
    })
}

/// Puts a device's default random generator back into a state from [`rng_state`].
pub fn set_rng_state(device: Device, state: &Tensor) -> Result<()> {
    // SAFETY: plain values and a live tensor, which libtorch checks.
    check("set_rng_state", unsafe {
        ffi::fb_set_rng_state(ffi::device_type(device), ffi::device_index(device), state.pointer())
    })
}

/// Folder that libtorch was loaded from.
pub fn library_folder() -> PathBuf {
    // SAFETY: the shim returns a NUL-terminated text that it never frees.
    PathBuf::from(text(unsafe { ffi::fb_library_folder() }))
}

/// libtorch's own report on its thread pools and their settings, several lines.
pub fn parallel_info() -> String {
    // SAFETY: a NUL-terminated text, valid until this thread's next call; copied at once.
    text(unsafe { ffi::fb_parallel_info() })
}

/// The instruction set that libtorch's own kernels use: `DEFAULT`, `AVX2` or `AVX512`.
pub fn capability() -> String {
    // SAFETY: a NUL-terminated text that is never freed.
    text(unsafe { ffi::fb_cpu_capability() })
}

/// Threads that libtorch splits one operation over.
pub fn num_threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1)
}

fn text(pointer: *const c_char) -> String {
    // SAFETY: callers pass NUL-terminated texts from the shim.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

impl Runtime {
    /// Checks that a device can be used.
    ///
    /// # Errors
    /// [`Error::NoDevice`], with what there is instead.
    pub fn check_device(&self, device: Device) -> Result<Device> {
        let Device::Cuda(wanted) = device else { return Ok(device) };
        let message = match &self.cuda {
            CudaState::Ready(devices) if devices.iter().any(|d| d.index == wanted) => return Ok(device),
            CudaState::Ready(devices) => {
                format!("there is no cuda:{wanted}; this machine has {} usable GPU(s)", devices.len())
            }
            CudaState::NoDriver => "no NVIDIA driver is installed (libcuda.so.1 does not load)".into(),
            CudaState::LibrariesMissing(reason) => format!(
                "a driver is there, but libtorch's CUDA libraries do not load ({reason}); they need a driver for CUDA 13 (580 or \
                 newer)"
            ),
        };
        Err(Error::NoDevice { device: format!("cuda:{wanted}"), message })
    }
}
