//! Losses of segmentation, on logits `[b, C, H, W]` and class indices u8 `[b, H, W]`, 255 = ignore.

mod cross_entropy;
mod overlap;

use fullbore_torch::{Kind, Result, Tensor};
use fullbore_types::IGNORE_INDEX;

use super::{LossConfig, LossName};

/// What the shares of one optimizer step are shares of.
#[derive(Clone, Debug)]
pub struct StepTotals {
    /// By level, the finest first.
    levels: Vec<Total>,
    /// Samples in the step.
    samples: i64,
    /// Whether a pixel may be ignored.
    may_ignore: bool,
    /// Weights of mask values, f32 `[256]`, 0 for those that are no class; `None`: every class has weight 1.
    class_weights: Option<Tensor>,
}

/// Labelled pixels of a step, or the sum of their weights.
#[derive(Clone, Debug)]
enum Total {
    /// Every pixel is labelled and has weight 1: known without looking.
    All(f64),
    /// Summed on the device, 0-dim f32; the host never waits for it.
    Summed(Tensor),
}

/// Least sum of weights: a step without labelled pixels, or of classes with weight 0 alone, has loss 0.
const LEAST_TOTAL: f64 = 1e-12;

impl StepTotals {
    /// Totals of a step over `targets` (u8 `[B, H, W]`, 255 = ignore). With `may_ignore` false the caller promises that
    /// no pixel is ignored, which spares the losses their masks.
    pub fn of(targets: &Tensor, may_ignore: bool, loss: &LossConfig) -> Result<Self> {
        Self::of_levels(targets, may_ignore, loss, 1)
    }

    /// The same for a network that answers at several levels, see [`LossConfig::share_levels`].
    pub fn of_levels(targets: &Tensor, may_ignore: bool, loss: &LossConfig, levels: usize) -> Result<Self> {
        let class_weights = match &loss.class_weights {
            Some(weights) => Some(weight_table(weights)?.to_device(targets.device())?),
            None => None,
        };
        let samples = targets.size()[0];
        let mut totals = Self { levels: Vec::with_capacity(levels), samples, may_ignore, class_weights };
        for level in 0..levels {
            let targets = downsampled(targets, level)?;
            totals.levels.push(match totals.weights(&targets)? {
                Some(weights) => Total::Summed(weights.sum(Kind::Float)?.clamp_min(LEAST_TOTAL)?),
                None => Total::All(targets.numel().max(1) as f64),
            });
        }
        Ok(totals)
    }

    /// The same totals in memory of their own.
    pub fn copy(&self) -> Result<Self> {
        let level = |total: &Total| match total {
            Total::All(n) => Ok(Total::All(*n)),
            Total::Summed(n) => n.copy().map(Total::Summed),
        };
        Ok(Self {
            levels: self.levels.iter().map(level).collect::<Result<_>>()?,
            class_weights: self.class_weights.as_ref().map(Tensor::copy).transpose()?,
            ..*self
        })
    }

    /// What of them is on the device; the rest follows from the step's size and the loss.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let summed = self.levels.iter().filter_map(|total| match total {
            Total::All(_) => None,
            Total::Summed(n) => Some(n),
        });
        summed.chain(&self.class_weights)
    }

    /// f32 0 or 1, where pixels may be ignored.
    fn labelled(&self, targets: &Tensor) -> Result<Option<Tensor>> {
        if !self.may_ignore {
            return Ok(None);
        }
        targets.ne_scalar(i64::from(IGNORE_INDEX))?.to_kind(Kind::Float).map(Some)
    }

    /// Weights of pixels, 0 where ignored; `None`: 1 for all.
    fn weights(&self, targets: &Tensor) -> Result<Option<Tensor>> {
        let Some(table) = &self.class_weights else { return self.labelled(targets) };
        let values = targets.reshape(&[-1])?.to_kind(Kind::Int64)?;
        table.index_select(0, &values)?.reshape(&targets.size()).map(Some)
    }
}

/// The weight of every value that a u8 mask can hold.
fn weight_table(class_weights: &[f64]) -> Result<Tensor> {
    let mut table = [0.0f32; 256];
    for (value, weight) in table[..usize::from(IGNORE_INDEX)].iter_mut().zip(class_weights) {
        *value = *weight as f32;
    }
    Tensor::from_slice(&table)
}

