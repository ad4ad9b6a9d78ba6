//! Local soft-argmax: the expected place in a window around the highest pixel, by the squares of the map's values,
//! which is softmax(2 ln h), for probabilities a soft-argmax of twice their logits.
//!
//! Squares, because a squared bell is narrow enough to lie within the window and wide enough to span pixels: the
//! expectation of a clean one is its centre to a thousandth of a pixel.

use fullbore_torch::{Kind, Result, Tensor};

use super::peaks::offsets;
use super::{Peaks, reach};

/// From highest pixels to expected places, `[B, K, 2]`. On each axis the window is no wider to one side than the map is
/// to the other: a bell cut off by the border would pull inwards.
pub(super) fn offset(peaks: &Peaks, sigma_px: f64) -> Result<Tensor> {
    let reach = reach(sigma_px);
    let offsets = offsets(reach, &peaks.points)?;
    let to_border = peaks.to_border()?;
    let within = |axis: i64| to_border.narrow(2, axis, 1)?.ge(&offsets.abs()?)?.to_kind(Kind::Float);
    let scale =
        peaks.scores.clamp_min(f64::from(f32::MIN_POSITIVE))?.reciprocal()?.unsqueeze(2)?.unsqueeze(3)?;
    let values = peaks.window(reach)?.mul(&scale)?.relu()?;
    let weights = values.mul(&values)?.mul(&within(0)?.unsqueeze(2)?)?.mul(&within(1)?.unsqueeze(3)?)?;
    let mass = weights.sum_dims(&[2, 3], Kind::Float)?.clamp_min(f64::from(f32::MIN_POSITIVE))?;
    let expected = |dropped: i64| {
        let marginal = weights.sum_dims(&[dropped], Kind::Float)?;
        marginal.mul(&offsets)?.sum_dims(&[2], Kind::Float)?.div(&mass)
    };
    let expected = Tensor::stack(&[&expected(2)?, &expected(3)?], 2)?;
    // A map of NaN or infinity has no expectation: its highest pixel stays.
    let still = Tensor::zeros(&[], expected.kind(), expected.device())?;
    expected.where_or(&expected.abs()?.rsub_scalar(reach as f64)?.ge_scalar(0.0)?, &still)
}
