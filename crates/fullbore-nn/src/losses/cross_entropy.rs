//! Cross entropies, summed over labelled pixels (`torch.nn.functional.binary_cross_entropy_with_logits`,
//! `cross_entropy`).

use fullbore_torch::{Kind, Result, Tensor};
use fullbore_types::IGNORE_INDEX;

/// One logit [b, 1, H, W]; class 1 is the positive one.
pub(super) fn binary_sum(logits: &Tensor, targets: &Tensor, labelled: Option<&Tensor>) -> Result<Tensor> {
    let positive = targets.eq_scalar(1)?.to_kind(Kind::Float)?;
    let weight = labelled.map(|mask| mask.to_kind(Kind::Float)).transpose()?;
    logits.squeeze(1)?.bce_with_logits_sum(&positive, weight.as_ref())
}

/// One logit per class [b, C, H, W].
pub(super) fn multi_class_sum(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    logits.cross_entropy_sum(&targets.to_kind(Kind::Int64)?, i64::from(IGNORE_INDEX))
}
