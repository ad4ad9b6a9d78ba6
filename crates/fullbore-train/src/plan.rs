//! The resolved plan of a run: every key with its value, and the checks that span several parts.

use std::fmt;
use std::path::PathBuf;

use fullbore_augment::{AugmentConfig, Border};
use fullbore_data::{Crop, DataConfig, Resize};
use fullbore_governor::MemoryConfig;
use fullbore_governor::buffer::BufferConfig;
use fullbore_governor::placement::PlacementConfig;
use fullbore_nn::compute::{DeviceChoice, PrecisionChoice};
use fullbore_nn::landmarks::{Chosen, LandmarksConfig};
use fullbore_nn::layers::recompute::Activation;
use fullbore_nn::losses::{LossConfig, Task};
use fullbore_nn::mirror::Mirror;
use fullbore_nn::models::{ModelConfig, ModelName};
use fullbore_nn::optim::{OptimizerConfig, SettingError};
use fullbore_nn::{NormConfig, NormKind};
use fullbore_types::Classes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::early_stop::EarlyStopConfig;
use crate::ema::EmaConfig;
use crate::metric;
use crate::phases::{self, PhaseConfig};
use crate::schedule::ScheduleConfig;
use crate::step_mode::StepMode;

/// Everything a run needs to know, stored in the run folder as `plan.yaml` and in every checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Length, seed, folder.
    pub run: RunConfig,
    /// Where the model trains.
    pub device: DeviceChoice,
    /// Files to batches.
    pub data: DataConfig,
    /// What happens to training samples.
    #[serde(default)]
    pub augment: AugmentConfig,
    /// Effective and micro-batch.
    pub batch: BatchConfig,
    /// The network.
    pub model: ModelConfig,
    /// Its normalisation layers.
    pub norm: NormConfig,
    /// How weights are updated.
    pub optimizer: OptimizerConfig,
    /// How the learning rate moves.
    pub schedule: ScheduleConfig,
    /// What is minimised.
    pub loss: LossConfig,
    /// Which points are trained, where the loss is for landmarks.
    #[serde(default)]
    pub landmarks: LandmarksConfig,
    /// Epochs at the beginning that see smaller images.
    #[serde(default)]
    pub phases: Vec<PhaseConfig>,
    /// Batches that wait ready on the device.
    #[serde(default)]
    pub buffer: BufferConfig,
    /// Which device prepares batches, and which trains on them.
    #[serde(default)]
    pub placement: PlacementConfig,
    /// How a step reaches the device.
    #[serde(default)]
    pub step: StepMode,
    /// Arithmetic of forward and backward.
    pub precision: PrecisionChoice,
    /// When memory counts as short, and when there is room again.
    #[serde(default)]
    pub memory: MemoryConfig,
    /// Whether backward finds the blocks' inner results or computes them again.
    #[serde(default)]
    pub activation: Activation,
    /// Average of the weights.
    pub ema: EmaConfig,
    /// Validation.
    pub eval: EvalPlan,
    /// Saving.
    pub checkpoint: CheckpointConfig,
    /// Ending before the last epoch.
    pub early_stop: EarlyStopConfig,
}

/// Length, seed, folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The run folder; `None`: a new one below `runs/`.
    pub dir: Option<PathBuf>,
    /// Passes over the training set.
    pub epochs: u64,
    /// Optimizer steps after which the run ends in any case.
    pub steps: Option<u64>,
    /// Seed of order, crops and initial weights.
    pub seed: u64,
    /// Deterministic kernels, no live decisions.
    pub reproducible: bool,
    /// Steps between two log points, the only places where the host waits for the device.
    pub log_every: u64,
    /// Steps in a row without a finite loss and gradient after which the run is given up. Counted on the device,
    /// looked at at log points.
    pub max_skipped: u64,
    /// How often the run goes back to its newest checkpoint instead, each time with half the learning rate.
    #[serde(default)]
    pub roll_backs: u64,
}

/// Effective and micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// Samples per optimizer step.
    pub size: usize,
    /// Samples per forward pass.
    pub micro: Micro,
}

/// Samples per forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Micro {
    /// The whole batch, or what was measured to fit; halved when memory runs out.
    Auto,
    /// This many, halved when memory runs out.
    Count(usize),
}

/// Validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalPlan {
    /// Epochs between evaluations.
    pub every: u64,
    /// Samples per forward pass; `None`: `batch.size`.
    pub batch: Option<usize>,
    /// How many samples, evenly spread over the set, all evaluations but the one at the run's end look at; `None`: all.
    #[serde(default)]
    pub samples: Option<usize>,
    /// In which mirrors else masks are looked for; predictions do the same.
    #[serde(default)]
    pub mirror: Mirror,
}

