//! Cross entropies and focal loss, summed over pixels (`torch.nn.functional.binary_cross_entropy_with_logits`,
//! `cross_entropy`). Weights are f32 `[b, H, W]`, 0 where a pixel is ignored.

use fullbore_torch::{Kind, Result, Tensor};
use fullbore_types::IGNORE_INDEX;

/// Settings of the focal loss.
#[derive(Clone, Copy)]
pub(super) struct Focal {
    /// Exponent of the chance of being wrong.
    pub(super) gamma: f64,
    /// Two classes: weight of the positive one, the other has the rest to 1.
    pub(super) positive: f64,
}

/// One logit `[b, 1, H, W]`; class 1 is the positive one.
pub(super) fn binary_sum(
    logits: &Tensor,
    targets: &Tensor,
    weights: Option<&Tensor>,
    pos_weight: Option<f64>,
) -> Result<Tensor> {
    let pos_weight = match pos_weight {
        Some(weight) => Some(Tensor::ones(&[], Kind::Float, logits.device())?.mul_scalar(weight)?),
        None => None,
    };
    let positive = positive(targets)?;
    logits.squeeze(1)?.bce_with_logits(&positive, weights, pos_weight.as_ref())?.sum(Kind::Float)
}

/// One logit per class `[b, C, H, W]`. Ignored pixels count nothing, with or without weights.
pub(super) fn multi_class_sum(logits: &Tensor, targets: &Tensor, weights: Option<&Tensor>) -> Result<Tensor> {
    let targets = targets.to_kind(Kind::Int64)?;
    match weights {
        None => logits.cross_entropy_sum(&targets, i64::from(IGNORE_INDEX)),
        Some(weights) => {
            logits.cross_entropy(&targets, i64::from(IGNORE_INDEX))?.mul(weights)?.sum(Kind::Float)
        }
    }
}

/// Cross entropy times (1 - p)^gamma, p being the chance of the true class; one logit or one per class.
pub(super) fn focal_sum(
    logits: &Tensor,
    targets: &Tensor,
    weights: Option<&Tensor>,
    focal: Focal,
) -> Result<Tensor> {
    let mut each = if logits.size()[1] == 1 {
        let positive = positive(targets)?;
        let balance = positive.mul_scalar(2.0 * focal.positive - 1.0)?.add_scalar(1.0 - focal.positive)?;
        held_back(&logits.squeeze(1)?.bce_with_logits(&positive, None, None)?, focal.gamma)?.mul(&balance)?
    } else {
        let targets = targets.to_kind(Kind::Int64)?;
        held_back(&logits.cross_entropy(&targets, i64::from(IGNORE_INDEX))?, focal.gamma)?
    };
    if let Some(weights) = weights {
        each = each.mul(weights)?;
    }
    each.sum(Kind::Float)
}

/// 1 - p = 1 - e^-loss.
fn held_back(loss: &Tensor, gamma: f64) -> Result<Tensor> {
    loss.mul_scalar(-1.0)?.expm1()?.mul_scalar(-1.0)?.pow_scalar(gamma)?.mul(loss)
}

fn positive(targets: &Tensor) -> Result<Tensor> {
    targets.eq_scalar(1)?.to_kind(Kind::Float)
}
