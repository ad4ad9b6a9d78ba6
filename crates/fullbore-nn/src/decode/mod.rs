//! Heat-maps to points, on their device and for all landmarks at once. Points are heat-map pixels, (0, 0) being the
//! centre of the first.

mod dark;
mod flip;
mod peaks;
mod reader;
mod soft_argmax;
mod test_time;

use fullbore_torch::{NoGrad, Result, Tensor};
use serde::{Deserialize, Serialize};

pub use flip::flip_average;
use peaks::Peaks;
pub use reader::MapReader;
pub use test_time::TestTime;

/// How a point is read from a heat-map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decode {
    /// The highest pixel.
    Argmax,
    /// The highest pixel, and a quarter of a pixel towards its higher neighbour, on each axis that has both.
    Quarter,
    /// The top of the Gaussian around the highest pixel (Zhang et al. 2020).
    Dark,
    /// Soft-argmax in a window around the highest pixel.
    SoftArgmax,
}

/// Points and how sure of them the network is.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// f32 `[B, K, 2]`, x before y.
    pub points: Tensor,
    /// f32 `[B, K]`: value of the highest pixel.
    pub scores: Tensor,
}

impl Decode {
    /// Decodes maps `[B, K, h, w]`, computed in f32 and without gradients. `sigma_px` is the standard deviation of the
    /// targets in heat-map pixels; `dark` and `soft_argmax` size their windows by it.
    ///
    /// Maps with a peak near 1, or probabilities ([`probabilities`]). A map without anything above 0 gives its highest
    /// pixel; one with NaN, a place of a NaN with score NaN.
    pub fn decode(self, maps: &Tensor, sigma_px: f64) -> Result<Decoded> {
        let _no_grad = NoGrad::new();
        let peaks = Peaks::of(maps)?;
        let points = match self {
            Decode::Argmax => peaks.points.clone(),
            Decode::Quarter => peaks.points.add(&quarter(&peaks)?)?,
            Decode::Dark => peaks.points.add(&dark::offset(&peaks, sigma_px)?)?,
            Decode::SoftArgmax => peaks.points.add(&soft_argmax::offset(&peaks, sigma_px)?)?,
        };
        Ok(Decoded { points, scores: peaks.scores })
    }
}

/// Logits `[B, K, h, w]` to probabilities over each map's pixels, f32.
pub fn probabilities(logits: &Tensor) -> Result<Tensor> {
    let size = logits.size();
    logits.reshape(&[size[0], size[1], -1])?.softmax(2)?.reshape(&size)
}

/// `[B, K, 2]`.
fn quarter(peaks: &Peaks) -> Result<Tensor> {
    let window = peaks.window(1)?;
    let at = |y: i64, x: i64| window.select(2, y)?.select(2, x);
    let slopes = Tensor::stack(&[&at(1, 2)?.sub(&at(1, 0)?)?, &at(2, 1)?.sub(&at(0, 1)?)?], 2)?;
    let inside = peaks.to_border()?.gt_scalar(0.5)?;
    let still = Tensor::zeros(&[], slopes.kind(), slopes.device())?;
    slopes.sign()?.mul_scalar(0.25)?.where_or(&inside, &still)
}

