//! Validation on the native pixel grid: whatever canvas the network saw, its answer is scored where the mask's own
//! pixels are.

use std::time::Instant;

use fullbore_data::{DataError, EvalSample};
use fullbore_feed::whole_images::{Answer, answer_whole_images};
use fullbore_nn::NormMode;
use fullbore_nn::losses::{LossConfig, StepTotals};
use fullbore_nn::metrics::confusion::predicted_classes;
use fullbore_nn::metrics::{ClassScores, Confusion};
use fullbore_torch::{Kind, NoGrad, Result, Tensor};

use crate::TrainError;
use crate::step::Engine;

/// Result of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Mean over images of the training loss, computed on the native grid.
    pub loss: f64,
    /// Name and scores of every class, pixels pooled over all images.
    pub per_class: Vec<(String, ClassScores)>,
    /// Images scored.
    pub images: usize,
    /// Wall time.
    pub seconds: f64,
}

impl Scores {
    /// Mean Dice over classes.
    pub fn mean_dice(&self) -> f64 {
        self.per_class.iter().map(|(_, s)| s.dice).sum::<f64>() / self.per_class.len().max(1) as f64
    }

    /// The value of `loss`, `dice` or `dice_per_class.NAME`.
    pub fn metric(&self, key: &str) -> Option<f64> {
        match key.strip_prefix("dice_per_class.") {
            None if key == "loss" => Some(self.loss),
            None => (key == "dice").then(|| self.mean_dice()),
            Some(class) => self.per_class.iter().find(|(name, _)| name == class).map(|(_, s)| s.dice),
        }
    }
}

/// What evaluating needs beside the engine.
#[derive(Clone, Debug)]
pub struct EvalSettings {
    /// Class names by index.
    pub classes: Vec<String>,
    /// Samples per forward pass; evaluations have a memory plan of their own.
    pub batch: usize,
    /// The loss to report.
    pub loss: LossConfig,
}

/// Scores the model on samples in order. Images of one canvas size share a forward pass, up to `settings.batch`,
/// which is halved for good when memory runs out; `out_of_memory` hears of it (old size, message). `look` sees every
/// sample with its predicted classes, integer or bool `[1, height, width]` on the device and the native grid.
pub fn evaluate(
    engine: &Engine,
    samples: impl Iterator<Item = std::result::Result<EvalSample, DataError>>,
    settings: &mut EvalSettings,
    mut out_of_memory: impl FnMut(usize, &str),
    mut look: impl FnMut(&EvalSample, &Tensor) -> Result<()>,
) -> std::result::Result<Scores, TrainError> {
    let start = Instant::now();
    let _no_grad = NoGrad::new();
    engine.params.norm().set(NormMode::Eval);
    let device = engine.params.device();
    let mut totals = Totals {
        loss: Tensor::zeros(&[], Kind::Float, device)?,
        confusion: Confusion::new(settings.classes.len(), device)?,
        images: 0,
    };
    let network = |bytes: &Tensor| {
        engine.faults.check_evaluation()?;
        engine.logits(&engine.normalize.apply(bytes)?)
    };
    let loss = &settings.loss;
    answer_whole_images(samples, &mut settings.batch, device, network, |answer| match answer {
        Answer::Logits(sample, logits) => {
            totals.add(&sample, &logits, loss, &mut look)?;
            Ok::<_, TrainError>(())
        }
        Answer::Unreadable(_, error) => Err(error.into()),
        Answer::TooLarge(_, error) => Err(error.into()),
        Answer::Halved(from, error) => {
            out_of_memory(from, &error.to_string());
            Ok(())
        }
    })?;
    let scores = totals.confusion.read()?;
    Ok(Scores {
        loss: totals.loss.item()? / totals.images.max(1) as f64,
        per_class: settings.classes.iter().cloned().zip(scores).collect(),
        images: totals.images,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Running sums, on the device.
struct Totals {
    loss: Tensor,
    confusion: Confusion,
    images: usize,
}

impl Totals {
    fn add(
        &mut self,
        sample: &EvalSample,
        logits: &Tensor,
        loss: &LossConfig,
        look: &mut impl FnMut(&EvalSample, &Tensor) -> Result<()>,
    ) -> Result<()> {
        let size = logits.size();
        let mask = Tensor::from_bytes(&sample.mask, &[1, size[2], size[3]], Kind::Uint8)?;
        let mask = mask.to_device(logits.device())?;
        // Void labels may occur in any mask, so the native grid always looks for them.
        self.loss.add_(&loss.share(logits, &mask, &StepTotals::of(&mask, true, loss)?)?)?;
        let predicted = predicted_classes(logits)?;
        self.confusion.update(&predicted, &mask)?;
        self.images += 1;
        look(sample, &predicted)
    }
}
