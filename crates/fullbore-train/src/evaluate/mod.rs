//! Validation: the network's answers in the image's own pixels, whatever canvas it saw.

mod landmarks;
mod masks;

use std::time::Instant;

use fullbore_data::{DataError, EvalSample};
use fullbore_feed::PassPlan;
use fullbore_feed::whole_images::{Answer, Answerer, answer_whole_images};
use fullbore_governor::Change;
use fullbore_nn::NormMode;
use fullbore_nn::losses::LossConfig;
use fullbore_nn::metrics::ClassScores;
use fullbore_nn::metrics::landmarks::LandmarkScores;
use fullbore_nn::mirror::Mirror;
use fullbore_torch::{Error, NoGrad, Result, Tensor};

use crate::TrainError;
use crate::step::Engine;

pub use landmarks::LandmarkEval;

/// Result of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// The training loss: of masks the mean over images on the native grid, of landmarks the weighted mean over all
    /// landmarks on the canvas.
    pub loss: f64,
    /// What was scored.
    pub of: Scored,
    /// Images scored.
    pub images: usize,
    /// Wall time.
    pub seconds: f64,
}

/// Scores by task.
#[derive(Clone, Debug, PartialEq)]
pub enum Scored {
    /// Name and scores of every class, pixels pooled over all images.
    Masks(Vec<(String, ClassScores)>),
    /// Distances between points.
    Landmarks(Box<LandmarkScores>),
}

impl Scores {
    /// The value of a metric by its key: `loss`; of masks `dice` or `dice_per_class.NAME`; of landmarks `nme`, `mre`,
    /// `auc` or `failure_rate`.
    pub fn metric(&self, key: &str) -> Option<f64> {
        if key == "loss" {
            return Some(self.loss);
        }
        match &self.of {
            Scored::Masks(classes) => match key.strip_prefix("dice_per_class.") {
                None => (key == "dice").then(|| mean_dice(classes)),
                Some(class) => classes.iter().find(|(name, _)| name == class).map(|(_, s)| s.dice),
            },
            Scored::Landmarks(scores) => match key {
                "nme" => scores.nme,
                "mre" => scores.all.mre_mm.or(scores.all.mre_px),
                "auc" => scores.auc,
                "failure_rate" => scores.failure_rate,
                _ => None,
            },
        }
    }
}

/// Mean Dice over classes.
pub fn mean_dice(classes: &[(String, ClassScores)]) -> f64 {
    classes.iter().map(|(_, s)| s.dice).sum::<f64>() / classes.len().max(1) as f64
}

/// What evaluating needs beside the engine.
#[derive(Clone, Debug)]
pub struct EvalSettings {
    /// What is scored.
    pub of: EvalOf,
    /// Images per forward pass: evaluations have a memory plan of their own, and remember it.
    pub passes: PassPlan,
    /// The loss to report.
    pub loss: LossConfig,
}

/// What is scored, by task.
#[derive(Clone, Debug)]
pub enum EvalOf {
    /// Masks.
    Masks {
        /// Class names by index.
        classes: Vec<String>,
        /// In which mirrors else they are looked for.
        mirror: Mirror,
    },
    /// Landmarks.
    Landmarks(Box<LandmarkEval>),
}

/// What was predicted for one image.
#[derive(Clone, Copy, Debug)]
pub enum Prediction<'a> {
    /// Class indices, integer or bool `[1, height, width]` on the device and the native grid.
    Classes(&'a Tensor),
    /// Trained landmarks.
    Points {
        /// x before y, in pixels of the image.
        found: &'a [[f64; 2]],
        /// Their numbers in the data set's order.
        chosen: &'a [usize],
        /// The image's normalised mean error: infinite where a point was not found, `None` where nothing is labelled or
        /// what it is divided by is not.
        nme: Option<f64>,
    },
}

/// Scores the model on samples in order. Images of one canvas size share a forward pass, as many as
/// `settings.passes` says; `resized` hears when it says otherwise, with the allocator's words when memory ran out. `look`
/// sees every sample with what was predicted for it.
///
/// # Errors
/// A sample that cannot be loaded or does not fit into memory alone, and failures of the device.
pub fn evaluate(
    engine: &Engine,
    samples: impl Iterator<Item = std::result::Result<EvalSample, DataError>>,
    settings: &mut EvalSettings,
    resized: impl FnMut(Change, Option<&Error>),
    look: impl FnMut(&EvalSample, Prediction<'_>) -> Result<()>,
) -> std::result::Result<Scores, TrainError> {
    let start = Instant::now();
    let _no_grad = NoGrad::new();
    engine.params.norm().set(NormMode::Eval);
    let EvalSettings { of, passes: plan, loss } = settings;
    let (loss, of, images) = match of {
        EvalOf::Masks { classes, mirror } => {
            let network = masks::Network { engine, mirror: *mirror };
            masks::score(network, samples, classes, loss, Passes { plan, resized }, look)?
        }
        EvalOf::Landmarks(eval) => {
            landmarks::score(engine, samples, eval, loss, Passes { plan, resized }, look)?
        }
    };
    Ok(Scores { loss, of, images, seconds: start.elapsed().as_secs_f64() })
}

/// How forward passes are split, and who hears of it.
struct Passes<'a, F> {
    plan: &'a mut PassPlan,
    resized: F,
}

impl<F: FnMut(Change, Option<&Error>)> Passes<'_, F> {
    /// Sends all samples through the network; what cannot be answered is an error.
    fn run<A: Answerer>(
        &mut self,
        engine: &Engine,
        samples: impl Iterator<Item = std::result::Result<EvalSample, DataError>>,
        answerer: &mut A,
        mut take: impl FnMut(EvalSample, A::Answer) -> std::result::Result<(), TrainError>,
    ) -> std::result::Result<(), TrainError> {
        let Self { plan, resized } = self;
        answer_whole_images(samples, plan, engine.params.device(), answerer, |answer| match answer {
            Answer::Ready(sample, answer) => take(sample, answer),
            Answer::Unreadable(_, error) => Err(error.into()),
            Answer::TooLarge(_, error) => Err(error.into()),
            Answer::Resized(change, error) => {
                resized(change, error.as_ref());
                Ok(())
            }
        })
    }
}

fn wrong_loss() -> Error {
    Error::Invalid { op: "evaluate".into(), message: "the loss is for another task than the data".into() }
}
