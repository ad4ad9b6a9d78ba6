//! [`Tensor`]: identity, layout, transfer, autograd. Arithmetic is in ops.rs, network operations in functional.rs.

use std::ptr::null_mut;

use crate::error::{Error, Result, check};
use crate::ffi::{self, C_tensor};
use crate::{Device, Kind};

/// A libtorch tensor whose operations return a [`Result`].
///
/// Cloning is cheap and shares the storage, as in PyTorch; [`Tensor::copy`] makes new storage. Methods that end in
/// `_` work in place, as in PyTorch. Methods that make the host wait for the device say so.
#[derive(Debug)]
pub struct Tensor(pub(crate) tch::Tensor);

impl Clone for Tensor {
    fn clone(&self) -> Self {
        Tensor(self.0.shallow_clone())
    }
}

pub(crate) fn wrap(op: &str, result: std::result::Result<tch::Tensor, tch::TchError>) -> Result<Tensor> {
    result.map(Tensor).map_err(|e| Error::from_tch(op, e))
}

impl Tensor {
    /// Takes over a tensor that the shim made.
    ///
    /// # Safety
    /// `pointer` comes from `new at::Tensor` and nobody else frees it.
    pub(crate) unsafe fn adopt(pointer: *mut C_tensor) -> Self {
        // SAFETY: the caller's promise is the one that `from_ptr` asks for.
        Tensor(unsafe { tch::Tensor::from_ptr(pointer) })
    }

    /// The handle for a shim call that does not keep it.
    pub(crate) fn pointer(&self) -> *mut C_tensor {
        self.0.as_ptr().cast_mut()
    }

    /// Runs a shim function that writes a new tensor to its out-parameter.
    pub(crate) fn from_shim(op: &str, call: impl FnOnce(*mut *mut C_tensor) -> i32) -> Result<Self> {
        let mut out = null_mut();
        check(op, call(&mut out))?;
        // SAFETY: on success the shim has stored a pointer made with `new at::Tensor`, which is ours now.
        Ok(unsafe { Tensor::adopt(out) })
    }

    /// Zeros of the given sizes.
    pub fn zeros(size: &[i64], kind: Kind, device: Device) -> Result<Self> {
        wrap("zeros", tch::Tensor::f_zeros(size, (kind, device)))
    }

    /// Ones of the given sizes.
    pub fn ones(size: &[i64], kind: Kind, device: Device) -> Result<Self> {
        wrap("ones", tch::Tensor::f_ones(size, (kind, device)))
    }

    /// Uninitialised memory of the given sizes.
    pub fn empty(size: &[i64], kind: Kind, device: Device) -> Result<Self> {
        wrap("empty", tch::Tensor::f_empty(size, (kind, device)))
    }

    /// Draws from the normal distribution N(0, 1), f32, from the device's default generator.
    pub fn randn(size: &[i64], device: Device) -> Result<Self> {
        wrap("randn", tch::Tensor::f_randn(size, (Kind::Float, device)))
    }

    /// The numbers from 0 below `n`.
    pub fn arange(n: i64, kind: Kind, device: Device) -> Result<Self> {
        wrap("arange", tch::Tensor::f_arange(n, (kind, device)))
    }

    /// A CPU tensor with a copy of `data` (f32, f64, i64, i32, u8, ...), one dimension.
    pub fn from_slice<T: tch::kind::Element>(data: &[T]) -> Result<Self> {
        wrap("from_slice", tch::Tensor::f_from_slice(data))
    }

    /// A CPU tensor with a copy of raw bytes (native endian), row-major.
    pub fn from_bytes(bytes: &[u8], size: &[i64], kind: Kind) -> Result<Self> {
        wrap("from_bytes", tch::Tensor::f_from_data_size(bytes, size, kind))
    }

    /// Sizes, outermost first.
    pub fn size(&self) -> Vec<i64> {
        self.0.size()
    }

    /// Strides in elements, outermost first.
    pub fn stride(&self) -> Vec<i64> {
        self.0.stride()
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.0.numel()
    }

    /// Element type.
    pub fn kind(&self) -> Kind {
        self.0.kind()
    }

    /// Device that holds the data.
    pub fn device(&self) -> Device {
        self.0.device()
    }

    /// False for a gradient that was never computed.
    pub fn defined(&self) -> bool {
        self.0.defined()
    }

    /// True when `backward` will compute a gradient for this tensor.
    pub fn requires_grad(&self) -> bool {
        self.0.requires_grad()
    }

    /// True when the data lies in NHWC order. With one channel or 1x1 pixels both orders may be true.
    pub fn is_channels_last(&self) -> Result<bool> {
        let mut yes = 0;
        // SAFETY: a live tensor and a valid out-parameter; the shim keeps neither.
        check("is_channels_last", unsafe { ffi::fb_is_channels_last(self.pointer(), &mut yes) })?;
        Ok(yes != 0)
    }

