//! Arithmetic, reductions and shapes: thin, fallible names for PyTorch's methods.

use crate::error::Result;
use crate::tensor::{Tensor, wrap};
use crate::{Error, Kind};

impl Tensor {
    /// Element-wise sum.
    pub fn add(&self, other: &Tensor) -> Result<Self> {
        wrap("add", self.0.f_add(&other.0))
    }

    /// Element-wise difference.
    pub fn sub(&self, other: &Tensor) -> Result<Self> {
        wrap("sub", self.0.f_sub(&other.0))
    }

    /// Element-wise product.
    pub fn mul(&self, other: &Tensor) -> Result<Self> {
        wrap("mul", self.0.f_mul(&other.0))
    }

    /// Element-wise quotient.
    pub fn div(&self, other: &Tensor) -> Result<Self> {
        wrap("div", self.0.f_div(&other.0))
    }

    /// Adds a number to every element.
    pub fn add_scalar(&self, value: f64) -> Result<Self> {
        wrap("add", self.0.f_add_scalar(value))
    }

    /// Multiplies every element by a number.
    pub fn mul_scalar(&self, value: f64) -> Result<Self> {
        wrap("mul", self.0.f_mul_scalar(value))
    }

    /// `value - self`.
    pub fn rsub_scalar(&self, value: f64) -> Result<Self> {
        wrap("rsub", self.0.f_rsub_scalar(value))
    }

    /// Adds in place.
    pub fn add_(&self, other: &Tensor) -> Result<()> {
        wrap("add_", self.0.shallow_clone().f_add_(&other.0)).map(drop)
    }

    /// Subtracts in place.
    pub fn sub_(&self, other: &Tensor) -> Result<()> {
        wrap("sub_", self.0.shallow_clone().f_sub_(&other.0)).map(drop)
    }

    /// Multiplies in place.
    pub fn mul_(&self, other: &Tensor) -> Result<()> {
        wrap("mul_", self.0.shallow_clone().f_mul_(&other.0)).map(drop)
    }

    /// Sets every element to a number.
    pub fn fill_(&self, value: f64) -> Result<()> {
        wrap("fill_", self.0.shallow_clone().f_fill_(value)).map(drop)
    }

    /// Draws every element from U(low, high), from the device's default generator.
    pub fn uniform_(&self, low: f64, high: f64) -> Result<()> {
        wrap("uniform_", self.0.shallow_clone().f_uniform_(low, high)).map(drop)
    }

    /// At least `min` in every element.
    pub fn clamp_min(&self, min: f64) -> Result<Self> {
        wrap("clamp_min", self.0.f_clamp_min(min))
    }

    /// Sum of all elements, in the given type.
    pub fn sum(&self, kind: Kind) -> Result<Self> {
        wrap("sum", self.0.f_sum(kind))
    }

    /// Sums over some dimensions, which are dropped.
    pub fn sum_dims(&self, dims: &[i64], kind: Kind) -> Result<Self> {
        wrap("sum", self.0.f_sum_dim_intlist(dims, false, kind))
    }

    /// Index of the largest element along a dimension, which is dropped. i64.
    pub fn argmax(&self, dim: i64) -> Result<Self> {
        wrap("argmax", self.0.f_argmax(dim, false))
    }

    /// Largest absolute value, for comparisons. Makes the host wait for the device.
    pub fn max_abs(&self) -> Result<f64> {
        if self.numel() == 0 {
            return Ok(0.0);
        }
        wrap("max_abs", self.0.f_abs().and_then(|t| t.f_max()))?.item()
    }

    /// Euclidean norm over all elements, as a 0-dim tensor.
    pub fn norm(&self) -> Result<Self> {
        wrap("norm", self.0.f_norm())
    }

    /// Where elements equal a number. bool.
    pub fn eq_scalar(&self, value: i64) -> Result<Self> {
        wrap("eq", self.0.f_eq(value))
    }

    /// Where elements differ from a number. bool.
    pub fn ne_scalar(&self, value: i64) -> Result<Self> {
        wrap("ne", self.0.f_ne(value))
    }

    /// Where elements exceed a number. bool.
    pub fn gt_scalar(&self, value: f64) -> Result<Self> {
        wrap("gt", self.0.f_gt(value))
    }

    /// Where both are true. bool.
    pub fn logical_and(&self, other: &Tensor) -> Result<Self> {
        wrap("logical_and", self.0.f_logical_and(&other.0))
    }

    /// Replaces elements where `mask` (bool) is true by a number.
    pub fn masked_fill(&self, mask: &Tensor, value: f64) -> Result<Self> {
        wrap("masked_fill", self.0.f_masked_fill(&mask.0, value))
    }

    /// The same elements in another shape; one size may be -1.
    pub fn reshape(&self, size: &[i64]) -> Result<Self> {
        wrap("reshape", self.0.f_reshape(size))
    }

    /// Dimensions in another order.
    pub fn permute(&self, dims: &[i64]) -> Result<Self> {
        wrap("permute", self.0.f_permute(dims))
    }

    /// A new dimension of size one.
    pub fn unsqueeze(&self, dim: i64) -> Result<Self> {
        wrap("unsqueeze", self.0.f_unsqueeze(dim))
    }

    /// Drops a dimension of size one.
    pub fn squeeze(&self, dim: i64) -> Result<Self> {
        wrap("squeeze", self.0.f_squeeze_dim(dim))
    }

    /// Repeats dimensions of size one without copying.
    pub fn expand(&self, size: &[i64]) -> Result<Self> {
        wrap("expand", self.0.f_expand(size, false))
    }

    /// `length` entries of a dimension from `start`, sharing storage.
    pub fn narrow(&self, dim: i64, start: i64, length: i64) -> Result<Self> {
        wrap("narrow", self.0.f_narrow(dim, start, length))
    }

    /// One entry of a dimension, which is dropped, sharing storage.
    pub fn select(&self, dim: i64, index: i64) -> Result<Self> {
        wrap("select", self.0.f_select(dim, index))
    }

    /// Joins tensors along a dimension.
    pub fn cat(tensors: &[&Tensor], dim: i64) -> Result<Self> {
        let tensors: Vec<&tch::Tensor> = tensors.iter().map(|t| &t.0).collect();
        wrap("cat", tch::Tensor::f_cat(&tensors, dim))
    }

    /// Stacks tensors of one shape along a new dimension.
    pub fn stack(tensors: &[&Tensor], dim: i64) -> Result<Self> {
        let tensors: Vec<&tch::Tensor> = tensors.iter().map(|t| &t.0).collect();
        wrap("stack", tch::Tensor::f_stack(&tensors, dim))
    }

    /// True when both have the same shape, type and values, NaN included nowhere. Makes the host wait.
    pub fn equal(&self, other: &Tensor) -> Result<bool> {
        self.0.f_equal(&other.0).map_err(|e| Error::from_tch("equal", e))
    }
}
