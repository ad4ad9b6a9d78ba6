//! Activation checkpointing: memory for time (Training Deep Nets with Sublinear Memory Cost, 2016;
//! `torch.utils.checkpoint`).

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{array, slice};

use crate::Error;
use crate::error::Result;
use crate::ffi::{self, C_tensor, CBlock};
use crate::tensor::Tensor;

thread_local! {
    static AGAIN: Cell<bool> = const { Cell::new(false) };
}

/// True inside a [`recompute`] block that runs for the second time: what a forward pass changes besides its result
/// (running statistics, counters) has been changed in the first run and must stay.
pub fn is_recomputing() -> bool {
    AGAIN.get()
}

/// Runs `block` and keeps only its `inputs`; the backward pass runs it again for the gradients of the inputs and of the
/// `parameters`, and of nothing else that it uses. Without recording ([`crate::NoGrad`]) it is a plain call.
///
/// The second run finds autocast and the random generator of the first input's device as the first one did, and may
/// happen on a thread of libtorch's. First derivatives only.
///
/// # Errors
/// Those of `block`; in the second run they are the backward pass's. A panic inside becomes [`Error::Invalid`].
pub fn recompute<F, const N: usize>(inputs: [&Tensor; N], parameters: &[Tensor], block: F) -> Result<Tensor>
where
    F: Fn(&[Tensor; N]) -> Result<Tensor> + Send + 'static,
{
    const { assert!(N > 0, "the first input tells the device") };
    let tensors: Vec<_> = inputs.into_iter().chain(parameters).map(Tensor::pointer).collect();
    let context = Box::into_raw(Box::new(block)).cast();
    let block = CBlock { run: run::<F, N>, free: free::<F>, context, n_inputs: N };
    // SAFETY: live tensors, the first N of them the inputs; the shim copies the handles and takes the context over,
    // which it passes to `run` and, once, to `free`.
    Tensor::from_shim("recompute", |out| unsafe {
        ffi::fb_recompute(&block, tensors.as_ptr(), tensors.len(), out)
    })
}

/// # Safety
/// `context` is a `Box<F>`'s, `inputs` are N live tensors, `out` can be written.
unsafe extern "C" fn run<F, const N: usize>(
    context: *mut c_void,
    inputs: *const *mut C_tensor,
    again: c_int,
    out: *mut *mut C_tensor,
) -> c_int
where
    F: Fn(&[Tensor; N]) -> Result<Tensor>,
{
    let call = || {
        // SAFETY: the caller's promise. Nobody else uses the closure now: libtorch runs a graph's node in one thread.
        let (block, inputs) = unsafe { (&*context.cast::<F>(), slice::from_raw_parts(inputs, N)) };
        // SAFETY: live tensors, of which these are new handles.
        let inputs = array::from_fn(|i| Tensor(unsafe { tch::Tensor::clone_from_ptr(inputs[i]) }));
        let _again = Again::enter(again != 0);
        block(&inputs)
    };
    // C++ above cannot unwind. What a panic leaves behind in the closure is seen by nobody but its drop.
    let result = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let words =
            panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        let message = format!("panicked: {}", words.unwrap_or("no message"));
        Err(Error::Invalid { op: "recompute".into(), message })
    });
    match result {
        Ok(tensor) => {
            // SAFETY: the caller's promise; the handle is C++'s to delete now.
            unsafe { out.write(ManuallyDrop::new(tensor).pointer()) };
            0
        }
        Err(error) => error.hand_over(),
    }
}

/// # Safety
/// `context` is a `Box<F>`'s that nobody uses any more.
unsafe extern "C" fn free<F>(context: *mut c_void) {
    // SAFETY: the caller's promise.
    let block = unsafe { Box::from_raw(context.cast::<F>()) };
    // C++ above cannot unwind, and the panic's message is out already.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(block)));
}

/// Whether this thread is in a second run, put back at the end, also on a panic. A first run within a second one is
/// a part of it.
struct Again {
    before: bool,
}

impl Again {
    fn enter(again: bool) -> Self {
        let before = AGAIN.get();
        AGAIN.set(before || again);
        Self { before }
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        AGAIN.set(self.before);
    }
}
