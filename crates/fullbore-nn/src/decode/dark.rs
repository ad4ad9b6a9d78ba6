//! Distribution-aware coordinate representation (Zhang et al. 2020): the logarithm of a Gaussian is a parabola, whose
//! top follows from its derivatives at the highest pixel.

use fullbore_torch::{Result, Tensor};

use super::{Peaks, reach};

/// Values below are no Gaussian any more; also keeps the logarithm finite.
const LEAST: f64 = 1e-10;
/// A top further from the highest pixel than this, in pixels, is an artefact.
const FARTHEST: f64 = 1.0;

/// From highest pixels to tops, `[B, K, 2]`. Zero within two pixels of the border and where the map is no hill.
///
/// Maps are smoothed by a Gaussian of the targets' size first, which a clean bell survives. Smoothing needs neighbours:
/// nearer to the border than it reaches, the bare map is used.
pub(super) fn offset(peaks: &Peaks, sigma_px: f64) -> Result<Tensor> {
    let reach = reach(sigma_px);
    let patch = peaks.window(reach + 2)?;
    let smoother = smoother(sigma_px, reach)?.to_device(patch.device())?;
    let smooth = smoother.matmul(&patch)?.matmul(&smoother.permute(&[1, 0])?)?;
    let bare = patch.narrow(2, reach, 5)?.narrow(3, reach, 5)?;
    let to_border = peaks.to_border()?;
    let nearest = to_border.select(2, 0)?.minimum(&to_border.select(2, 1)?)?;
    let whole = nearest.ge_scalar((reach + 2) as f64)?.unsqueeze(2)?.unsqueeze(3)?;
    let log = smooth.where_or(&whole, &bare)?.clamp_min(LEAST)?.log()?;
    let at = |dy: i64, dx: i64| log.select(2, 2 + dy)?.select(2, 2 + dx);

    let slope = |after: Tensor, before: Tensor| after.sub(&before)?.mul_scalar(0.5);
    let bend = |after: Tensor, before: Tensor| {
        after.add(&before)?.sub(&at(0, 0)?.mul_scalar(2.0)?)?.mul_scalar(0.25)
    };
    let (dx, dy) = (slope(at(0, 1)?, at(0, -1)?)?, slope(at(1, 0)?, at(-1, 0)?)?);
    let (dxx, dyy) = (bend(at(0, 2)?, at(0, -2)?)?, bend(at(2, 0)?, at(-2, 0)?)?);
    let dxy = at(1, 1)?.add(&at(-1, -1)?)?.sub(&at(1, -1)?)?.sub(&at(-1, 1)?)?.mul_scalar(0.25)?;

    // -H⁻¹ D, where H is negative definite.
    let determinant = dxx.mul(&dyy)?.sub(&dxy.mul(&dxy)?)?;
    let x = dxy.mul(&dy)?.sub(&dyy.mul(&dx)?)?.div(&determinant)?;
    let y = dxy.mul(&dx)?.sub(&dxx.mul(&dy)?)?.div(&determinant)?;
    let hill = dxx.mul_scalar(-1.0)?.gt_scalar(0.0)?.logical_and(&determinant.gt_scalar(0.0)?)?;
    let close = |shift: &Tensor| shift.abs()?.rsub_scalar(FARTHEST)?.ge_scalar(0.0);
    let near = close(&x)?.logical_and(&close(&y)?)?;
    let sound = hill.logical_and(&near)?.logical_and(&nearest.ge_scalar(2.0)?)?;
    let still = Tensor::zeros(&[], x.kind(), x.device())?;
    Tensor::stack(&[&x, &y], 2)?.where_or(&sound.unsqueeze(2)?, &still)
}

/// Rows that turn a patch's columns into the five middle ones, smoothed: f32 `[5, 2 reach + 5]`.
fn smoother(sigma_px: f64, reach: i64) -> Result<Tensor> {
    let bell = |d: i64| (-0.5 * (d as f64 / sigma_px).powi(2)).exp();
    let sum: f64 = (-reach..=reach).map(bell).sum();
    let width = 2 * reach + 5;
    let weights: Vec<f32> = (0..5 * width)
        .map(|i| i % width - i / width - reach)
        .map(|d| if d.abs() <= reach { (bell(d) / sum) as f32 } else { 0.0 })
        .collect();
    Tensor::from_slice(&weights)?.reshape(&[5, width])
}
