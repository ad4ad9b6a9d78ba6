//! Adaptive wing loss (Wang, Bo, Fuxin 2019), with ω 14, ε 1, θ 0.5, α 2.1 and W 10.

use fullbore_torch::{NoGrad, Result, Tensor};

use super::mean_over_pixels;

const OMEGA: f64 = 14.0;
const THETA: f64 = 0.5;
/// A little above 2, so that the exponent α - y stays above 1: the gradient of a perfect pixel is 0.
const ALPHA: f64 = 2.1;
/// Pixels around a landmark count this much more.
const WEIGHT: f64 = 10.0;
/// What a target's 3x3 maximum must reach for a pixel to count as around a landmark.
const AROUND: f64 = 0.2;

/// Adaptive wing times the weight map, mean over pixels: `[b, K]` from f32 `[b, K, h, w]`.
pub(super) fn weighted(maps: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let weights = {
        let _constant = NoGrad::new();
        let near = targets.max_pool2d(3, 1, 1)?.ge_scalar(AROUND)?;
        near.to_kind(targets.kind())?.mul_scalar(WEIGHT)?.add_scalar(1.0)?
    };
    mean_over_pixels(&each(maps, targets)?.mul(&weights)?)
}

/// ω ln(1 + d^(α - y)) for d = |p - y| below θ, its tangent's line above: with s = min(d, θ) both are
/// ω ln(1 + s^(α - y)) + A (d - s).
fn each(maps: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (exponent, slope) = {
        let _constant = NoGrad::new();
        let targets = targets.copy()?;
        targets.clamp_(0.0, 1.0)?;
        let exponent = targets.rsub_scalar(ALPHA)?;
        // θ^(α - y), and A = ω (α - y) θ^(α - y - 1) / (1 + θ^(α - y)).
        let power = exponent.mul_scalar(THETA.ln())?;
        power.exp_()?;
        let slope = exponent.mul(&power)?.div(&power.add_scalar(1.0)?)?.mul_scalar(OMEGA / THETA)?;
        (exponent, slope)
    };
    let distance = maps.sub(targets)?.abs()?;
    let small = distance.clamp_max(THETA)?;
    let curve = small.pow(&exponent)?.log1p()?.mul_scalar(OMEGA)?;
    curve.addcmul(&slope, &distance.sub(&small)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fullbore_torch::{Device, Kind};

    #[test]
    fn the_papers_formula_in_numbers() {
        let distances = [0.1f32, 0.3, 0.5, 0.8, 1.0];
        for (target, expected) in [
            (0.0f32, [0.110767f32, 1.074747, 2.935235, 6.271662, 8.495946]),
            (0.5, [0.34732, 1.903953, 3.99121, 7.325012, 9.547547]),
            (1.0, [1.0701, 3.301746, 5.360458, 8.299813, 10.259383]),
        ] {
            let targets = Tensor::from_slice(&[target; 5]).unwrap();
            let maps = targets.sub(&Tensor::from_slice(&distances).unwrap()).unwrap();
            let found = each(&maps, &targets).unwrap().to_vec_f32().unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 5e-6, "target {target}: {found} for {expected}");
            }
        }
    }

    #[test]
    fn far_and_perfect_pixels_have_finite_gradients() {
        let targets = Tensor::from_slice(&[0.0f32, 1.0, 0.5, 1.0]).unwrap();
        let maps = Tensor::from_slice(&[0.0f32, 1.0, 1e30, -1e30]).unwrap().set_requires_grad(true).unwrap();
        each(&maps, &targets).unwrap().sum(Kind::Float).unwrap().backward().unwrap();
        let grad = maps.grad().unwrap().unwrap().to_vec_f32().unwrap();
        assert_eq!(grad[..2], [0.0, 0.0]);
        assert!((grad[2] - 11.112673).abs() < 1e-4 && (grad[3] + 9.79785).abs() < 1e-4, "{grad:?}");
    }

    #[test]
    fn pixels_touching_the_landmark_weigh_eleven() {
        // One pixel at 0.2 on a 5x5 map: its 3x3 surroundings weigh 11, the others 1.
        let mut target = [0.0f32; 25];
        target[12] = 0.2;
        let targets = Tensor::from_slice(&target).unwrap().reshape(&[1, 1, 5, 5]).unwrap();
        let maps = targets.add(&Tensor::ones(&[1, 1, 5, 5], Kind::Float, Device::Cpu).unwrap()).unwrap();
        let each = each(&maps, &targets).unwrap().to_vec_f32().unwrap();
        let near = |i: usize| (1..4).contains(&(i / 5)) && (1..4).contains(&(i % 5));
        let expected: f32 =
            each.iter().enumerate().map(|(i, v)| if near(i) { 11.0 * v } else { *v }).sum::<f32>() / 25.0;
        let found = weighted(&maps, &targets).unwrap().item().unwrap();
        assert!((found - f64::from(expected)).abs() < 1e-3, "{found} for {expected}");
    }
}
