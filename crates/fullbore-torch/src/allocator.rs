//! The CPU allocator of shim/cpu_allocator.cpp: readings, budget, clean-up.

use crate::ffi;

/// What libtorch's CPU tensors hold. Bytes; block sizes, so a little more than the tensors' own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuMemory {
    /// Held by live tensors.
    pub in_use: u64,
    /// Highest `in_use` since the last [`reset_cpu_peak`].
    pub peak: u64,
    /// Freed by tensors and kept for reuse. High after a step with many activations; costs nothing until the host
    /// runs short, when [`release_cached_cpu_memory`] gives it back.
    pub cached: u64,
    /// Limit on `in_use + cached`; allocations beyond it fail. `None`: no limit.
    pub budget: Option<u64>,
}

/// Reads the allocator's counters. Cheap: one lock.
pub fn cpu_memory() -> CpuMemory {
    let mut raw = ffi::CCpuMemory::default();
    // SAFETY: a valid out-parameter.
    unsafe { ffi::fb_cpu_memory_read(&mut raw) };
    CpuMemory {
        in_use: raw.in_use,
        peak: raw.peak,
        cached: raw.cached,
        budget: (raw.budget > 0).then_some(raw.budget),
    }
}

/// Limits the bytes of CPU tensors: allocations beyond it fail with [`crate::Error::OutOfMemory`], as on a GPU.
pub fn set_cpu_budget(bytes: Option<u64>) {
    // SAFETY: a plain value.
    unsafe { ffi::fb_cpu_memory_set_budget(bytes.unwrap_or(0)) };
}

/// Starts a new measurement of the peak.
pub fn reset_cpu_peak() {
    // SAFETY: no arguments.
    unsafe { ffi::fb_cpu_memory_reset_peak() };
}

/// Gives kept blocks back to the system.
pub fn release_cached_cpu_memory() {
    // SAFETY: no arguments.
    unsafe { ffi::fb_cpu_memory_release_cached() };
}
