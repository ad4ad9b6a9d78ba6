//! Heat-maps of landmarks, drawn from their points.

use fullbore_torch::{Kind, Result, Tensor};
use fullbore_types::Size;

use super::Points;

/// Gaussians of height 1 around the points, f32 `[b, K, h, w]`, over the whole map and with the centre between pixels where
/// the point is (the encoding of DARK, Zhang et al. 2020). A point in pixels of the network's input lies at
/// `(p + 0.5) / stride - 0.5` on the map.
///
/// `sigma`: standard deviation per landmark in pixels of the map, f32 `[K]` on the device of the points; `size`: of the map;
/// `stride`: pixels of the input per pixel of the map. Landmarks with visibility 0 have empty maps.
///
/// # Errors
/// When the shapes do not go together, and when memory runs out.
pub fn heatmaps(points: &Points, sigma: &Tensor, size: Size, stride: f64) -> Result<Tensor> {
    let hidden = points.visibility.eq_scalar(0)?;
    // -1 / 2 sigma²
    let factor = sigma.mul(sigma)?.mul_scalar(-2.0)?.reciprocal()?.reshape(&[1, -1, 1])?;
    let along = |axis: i64, side: u32| {
        let places =
            Tensor::arange(side.into(), Kind::Float, points.places.device())?.reshape(&[1, 1, -1])?;
        let centres =
            points.places.narrow(2, axis, 1)?.add_scalar(0.5)?.mul_scalar(1.0 / stride)?.add_scalar(-0.5)?;
        let distance = places.sub(&centres)?;
        let bell = distance.mul(&distance)?.mul(&factor)?;
        bell.exp_()?;
        bell.masked_fill(&hidden.unsqueeze(2)?, 0.0)
    };
    // A product of two bells: one exponential per row and column instead of one per pixel.
    along(1, size.height)?.unsqueeze(3)?.mul(&along(0, size.width)?.unsqueeze(2)?)
}
