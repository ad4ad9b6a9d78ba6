//! [`TensorList`] and what is done to all of its tensors in one crossing (PyTorch's `_foreach` family).

use std::ptr::null_mut;

use crate::error::{Result, check};
use crate::ffi::{self, CList};
use crate::tensor::Tensor;

/// An ordered list of tensors that share storage with the ones it was made from.
#[derive(Debug)]
pub struct TensorList(pub(crate) *mut CList);

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

    /// Sets the gradients to zero, those that there are; they keep their memory (`zero_grad(set_to_none=False)`).
    pub fn zero_grads(&self) -> Result<()> {
        // SAFETY: a live list.
        check("zero_grads", unsafe { ffi::fb_list_zero_grads(self.0) })
    }

    /// Overwrites these tensors with the values of `source`, pair by pair.
    pub fn copy_(&self, source: &TensorList) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        // SAFETY: live lists.
        check("foreach_copy", unsafe { ffi::fb_foreach_copy(self.0, source.0) })
    }

    /// Overwrites these tensors with the values of `source` where the 0-dim f32 tensor `when` is 1, whatever they hold,
    /// and leaves them alone where it is 0: the device decides, the host does not wait. f32 only.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when two tensors differ in sizes, strides or type.
    pub fn copy_if_(&self, source: &TensorList, when: &Tensor) -> Result<()> {
        // SAFETY: live lists and a live tensor; the shim checks lengths, strides and types.
        check("foreach_copy_if", unsafe { ffi::fb_foreach_copy_if(self.0, source.0, when.pointer()) })
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

    /// `self += weight * (towards - self)`: an exponential moving average with decay `1 - weight`. Nothing happens
    /// where the 0-dim f32 tensor `unless` is 1: the device decides, the host does not wait. Floats only.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when two tensors differ in sizes, strides or type.
    pub fn lerp_(&self, towards: &TensorList, weight: f64, unless: Option<&Tensor>) -> Result<()> {
        let unless = unless.map_or(null_mut(), Tensor::pointer);
        // SAFETY: live lists and a live tensor or null; the shim checks lengths, strides and types.
        check("foreach_lerp", unsafe { ffi::fb_foreach_lerp(self.0, towards.0, weight, unless) })
    }

    /// Euclidean norm over all elements of all tensors, a 0-dim tensor on their device.
    pub fn norm(&self) -> Result<Tensor> {
        // SAFETY: a live list.
        Tensor::from_shim("foreach_norm", |out| unsafe { ffi::fb_foreach_norm(self.0, out) })
    }
}
