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

    /// Adds a number in place.
    pub fn add_scalar_(&self, value: f64) -> Result<()> {
        wrap("add_", self.0.shallow_clone().f_add_scalar_(value)).map(drop)
    }

    /// `self + a b`, element by element.
    pub fn addcmul(&self, a: &Tensor, b: &Tensor) -> Result<Self> {
        wrap("addcmul", self.0.f_addcmul(&a.0, &b.0))
    }

    /// Adds `a b` in place.
    pub fn addcmul_(&self, a: &Tensor, b: &Tensor) -> Result<()> {
        wrap("addcmul_", self.0.shallow_clone().f_addcmul_(&a.0, &b.0)).map(drop)
    }

    /// Subtracts in place.
    pub fn sub_(&self, other: &Tensor) -> Result<()> {
        wrap("sub_", self.0.shallow_clone().f_sub_(&other.0)).map(drop)
    }

    /// Multiplies in place.
    pub fn mul_(&self, other: &Tensor) -> Result<()> {
        wrap("mul_", self.0.shallow_clone().f_mul_(&other.0)).map(drop)
    }

    /// Multiplies by a number in place.
    pub fn mul_scalar_(&self, value: f64) -> Result<()> {
        wrap("mul_", self.0.shallow_clone().f_mul_scalar_(value)).map(drop)
    }

    /// Multiplies whole numbers by one in place.
    pub fn mul_int_(&self, value: i64) -> Result<()> {
        wrap("mul_", self.0.shallow_clone().f_mul_scalar_(value)).map(drop)
    }

    /// Whole quotients, rounded down; for whole numbers.
    pub fn floor_div(&self, divisor: i64) -> Result<Self> {
        wrap("floor_divide", self.0.f_floor_divide_scalar(divisor))
    }

    /// What whole quotients leave, never negative for a positive divisor; for whole numbers.
    pub fn remainder(&self, divisor: i64) -> Result<Self> {
        wrap("remainder", self.0.f_remainder(divisor))
    }

    /// Matrix product over the last two dimensions; those before are broadcast.
    pub fn matmul(&self, other: &Tensor) -> Result<Self> {
        wrap("matmul", self.0.f_matmul(&other.0))
    }

    /// 1 / x.
    pub fn reciprocal(&self) -> Result<Self> {
        wrap("reciprocal", self.0.f_reciprocal())
    }

    /// Absolute values. The gradient at 0 is 0.
    pub fn abs(&self) -> Result<Self> {
        wrap("abs", self.0.f_abs())
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> Result<Self> {
        wrap("sign", self.0.f_sign())
    }

    /// e^x.
    pub fn exp(&self) -> Result<Self> {
        wrap("exp", self.0.f_exp())
    }

    /// e^x - 1, exact for small x.
    pub fn expm1(&self) -> Result<Self> {
        wrap("expm1", self.0.f_expm1())
    }

    /// Natural logarithm.
    pub fn log(&self) -> Result<Self> {
        wrap("log", self.0.f_log())
    }

    /// ln(1 + x), exact for small x.
    pub fn log1p(&self) -> Result<Self> {
        wrap("log1p", self.0.f_log1p())
    }

    /// Absolute values, in place.
    pub fn abs_(&self) -> Result<()> {
        wrap("abs_", self.0.shallow_clone().f_abs_()).map(drop)
    }

    /// e^x in place.
    pub fn exp_(&self) -> Result<()> {
        wrap("exp_", self.0.shallow_clone().f_exp_()).map(drop)
    }

    /// Largest whole numbers not above the elements.
    pub fn floor(&self) -> Result<Self> {
        wrap("floor", self.0.f_floor())
    }

    /// Rounds down to whole numbers, in place.
    pub fn floor_(&self) -> Result<()> {
        wrap("floor_", self.0.shallow_clone().f_floor_()).map(drop)
    }

    /// Elements to the power of those of `exponent`.
    pub fn pow(&self, exponent: &Tensor) -> Result<Self> {
        wrap("pow", self.0.f_pow(&exponent.0))
    }

    /// Elements to the power of a number.
    pub fn pow_scalar(&self, exponent: f64) -> Result<Self> {
        wrap("pow", self.0.f_pow_tensor_scalar(exponent))
    }

    /// The smaller of two elements.
    pub fn minimum(&self, other: &Tensor) -> Result<Self> {
        wrap("minimum", self.0.f_minimum(&other.0))
    }

    /// Sets every element to a number.
    pub fn fill_(&self, value: f64) -> Result<()> {
        wrap("fill_", self.0.shallow_clone().f_fill_(value)).map(drop)
    }

    /// Draws every element from U(low, high), from the device's default generator.
    pub fn uniform_(&self, low: f64, high: f64) -> Result<()> {
        wrap("uniform_", self.0.shallow_clone().f_uniform_(low, high)).map(drop)
    }

    /// Draws every element from the normal distribution N(0, std²), from the device's default generator.
    pub fn normal_(&self, std: f64) -> Result<()> {
        wrap("normal_", self.0.shallow_clone().f_normal_(0.0, std)).map(drop)
    }

    /// At least `min` in every element.
    pub fn clamp_min(&self, min: f64) -> Result<Self> {
        wrap("clamp_min", self.0.f_clamp_min(min))
    }

    /// At most `max` in every element.
    pub fn clamp_max(&self, max: f64) -> Result<Self> {
        wrap("clamp_max", self.0.f_clamp_max(max))
    }

    /// Between two numbers in every element, in place.
    pub fn clamp_(&self, min: f64, max: f64) -> Result<()> {
        wrap("clamp_", self.0.shallow_clone().f_clamp_(min, max)).map(drop)
    }

    /// Between the elements of two tensors.
    pub fn clamp_between(&self, min: &Tensor, max: &Tensor) -> Result<Self> {
        wrap("clamp", self.0.f_clamp_tensor(Some(&min.0), Some(&max.0)))
    }

    /// Between the elements of two tensors, in place.
    pub fn clamp_between_(&self, min: &Tensor, max: &Tensor) -> Result<()> {
        wrap("clamp_", self.0.shallow_clone().f_clamp_tensor_(Some(&min.0), Some(&max.0))).map(drop)
    }

    /// Keeps the bits that are set in `mask`, in place. Whole numbers only.
    pub fn bitwise_and_(&self, mask: i64) -> Result<()> {
        wrap("bitwise_and_", self.0.shallow_clone().f_bitwise_and_(mask)).map(drop)
    }

    /// Flips the bits that are set in `other`, in place. Whole numbers only.
    pub fn bitwise_xor_(&self, other: &Tensor) -> Result<()> {
        wrap("bitwise_xor_", self.0.shallow_clone().f_bitwise_xor_tensor_(&other.0)).map(drop)
    }

    /// Bits moved down; the sign moves in. Whole numbers only.
    pub fn shift_right(&self, bits: i64) -> Result<Self> {
        wrap("bitwise_right_shift", self.0.f_bitwise_right_shift_tensor_scalar(bits))
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

    /// Where elements are at least a number. bool.
    pub fn ge_scalar(&self, value: f64) -> Result<Self> {
        wrap("ge", self.0.f_ge(value))
    }

    /// Where elements differ. bool.
    pub fn ne(&self, other: &Tensor) -> Result<Self> {
        wrap("ne", self.0.f_ne_tensor(&other.0))
    }

    /// Where elements are below those of `other`. bool.
    pub fn lt(&self, other: &Tensor) -> Result<Self> {
        wrap("lt", self.0.f_lt_tensor(&other.0))
    }

    /// Where elements are at least those of `other`. bool.
    pub fn ge(&self, other: &Tensor) -> Result<Self> {
        wrap("ge", self.0.f_ge_tensor(&other.0))
    }

    /// Where either is true. bool.
    pub fn logical_or(&self, other: &Tensor) -> Result<Self> {
        wrap("logical_or", self.0.f_logical_or(&other.0))
    }

    /// Where both are true. bool.
    pub fn logical_and(&self, other: &Tensor) -> Result<Self> {
        wrap("logical_and", self.0.f_logical_and(&other.0))
    }

    /// Replaces elements where `mask` (bool) is true by a number.
    pub fn masked_fill(&self, mask: &Tensor, value: f64) -> Result<Self> {
        wrap("masked_fill", self.0.f_masked_fill(&mask.0, value))
    }

    /// These elements where `condition` (bool) is true, those of `other` elsewhere.
    pub fn where_or(&self, condition: &Tensor, other: &Tensor) -> Result<Self> {
        wrap("where", self.0.f_where_self(&condition.0, &other.0))
    }

    /// The elements at `index` (i64) along a dimension, one for each element of `index`. Nothing waits for the device,
    /// so an index beyond the end may show up later, as an error of the device.
    pub fn gather(&self, dim: i64, index: &Tensor) -> Result<Self> {
        wrap("gather", self.0.f_gather(dim, &index.0, false))
    }

    /// The entries of a dimension that `index` (i64, one dimension) names, in its order.
    pub fn index_select(&self, dim: i64, index: &Tensor) -> Result<Self> {
        wrap("index_select", self.0.f_index_select(dim, &index.0))
    }

    /// Replaces elements where `mask` (bool) is true by a number, in place.
    pub fn masked_fill_(&self, mask: &Tensor, value: f64) -> Result<()> {
        wrap("masked_fill_", self.0.shallow_clone().f_masked_fill_(&mask.0, value)).map(drop)
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

    /// Every `step`-th entry of a dimension from the first, sharing storage.
    pub fn every(&self, dim: i64, step: i64) -> Result<Self> {
        wrap("slice", self.0.f_slice(dim, None, None, step))
    }

    /// A dimension in reverse order, as a copy.
    pub fn flip(&self, dim: i64) -> Result<Self> {
        wrap("flip", self.0.f_flip([dim]))
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
