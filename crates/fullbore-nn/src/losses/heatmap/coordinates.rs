//! Losses on coordinates: the soft-argmax of a map, and its distance from the point.

use fullbore_torch::{Kind, Result, Tensor};

/// What maps with peak 1 are multiplied by before the softmax. Large enough that 256 x 256 pixels of background weigh
/// nothing beside the peak; the price is a place that leans towards pixel centres, by 0.15 pixels at a sigma of 1.5. A
/// coordinate term is there to bring peaks about, the map's own loss for what is below a pixel.
pub(super) const SHARPNESS: f64 = 20.0;

const WING_WIDTH: f64 = 10.0;
const WING_EPSILON: f64 = 2.0;

/// Expected place under softmax(`sharpness` x maps): `[b, K, 2]`, x before y, in pixels, from `[b, K, h, w]`.
fn soft_argmax(maps: &Tensor, sharpness: f64) -> Result<Tensor> {
    let size = maps.size();
    let (height, width) = (size[2], size[3]);
    let chances = maps.reshape(&[size[0], size[1], -1])?.mul_scalar(sharpness)?.softmax(2)?.reshape(&size)?;
    let expected = |dropped: i64, n: i64| {
        let places = Tensor::arange(n, Kind::Float, maps.device())?;
        chances.sum_dims(&[dropped], Kind::Float)?.mul(&places)?.sum_dims(&[2], Kind::Float)
    };
    Tensor::stack(&[&expected(2, width)?, &expected(3, height)?], 2)
}

/// Wing loss of the soft-argmax of logits, in heat-map pixels, mean of both axes: `[b, K]`.
pub(super) fn wing(logits: &Tensor, points: &Tensor) -> Result<Tensor> {
    mean_of_axes(&wing_of(&soft_argmax(logits, 1.0)?.sub(points)?)?)
}

/// w ln(1 + d / ε) for d = |difference| below w, d - C above: with s = min(d, w) both are w ln(1 + s / ε) + d - s.
fn wing_of(difference: &Tensor) -> Result<Tensor> {
    let distance = difference.abs()?;
    let small = distance.clamp_max(WING_WIDTH)?;
    let curve = small.mul_scalar(1.0 / WING_EPSILON)?.log1p()?.mul_scalar(WING_WIDTH)?;
    curve.add(&distance.sub(&small)?)
}

/// Smooth L1 (bend at 1) between soft-argmax and point, each axis in units of the map's side, mean of both: `[b, K]`.
pub(super) fn smooth_l1(maps: &Tensor, sharpness: f64, points: &Tensor) -> Result<Tensor> {
    let size = maps.size();
    let difference = soft_argmax(maps, sharpness)?.sub(points)?;
    let axis = |which: i64, side: i64| difference.select(2, which)?.mul_scalar(1.0 / side as f64)?.abs();
    let distance = Tensor::stack(&[&axis(0, size[3])?, &axis(1, size[2])?], 2)?;
    // d² / 2 below 1, d - 1/2 above.
    let small = distance.clamp_max(1.0)?;
    mean_of_axes(&small.mul(&distance.sub(&small.mul_scalar(0.5)?)?)?)
}

fn mean_of_axes(each: &Tensor) -> Result<Tensor> {
    each.sum_dims(&[2], Kind::Float)?.mul_scalar(0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wing_in_numbers() {
        let found = wing_of(&Tensor::from_slice(&[1.0f32, -5.0, 10.0, -20.0, 0.0]).unwrap()).unwrap();
        let expected = [4.054651f32, 12.52763, 17.917595, 27.917595, 0.0];
        for (found, expected) in found.to_vec_f32().unwrap().iter().zip(expected) {
            assert!((found - expected).abs() < 5e-6, "{found} for {expected}");
        }
    }

    #[test]
    fn the_soft_argmax_of_a_bell_with_peak_1_is_near_its_centre() {
        let (x, y, sigma) = (21.3f64, 40.8f64, 1.5f64);
        let map: Vec<f32> = (0..64 * 48)
            .map(|i| ((i % 48) as f64 - x, (i / 48) as f64 - y))
            .map(|(dx, dy)| (-(dx * dx + dy * dy) / (2.0 * sigma * sigma)).exp() as f32)
            .collect();
        let map = Tensor::from_slice(&map).unwrap().reshape(&[1, 1, 64, 48]).unwrap();
        let found = soft_argmax(&map, SHARPNESS).unwrap().to_vec_f32().unwrap();
        assert!(
            (f64::from(found[0]) - x).abs() < 0.16 && (f64::from(found[1]) - y).abs() < 0.16,
            "{found:?}"
        );
        // 4.8 of 48 columns and 3.2 of 64 rows away.
        let points = Tensor::from_slice(&[(x + 4.8) as f32, (y - 3.2) as f32]).unwrap();
        let points = points.reshape(&[1, 1, 2]).unwrap();
        let found = smooth_l1(&map, SHARPNESS, &points).unwrap().item().unwrap();
        let expected = 0.5 * (0.5 * 0.1f64.powi(2) + 0.5 * 0.05f64.powi(2));
        assert!((found - expected).abs() < 0.1 * expected, "{found} for {expected}");
    }
}
