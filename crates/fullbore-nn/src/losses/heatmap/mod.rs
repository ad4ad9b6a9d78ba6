//! Losses of landmark training, on heat-maps `[b, K, h, w]`: one map per landmark.
//!
//! L = Σ w l / Σ w over the landmarks of a step, w being a landmark's weight (0: not labelled) and l the mean over its
//! map's pixels, or what the loss has in its place.

mod adaptive_wing;
mod coordinates;

use fullbore_torch::{Kind, Result, Tensor};

/// A loss on heat-maps by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeatmapLoss {
    /// (p - y)², mean over pixels.
    Mse,
    /// (w p - w y)² / 2, mean over pixels: weights act squared, as in the code of HRNet for poses. The step's sum is
    /// divided by Σ w here, by the number of joints there: the same where every joint has weight 1.
    MseWeighted,
    /// Adaptive wing, pixels near the landmark weighted 11 (Wang et al. 2019).
    AdaptiveWing,
    /// Wing with w 10 and ε 2 on the soft-argmax of logits, in heat-map pixels, mean of both axes (Feng et al. 2018).
    Wing,
    /// -Σ t ln softmax(z) over the pixels, t being the target scaled to sum 1.
    SoftmaxCe,
}

/// A loss on heat-maps with its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeatmapLossConfig {
    /// Which.
    pub name: HeatmapLoss,
    /// Weight of an added smooth L1 distance between soft-argmax and point, in units of the map's sides; 0: none.
    pub coord_weight: f64,
}

/// What heat-maps are compared with; f32, on the maps' device.
#[derive(Clone, Debug)]
pub struct HeatmapTargets {
    /// `[b, K, h, w]`, Gaussians with peak 1; finite also where nothing is labelled.
    pub maps: Tensor,
    /// `[b, K, 2]`, x before y, in heat-map pixels: (0, 0) is the centre of the first. Anything where not labelled.
    pub points: Tensor,
    /// `[b, K]`: weights of the landmarks, 0 where not labelled or out of the frame.
    pub weights: Tensor,
}

/// Least total weight of a step: a step without labels has loss 0.
const LEAST_TOTAL: f64 = 1e-12;

impl HeatmapTargets {
    /// What the shares of a step are shares of: the sum of the weights `[B, K]` of all its samples, 0-dim.
    pub fn total(weights: &Tensor) -> Result<Tensor> {
        weights.sum(Kind::Float)?.clamp_min(LEAST_TOTAL)
    }
}

impl HeatmapLossConfig {
    /// The share of a micro-batch in the step's loss, a 0-dim f32 tensor.
    ///
    /// `maps` `[b, K, h, w]` is the network's raw output, logits or not ([`super::LossName::maps_are_logits`]); `total`
    /// is [`HeatmapTargets::total`] of the whole step. Landmarks of weight 0 give no loss and no gradient. Computed in f32.
    pub fn share(&self, maps: &Tensor, targets: &HeatmapTargets, total: &Tensor) -> Result<Tensor> {
        let maps = maps.to_kind(Kind::Float)?;
        // What is not labelled may lie at infinity or nowhere, and 0 times that is no 0.
        let unlabelled = targets.weights.eq_scalar(0)?.unsqueeze(2)?;
        let points = targets.points.masked_fill(&unlabelled, 0.0)?;
        let mut each = match self.name {
            HeatmapLoss::Mse => squared_error(&maps, &targets.maps)?,
            HeatmapLoss::MseWeighted => {
                squared_error(&maps, &targets.maps)?.mul(&targets.weights)?.mul_scalar(0.5)?
            }
            HeatmapLoss::AdaptiveWing => adaptive_wing::weighted(&maps, &targets.maps)?,
            HeatmapLoss::Wing => coordinates::wing(&maps, &points)?,
            HeatmapLoss::SoftmaxCe => cross_entropy(&maps, &targets.maps)?,
        };
        if self.coord_weight > 0.0 {
            let sharpness = match self.name {
                HeatmapLoss::SoftmaxCe | HeatmapLoss::Wing => 1.0,
                _ => coordinates::SHARPNESS,
            };
            let distance = coordinates::smooth_l1(&maps, sharpness, &points)?;
            each = each.add(&distance.mul_scalar(self.coord_weight)?)?;
        }
        each.mul(&targets.weights)?.sum(Kind::Float)?.div(total)
    }
}

/// `[b, K]`.
fn squared_error(maps: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let difference = maps.sub(targets)?;
    mean_over_pixels(&difference.mul(&difference)?)
}

/// `[b, K]`. A target without mass gives 0.
fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let flat = |t: &Tensor| {
        let size = t.size();
        t.reshape(&[size[0], size[1], -1])
    };
    let mass = targets.sum_dims(&[2, 3], Kind::Float)?.clamp_min(f64::from(f32::MIN_POSITIVE))?;
    let products = flat(logits)?.log_softmax(2)?.mul(&flat(targets)?)?;
    products.sum_dims(&[2], Kind::Float)?.div(&mass)?.mul_scalar(-1.0)
}