    /// The same values in NHWC order (`contiguous(memory_format=torch.channels_last)`); 4-D only.
    pub fn channels_last(&self) -> Result<Self> {
        // SAFETY: a live tensor; the shim writes the out-parameter only on success.
        Tensor::from_shim("channels_last", |out| unsafe { ffi::fb_channels_last(self.pointer(), out) })
    }

    /// The same values in row-major order.
    pub fn contiguous(&self) -> Result<Self> {
        wrap("contiguous", self.0.f_contiguous())
    }

    /// Converted to another element type; itself when the type is already right.
    pub fn to_kind(&self, kind: Kind) -> Result<Self> {
        wrap("to_kind", self.0.f_to_kind(kind))
    }

    /// On another device. A copy to the host makes the host wait.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        wrap("to_device", self.0.f_to_device(device))
    }

    /// On another device. The host does not wait for work that was given to the device before: a few kilobytes of plain
    /// host memory are taken over at once.
    pub fn send_to(&self, device: Device) -> Result<Self> {
        wrap("send_to", self.0.f_to_device_(device, self.kind(), true, false))
    }

    /// A copy with storage of its own and the same strides.
    pub fn copy(&self) -> Result<Self> {
        wrap("copy", self.0.f_detach_copy())
    }

    /// Overwrites this tensor's values with those of `source`, converting type and layout.
    pub fn copy_(&self, source: &Tensor) -> Result<()> {
        self.0.shallow_clone().f_copy_(&source.0).map_err(|e| Error::from_tch("copy_", e))
    }

    /// The same data, outside the autograd graph.
    pub fn detach(&self) -> Result<Self> {
        wrap("detach", self.0.f_detach())
    }

    /// Marks a leaf as a parameter, or takes the mark away.
    pub fn set_requires_grad(&self, yes: bool) -> Result<Self> {
        wrap("set_requires_grad", self.0.f_set_requires_grad(yes))
    }

    /// Replaces a leaf's data (and layout) while it stays the same leaf for autograd.
    pub fn set_data(&self, data: &Tensor) -> Result<()> {
        self.0.shallow_clone().f_set_data(&data.0).map_err(|e| Error::from_tch("set_data", e))
    }

    /// The gradient that `backward` left, `None` before.
    pub fn grad(&self) -> Result<Option<Self>> {
        let grad = wrap("grad", self.0.f_grad())?;
        Ok(grad.defined().then_some(grad))
    }

    /// Computes gradients of this scalar for every leaf that requires one (`loss.backward()`).
    ///
    /// # Errors
    /// After [`Error::OutOfMemory`] some gradients may be written and others not: drop them all and start over.
    pub fn backward(&self) -> Result<()> {
        // SAFETY: a live tensor, which the shim does not keep.
        check("backward", unsafe { ffi::fb_backward(self.pointer()) })
    }

    /// The values of an f32-convertible tensor on the host, row-major. Makes the host wait for the device.
    pub fn to_vec_f32(&self) -> Result<Vec<f32>> {
        self.to_vec(Kind::Float)
    }

    /// The values of an i64-convertible tensor on the host, row-major. Makes the host wait for the device.
    pub fn to_vec_i64(&self) -> Result<Vec<i64>> {
        self.to_vec(Kind::Int64)
    }

    /// The values of a u8 tensor on the host, row-major. Makes the host wait for the device.
    pub fn to_vec_u8(&self) -> Result<Vec<u8>> {
        self.to_vec(Kind::Uint8)
    }

    fn to_vec<T: tch::kind::Element + Default + Clone>(&self, kind: Kind) -> Result<Vec<T>> {
        let host = self.to_device(Device::Cpu)?.to_kind(kind)?.contiguous()?;
        let mut values = vec![T::default(); host.numel()];
        let n = values.len();
        host.0.f_copy_data(&mut values, n).map_err(|e| Error::from_tch("to_vec", e))?;
        Ok(values)
    }

    /// Raw bytes on the host, row-major, native endian. Makes the host wait for the device.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let host = self.to_device(Device::Cpu)?.contiguous()?;
        let mut bytes = vec![0u8; host.numel() * host.kind().elt_size_in_bytes()];
        let n = host.numel();
        host.0.f_copy_data_u8(&mut bytes, n).map_err(|e| Error::from_tch("to_bytes", e))?;
        Ok(bytes)
    }

    /// The value of a one-element tensor. Makes the host wait for the device.
    pub fn item(&self) -> Result<f64> {
        self.0.f_double_value(&[]).map_err(|e| Error::from_tch("item", e))
    }
}
