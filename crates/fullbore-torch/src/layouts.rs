//! Counts what stands in the way of channels_last: a tool for tests.

use crate::error::{Result, check};
use crate::ffi;

/// How convolutions found the memory of their tensors, and 4-D tensors that were copied from one order to the other. Where
/// there is one channel, or one pixel, both orders are the same memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layouts {
    /// Convolutions that were run, forward and backward.
    pub convolutions: u64,
    /// Those where input, weight or gradient was not in channels_last order. Part of another tensor's channels is.
    pub in_other_order: u64,
    /// Copies from one order to the other, but for the gradients of weights, which libtorch puts in order once they are
    /// whole.
    pub conversions: u64,
    /// Such copies within the backward of upsampling, not counted above: on the CPU libtorch has none for channels_last.
    pub in_upsampling: u64,
}

/// Runs `work` and looks at the convolutions and copies of all threads of the process, through libtorch's record hooks.
/// What oneDNN and cuDNN do inside of an operation is not seen.
pub fn count_layouts<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Layouts)> {
    let mut hook = 0;
    // SAFETY: a valid out-parameter; the hook is a function that lives as long as the program.
    check("count_layouts", unsafe { ffi::fb_layouts_begin(&mut hook) })?;
    let result = work();
    let mut seen = Layouts::default();
    // SAFETY: a hook that is in place, and a valid out-parameter of the layout that C++ knows.
    check("count_layouts", unsafe { ffi::fb_layouts_end(hook, &mut seen) })?;
    Ok((result?, seen))
}
