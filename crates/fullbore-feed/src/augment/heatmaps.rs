//! Heat-maps of landmarks: the targets that follow from transformed points.

use fullbore_torch::{Kind, Result, Tensor};
use fullbore_types::Size;

use super::Points;

/// Renders one Gaussian with peak 1 per landmark, f32 `[b, K, H, W]` with `H` x `W` = `size`: the twin of
/// [`fullbore_augment::render_heatmaps`].
///
/// `points` are pixels of the network's input of size `input`; `sigmas_px`, f32 `[K]` on their device, are standard
/// deviations in heat-map pixels. Landmarks with visibility 0 give zeros.
///
/// # Errors
/// When the shapes do not go together, and when memory runs out.
pub fn heatmaps(points: &Points, sigmas_px: &Tensor, input: Size, size: Size) -> Result<Tensor> {
    let hidden = points.visibility.eq_scalar(0)?.unsqueeze(2)?;
    // -1 / 2 sigma²
    let factor = sigmas_px.mul(sigmas_px)?.mul_scalar(-2.0)?.reciprocal()?.reshape(&[1, -1, 1])?;
    let along = |axis: i64, input: u32, map: u32| {
        let scale = f64::from(map) / f64::from(input);
        let centres = points.places.narrow(2, axis, 1)?.mul_scalar(scale)?.add_scalar(0.5 * scale - 0.5)?;
        let pixels = Tensor::arange(map.into(), Kind::Float, points.places.device())?.reshape(&[1, 1, -1])?;
        let distance = pixels.sub(&centres)?;
        let bell = distance.mul(&distance)?.mul(&factor)?;
        bell.exp_()?;
        bell.masked_fill(&hidden, 0.0)
    };
    // A product of two bells: one exponential per row and column instead of one per pixel.
    let (columns, rows) = (along(0, input.width, size.width)?, along(1, input.height, size.height)?);
    rows.unsqueeze(3)?.mul(&columns.unsqueeze(2)?)
}
