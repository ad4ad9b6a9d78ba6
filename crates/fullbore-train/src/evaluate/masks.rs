//! Masks are scored where their own pixels are.

use fullbore_data::{DataError, EvalSample};
use fullbore_feed::whole_images::{Answerer, on_native_grid};
use fullbore_governor::Change;
use fullbore_nn::losses::{LossConfig, StepTotals};
use fullbore_nn::metrics::Confusion;
use fullbore_nn::metrics::confusion::predicted_classes;
use fullbore_nn::mirror::Mirror;
use fullbore_torch::{Error, Kind, Result, Tensor};

use super::{Passes, Prediction, Scored};
use crate::TrainError;
use crate::step::Engine;

/// Loss, scores and number of images.
pub(super) fn score(
    mut network: Network<'_>,
    samples: impl Iterator<Item = std::result::Result<EvalSample, DataError>>,
    classes: &[String],
    loss: &LossConfig,
    mut passes: Passes<'_, impl FnMut(Change, Option<&Error>)>,
    mut look: impl FnMut(&EvalSample, Prediction<'_>) -> Result<()>,
) -> std::result::Result<(f64, Scored, usize), TrainError> {
    let engine = network.engine;
    let device = engine.params.device();
    let sum = Tensor::zeros(&[], Kind::Float, device)?;
    let confusion = Confusion::new(classes.len(), device)?;
    let mut images = 0;
    passes.run(engine, samples, &mut network, |sample, logits| {
        let size = logits.size();
        let mask = Tensor::from_bytes(&sample.mask, &[1, size[2], size[3]], Kind::Uint8)?;
        let mask = mask.to_device(device)?;
        // Void labels may occur in any mask, so the native grid always looks for them.
        sum.add_(&loss.share(&logits, &mask, &StepTotals::of(&mask, true, loss)?)?)?;
        let predicted = predicted_classes(&logits)?;
        confusion.update(&predicted, &mask)?;
        images += 1;
        Ok(look(&sample, Prediction::Classes(&predicted))?)
    })?;
    let scores = classes.iter().cloned().zip(confusion.read()?).collect();
    Ok((sum.item()? / images.max(1) as f64, Scored::Masks(scores), images))
}

/// What is asked, and how.
pub(super) struct Network<'a> {
    pub(super) engine: &'a Engine,
    pub(super) mirror: Mirror,
}

impl Answerer for Network<'_> {
    /// Logits on the native grid.
    type Answer = Tensor;

    fn network(&mut self, _: &[EvalSample], images: &Tensor) -> Result<Tensor> {
        let Self { engine, mirror } = self;
        engine.faults.check_evaluation()?;
        mirror.average(&engine.finish.normalize.apply(images)?, |images| engine.logits(images))
    }

    fn finish(&mut self, sample: &EvalSample, logits: &Tensor) -> Result<Tensor> {
        on_native_grid(logits, sample)
    }
}
