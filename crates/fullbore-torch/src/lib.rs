//! libtorch made safe and fallible: the only crate that knows `tch`, the C++ shim and CUDA.
//!
//! What the crates above need comes in three forms: [`Tensor`], whose every operation returns a `Result` (running
//! out of memory is a value, [`Error::OutOfMemory`], never a panic); RAII guards ([`NoGrad`], [`Autocast`],
//! [`Deterministic`], [`Threads`]); and [`TensorList`], through which a step over thousands of tensors is one
//! crossing into C++.
//!
//! [`start`] must run before anything else: CUDA's libraries are loaded there, and libtorch looks for them once.

// The boundary to C++: unsafe lives here, each block with its reason.
#![allow(unsafe_code)]

mod allocator;
mod augment_kernel;
mod blob;
mod cuda;
mod device;
mod error;
mod ffi;
mod functional;
mod graph;
mod guards;
mod host_memory;
mod host_reads;
mod layouts;
mod list;
mod ops;
mod optimizer;
mod process;
mod recompute;
mod stream;
mod tensor;

pub use allocator::{CpuMemory, cpu_memory, release_cached_cpu_memory, reset_cpu_peak, set_cpu_budget};
pub use augment_kernel::{AugmentKernel, AugmentTensors, KernelBorder};
pub use cuda::{CudaDevice, CudaState, PinnedHost};
pub use device::{DeviceMemory, device_memory, empty_device_cache, reset_device_peak, synchronize};
pub use error::{Error, Result};
pub use functional::{BatchNorm, Outside};
pub use graph::Graph;
pub use guards::{Autocast, Deterministic, KernelSearch, NoGrad, Threads, is_deterministic};
pub use host_memory::HostMemory;
#[doc(hidden)]
pub use host_reads::{HostReads, count_host_reads};
#[doc(hidden)]
pub use layouts::{Layouts, count_layouts};
pub use list::TensorList;
pub use optimizer::{Clip, Gate, Moments, Scaler, UpdateGroup, UpdateRule, optimizer_step};
pub use process::{
    Runtime, capability, keep_freed_memory, library_folder, manual_seed, num_threads, parallel_info,
    rng_state, set_rng_state, set_tf32, start, tf32,
};
pub use recompute::{is_recomputing, recompute};
pub use stream::{Mark, use_side_stream};
pub use tch::{Device, Kind};
pub use tensor::Tensor;

/// Version of libtorch that this crate is built against.
pub const LIBTORCH_VERSION: &str = "2.11.0";