/// Every 2^`level`-th pixel of both axes: nearest neighbours, as `interpolate(mode="nearest")` picks them.
fn downsampled(targets: &Tensor, level: usize) -> Result<Tensor> {
    let step = 1 << level;
    targets.every(1, step)?.every(2, step)
}

impl LossConfig {
    /// The share of a micro-batch in the step's loss, a 0-dim f32 tensor.
    ///
    /// `logits` f32 `[b, C, H, W]` with C from [`LossName::channels`]; `targets` u8 `[b, H, W]`, class indices, 255 =
    /// ignore; `totals` of the whole step, made with this loss. All pixels ignored gives 0.
    ///
    /// # Panics
    /// When the named loss is for landmarks: [`LossConfig::heatmap`] has that one.
    pub fn share(&self, logits: &Tensor, targets: &Tensor, totals: &StepTotals) -> Result<Tensor> {
        self.share_at(0, logits, targets, totals)
    }

    /// Deep supervision: the weighted mean of the losses at several levels, the finest first, with weights 1, 1/2, 1/4, ...
    ///
    /// `levels[i]` is `[b, C, H / 2^i, W / 2^i]` (rounded up); `totals` come from [`StepTotals::of_levels`] for at least
    /// as many levels. Coarser targets are every 2^i-th pixel.
    ///
    /// # Panics
    /// As [`LossConfig::share`], and without levels or with more than the totals know.
    pub fn share_levels(&self, levels: &[Tensor], targets: &Tensor, totals: &StepTotals) -> Result<Tensor> {
        assert!(!levels.is_empty() && levels.len() <= totals.levels.len(), "totals for every level");
        // 1 + 1/2 + 1/4 + ...
        let sum = 2.0 - 0.5f64.powi(levels.len() as i32 - 1);
        let mut shares = Vec::with_capacity(levels.len());
        for (level, logits) in levels.iter().enumerate() {
            let share = self.share_at(level, logits, &downsampled(targets, level)?, totals)?;
            shares.push(share.mul_scalar(0.5f64.powi(level as i32) / sum)?);
        }
        Tensor::stack(&shares.iter().collect::<Vec<_>>(), 0)?.sum(Kind::Float)
    }

