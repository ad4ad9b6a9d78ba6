//! [`TensorList`] and what is done to all of its tensors in one crossing (PyTorch's `_foreach` family).

use std::ptr::null_mut;

use crate::error::{Result, check};
use crate::ffi::{self, CList};
use crate::tensor::Tensor;

/// An ordered list of tensors that share storage with the ones it was made from.
#[derive(Debug)]
pub struct TensorList(*mut CList);

// SAFETY: the list owns reference-counted tensors, which may move between threads as `Tensor` may.
unsafe impl Send for TensorList {}

impl Drop for TensorList {
    fn drop(&mut self) {
        // SAFETY: the pointer came from fb_list_new or a sibling and is freed once.
        unsafe { ffi::fb_list_free(self.0) };
    }
}

impl TensorList {
    /// A list of the given tensors, storage shared.
    pub fn new<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<Self> {
        let pointers: Vec<_> = tensors.into_iter().map(Tensor::pointer).collect();
        // SAFETY: `pointers` are live tensors; the shim copies the handles before it returns.
        Self::from_shim("list", |out| unsafe { ffi::fb_list_new(pointers.as_ptr(), pointers.len(), out) })
    }

    fn from_shim(op: &str, call: impl FnOnce(*mut *mut CList) -> i32) -> Result<Self> {
        let mut out = null_mut();
        check(op, call(&mut out))?;
        Ok(Self(out))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        // SAFETY: a live list.
        unsafe { ffi::fb_list_len(self.0) }
    }

    /// True when there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tensor at `index`, storage shared.
    pub fn get(&self, index: usize) -> Result<Tensor> {
        // SAFETY: a live list; the shim checks the index.
        Tensor::from_shim("list", |out| unsafe { ffi::fb_list_get(self.0, index, out) })
    }

    /// Zeros with the sizes, strides and types of these tensors.
    pub fn zeros_like(&self) -> Result<Self> {
        // SAFETY: a live list.
        Self::from_shim("zeros_like", |out| unsafe { ffi::fb_list_zeros_like(self.0, out) })
    }

    /// Copies with storage of their own.
    pub fn copy(&self) -> Result<Self> {
        // SAFETY: a live list.
        Self::from_shim("copy", |out| unsafe { ffi::fb_list_clone(self.0, out) })
    }

    /// Forgets the gradients (`zero_grad(set_to_none=True)`).
    pub fn drop_grads(&self) -> Result<()> {
        // SAFETY: a live list.
        check("drop_grads", unsafe { ffi::fb_list_drop_grads(self.0) })
    }

    /// Overwrites these tensors with the values of `source`, pair by pair.
    pub fn copy_(&self, source: &TensorList) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        // SAFETY: live lists.
        check("foreach_copy", unsafe { ffi::fb_foreach_copy(self.0, source.0) })
    }

    /// Sets every element to zero.
    pub fn zero_(&self) -> Result<()> {
        // SAFETY: a live list.
        check("foreach_zero", unsafe { ffi::fb_foreach_zero(self.0) })
    }

    /// Multiplies every element by a number.
    pub fn scale_(&self, factor: f64) -> Result<()> {
        // SAFETY: a live list.
        check("foreach_scale", unsafe { ffi::fb_foreach_scale(self.0, factor) })
    }

    /// `self += weight * (towards - self)`: an exponential moving average with decay `1 - weight`. Floats only.
    pub fn lerp_(&self, towards: &TensorList, weight: f64) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        // SAFETY: live lists.
        check("foreach_lerp", unsafe { ffi::fb_foreach_lerp(self.0, towards.0, weight) })
    }

    /// Euclidean norm over all elements of all tensors, a 0-dim tensor on their device.
    pub fn norm(&self) -> Result<Tensor> {
        // SAFETY: a live list.
        Tensor::from_shim("foreach_norm", |out| unsafe { ffi::fb_foreach_norm(self.0, out) })
    }
}

/// The numbers of one AdamW step; names and meaning as in `torch.optim.AdamW`.
#[derive(Clone, Copy, Debug)]
pub struct AdamWStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay rates of the first and second moment.
    pub betas: (f64, f64),
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Largest global gradient norm; `None`: no clipping.
    pub max_norm: Option<f64>,
}

/// One fused AdamW step (`torch.optim.AdamW(fused=True)` after `clip_grad_norm_`) on the parameters that have a
/// gradient. Returns the gradient norm before clipping, a 0-dim f32 tensor on the device.
///
/// `step` is a 0-dim f32 tensor on the parameters' device, the number of updates so far. When the norm is not
/// finite, weights, moments and `step` stay as they are; the device decides, the host does not wait.
///
/// # Errors
/// [`crate::Error::Invalid`] when a gradient or moment differs from its parameter in strides or type: the fused kernels
/// would silently compute wrong weights.
pub fn adamw_step(
    params: &TensorList,
    exp_avgs: &TensorList,
    exp_avg_sqs: &TensorList,
    step: &Tensor,
    settings: AdamWStep,
) -> Result<Tensor> {
    let AdamWStep { lr, betas, weight_decay, eps, max_norm } = settings;
    // SAFETY: live lists and a live tensor; the shim checks lengths, strides and types before it touches memory.
    Tensor::from_shim("adamw_step", |out| unsafe {
        ffi::fb_adamw_step(
            params.0,
            exp_avgs.0,
            exp_avg_sqs.0,
            step.pointer(),
            lr,
            betas.0,
            betas.1,
            weight_decay,
            eps,
            max_norm.unwrap_or(0.0),
            out,
        )
    })
}
