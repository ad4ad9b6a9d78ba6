//! Work on a device beside the training step's: a stream of a thread's own, and marks that order the two.
//!
//! The CPU has no streams: there all of this does nothing, because work is done when its call returns.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};

use crate::error::{Result, check};
use crate::{Device, Tensor, ffi};

/// What this thread asks of `device` from now on goes to a stream of its own, and runs beside what other threads ask.
///
/// # Errors
/// When the device fails.
pub fn use_side_stream(device: Device) -> Result<()> {
    match device {
        // SAFETY: a plain value.
        Device::Cuda(_) => check("stream", unsafe { ffi::fb_side_stream(ffi::device_index(device)) }),
        _ => Ok(()),
    }
}

/// A point in a device's work that other work can be put behind. The host waits for neither.
#[derive(Debug)]
pub struct Mark(Option<NonNull<c_void>>);

// SAFETY: an event of the device's driver may be used and freed by any thread; the handle has one owner.
unsafe impl Send for Mark {}

impl Mark {
    /// The point after all that this thread has asked of `device` so far.
    ///
    /// # Errors
    /// When the device fails.
    pub fn here(device: Device) -> Result<Self> {
        let Device::Cuda(_) = device else { return Ok(Self(None)) };
        let mut event = null_mut();
        // SAFETY: a valid out-parameter.
        check("event", unsafe { ffi::fb_event_record(ffi::device_index(device), &mut event) })?;
        Ok(Self(NonNull::new(event)))
    }

    /// Lets all that this thread asks of `device` from now on begin after this point.
    ///
    /// # Errors
    /// When the device fails.
    pub fn before_what_follows(&self, device: Device) -> Result<()> {
        let Some(event) = self.0 else { return Ok(()) };
        // SAFETY: a live event that `here` made.
        check("event", unsafe { ffi::fb_event_await(event.as_ptr(), ffi::device_index(device)) })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if let Some(event) = self.0 {
            // SAFETY: made by `here`, and freed once.
            unsafe { ffi::fb_event_free(event.as_ptr()) };
        }
    }
}

impl Tensor {
    /// Keeps the tensor's memory, once the tensor is gone, until what this thread has asked of the device so far is done:
    /// for a tensor that another thread's stream has made (`torch.Tensor.record_stream`).
    ///
    /// # Errors
    /// When the device fails.
    pub fn used_here(&self) -> Result<()> {
        match self.device() {
            // SAFETY: a live tensor.
            Device::Cuda(_) => check("record_stream", unsafe { ffi::fb_tensor_used_here(self.pointer()) }),
            _ => Ok(()),
        }
    }
}