fn mean_over_pixels(each: &Tensor) -> Result<Tensor> {
    let size = each.size();
    each.sum_dims(&[2, 3], Kind::Float)?.mul_scalar(1.0 / (size[2] * size[3]).max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fullbore_torch::Device;
    use proptest::prelude::*;

    const ALL: [HeatmapLoss; 5] = [
        HeatmapLoss::Mse,
        HeatmapLoss::MseWeighted,
        HeatmapLoss::AdaptiveWing,
        HeatmapLoss::Wing,
        HeatmapLoss::SoftmaxCe,
    ];

    /// Smooth maps and Gaussian targets for `b` samples of 2 landmarks on 8 x 6 pixels.
    fn case(b: i64, weights: &[f32]) -> (Tensor, HeatmapTargets) {
        let values = |n: i64| Tensor::arange(n, Kind::Float, Device::Cpu).unwrap();
        let maps = values(b * 96).mul_scalar(0.7).unwrap();
        let maps = maps.remainder(3).unwrap().reshape(&[b, 2, 8, 6]).unwrap();
        let points = values(b * 4).remainder(5).unwrap().reshape(&[b, 2, 2]).unwrap();
        let axis = |n: i64, which: i64| {
            let place = points.narrow(2, which, 1).unwrap();
            let d = values(n).reshape(&[1, 1, n]).unwrap().sub(&place).unwrap();
            d.mul(&d).unwrap().mul_scalar(-0.5).unwrap().exp().unwrap()
        };
        let targets = axis(8, 1).unsqueeze(3).unwrap().mul(&axis(6, 0).unsqueeze(2).unwrap()).unwrap();
        let weights = Tensor::from_slice(weights).unwrap().reshape(&[b, 2]).unwrap();
        (maps, HeatmapTargets { maps: targets, points, weights })
    }

    fn part(t: &Tensor, start: i64, n: i64) -> Tensor {
        t.narrow(0, start, n).unwrap()
    }

    #[test]
    fn landmarks_without_label_give_nothing_at_all() {
        for name in ALL {
            let (maps, mut targets) = case(2, &[1.0, 0.0, 0.0, 2.5]);
            let hole = [0.0, 0.0, f32::NAN, f32::INFINITY, f32::NAN, 0.0, 0.0, 0.0];
            let hole = Tensor::from_slice(&hole).unwrap().reshape(&[2, 2, 2]).unwrap();
            targets.points = targets.points.add(&hole).unwrap();
            let maps = maps.set_requires_grad(true).unwrap();
            let total = HeatmapTargets::total(&targets.weights).unwrap();
            let coord_weight = if name == HeatmapLoss::Wing { 0.0 } else { 3.0 };
            let loss = HeatmapLossConfig { name, coord_weight }.share(&maps, &targets, &total).unwrap();
            loss.backward().unwrap();
            assert!(loss.item().unwrap() > 0.0, "{name:?}");
            let grad = maps.grad().unwrap().unwrap();
            for (b, k, labelled) in [(0, 0, true), (0, 1, false), (1, 0, false), (1, 1, true)] {
                let most = grad.select(0, b).unwrap().select(0, k).unwrap().max_abs().unwrap();
                assert!(most.is_finite() && (most > 0.0) == labelled, "{name:?} {b} {k}: {most}");
            }
            // A step without any label is 0.
            targets.weights = targets.weights.mul_scalar(0.0).unwrap();
            let total = HeatmapTargets::total(&targets.weights).unwrap();
            let loss = HeatmapLossConfig { name, coord_weight }.share(&maps, &targets, &total).unwrap();
            assert_eq!(loss.item().unwrap(), 0.0, "{name:?}");
        }
    }

    #[test]
    fn the_weight_acts_squared_in_the_pose_codes_error() {
        let (maps, mut targets) = case(1, &[1.0, 1.0]);
        let one = Tensor::ones(&[], Kind::Float, Device::Cpu).unwrap();
        let value = |name, targets: &HeatmapTargets| {
            let loss = HeatmapLossConfig { name, coord_weight: 0.0 };
            loss.share(&maps, targets, &one).unwrap().item().unwrap()
        };
        let plain = value(HeatmapLoss::Mse, &targets);
        assert!((value(HeatmapLoss::MseWeighted, &targets) / plain - 0.5).abs() < 1e-6);
        targets.weights = targets.weights.mul_scalar(3.0).unwrap();
        assert!((value(HeatmapLoss::Mse, &targets) / plain - 3.0).abs() < 1e-5);
        assert!((value(HeatmapLoss::MseWeighted, &targets) / plain - 4.5).abs() < 1e-5);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]
        #[test]
        fn any_split_of_a_batch_has_the_same_loss_and_gradient(
            weights in prop::collection::vec(prop_oneof![Just(0.0f32), 0.1f32..3.0], 16), first in 1i64..7,
        ) {
            let (maps, targets) = case(8, &weights);
            let total = HeatmapTargets::total(&targets.weights).unwrap();
            for name in ALL {
                let loss = HeatmapLossConfig { name, coord_weight: 0.5 };
                let whole = maps.copy().unwrap().set_requires_grad(true).unwrap();
                let value = loss.share(&whole, &targets, &total).unwrap();
                value.backward().unwrap();
                let split = maps.copy().unwrap().set_requires_grad(true).unwrap();
                let mut sum = 0.0;
                for (start, n) in [(0, first), (first, 8 - first)] {
                    let targets = HeatmapTargets {
                        maps: part(&targets.maps, start, n),
                        points: part(&targets.points, start, n),
                        weights: part(&targets.weights, start, n),
                    };
                    let share = loss.share(&part(&split, start, n), &targets, &total).unwrap();
                    sum += share.item().unwrap();
                    share.backward().unwrap();
                }
                let value = value.item().unwrap();
                prop_assert!((sum - value).abs() <= 1e-5 * value.abs().max(1e-3), "{:?}: {} {}", name, sum, value);
                let (a, b) = (whole.grad().unwrap().unwrap(), split.grad().unwrap().unwrap());
                let scale = a.max_abs().unwrap().max(1e-6);
                prop_assert!(a.sub(&b).unwrap().max_abs().unwrap() <= 1e-5 * scale, "{:?}", name);
            }
        }
    }
}