    fn share_at(
        &self,
        level: usize,
        logits: &Tensor,
        targets: &Tensor,
        totals: &StepTotals,
    ) -> Result<Tensor> {
        use LossName::{Bce, BceDice, Ce, CeDice, Dice, Focal, FocalTversky, Tversky};
        let per_pixel = |sum: Tensor| match &totals.levels[level] {
            Total::All(n) => sum.mul_scalar(1.0 / n),
            Total::Summed(n) => sum.div(n),
        };
        let per_image = |sum: Tensor| sum.mul_scalar(1.0 / totals.samples.max(1) as f64);
        let labelled = || totals.labelled(targets);
        let cross_entropy = || match self.name {
            Bce | BceDice => {
                let weights = totals.weights(targets)?;
                per_pixel(cross_entropy::binary_sum(logits, targets, weights.as_ref(), self.pos_weight)?)
            }
            // What is ignored needs no weight here.
            _ => {
                let weights = if totals.class_weights.is_some() { totals.weights(targets)? } else { None };
                per_pixel(cross_entropy::multi_class_sum(logits, targets, weights.as_ref())?)
            }
        };
        let smooth = self.smooth.unwrap_or(1.0);
        let overlap = |index: overlap::Index| {
            per_image(overlap::loss_sum(logits, targets, labelled()?.as_ref(), index)?)
        };
        let dice = overlap::Index { false_positives: 0.5, false_negatives: 0.5, smooth, exponent: 1.0 };
        let tversky = overlap::Index {
            false_positives: self.alpha.unwrap_or(0.3),
            false_negatives: self.beta.unwrap_or(0.7),
            ..dice
        };
        match self.name {
            Bce | Ce => cross_entropy(),
            BceDice | CeDice => cross_entropy()?.add(&overlap(dice)?),
            Dice => overlap(dice),
            Tversky => overlap(tversky),
            FocalTversky => overlap(overlap::Index { exponent: self.gamma.unwrap_or(0.75), ..tversky }),
            Focal => {
                let focal = cross_entropy::Focal {
                    gamma: self.gamma.unwrap_or(2.0),
                    positive: self.alpha.unwrap_or(0.25),
                };
                per_pixel(cross_entropy::focal_sum(
                    logits,
                    targets,
                    totals.weights(targets)?.as_ref(),
                    focal,
                )?)
            }
            LossName::Mse
            | LossName::MseWeighted
            | LossName::AdaptiveWing
            | LossName::Wing
            | LossName::SoftmaxCe => panic!("{} is a loss on heat-maps, not on masks", self.name.key()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fullbore_torch::Device;
    use proptest::prelude::*;

    /// Every loss with settings away from its defaults, and its classes.
    fn losses() -> Vec<(LossConfig, usize)> {
        let of = LossConfig::from;
        let two = |loss: LossConfig| (LossConfig { class_weights: Some(vec![0.5, 3.0]), ..loss }, 2);
        let three = |loss: LossConfig| (LossConfig { class_weights: Some(vec![0.5, 3.0, 0.0]), ..loss }, 3);
        let mut all: Vec<_> = [LossName::Bce, LossName::BceDice, LossName::Dice, LossName::Focal]
            .into_iter()
            .chain([LossName::Tversky, LossName::FocalTversky])
            .map(|name| (of(name), 2))
            .collect();
        let of_three = [LossName::Ce, LossName::CeDice, LossName::Dice, LossName::Focal, LossName::Tversky];
        all.extend(of_three.into_iter().chain([LossName::FocalTversky]).map(|name| (of(name), 3)));
        all.push(two(LossConfig { pos_weight: Some(4.0), ..of(LossName::Bce) }));
        all.extend([two(of(LossName::Focal)), three(of(LossName::Ce)), three(of(LossName::Focal))]);
        for (loss, classes) in &all {
            loss.check(*classes).unwrap();
        }
        all
    }

    /// Logits from -3 to 3 and targets with 255, for 8 images of 8 x 12 pixels; the last image is ignored as a whole.
    fn case(seed: &[u8], channels: i64, classes: usize) -> (Tensor, Tensor) {
        let at = |i: usize| usize::from(seed[i % seed.len()]) + i / seed.len() * 31;
        let logits: Vec<f32> =
            (0..8 * channels as usize * 96).map(|i| (at(i) % 61) as f32 / 10.0 - 3.0).collect();
        let targets: Vec<u8> = (0..8 * 96)
            .map(|i| if i >= 7 * 96 || at(i + 7) % 6 == 0 { 255 } else { (at(i) % classes) as u8 })
            .collect();
        let targets = Tensor::from_slice(&targets).unwrap().reshape(&[8, 8, 12]).unwrap();
        (Tensor::from_slice(&logits).unwrap().reshape(&[8, channels, 8, 12]).unwrap(), targets)
    }

    fn leaf(t: &Tensor) -> Tensor {
        t.copy().unwrap().set_requires_grad(true).unwrap()
    }

    /// Value and gradient of the shares of `parts` (start, length).
    fn summed(
        logits: &Tensor,
        parts: &[(i64, i64)],
        share: impl Fn(&Tensor, i64, i64) -> Tensor,
    ) -> (f64, Tensor) {
        let logits = leaf(logits);
        let mut sum = 0.0;
        for &(start, n) in parts {
            let share = share(&logits.narrow(0, start, n).unwrap(), start, n);
            sum += share.item().unwrap();
            share.backward().unwrap();
        }
        (sum, logits.grad().unwrap().unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2))]
        #[test]
        fn any_split_of_a_batch_has_the_same_loss_and_gradient(seed in prop::collection::vec(any::<u8>(), 64)) {
            for (loss, classes) in losses() {
                let (logits, targets) = case(&seed, loss.name.channels(classes).unwrap(), classes);
                for levels in [1, 3] {
                    let totals = StepTotals::of_levels(&targets, true, &loss, levels).unwrap();
                    let share = |logits: &Tensor, start: i64, n: i64| {
                        let targets = targets.narrow(0, start, n).unwrap();
                        // The coarser answers are parts of the finest here.
                        let coarse = |step| logits.every(2, step).unwrap().every(3, step).unwrap();
                        match levels {
                            1 => loss.share(logits, &targets, &totals).unwrap(),
                            _ => loss.share_levels(&[coarse(1), coarse(2), coarse(4)], &targets, &totals).unwrap(),
                        }
                    };
                    let (whole, whole_grad) = summed(&logits, &[(0, 8)], share);
                    let (split, split_grad) = summed(&logits, &[(0, 3), (3, 3), (6, 2)], share);
                    prop_assert!((whole - split).abs() <= 1e-5 * whole.abs().max(1e-3), "{:?}: {} {}", loss, whole, split);
                    let difference = whole_grad.sub(&split_grad).unwrap().max_abs().unwrap();
                    prop_assert!(difference <= 1e-5 * whole_grad.max_abs().unwrap().max(1e-6), "{:?}", loss);
                    // The image without labels has no say.
                    prop_assert_eq!(whole_grad.select(0, 7).unwrap().max_abs().unwrap(), 0.0);
                }
            }
        }
    }

    #[test]
    fn all_ignored_gives_nothing() {
        for (loss, classes) in losses() {
            let (logits, targets) = case(&[1, 90, 33, 250, 7], loss.name.channels(classes).unwrap(), classes);
            let (logits, ignored) = (leaf(&logits), targets);
            ignored.fill_(255.0).unwrap();
            let totals = StepTotals::of(&ignored, true, &loss).unwrap();
            let value = loss.share(&logits, &ignored, &totals).unwrap();
            value.backward().unwrap();
            assert_eq!(value.item().unwrap(), 0.0, "{loss:?}");
            assert_eq!(logits.grad().unwrap().unwrap().max_abs().unwrap(), 0.0, "{loss:?}");
        }
    }

    #[test]
    fn a_promise_that_nothing_is_ignored_changes_no_value() {
        for (loss, classes) in losses() {
            let (logits, _) = case(&[3, 80, 41, 200], loss.name.channels(classes).unwrap(), classes);
            let labels: Vec<u8> = (0..768).map(|i| (i % classes) as u8).collect();
            let targets = Tensor::from_slice(&labels).unwrap().reshape(&[8, 8, 12]).unwrap();
            let value = |may_ignore| {
                let totals = StepTotals::of(&targets, may_ignore, &loss).unwrap();
                loss.share(&logits, &targets, &totals).unwrap().item().unwrap()
            };
            assert!((value(true) - value(false)).abs() < 1e-5, "{loss:?}");
        }
    }

    #[test]
    fn extreme_logits_keep_finite_gradients() {
        for (loss, classes) in losses() {
            let channels = loss.name.channels(classes).unwrap();
            let labels = Tensor::from_slice(&[0u8, 1, 0, 1]).unwrap().reshape(&[1, 2, 2]).unwrap();
            let logits = Tensor::zeros(&[1, channels, 2, 2], Kind::Float, Device::Cpu).unwrap();
            logits
                .select(1, 0)
                .unwrap()
                .copy_(&Tensor::from_slice(&[1e4f32, 1e4, -1e4, -1e4]).unwrap().reshape(&[1, 2, 2]).unwrap())
                .unwrap();
            let logits = leaf(&logits);
            let totals = StepTotals::of(&labels, true, &loss).unwrap();
            let value = loss.share(&logits, &labels, &totals).unwrap();
            value.backward().unwrap();
            assert!(value.item().unwrap().is_finite(), "{loss:?}");
            assert!(logits.grad().unwrap().unwrap().max_abs().unwrap().is_finite(), "{loss:?}");
        }
    }

    #[test]
    fn levels_weigh_a_half_of_the_finer_each() {
        let loss = LossConfig::from(LossName::Bce);
        let (logits, targets) = case(&[9, 120, 55], 1, 2);
        let coarse = logits.every(2, 2).unwrap().every(3, 2).unwrap();
        let coarse_targets = targets.every(1, 2).unwrap().every(2, 2).unwrap();
        let totals = StepTotals::of_levels(&targets, true, &loss, 2).unwrap();
        let both = loss.share_levels(&[logits.clone(), coarse.clone()], &targets, &totals).unwrap();
        let single = |logits: &Tensor, targets: &Tensor| {
            let totals = StepTotals::of(targets, true, &loss).unwrap();
            loss.share(logits, targets, &totals).unwrap().item().unwrap()
        };
        let expected = (2.0 * single(&logits, &targets) + single(&coarse, &coarse_targets)) / 3.0;
        assert!((both.item().unwrap() - expected).abs() < 1e-6);
    }

    #[test]
    fn tversky_with_equal_halves_is_dice() {
        let (logits, targets) = case(&[9, 120, 55, 2], 1, 2);
        let value = |loss: LossConfig| {
            let totals = StepTotals::of(&targets, true, &loss).unwrap();
            loss.share(&logits, &targets, &totals).unwrap().item().unwrap()
        };
        let halves = LossConfig { alpha: Some(0.5), beta: Some(0.5), ..LossName::Tversky.into() };
        assert_eq!(value(halves), value(LossName::Dice.into()));
    }
}
