use std::ffi::CStr;

use crate::ffi;

/// Result of everything that may fail in libtorch.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong inside libtorch, told apart by who can do something about it.
#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The device or the host has no room for a tensor. The operation had no effect; the next one may work.
    #[error("out of memory: {message}")]
    #[diagnostic(
        code(limit::out_of_memory),
        help("use a smaller batch.micro, a smaller data.size or model.size, or free memory on the device")
    )]
    OutOfMemory {
        /// libtorch's words: how much was asked for, how much was there.
        message: String,
    },
    /// The accelerator or its driver failed.
    #[error("the device failed: {message}")]
    #[diagnostic(
        code(device::failed),
        help("`fullbore doctor` shows devices and driver; device: cpu runs without one")
    )]
    Device {
        /// libtorch's words.
        message: String,
    },
    /// The device asked for is not there.
    #[error("{device} cannot be used: {message}")]
    #[diagnostic(
        code(device::not_usable),
        help(
            "`fullbore doctor` shows what there is; device: cpu runs without a GPU, device: auto takes the best"
        )
    )]
    NoDevice {
        /// The device's name, as the user writes it.
        device: String,
        /// What is missing.
        message: String,
    },
    /// libtorch refused the arguments: a defect of the calling code.
    #[error("libtorch refused {op}: {message}")]
    #[diagnostic(
        code(bug::libtorch),
        help("this is a defect in fullbore: please report it with this message")
    )]
    Invalid {
        /// What was asked for.
        op: String,
        /// libtorch's words.
        message: String,
    },
}

impl Error {
    /// True when the operation failed for want of memory, so that a smaller one may work.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Error::OutOfMemory { .. })
    }

    /// An error from `tch`, which keeps only the text of libtorch's exception.
    pub(crate) fn from_tch(op: &str, error: tch::TchError) -> Self {
        let text = error.to_string();
        let message = without_backtrace(&text).to_string();
        let c_text = std::ffi::CString::new(message.replace('\0', " ")).unwrap_or_default();
        // SAFETY: the pointer is a NUL-terminated string that lives through the call.
        if unsafe { ffi::fb_says_out_of_memory(c_text.as_ptr()) } != 0 {
            Error::OutOfMemory { message }
        } else if message.contains("CUDA error") || message.contains("CUDA driver") {
            Error::Device { message }
        } else {
            Error::Invalid { op: op.to_string(), message }
        }
    }
}

impl Error {
    /// Leaves this error to C++, which called Rust: its code, the message beside it.
    pub(crate) fn hand_over(&self) -> i32 {
        let (code, message) = match self {
            Error::OutOfMemory { message } => (ffi::OUT_OF_MEMORY, message.clone()),
            Error::Device { message } => (ffi::DEVICE, message.clone()),
            Error::NoDevice { .. } => (ffi::DEVICE, self.to_string()),
            Error::Invalid { op, message } => (ffi::INVALID, format!("{op}: {message}")),
        };
        let message = std::ffi::CString::new(message.replace('\0', " ")).unwrap_or_default();
        // SAFETY: a NUL-terminated string that lives through the call; the shim copies it.
        unsafe { ffi::fb_set_last_error(message.as_ptr()) };
        code
    }
}

/// Turns the return code of a shim function into a result.
pub(crate) fn check(op: &str, code: i32) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the shim keeps the message alive until this thread's next shim call, and it is copied at once.
    let text = unsafe { CStr::from_ptr(ffi::fb_last_error()) }.to_string_lossy();
    let message = without_backtrace(&text).to_string();
    Err(match code {
        ffi::OUT_OF_MEMORY => Error::OutOfMemory { message },
        ffi::DEVICE => Error::Device { message },
        _ => Error::Invalid { op: op.to_string(), message },
    })
}

/// libtorch appends its C++ stack to messages; users need the first part only.
pub(crate) fn without_backtrace(text: &str) -> &str {
    let end = ["\nException raised from", "\nframe #0"].iter().filter_map(|mark| text.find(mark)).min();
    text[..end.unwrap_or(text.len())].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_is_cut_off() {
        assert_eq!(without_backtrace("too large\nException raised from f at g\nframe #0: x"), "too large");
        assert_eq!(without_backtrace("plain"), "plain");
    }
}