/// Half the side of a window that covers three standard deviations, within reason.
fn reach(sigma_px: f64) -> i64 {
    (3.0 * sigma_px).ceil().clamp(1.0, 32.0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Decode; 4] = [Decode::Argmax, Decode::Quarter, Decode::Dark, Decode::SoftArgmax];

    /// Maps `[1, K, 40, 48]` with a Gaussian at each point.
    fn bells(points: &[(f64, f64)], sigma: f64, peak: f64) -> Tensor {
        let value = |x: f64, y: f64, i: i64| {
            let (dx, dy) = ((i % 48) as f64 - x, (i / 48) as f64 - y);
            (peak * (-(dx * dx + dy * dy) / (2.0 * sigma * sigma)).exp()) as f32
        };
        let values: Vec<f32> =
            points.iter().flat_map(|&(x, y)| (0..40 * 48).map(move |i| value(x, y, i))).collect();
        Tensor::from_slice(&values).unwrap().reshape(&[1, points.len() as i64, 40, 48]).unwrap()
    }

    /// Distances of the decoded points from the true ones.
    fn errors(decode: Decode, points: &[(f64, f64)], maps: &Tensor, sigma: f64) -> Vec<f64> {
        let found = decode.decode(maps, sigma).unwrap().points.to_vec_f32().unwrap();
        let pairs = found.chunks(2).zip(points);
        pairs.map(|(f, p)| (f64::from(f[0]) - p.0).hypot(f64::from(f[1]) - p.1)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn clean_bells_are_found_within_a_thousandth(
            points in prop::collection::vec((12.0f64..36.0, 12.0f64..28.0), 5),
            sigma in 1.0f64..3.5, peak in 0.02f64..2.0,
        ) {
            let maps = bells(&points, sigma, peak);
            for decode in [Decode::Dark, Decode::SoftArgmax] {
                for error in errors(decode, &points, &maps, sigma) {
                    prop_assert!(error < 1e-3, "{:?} sigma {}: {}", decode, sigma, error);
                }
            }
        }

        #[test]
        fn nothing_leaves_the_map_or_is_worse_than_the_argmax_by_much(
            points in prop::collection::vec((0.0f64..47.0, 0.0f64..39.0), 8), sigma in 1.0f64..3.0,
        ) {
            let maps = bells(&points, sigma, 1.0);
            for decode in ALL {
                for (error, point) in errors(decode, &points, &maps, sigma).iter().zip(&points) {
                    prop_assert!(*error < 0.72, "{:?} at {:?}: {}", decode, point, error);
                }
            }
            // DARK is exact up to two pixels from the border.
            let inside = |p: &(f64, f64)| p.0 > 1.6 && p.0 < 45.4 && p.1 > 1.6 && p.1 < 37.4;
            for (error, _) in errors(Decode::Dark, &points, &maps, sigma)
                .iter().zip(&points).filter(|(_, p)| inside(p))
            {
                prop_assert!(*error < 2e-3, "{}", error);
            }
        }

        #[test]
        fn any_map_gives_points_within_two_pixels_of_its_peak(
            values in prop::collection::vec(prop_oneof![-2.0f32..2.0, Just(0.0f32), Just(1.0f32)], 2 * 30),
        ) {
            let maps = Tensor::from_slice(&values).unwrap().reshape(&[2, 1, 5, 6]).unwrap();
            let peaks = Decode::Argmax.decode(&maps, 1.5).unwrap();
            for decode in ALL {
                let found = decode.decode(&maps, 1.5).unwrap();
                prop_assert!(found.scores.equal(&peaks.scores).unwrap());
                let moved = found.points.sub(&peaks.points).unwrap();
                prop_assert!(moved.max_abs().unwrap() <= 2.5, "{:?}", decode);
                for point in found.points.to_vec_f32().unwrap().chunks(2) {
                    prop_assert!((0.0..=5.0).contains(&point[0]) && (0.0..=4.0).contains(&point[1]));
                }
            }
        }
    }

    #[test]
    fn quarters_go_towards_the_higher_neighbour() {
        let points = [(20.3, 11.6), (19.8, 12.2), (0.2, 7.3), (20.0, 12.0)];
        let maps = bells(&points, 1.5, 1.0);
        let decoded = Decode::Quarter.decode(&maps, 1.5).unwrap();
        let expected = [20.25, 11.75, 19.75, 12.25, 0.0, 7.25, 20.0, 12.0];
        assert_eq!(decoded.points.to_vec_f32().unwrap(), expected);
        let argmax = Decode::Argmax.decode(&maps, 1.5).unwrap();
        assert_eq!(argmax.points.to_vec_f32().unwrap(), [20.0, 12.0, 20.0, 12.0, 0.0, 7.0, 20.0, 12.0]);
        assert_eq!(argmax.scores.to_vec_f32().unwrap()[3], 1.0);
    }

    #[test]
    fn logits_of_a_bell_decode_as_its_probabilities() {
        let points = [(20.3, 11.6), (33.45, 20.7)];
        let logits =
            bells(&points, 2.0, 1.0).clamp_min(1e-12).unwrap().log().unwrap().add_scalar(5.0).unwrap();
        let chances = probabilities(&logits).unwrap();
        let sum = chances.sum_dims(&[2, 3], fullbore_torch::Kind::Float).unwrap().to_vec_f32().unwrap();
        assert!(sum.iter().all(|s| (s - 1.0).abs() < 1e-5), "{sum:?}");
        for decode in [Decode::Dark, Decode::SoftArgmax] {
            assert!(errors(decode, &points, &chances, 2.0).iter().all(|e| *e < 1e-3), "{decode:?}");
        }
    }

    #[test]
    fn empty_and_broken_maps_give_points() {
        for value in [0.0f32, -1.0, f32::NAN, f32::INFINITY] {
            let maps = Tensor::from_slice(&[value; 30]).unwrap().reshape(&[1, 1, 5, 6]).unwrap();
            for decode in ALL {
                let found = decode.decode(&maps, 1.5).unwrap();
                let points = found.points.to_vec_f32().unwrap();
                assert!(points.iter().all(|p| (0.0..=5.0).contains(p)), "{decode:?} {value}: {points:?}");
                assert_eq!(found.scores.to_vec_f32().unwrap()[0].is_nan(), value.is_nan());
            }
        }
        // A map smaller than any window.
        let maps = Tensor::from_slice(&[0.2f32, 1.0]).unwrap().reshape(&[1, 1, 1, 2]).unwrap();
        for decode in ALL {
            assert_eq!(decode.decode(&maps, 1.5).unwrap().points.to_vec_f32().unwrap(), [1.0, 0.0]);
        }
    }
}
