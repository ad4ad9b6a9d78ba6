//! Soft Dice loss per image, 1 - (2 I + 1) / (P + T + 1), summed over images (and averaged over classes).
//!
//! Per image, because a Dice over the whole batch would change when the batch is split. The smoothing term of 1
//! keeps images without the class quiet once the prediction is empty.

use fullbore_torch::{Kind, Result, Tensor};

const SMOOTH: f64 = 1.0;

/// One logit [b, 1, H, W]; class 1 is the positive one.
pub(super) fn binary_sum(logits: &Tensor, targets: &Tensor, labelled: Option<&Tensor>) -> Result<Tensor> {
    let probability = logits.squeeze(1)?.sigmoid()?;
    per_image(&probability, &targets.eq_scalar(1)?, labelled)?.sum(Kind::Float)
}

/// One logit per class [b, C, H, W], background included.
pub(super) fn multi_class_sum(
    logits: &Tensor,
    targets: &Tensor,
    labelled: Option<&Tensor>,
) -> Result<Tensor> {
    let probabilities = logits.softmax(1)?;
    let classes = logits.size()[1];
    let mut losses = Vec::with_capacity(classes as usize);
    for class in 0..classes {
        losses.push(per_image(&probabilities.select(1, class)?, &targets.eq_scalar(class)?, labelled)?);
    }
    let losses = Tensor::stack(&losses.iter().collect::<Vec<_>>(), 0)?;
    losses.sum(Kind::Float)?.mul_scalar(1.0 / classes as f64)
}

/// `probability` f32 [b, H, W], `truth` bool [b, H, W]; f32 [b] back. `truth` is false wherever a pixel is ignored.
fn per_image(probability: &Tensor, truth: &Tensor, labelled: Option<&Tensor>) -> Result<Tensor> {
    let truth = truth.to_kind(Kind::Float)?;
    let probability = match labelled {
        Some(mask) => probability.mul(&mask.to_kind(Kind::Float)?)?,
        None => probability.clone(),
    };
    let both = probability.mul(&truth)?.sum_dims(&[1, 2], Kind::Float)?;
    let either = probability.sum_dims(&[1, 2], Kind::Float)?.add(&truth.sum_dims(&[1, 2], Kind::Float)?)?;
    let dice = both.mul_scalar(2.0)?.add_scalar(SMOOTH)?.div(&either.add_scalar(SMOOTH)?)?;
    dice.rsub_scalar(1.0)
}
