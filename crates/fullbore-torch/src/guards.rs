//! Thread-local and process-wide modes that end when the guard is dropped, also on a panic.

use std::marker::PhantomData;

use crate::error::{Result, check};
use crate::ffi::{self, AutocastState};
use crate::{Device, Error, Kind};

/// Marks a guard as bound to its thread: the mode it restores is thread-local.
type ThisThread = PhantomData<*const ()>;

/// While it lives, operations of this thread record no autograd graph (`torch.no_grad`).
#[must_use = "the mode ends when the guard is dropped"]
pub struct NoGrad {
    _guard: tch::NoGradGuard,
    _this_thread: ThisThread,
}

impl NoGrad {
    /// Switches recording off.
    pub fn new() -> Self {
        Self { _guard: tch::no_grad_guard(), _this_thread: PhantomData }
    }
}

impl Default for NoGrad {
    fn default() -> Self {
        Self::new()
    }
}

/// While it lives, convolutions and matrix products of this thread run in a lower precision (`torch.autocast`).
#[must_use = "the mode ends when the guard is dropped"]
pub struct Autocast {
    previous: AutocastState,
    _this_thread: ThisThread,
}

impl Autocast {
    /// Enters a region for the device's type: `Some(kind)` (bf16 or f16) switches it on, `None` off.
    pub fn new(device: Device, kind: Option<Kind>) -> Result<Self> {
        let mut previous = AutocastState::default();
        // Numbers of c10/core/ScalarType.h.
        let dtype = match kind {
            None => 0,
            Some(Kind::Half) => 5,
            Some(Kind::BFloat16) => 15,
            Some(other) => {
                let message = format!("{other:?} is not a lower precision; use BFloat16 or Half");
                return Err(Error::Invalid { op: "autocast".into(), message });
            }
        };
        // SAFETY: plain values and a valid out-parameter.
        check("autocast", unsafe {
            ffi::fb_autocast_enter(ffi::device_type(device), kind.is_some().into(), dtype, &mut previous)
        })?;
        Ok(Self { previous, _this_thread: PhantomData })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: `previous` was filled by the matching enter on this thread (the guard is not Send).
        unsafe { ffi::fb_autocast_exit(&self.previous) };
    }
}

/// While it lives, operations without a deterministic implementation are errors
/// (`torch.use_deterministic_algorithms`). Holds for the whole process.
#[must_use = "the mode ends when the guard is dropped"]
pub struct Deterministic {
    previous: i32,
}

impl Deterministic {
    /// Switches determinism on.
    pub fn new() -> Result<Self> {
        let mut previous = 0;
        // SAFETY: plain values and a valid out-parameter.
        check("set_deterministic", unsafe { ffi::fb_set_deterministic(1, &mut previous) })?;
        Ok(Self { previous })
    }
}

/// Whether operations without a deterministic implementation are errors now.
pub fn is_deterministic() -> bool {
    // SAFETY: no arguments.
    unsafe { ffi::fb_is_deterministic() != 0 }
}

impl Drop for Deterministic {
    fn drop(&mut self) {
        let mut ignored = 0;
        // SAFETY: plain values and a valid out-parameter.
        unsafe { ffi::fb_set_deterministic(self.previous, &mut ignored) };
    }
}

/// While it lives, cuDNN measures its algorithms for each new shape and keeps the fastest
/// (`torch.backends.cudnn.benchmark`); not where determinism is asked for, because two runs would choose differently.
/// Holds for the whole process.
#[must_use = "the search ends when the guard is dropped"]
pub struct KernelSearch {
    previous: i32,
}

impl KernelSearch {
    /// Switches the search on.
    pub fn new() -> Result<Self> {
        let mut previous = 0;
        // SAFETY: plain values and a valid out-parameter.
        check("kernel_search", unsafe {
            ffi::fb_set_kernel_search((!is_deterministic()).into(), &mut previous)
        })?;
        Ok(Self { previous })
    }
}

impl Drop for KernelSearch {
    fn drop(&mut self) {
        let mut ignored = 0;
        // SAFETY: plain values and a valid out-parameter.
        unsafe { ffi::fb_set_kernel_search(self.previous, &mut ignored) };
    }
}

/// While it lives, libtorch splits one operation over a set number of threads (`torch.set_num_threads`).
#[must_use = "the setting ends when the guard is dropped"]
pub struct Threads {
    previous: i32,
}

impl Threads {
    /// Sets the number of threads, at least one.
    pub fn new(n: usize) -> Self {
        let previous = tch::get_num_threads();
        tch::set_num_threads(i32::try_from(n.max(1)).unwrap_or(i32::MAX));
        Self { previous }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        tch::set_num_threads(self.previous);
    }
}
