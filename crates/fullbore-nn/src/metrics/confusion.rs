//! Streaming per-class Dice, IoU, precision and recall: pixel counts pooled over all images (micro average).

use fullbore_torch::{Device, Kind, Result, Tensor};
use fullbore_types::IGNORE_INDEX;

/// Pixel counts per class, kept on the device; nothing is read back until [`Confusion::read`].
#[derive(Debug)]
pub struct Confusion {
    /// i64 [3, C]: hits, predicted, true.
    counts: Tensor,
    classes: i64,
}

/// Scores of one class. `None` where the quotient has no meaning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassScores {
    /// 2 TP / (predicted + true); 1 when the class is in neither.
    pub dice: f64,
    /// TP / (TP + FP + FN); 1 when the class is in neither.
    pub iou: f64,
    /// TP / predicted; `None` when nothing was predicted but something is there.
    pub precision: Option<f64>,
    /// TP / true; `None` when nothing is there but something was predicted.
    pub recall: Option<f64>,
}

impl Confusion {
    /// Empty counts for a number of classes.
    pub fn new(classes: usize, device: Device) -> Result<Self> {
        let classes = classes as i64;
        Ok(Self { counts: Tensor::zeros(&[3, classes], Kind::Int64, device)?, classes })
    }

    /// Adds images: `predicted` class indices (any integer or bool type) and `truth` u8 (255 = ignore), both [..., H, W].
    pub fn update(&self, predicted: &Tensor, truth: &Tensor) -> Result<()> {
        let labelled = truth.ne_scalar(i64::from(IGNORE_INDEX))?;
        for class in 0..self.classes {
            let predicted = predicted.eq_scalar(class)?.logical_and(&labelled)?;
            let truth = truth.eq_scalar(class)?;
            let hits = predicted.logical_and(&truth)?;
            for (row, pixels) in [hits, predicted, truth].iter().enumerate() {
                self.counts.select(0, row as i64)?.select(0, class)?.add_(&pixels.sum(Kind::Int64)?)?;
            }
        }
        Ok(())
    }

    /// Scores by class. Makes the host wait for the device.
    pub fn read(&self) -> Result<Vec<ClassScores>> {
        let counts = self.counts.to_vec_i64()?;
        let (hits, rest) = counts.split_at(self.classes as usize);
        let (predicted, truth) = rest.split_at(self.classes as usize);
        Ok(hits
            .iter()
            .zip(predicted)
            .zip(truth)
            .map(|((&h, &p), &t)| ClassScores::from_counts(h, p, t))
            .collect())
    }
}

impl ClassScores {
    /// Scores from hits, predicted and true pixels.
    fn from_counts(hits: i64, predicted: i64, truth: i64) -> Self {
        if predicted == 0 && truth == 0 {
            return Self { dice: 1.0, iou: 1.0, precision: Some(1.0), recall: Some(1.0) };
        }
        let quotient = |n: i64, d: i64| (d > 0).then(|| n as f64 / d as f64);
        Self {
            dice: 2.0 * hits as f64 / (predicted + truth) as f64,
            iou: hits as f64 / (predicted + truth - hits) as f64,
            precision: quotient(hits, predicted),
            recall: quotient(hits, truth),
        }
    }
}

/// Class indices from logits: [B, H, W], bool for one logit (positive where above 0), i64 otherwise.
pub fn predicted_classes(logits: &Tensor) -> Result<Tensor> {
    match logits.size()[1] {
        1 => logits.squeeze(1)?.gt_scalar(0.0),
        _ => logits.argmax(1),
    }
}