/// Saving.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Epochs between saves of `last`.
    pub every: u64,
    /// Steps between saves of `last` within an epoch; `None`: none.
    pub every_steps: Option<u64>,
    /// Minutes between saves of `last` within an epoch; `None`: none.
    pub every_minutes: Option<f64>,
    /// How many of the best evaluations keep their checkpoints.
    pub keep_best: usize,
    /// What makes `best`: the highest `dice` (mean over classes), `dice_per_class.NAME` or `auc`, or the lowest `loss`,
    /// `nme`, `mre` or `failure_rate`. `None`: `dice` for masks, `nme` for landmarks.
    pub metric: Option<String>,
}

/// A plan that cannot work, with the key to change.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{key}: {value} cannot work: {allowed}")]
#[diagnostic(code(config::plan), help("change {key} in the YAML file or with --set {key}=VALUE"))]
pub struct PlanError {
    /// Dotted key.
    pub key: &'static str,
    /// What it is set to.
    pub value: String,
    /// What would work, and why.
    pub allowed: String,
}

pub(crate) fn refuse(key: &'static str, value: impl ToString, allowed: impl Into<String>) -> PlanError {
    PlanError { key, value: value.to_string(), allowed: allowed.into() }
}

impl From<SettingError> for PlanError {
    fn from(error: SettingError) -> Self {
        let SettingError { key, value, allowed } = error;
        Self { key, value, allowed }
    }
}

impl Plan {
    /// Checks what one part alone cannot see. The parts' own checks come first: [`DataConfig::check`].
    pub fn check(&self) -> Result<(), PlanError> {
        self.check_counts()?;
        self.check_model()?;
        self.check_numbers()?;
        self.check_metric()?;
        phases::check(self, Self::check_model)
    }

    /// Optimizer steps in one epoch over `samples` training samples.
    pub fn steps_per_epoch(&self, samples: u64) -> u64 {
        let batch = self.batch.size as u64;
        if self.data.drop_last { samples / batch } else { samples.div_ceil(batch) }
    }

    /// Optimizer steps of the whole run.
    pub fn steps_total(&self, samples: u64) -> u64 {
        let all = self.steps_per_epoch(samples).saturating_mul(self.run.epochs);
        all.min(self.run.steps.unwrap_or(u64::MAX))
    }

    /// Micro-batch to begin with, and the largest there will be.
    pub fn first_micro(&self) -> usize {
        match self.batch.micro {
            Micro::Auto => self.batch.size,
            Micro::Count(n) => n.min(self.batch.size),
        }
    }

    /// Whether BatchNorm has nothing to take statistics of in a single sample: the deepest feature map is one pixel.
    pub(crate) fn needs_two_samples(&self) -> bool {
        let (size, multiple) = (self.data.size, self.model.side_multiple());
        self.norm.kind == NormKind::Batch && size.height == multiple && size.width == multiple
    }

    /// The learning rate that the schedule scales.
    pub fn peak_lr(&self) -> f64 {
        let scale = self.schedule.scale_with_batch.map_or(1.0, |n| self.batch.size as f64 / n as f64);
        self.optimizer.lr * scale
    }

    /// True when targets may hold ignored pixels: void labels, padding, or what augmentation brings in from outside.
    pub fn may_ignore(&self) -> bool {
        let augments =
            self.augment != AugmentConfig { device: self.augment.device, ..AugmentConfig::default() };
        self.data.void.is_some()
            || self.data.resize != Resize::Stretch
            || augments && self.augment.border == Border::Constant
            || self.phases.iter().any(|phase| phase.of(self).may_ignore())
    }

    /// What the network learns: the loss says it.
    pub fn task(&self) -> Task {
        self.loss.name.task()
    }

    /// What decides which evaluation is the best.
    pub fn metric(&self) -> &str {
        self.checkpoint.metric.as_deref().unwrap_or(metric::usual(self.task()))
    }

    /// What mask values mean; `None` where points are trained.
    pub fn classes(&self) -> Option<Classes> {
        (self.task() == Task::Masks).then(|| self.data.classes())
    }

    /// The landmarks that are trained; `None` where masks are.
    pub fn chosen(&self) -> Result<Option<Chosen>, PlanError> {
        match self.task() {
            Task::Masks => Ok(None),
            Task::Landmarks => Ok(Some(self.landmarks.choose(self.augment.flip_pairs.as_deref())?)),
        }
    }

    /// Output channels of the network.
    pub fn channels_out(&self) -> Result<i64, PlanError> {
        if let Some(chosen) = self.chosen()? {
            return Ok(chosen.numbers.len() as i64);
        }
        let classes = self.data.classes.len();
        self.loss.name.channels(classes).ok_or_else(|| {
            let name = self.loss.name.key();
            refuse("loss.name", name, format!("{name} cannot serve the {classes} classes of data.classes"))
        })
    }

