//! Counts what makes the host wait for the device: a tool for tests.

use crate::error::{Result, check};
use crate::ffi;

/// What made the host wait for the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostReads {
    /// Values that were read: `item`, and operations whose result has a size that depends on values. Counted on the CPU
    /// too, where they cost nothing; but for what PyTorch's fused optimizers read of their step count there.
    pub values: u64,
    /// Tensors that were copied to the host.
    pub copies: u64,
}

/// Runs `work` and counts what all threads of the process read meanwhile, through libtorch's record hooks.
pub fn count_host_reads<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, HostReads)> {
    let mut hook = 0;
    // SAFETY: a valid out-parameter; the hook is a function that lives as long as the program.
    check("count_host_reads", unsafe { ffi::fb_host_reads_begin(&mut hook) })?;
    let result = work();
    let mut seen = HostReads::default();
    // SAFETY: a hook that is in place, and valid out-parameters.
    check("count_host_reads", unsafe { ffi::fb_host_reads_end(hook, &mut seen.values, &mut seen.copies) })?;
    Ok((result?, seen))
}
