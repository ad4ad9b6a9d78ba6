//! Segmentation losses, written as *shares*: the loss of a micro-batch is what it adds to the loss of the whole
//! optimizer step, so that any split of a batch sums to the same value and the same gradient.

mod cross_entropy;
mod dice;

use fullbore_torch::{Kind, Result, Tensor};
use fullbore_types::IGNORE_INDEX;
use serde::{Deserialize, Serialize};

/// The `loss` part of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Which loss.
    pub name: LossName,
}

/// The losses by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossName {
    /// Binary cross entropy on one logit, mean over labelled pixels.
    Bce,
    /// Binary cross entropy plus soft Dice on one logit.
    BceDice,
    /// Cross entropy on one logit per class, mean over labelled pixels.
    Ce,
    /// Cross entropy plus soft Dice, background included.
    CeDice,
}

impl LossName {
    /// Output channels that the loss wants for a number of classes; `None` when it cannot serve that number.
    pub fn channels(self, classes: usize) -> Option<i64> {
        match self {
            LossName::Bce | LossName::BceDice => (classes == 2).then_some(1),
            LossName::Ce | LossName::CeDice => (classes >= 2).then_some(classes as i64),
        }
    }
}

/// What the shares of one optimizer step are shares of.
#[derive(Clone, Debug)]
pub struct StepTotals {
    /// Labelled pixels in the step's samples.
    pixels: Pixels,
    /// Samples in the step.
    samples: i64,
}

#[derive(Clone, Debug)]
enum Pixels {
    /// Every pixel is labelled: known without looking.
    All(f64),
    /// Counted on the device, 0-dim f32, at least one; the host never waits for it.
    Counted(Tensor),
}

impl StepTotals {
    /// Totals of a step over `targets` (u8 [B, H, W], 255 = ignore). With `may_ignore` false the caller promises that
    /// no pixel is ignored, which spares the losses their masks.
    pub fn of(targets: &Tensor, may_ignore: bool) -> Result<Self> {
        let samples = targets.size()[0];
        let pixels = if may_ignore {
            let labelled = targets.ne_scalar(i64::from(IGNORE_INDEX))?.sum(Kind::Float)?;
            Pixels::Counted(labelled.clamp_min(1.0)?)
        } else {
            Pixels::All(targets.numel().max(1) as f64)
        };
        Ok(Self { pixels, samples })
    }
}

impl LossName {
    /// The share of a micro-batch in the step's loss, a 0-dim f32 tensor.
    ///
    /// `logits` f32 [b, C, H, W] with C from [`LossName::channels`]; `targets` u8 [b, H, W], class indices, 255 = ignore.
    /// All pixels ignored gives 0.
    pub fn share(self, logits: &Tensor, targets: &Tensor, totals: &StepTotals) -> Result<Tensor> {
        // The mask of labelled pixels, only where there may be others.
        let labelled = match totals.pixels {
            Pixels::All(_) => None,
            Pixels::Counted(_) => Some(targets.ne_scalar(i64::from(IGNORE_INDEX))?),
        };
        let per_pixel = match self {
            LossName::Bce | LossName::BceDice => {
                cross_entropy::binary_sum(logits, targets, labelled.as_ref())?
            }
            LossName::Ce | LossName::CeDice => cross_entropy::multi_class_sum(logits, targets)?,
        };
        let per_pixel = match &totals.pixels {
            Pixels::All(n) => per_pixel.mul_scalar(1.0 / n)?,
            Pixels::Counted(n) => per_pixel.div(n)?,
        };
        let dice = match self {
            LossName::Bce | LossName::Ce => return Ok(per_pixel),
            LossName::BceDice => dice::binary_sum(logits, targets, labelled.as_ref())?,
            LossName::CeDice => dice::multi_class_sum(logits, targets, labelled.as_ref())?,
        };
        per_pixel.add(&dice.mul_scalar(1.0 / totals.samples as f64)?)
    }
}
