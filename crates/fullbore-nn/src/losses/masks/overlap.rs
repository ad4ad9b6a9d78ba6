//! Losses of overlap: 1 minus the Tversky index, of which Dice is one, per image, summed over images (and averaged over
//! classes, background included).
//!
//! Per image, because an index over the whole batch would change when the batch is split. The smoothing term keeps
//! images without the class quiet once the prediction is empty.

use fullbore_torch::{Kind, Result, Tensor};

/// (2 TP + smooth) / (2 (TP + a FP + b FN) + smooth); with a = b = 1/2, Dice.
#[derive(Clone, Copy)]
pub(super) struct Index {
    /// a.
    pub(super) false_positives: f64,
    /// b.
    pub(super) false_negatives: f64,
    /// In pixels.
    pub(super) smooth: f64,
    /// Of 1 - index.
    pub(super) exponent: f64,
}

/// Below this, (1 - index)^exponent is replaced by 1 - index: its slope at 0 is infinite for exponents below 1.
const NEARLY_PERFECT: f64 = 1e-7;

/// `logits` f32 `[b, C, H, W]`, one for class 1 of two, or one per class; `labelled` f32 `[b, H, W]`, 0 or 1.
pub(super) fn loss_sum(
    logits: &Tensor,
    targets: &Tensor,
    labelled: Option<&Tensor>,
    index: Index,
) -> Result<Tensor> {
    let classes = logits.size()[1];
    if classes == 1 {
        let probability = logits.squeeze(1)?.sigmoid()?;
        return index.loss(&probability, &targets.eq_scalar(1)?, labelled)?.sum(Kind::Float);
    }
    let probabilities = logits.softmax(1)?;
    let mut losses = Vec::with_capacity(classes as usize);
    for class in 0..classes {
        losses.push(index.loss(&probabilities.select(1, class)?, &targets.eq_scalar(class)?, labelled)?);
    }
    let losses = Tensor::stack(&losses.iter().collect::<Vec<_>>(), 0)?;
    losses.sum(Kind::Float)?.mul_scalar(1.0 / classes as f64)
}

impl Index {
    /// `probability` f32 `[b, H, W]`, `truth` bool `[b, H, W]`, false wherever a pixel is ignored; f32 `[b]` back.
    fn loss(&self, probability: &Tensor, truth: &Tensor, labelled: Option<&Tensor>) -> Result<Tensor> {
        let truth = truth.to_kind(Kind::Float)?;
        let probability = match labelled {
            Some(mask) => probability.mul(mask)?,
            None => probability.clone(),
        };
        let hits = probability.mul(&truth)?.sum_dims(&[1, 2], Kind::Float)?;
        let predicted = probability.sum_dims(&[1, 2], Kind::Float)?;
        let truth = truth.sum_dims(&[1, 2], Kind::Float)?;
        // 2 (TP + a (P - TP) + b (T - TP)).
        let (a, b) = (2.0 * self.false_positives, 2.0 * self.false_negatives);
        let whole =
            predicted.mul_scalar(a)?.add(&truth.mul_scalar(b)?)?.add(&hits.mul_scalar(2.0 - a - b)?)?;
        let share = hits.mul_scalar(2.0)?.add_scalar(self.smooth)?.div(&whole.add_scalar(self.smooth)?)?;
        let loss = share.rsub_scalar(1.0)?;
        if self.exponent == 1.0 {
            return Ok(loss);
        }
        let curved = loss.clamp_min(NEARLY_PERFECT)?.pow_scalar(self.exponent)?;
        curved.where_or(&loss.gt_scalar(NEARLY_PERFECT)?, &loss)
    }
}