    fn check_counts(&self) -> Result<(), PlanError> {
        let at_least_one = [
            ("run.epochs", self.run.epochs),
            ("run.steps", self.run.steps.unwrap_or(1)),
            ("run.log_every", self.run.log_every),
            ("run.max_skipped", self.run.max_skipped),
            ("batch.size", self.batch.size as u64),
            ("eval.every", self.eval.every),
            ("eval.batch", self.eval.batch.unwrap_or(1) as u64),
            ("eval.samples", self.eval.samples.unwrap_or(1) as u64),
            ("checkpoint.every", self.checkpoint.every),
            ("checkpoint.every_steps", self.checkpoint.every_steps.unwrap_or(1)),
            ("checkpoint.keep_best", self.checkpoint.keep_best as u64),
            ("early_stop.patience", self.early_stop.patience),
            ("norm.group", u64::from(self.norm.group.unwrap_or(1))),
            ("norm.groups", u64::from(self.norm.groups)),
        ];
        if let Some((key, value)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return Err(refuse(key, value, "at least 1"));
        }
        let at_most = [
            ("run.roll_backs", self.run.roll_backs, 20),
            ("batch.size", self.batch.size as u64, 65_536),
            ("checkpoint.keep_best", self.checkpoint.keep_best as u64, 1000),
        ];
        if let Some((key, value, most)) = at_most.into_iter().find(|(_, value, most)| value > most) {
            return Err(refuse(key, value, format!("at most {most}")));
        }
        match self.batch.micro {
            Micro::Count(n) if n == 0 || n > self.batch.size => {
                Err(refuse("batch.micro", n, format!("auto, or 1 to batch.size ({})", self.batch.size)))
            }
            _ => Ok(()),
        }
    }

    fn check_model(&self) -> Result<(), PlanError> {
        self.model.check()?;
        let stride = self.model.output_stride();
        if stride > 1 && self.task() == Task::Masks {
            let allowed =
                format!("its maps are {stride} times smaller than the masks; use unet or resnet_unet");
            return Err(refuse("model.name", self.model.name.key(), allowed));
        }
        let multiple = self.model.side_multiple();
        let size = self.data.size;
        if !size.height.is_multiple_of(multiple) || !size.width.is_multiple_of(multiple) {
            let depth = if self.model.name == ModelName::Unet { " (model.depth)" } else { "" };
            let allowed = format!(
                "sides must be multiples of {multiple}, because the network halves them {} times{depth}",
                multiple.trailing_zeros()
            );
            return Err(refuse("data.size", size, allowed));
        }
        if self.norm.group == Some(1) && self.needs_two_samples() {
            return Err(refuse("norm.group", 1, "at least 2 when the deepest feature map is a single pixel"));
        }
        self.loss.check(self.data.classes.len())?;
        match self.task() {
            Task::Masks if self.data.crop != Crop::None => {
                let allowed = "none: masks are scored on the whole image; crops are for landmarks";
                Err(refuse("data.crop", self.data.crop, allowed))
            }
            Task::Masks => self.channels_out().map(drop),
            Task::Landmarks if self.model.deep_supervision > 0 => {
                let allowed = "0: heat-maps are trained at the finest level alone";
                Err(refuse("model.deep_supervision", self.model.deep_supervision, allowed))
            }
            Task::Landmarks if self.eval.mirror != Mirror::None => {
                let allowed = "none for landmarks, which landmarks.flip_test mirrors";
                Err(refuse("eval.mirror", self.eval.mirror, allowed))
            }
            // How many there are is known once the data set is open.
            Task::Landmarks if self.data.resize == Resize::Crop => {
                Err(refuse("data.resize", "crop", "stretch or letterbox: landmarks want all of the image"))
            }
            Task::Landmarks => Ok(self.landmarks.check()?),
        }
    }

    fn check_numbers(&self) -> Result<(), PlanError> {
        self.optimizer.check()?;
        self.schedule.check(self.peak_lr())?;
        let min_delta = self.early_stop.min_delta;
        if !(min_delta.is_finite() && min_delta >= 0.0) {
            return Err(refuse("early_stop.min_delta", min_delta, "a finite number, 0 or more"));
        }
        if let Some(minutes) = self.checkpoint.every_minutes.filter(|v| !(v.is_finite() && *v > 0.0)) {
            return Err(refuse("checkpoint.every_minutes", minutes, "a finite number above 0, or null"));
        }
        match self.ema.decay {
            Some(decay) if !(decay > 0.0 && decay < 1.0) => {
                Err(refuse("ema.decay", decay, "between 0 and 1, or null for no average"))
            }
            _ => Ok(()),
        }
    }

    fn check_metric(&self) -> Result<(), PlanError> {
        let task = self.task();
        metric::check("checkpoint.metric", self.metric(), task, &self.data)?;
        match &self.early_stop.metric {
            Some(name) => metric::check("early_stop.metric", name, task, &self.data),
            None => Ok(()),
        }
    }
}

impl Serialize for Micro {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Micro::Auto => serializer.serialize_str("auto"),
            Micro::Count(n) => serializer.serialize_u64(*n as u64),
        }
    }
}

impl<'de> Deserialize<'de> for Micro {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Samples;

        impl de::Visitor<'_> for Samples {
            type Value = Micro;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("auto or a whole number of samples")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Micro, E> {
                usize::try_from(n)
                    .map(Micro::Count)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(n), &self))
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Micro, E> {
                match word {
                    "auto" => Ok(Micro::Auto),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }

        deserializer.deserialize_any(Samples)
    }
}
