//! Validation on the native pixel grid: whatever canvas the network saw, its answer is scored where the mask's own
//! pixels are.

use std::time::Instant;

use fullbore_data::{DataError, EvalSample};
use fullbore_nn::NormMode;
use fullbore_nn::losses::{LossName, StepTotals};
use fullbore_nn::metrics::confusion::predicted_classes;
use fullbore_nn::metrics::{ClassScores, Confusion};
use fullbore_torch::{Device, Kind, NoGrad, Result, Tensor, empty_device_cache};

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

    /// The value of `dice` or `dice_per_class.NAME`.
    pub fn metric(&self, key: &str) -> Option<f64> {
        match key.strip_prefix("dice_per_class.") {
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
    pub loss: LossName,
}

/// Scores the model on samples in order. Images of one canvas size share a forward pass, up to `settings.batch`,
/// which is halved for good when memory runs out; `out_of_memory` hears of it (old size, message).
pub fn evaluate(
    engine: &Engine,
    samples: impl Iterator<Item = std::result::Result<EvalSample, DataError>>,
    settings: &mut EvalSettings,
    mut out_of_memory: impl FnMut(usize, &str),
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
    let mut group: Vec<EvalSample> = Vec::new();
    for sample in samples {
        let sample = sample?;
        if group.len() >= settings.batch || group.first().is_some_and(|first| first.canvas != sample.canvas) {
            score_group(engine, &mut group, settings, &totals, &mut out_of_memory)?;
        }
        totals.images += 1;
        group.push(sample);
    }
    score_group(engine, &mut group, settings, &totals, &mut out_of_memory)?;
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

fn score_group(
    engine: &Engine,
    group: &mut Vec<EvalSample>,
    settings: &mut EvalSettings,
    totals: &Totals,
    out_of_memory: &mut impl FnMut(usize, &str),
) -> std::result::Result<(), TrainError> {
    while !group.is_empty() {
        let n = settings.batch.min(group.len());
        match forward(engine, &group[..n]) {
            Ok(logits) => {
                for (i, sample) in group.drain(..n).enumerate() {
                    score_sample(&logits.narrow(0, i as i64, 1)?, &sample, settings.loss, totals)?;
                }
            }
            Err(error) if error.is_out_of_memory() && n > 1 => {
                out_of_memory(n, &error.to_string());
                settings.batch = n / 2;
                empty_device_cache(engine.params.device())?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Logits f32 [n, C, H, W] of canvases of one size.
fn forward(engine: &Engine, samples: &[EvalSample]) -> Result<Tensor> {
    let canvas = samples[0].canvas;
    let (h, w) = (i64::from(canvas.height), i64::from(canvas.width));
    let bytes: Vec<u8> = samples.iter().flat_map(|s| s.image.iter().copied()).collect();
    let channels = bytes.len() as i64 / (samples.len() as i64 * h * w);
    let images = Tensor::from_owner(bytes, &[samples.len() as i64, h, w, channels])?;
    engine.logits(&engine.normalize.apply(&images.to_device(engine.params.device())?)?)
}

/// Brings one sample's logits [1, C, H, W] to the native grid and adds its scores.
fn score_sample(logits: &Tensor, sample: &EvalSample, loss: LossName, totals: &Totals) -> Result<()> {
    let device: Device = logits.device();
    let source = sample.frame.source_size;
    let (height, width) = (i64::from(source.height), i64::from(source.width));
    let content = sample.valid;
    let mut native = logits.narrow(2, i64::from(content.y), i64::from(content.size.height))?.narrow(
        3,
        i64::from(content.x),
        i64::from(content.size.width),
    )?;
    if (content.size.height, content.size.width) != (source.height, source.width) {
        native = native.upsample_bilinear(height, width, false)?;
    }
    let mask = Tensor::from_bytes(&sample.mask, &[1, height, width], Kind::Uint8)?.to_device(device)?;
    // Void labels may occur in any mask, so the native grid always looks for them.
    let share = loss.share(&native, &mask, &StepTotals::of(&mask, true)?)?;
    totals.loss.add_(&share)?;
    totals.confusion.update(&predicted_classes(&native)?, &mask)
}
